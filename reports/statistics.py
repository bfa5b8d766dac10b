"""Statistics of paired measurements and of shares: intervals, tests, unbiased pass@k. Pure functions of numbers.

Must not know run files, cases, metrics by name, verdicts or rendering. SciPy is imported inside the functions that need it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Numbers = Sequence[float] | Sequence[int] | npt.NDArray[np.floating] | npt.NDArray[np.integer]
Alternative = Literal["two-sided", "greater", "less"]

RESAMPLES = 4_999
BOOTSTRAP_UNITS = range(8, 101)  # fewer: resamples cannot reach the tails; more: linearisation gives the same interval


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval; `method` is "bootstrap", "linearised", "score" or "none" (nothing known)."""

    estimate: float
    low: float
    high: float
    confidence: float = 0.95
    method: str = "bootstrap"

    def excludes(self, value: float) -> bool:
        """Return whether the whole interval lies on one side of `value`."""
        return value < self.low or value > self.high


@dataclass(frozen=True, slots=True)
class Quantiles:
    """The 50th, 90th and 99th percentile, in the unit of the values."""

    p50: float
    p90: float
    p99: float


def ratio_of_totals(numerators: Numbers, denominators: Numbers) -> float:
    """Return sum(numerators) / sum(denominators); both non-negative, of equal length, the denominators' sum positive."""
    return _ratio(*_columns(False, numerators=numerators, denominators=denominators))


def bootstrap_ratio(
    numerators: Numbers,
    denominators: Numbers,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = 0.95,
    block: int = 1,
) -> Interval:
    """Return one case's ratio of totals (such as tokens/s) with an interval over prompts; see `paired_ratio`."""
    top, bottom = _columns(False, numerators=numerators, denominators=denominators)
    _ratio(top, bottom)
    return _interval(np.stack([top, bottom]), np.array([1, -1]), resamples, seed, confidence, block)


def paired_ratio(
    base_seconds: Numbers,
    base_tokens: Numbers,
    head_seconds: Numbers,
    head_tokens: Numbers,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = 0.95,
    block: int = 1,
) -> Interval:
    """Return the speedup of head over base, (base s / base tokens) / (head s / head tokens) in totals, with its interval.

    Entry i of all four belongs to prompt i: pairs are resampled together. `block` > 1 resamples runs of that many
    consecutive prompts instead, for rounds whose noise is correlated. With 8 to 100 units (prompts or blocks) this is the
    percentile bootstrap with its tail levels widened for small samples (Hesterberg 2015, "What Teachers Should Know About
    the Bootstrap", expanded percentile interval): plain percentiles cover about 90% at 8 prompts. Outside that range it
    is the delta-method t interval of the log ratio, which agrees with the bootstrap from 100 units on. A single unit
    has no known spread: the interval is (0, inf). Raises ValueError on empty, unequal, non-finite or non-positive input.
    """
    columns = _columns(
        True, base_seconds=base_seconds, base_tokens=base_tokens, head_seconds=head_seconds, head_tokens=head_tokens
    )
    return _interval(np.stack(columns), np.array([1, -1, -1, 1]), resamples, seed, confidence, block)


def paired_ratio_p(
    base_seconds: Numbers,
    base_tokens: Numbers,
    head_seconds: Numbers,
    head_tokens: Numbers,
    *,
    null: float = 1.0,
    alternative: Alternative = "two-sided",
    block: int = 1,
) -> float:
    """Return the Wilcoxon signed-rank p-value that the per-prompt speedups are symmetric (in log) about `null`.

    "greater" asks whether head is faster than `null` times base, "less" whether it is slower. Exact up to 50 units, ties
    included; beyond that the normal approximation with tie correction. Speedups equal to `null` are dropped
    (Wilcoxon's rule); with none left p is 1.
    """
    columns = _columns(
        True, base_seconds=base_seconds, base_tokens=base_tokens, head_seconds=head_seconds, head_tokens=head_tokens
    )
    if not (math.isfinite(null) and null > 0):
        raise ValueError(f"null must be positive, not {null}")
    base_s, base_t, head_s, head_t = np.log(_blocks(np.stack(columns), block))
    return signed_rank_p(base_s - base_t - head_s + head_t - math.log(null), alternative=alternative)


def signed_rank_p(differences: Numbers, *, alternative: Alternative = "two-sided") -> float:
    """Return the Wilcoxon signed-rank p-value of differences against symmetry about zero; see `paired_ratio_p`."""
    if alternative not in ("two-sided", "greater", "less"):
        raise ValueError(f"alternative must be two-sided, greater or less, not {alternative!r}")
    values = _vector("differences", differences)
    values = values[values != 0]
    if values.size == 0:
        return 1.0
    _, inverse, counts = np.unique(np.abs(values), return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    doubled_ranks = (2 * ends - counts + 1)[inverse]  # twice the midrank: always a whole number
    positive = int(doubled_ranks[values > 0].sum())
    total = int(doubled_ranks.sum())
    if values.size <= 50:
        at_least, at_most = _signed_rank_tails(tuple(sorted(doubled_ranks.tolist())), positive)
    else:
        scale = math.sqrt(float(np.square(doubled_ranks.astype(np.float64)).sum()))
        centred = 2 * positive - total
        # the doubled statistic moves in steps of 2 (so `centred` in steps of 4 without ties): half a step of continuity
        at_least = 0.5 * math.erfc((centred - 2) / scale / math.sqrt(2))
        at_most = 0.5 * math.erfc(-(centred + 2) / scale / math.sqrt(2))
    if alternative == "greater":
        return min(1.0, at_least)
    if alternative == "less":
        return min(1.0, at_most)
    return min(1.0, 2 * min(at_least, at_most))


def quantile(values: Numbers, share: float) -> float:
    """Return the quantile at `share` (0 to 1), linearly interpolated between order statistics (NumPy's default)."""
    if not 0 <= share <= 1:
        raise ValueError(f"share must be between 0 and 1, not {share}")
    return float(np.quantile(_vector("values", values), share))


def quantiles(values: Numbers) -> Quantiles:
    """Return p50, p90 and p99 of values."""
    p50, p90, p99 = np.quantile(_vector("values", values), [0.5, 0.9, 0.99])
    return Quantiles(float(p50), float(p90), float(p99))


def drift(first: float, again: float) -> float:
    """Return again / first, the same baseline's seconds per token measured late and early: above 1, the machine slowed."""
    for name, value in (("first", first), ("again", again)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be positive, not {value}")
    return again / first


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p-values, in the order given (Holm 1979): reject where adjusted <= level."""
    if any(not 0 <= p <= 1 for p in p_values):
        raise ValueError("p-values must be between 0 and 1")
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


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
    z = _normal_quantile(confidence)
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
    """Return the unbiased chance that one of k samples is right, given c right among n (Chen et al. 2021, arXiv 2107.03374).

    1 - C(n-c, k) / C(n, k), as a product so that no binomial overflows.
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

    counts, shares = _columns(False, observed=observed, probabilities=probabilities)
    if counts.sum() == 0 or not math.isclose(shares.sum(), 1.0, abs_tol=1e-6):
        raise ValueError(f"need at least one count, and probabilities that add up to 1, not {shares.sum()}")
    impossible = bool(counts[shares == 0].any())
    order = np.argsort(shares)[::-1]
    counts, expected = counts[order], (shares / shares.sum() * counts.sum())[order]
    kept = int((expected >= minimum_expected).sum())
    rare = float(expected[kept:].sum())
    if 0 < rare < minimum_expected or rare == 0:
        kept = max(kept - (rare > 0), 0)
    edges = np.arange(kept) if rare == 0 else np.arange(kept + 1)
    counts, expected = np.add.reduceat(counts, edges), np.add.reduceat(expected, edges)
    dof = len(expected) - 1
    if dof < 1:
        raise ValueError("fewer than two outcomes have an expected count large enough for a chi-square test")
    if impossible:
        return math.inf, dof, 0.0
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return statistic, dof, float(chdtrc(dof, statistic))


def chi_square_power(effect_w: float, n: int, dof: int, alpha: float = 0.05) -> float:
    """Return the chance that a chi-square test of n draws finds Cohen's effect w = sqrt(sum((p1 - p0)^2 / p0))."""
    from scipy.special import chdtri, chndtr

    if effect_w < 0 or n < 1 or dof < 1 or not 0 < alpha < 1:
        raise ValueError(f"need w >= 0, n >= 1, dof >= 1, 0 < alpha < 1, not {effect_w}, {n}, {dof}, {alpha}")
    return float(1 - chndtr(chdtri(dof, alpha), dof, n * effect_w**2))


def _vector(name: str, values: Numbers) -> Array:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or vector.size == 0:
        raise ValueError(f"{name} is empty or not a flat sequence")
    if not np.isfinite(vector).all():
        raise ValueError(f"{name} holds a value that is not finite")
    return vector


def _columns(positive: bool, **named: Numbers) -> list[Array]:
    columns = [_vector(name, values) for name, values in named.items()]
    sizes = {name: column.size for name, column in zip(named, columns, strict=True)}
    if len(set(sizes.values())) > 1:
        raise ValueError("lengths differ: " + ", ".join(f"{name} {size}" for name, size in sizes.items()))
    for name, column in zip(named, columns, strict=True):
        if column.min() < 0 or (positive and column.min() == 0):
            raise ValueError(f"{name} holds a {'non-positive' if positive else 'negative'} value")
    return columns


def _counts(**named: int) -> None:
    for name, value in named.items():
        if value != int(value) or value < 0:
            raise ValueError(f"{name} must be a count, not {value}")


def _ratio(numerators: Array, denominators: Array) -> float:
    total = denominators.sum()
    if total <= 0:
        raise ValueError("the denominators add up to zero")
    return float(numerators.sum() / total)


def _blocks(columns: Array, block: int) -> Array:
    """Sum runs of `block` consecutive entries; a last incomplete run joins the one before it."""
    if block < 1:
        raise ValueError(f"block must be at least 1, not {block}")
    if block == 1:
        return columns
    units = max(columns.shape[1] // block, 1)
    return np.add.reduceat(columns, np.arange(units) * block, axis=1)


def _interval(columns: Array, powers: Array, resamples: int, seed: int, confidence: float, block: int) -> Interval:
    """Return prod(column total ** power) with its interval; powers are 1 or -1, columns (terms, prompts)."""
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, not {resamples}")
    units = _blocks(columns, block)
    totals = units.sum(axis=1)
    estimate = _product(totals, powers)
    count = units.shape[1]
    if count == 1:
        _normal_quantile(confidence)
        return Interval(estimate, 0.0, math.inf, confidence, "none")
    if count in BOOTSTRAP_UNITS:
        draws = _product(_resample_counts(count, resamples, seed) @ units.T, powers)
        tail = _expanded_tail(count, confidence)
        low, high = np.quantile(draws[np.isfinite(draws)], [tail, 1 - tail])
        return Interval(estimate, float(low), float(high), confidence, "bootstrap")
    if estimate == 0:
        return Interval(0.0, 0.0, 0.0, confidence, "linearised")
    influence = powers @ (units / totals[:, None])  # sums to zero
    error = math.sqrt(count / (count - 1) * float(influence @ influence))
    reach = math.exp(min(_t_quantile(count, confidence) * error, 700.0))
    return Interval(estimate, estimate / reach, estimate * reach, confidence, "linearised")


def _product(totals: Array, powers: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        result: Array = totals[..., powers > 0].prod(axis=-1) / totals[..., powers < 0].prod(axis=-1)
    return result


@lru_cache(maxsize=16)
def _resample_counts(units: int, resamples: int, seed: int) -> Array:
    """Return how often each resample draws each unit, (resamples, units): totals of a resample are one matrix product."""
    drawn = np.random.default_rng(seed).integers(units, size=(resamples, units))
    flat = drawn + units * np.arange(resamples)[:, None]
    return np.bincount(flat.ravel(), minlength=resamples * units).reshape(resamples, units).astype(np.float64)


@lru_cache(maxsize=256)
def _t_quantile(units: int, confidence: float) -> float:
    from scipy.special import stdtrit

    _normal_quantile(confidence)
    return float(stdtrit(units - 1, 0.5 + confidence / 2))


@lru_cache(maxsize=256)
def _expanded_tail(units: int, confidence: float) -> float:
    return 0.5 * math.erfc(math.sqrt(units / (units - 1)) * _t_quantile(units, confidence) / math.sqrt(2))


def _normal_quantile(confidence: float) -> float:
    from statistics import NormalDist

    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, not {confidence}")
    return NormalDist().inv_cdf(0.5 + confidence / 2)


@lru_cache(maxsize=1024)
def _signed_rank_tails(doubled_ranks: tuple[int, ...], positive: int) -> tuple[float, float]:
    """Return P(sum >= positive) and P(sum <= positive) when each doubled rank counts with probability one half."""
    chances = np.zeros(sum(doubled_ranks) + 1)
    chances[0] = 1.0
    for rank in doubled_ranks:
        shifted = np.zeros_like(chances)
        shifted[rank:] = chances[:-rank]
        chances = (chances + shifted) / 2
    return float(chances[positive:].sum()), float(chances[: positive + 1].sum())
