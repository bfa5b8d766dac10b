"""Paired shares, pass@k and goodness of fit against SciPy, binomials and simulation."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from reports.numbers import shares as sh

# --- paired shares


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 5), (3, 9), (7, 7), (10, 30), (400, 500)])
def test_mcnemar_by_scipys_binomial_test(only_a: int, only_b: int) -> None:
    reference = stats.binomtest(only_a, only_a + only_b, 0.5).pvalue
    assert sh.mcnemar_exact(only_a, only_b) == pytest.approx(reference)


def test_mcnemar_without_discordant_tasks_is_one_and_refuses_non_counts() -> None:
    assert sh.mcnemar_exact(0, 0) == 1.0
    with pytest.raises(ValueError, match="only_b"):
        sh.mcnemar_exact(3, -1)


def test_paired_difference_solves_tangos_score_equation() -> None:
    """Tango's statistic at a limit is z, with the nuisance share found here by maximising the likelihood on a grid."""
    b, c, n = 12, 5, 164
    interval = sh.paired_difference(b, c, n)
    assert interval.estimate == pytest.approx(7 / 164)
    for limit, sign in ((interval.low, 1), (interval.high, -1)):
        only_b = np.linspace(max(0.0, -limit), (1 - limit) / 2, 2_000_001)[1:-1]
        likelihood = b * np.log(only_b + limit) + c * np.log(only_b) + (n - b - c) * np.log1p(-2 * only_b - limit)
        share = only_b[np.nanargmax(likelihood)]
        z = (b - c - n * limit) / math.sqrt(n * (2 * share + limit - limit**2))
        assert z == pytest.approx(sign * stats.norm.ppf(0.975), abs=1e-3)


def test_paired_difference_is_antisymmetric_and_stays_within_bounds() -> None:
    there, back = sh.paired_difference(9, 2, 50), sh.paired_difference(2, 9, 50)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert sh.paired_difference(10, 0, 10).high == 1.0
    nothing = sh.paired_difference(0, 0, 164)
    assert nothing.low < 0 < nothing.high < 0.03
    with pytest.raises(ValueError, match="n must be"):
        sh.paired_difference(3, 3, 5)


@pytest.mark.parametrize(("discordant", "a_share"), [(0.05, 0.8), (0.1, 0.5), (0.2, 0.7)])
def test_paired_difference_covers_95_percent_of_humaneval_sized_runs(discordant: float, a_share: float) -> None:
    p, q, n = discordant * a_share, discordant * (1 - a_share), 164
    covered = 0.0
    for a, b in product(range(60), range(60)):
        chance = stats.multinomial.pmf([a, b, n - a - b], n, [p, q, 1 - p - q]) if a <= n * p * 4 + 8 else 0.0
        if chance > 1e-6:
            interval = sh.paired_difference(a, b, n)
            covered += chance * (interval.low <= p - q <= interval.high)
    assert covered == pytest.approx(0.95, abs=0.02)


# --- pass@k


def test_pass_at_k_by_binomials() -> None:
    for n, c, k in product([1, 5, 20], [0, 1, 3, 20], [1, 3, 10]):
        if c <= n and k <= n:
            assert sh.pass_at_k(n, c, k) == pytest.approx(1 - math.comb(n - c, k) / math.comb(n, k))


def test_pass_at_k_is_unbiased_and_stable() -> None:
    solved = np.random.default_rng(14).binomial(20, 0.3, 20_000)
    assert sh.mean_pass_at_k(solved.tolist(), [20] * 20_000, 5) == pytest.approx(1 - 0.7**5, abs=0.003)
    assert sh.pass_at_k(100_000, 10, 1000) == pytest.approx(1 - 0.99**10, rel=1e-3)


@pytest.mark.parametrize(("n", "c", "k"), [(5, 6, 1), (5, -1, 1), (5, 1, 0), (5, 1, 6)])
def test_impossible_pass_at_k_is_refused(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="pass@k"):
        sh.pass_at_k(n, c, k)


def test_mean_pass_at_k_needs_tasks() -> None:
    with pytest.raises(ValueError, match="at least one"):
        sh.mean_pass_at_k([], [], 1)


# --- goodness of fit


def test_goodness_of_fit_by_scipy() -> None:
    observed, shares = [43, 52, 5, 100], [0.2, 0.25, 0.05, 0.5]
    reference = stats.chisquare(observed, np.array(shares) * 200)
    statistic, dof, p = sh.chi_square_gof(observed, shares)
    assert (statistic, dof, p) == pytest.approx((reference.statistic, 3, reference.pvalue))


def test_rare_outcomes_are_pooled() -> None:
    pooled = sh.chi_square_gof([50, 40, 4, 3, 3], [0.5, 0.4, 0.04, 0.03, 0.03])
    assert pooled == pytest.approx(sh.chi_square_gof([50, 40, 10], [0.5, 0.4, 0.1]))
    joined = sh.chi_square_gof([50, 48, 2], [0.5, 0.48, 0.02])
    assert joined == pytest.approx(sh.chi_square_gof([50, 50], [0.5, 0.5]))


def test_an_impossible_outcome_rejects_outright_and_an_absent_one_costs_nothing() -> None:
    assert sh.chi_square_gof([50, 49, 1], [0.5, 0.5, 0.0]) == (math.inf, 1, 0.0)
    assert sh.chi_square_gof([50, 50, 0], [0.5, 0.5, 0.0]) == (0.0, 1, 1.0)


@pytest.mark.parametrize(("observed", "shares"), [([3, 2], [0.5, 0.4]), ([0, 0], [0.5, 0.5]), ([3, 3], [0.5, 0.5])])
def test_unusable_counts_are_refused(observed: list[int], shares: list[float]) -> None:
    with pytest.raises(ValueError, match=r"probabilities|outcomes"):
        sh.chi_square_gof(observed, shares)


def test_power_by_simulation() -> None:
    true, supposed, n = np.array([0.35, 0.25, 0.2, 0.2]), np.full(4, 0.25), 200
    effect = math.sqrt((((true - supposed) ** 2) / supposed).sum())
    draws = np.random.default_rng(15).multinomial(n, true, 2000)
    found = np.mean([sh.chi_square_gof(draw, supposed)[2] < 0.05 for draw in draws])
    assert sh.chi_square_power(effect, n, 3) == pytest.approx(found, abs=0.03)


def test_power_at_no_effect_is_the_level() -> None:
    assert sh.chi_square_power(0.0, 100, 3, alpha=0.01) == pytest.approx(0.01)
    with pytest.raises(ValueError, match="alpha"):
        sh.chi_square_power(0.1, 100, 3, alpha=0.0)
