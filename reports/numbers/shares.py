"""Statistics of what is counted: paired shares, unbiased pass@k, goodness of fit. Pure functions of numbers.

Must not know run files, cases, metrics by name, verdicts or rendering. SciPy is imported inside the functions that
need it, so that importing this module stays cheap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from reports.numbers.statistics import Interval, Numbers, columns_of, normal_quantile


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Return the exact two-sided McNemar p-value from the counts of tasks that only A and only B solved."""
    from scipy.special import bdtr

    _counts(only_a=only_a, only_b=only_b)
    discordant = only_a + only_b
    if discordant == 0:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(only_a, only_b), discordant, 0.5)))


def paired_difference(a_only: int, b_only: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Return share(A) - share(B) over n tasks given to both, with Tango's score interval.

    `a_only` and `b_only` count the tasks that one solved and the other did not. Source: Tango 1998, Statistics in
    Medicine 17:891-908; it keeps its coverage with few discordant tasks, where Wald's interval collapses.
    """
    from scipy.optimize import brentq

    _counts(a_only=a_only, b_only=b_only, n=n)
    if n == 0 or a_only + b_only > n:
        raise ValueError(f"n must be positive and at least a_only + b_only = {a_only + b_only}, not {n}")
    z = normal_quantile(confidence)
    estimate = (a_only - b_only) / n

    def score(difference: float) -> float:
        linear = -a_only - b_only + (2 * n - a_only + b_only) * difference
        constant = -b_only * difference * (1 - difference)
        share = (math.sqrt(max(linear**2 - 8 * n * constant, 0.0)) - linear) / (4 * n)
        variance = n * (2 * share + difference * (1 - difference))
        gap = a_only - b_only - n * difference
        return gap / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, gap) if gap else 0.0

    edge = 1 - 1e-12
    low = -1.0 if score(-edge) < z else float(brentq(lambda d: score(d) - z, -edge, estimate))
    high = 1.0 if score(edge) > -z else float(brentq(lambda d: score(d) + z, estimate, edge))
    return Interval(estimate, low, high, confidence, "score")


def pass_at_k(n: int, c: int, k: int) -> float:
    """Return the unbiased chance that at least one of k samples is right, given c right among n.

    1 - C(n-c, k) / C(n, k), as a product so that no binomial overflows (Chen et al. 2021, arXiv 2107.03374).
    """
    if not 0 <= c <= n or not 1 <= k <= n:
        raise ValueError(f"pass@k needs 0 <= c <= n and 1 <= k <= n, not n={n}, c={c}, k={k}")
    if n - c < k:
        return 1.0
    return float(1 - np.prod(1 - k / np.arange(n - c + 1, n + 1)))


def mean_pass_at_k(correct: Sequence[int], samples: Sequence[int], k: int) -> float:
    """Return the mean of `pass_at_k` over tasks with `correct[i]` right among `samples[i]`."""
    if not correct or len(correct) != len(samples):
        raise ValueError(f"need as many correct as samples and at least one, not {len(correct)} and {len(samples)}")
    return float(np.mean([pass_at_k(n, c, k) for c, n in zip(correct, samples, strict=True)]))


def chi_square_gof(
    observed: Numbers, probabilities: Numbers, *, minimum_expected: float = 5.0
) -> tuple[float, int, float]:
    """Return (statistic, degrees of freedom, p) of Pearson's goodness of fit of counts to probabilities.

    Outcomes expected fewer than `minimum_expected` times are pooled into one cell, or into the rarest other one if they
    stay below it, so that the chi-square limit holds. An outcome of probability 0 that occurred gives (inf, dof, 0).
    """
    from scipy.special import chdtrc

    counts, shares = columns_of(False, observed=observed, probabilities=probabilities)
    if counts.sum() == 0 or not math.isclose(shares.sum(), 1.0, abs_tol=1e-6):
        raise ValueError(f"need at least one count, and probabilities that add up to 1, not {shares.sum()}")
    possible = shares > 0
    impossible_seen = bool(counts[~possible].any())
    common_first = np.argsort(shares[possible])[::-1]
    expected = (shares[possible] * (counts.sum() / shares.sum()))[common_first]
    counts = counts[possible][common_first]
    common = int((expected >= minimum_expected).sum())
    cells = np.arange(common + bool(expected[common:].sum() >= minimum_expected and common < expected.size))
    counts, expected = np.add.reduceat(counts, cells), np.add.reduceat(expected, cells)
    dof = len(expected) - 1
    if dof < 1:
        raise ValueError("fewer than two outcomes have an expected count large enough for a chi-square test")
    if impossible_seen:
        return math.inf, dof, 0.0
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return statistic, dof, float(chdtrc(dof, statistic))


def chi_square_power(effect_w: float, n: int, dof: int, alpha: float = 0.05) -> float:
    """Return the chance that a chi-square test of n draws finds Cohen's effect w = sqrt(sum((p1 - p0)^2 / p0))."""
    from scipy.special import chdtri, chndtr

    if effect_w < 0 or n < 1 or dof < 1 or not 0 < alpha < 1:
        raise ValueError(f"need w >= 0, n >= 1, dof >= 1, 0 < alpha < 1, not {effect_w}, {n}, {dof}, {alpha}")
    return float(1 - chndtr(chdtri(dof, alpha), dof, n * effect_w**2))


def _counts(**named: int) -> None:
    for name, value in named.items():
        if value != int(value) or value < 0:
            raise ValueError(f"{name} must be a count, not {value}")
