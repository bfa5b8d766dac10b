"""Statistics against values worked out by hand, by SciPy, and by simulation of data whose truth is known."""

from __future__ import annotations

import math
import resource

import numpy as np
import pytest
from scipy import stats

from reports.numbers import statistics as st

TOKENS = 64


def timings(kind: str, trials: int, prompts: int, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Return base and head seconds, (trials, prompts) each, and the true speedup of the population they come from."""
    rng = np.random.default_rng(seed)
    shape = (trials, prompts)

    def spiky() -> np.ndarray:
        interrupted = rng.random(shape) < 0.05
        return rng.lognormal(0, 0.02, shape) * (1 + 0.3 * rng.exponential(1, shape) * interrupted)

    if kind == "common difficulty":
        difficulty = rng.lognormal(0, 0.2, shape)
        return difficulty * rng.lognormal(0, 0.05, shape), difficulty * rng.lognormal(0, 0.05, shape) / 1.3, 1.3
    if kind == "heavy tails":
        return 1 + 0.02 * abs(rng.standard_t(3, shape)), (1 + 0.02 * abs(rng.standard_t(3, shape))) / 1.2, 1.2
    if kind == "interrupted rounds":
        return spiky(), spiky() / 1.2, 1.2
    if kind == "uneven gain":
        return rng.lognormal(0, 0.03, shape), rng.lognormal(0, 0.3, shape), math.exp(0.03**2 / 2 - 0.3**2 / 2)
    raise AssertionError(kind)


def coverage(base: np.ndarray, head: np.ndarray, truth: float, **options: int) -> float:
    tokens = np.full(base.shape[1], TOKENS)
    hits = 0
    for base_row, head_row in zip(base, head, strict=True):
        interval = st.paired_ratio(base_row, tokens, head_row, tokens, **options)
        hits += interval.low <= truth <= interval.high
    return hits / len(base)


# --- ratios and their intervals


def test_speedup_is_the_ratio_of_totals_not_the_mean_of_ratios() -> None:
    interval = st.paired_ratio([1, 9], [10, 10], [1, 3], [10, 10])
    assert interval.estimate == pytest.approx(10 / 4)  # the mean of ratios would be 2.0


def test_speedup_counts_each_sides_own_tokens() -> None:
    assert st.paired_ratio([2, 2], [10, 10], [2, 2], [20, 20]).estimate == pytest.approx(2.0)


def test_interval_by_scipys_bootstrap_standard_error_and_student_quantile() -> None:
    rng = np.random.default_rng(5)
    base, head = rng.lognormal(0, 0.2, 20), rng.lognormal(-0.3, 0.2, 20)
    tokens = rng.integers(40, 64, 20)

    def log_ratio(a, b, c, axis=-1):
        return np.log(a.sum(axis) / b.sum(axis) / (c.sum(axis) / b.sum(axis)))

    reference = stats.bootstrap(
        (base, tokens, head), log_ratio, paired=True, n_resamples=20_000, method="basic", rng=np.random.default_rng(1)
    )
    reach = reference.standard_error * math.sqrt(20 / 19) * stats.t.ppf(0.975, 19)
    interval = st.paired_ratio(base, tokens, head, tokens)
    assert interval.method == "bootstrap"
    assert math.log(interval.high / interval.estimate) == pytest.approx(reach, rel=0.05)
    assert math.log(interval.estimate / interval.low) == pytest.approx(reach, rel=0.05)


@pytest.mark.parametrize("prompts", [8, 12, 30])
@pytest.mark.parametrize("kind", ["common difficulty", "heavy tails", "uneven gain"])
def test_95_percent_intervals_cover_95_percent(kind: str, prompts: int) -> None:
    base, head, truth = timings(kind, 1500, prompts, seed=prompts)
    assert 0.93 <= coverage(base, head, truth) <= 0.97


@pytest.mark.parametrize("prompts", [8, 30])
def test_interrupted_rounds_never_cost_coverage(prompts: int) -> None:
    base, head, truth = timings("interrupted rounds", 1500, prompts, seed=3)
    assert 0.94 <= coverage(base, head, truth) <= 0.985


def test_large_samples_use_the_linearised_interval_and_keep_coverage() -> None:
    base, head, truth = timings("uneven gain", 1500, 200, seed=4)
    assert 0.935 <= coverage(base, head, truth) <= 0.965
    tokens = np.full(200, TOKENS)
    assert st.paired_ratio(base[0], tokens, head[0], tokens).method == "linearised"


def test_bootstrap_and_linearisation_agree_where_one_takes_over() -> None:
    base, head, _ = timings("interrupted rounds", 1, st.BOOTSTRAP_UNITS + 1, seed=6)
    base, head, tokens = base[0], head[0], np.full(base.shape[1], TOKENS)
    below = st.paired_ratio(base[:-1], tokens[:-1], head[:-1], tokens[:-1], resamples=20_000)
    above = st.paired_ratio(base, tokens, head, tokens)
    assert (below.method, above.method) == ("bootstrap", "linearised")
    assert above.high - above.low == pytest.approx(below.high - below.low, rel=0.05)


@pytest.mark.parametrize(("prompts", "share"), [(12, 0.5), (100, 0.5), (60, 0.9)])
def test_intervals_of_ratios_of_quantiles_cover_at_least_what_they_say(prompts: int, share: float) -> None:
    random = np.random.default_rng(3)
    covered, trials = 0, 300
    for _ in range(trials):
        common = random.lognormal(0, 0.3, prompts)
        base, head = (common * random.lognormal(0, 0.1, prompts) for _ in range(2))
        interval = st.paired_quantile_ratio(base, 1.2 * head, share, resamples=200)
        assert interval is not None
        covered += interval.low <= 1.2 <= interval.high
    assert 0.93 <= covered / trials <= 0.995


def test_a_ratio_of_quantiles_too_far_out_for_the_prompts_has_no_interval() -> None:
    values = np.arange(1.0, 41.0)
    assert st.paired_quantile_ratio(values[:7], values[:7], 0.5) is None
    assert st.paired_quantile_ratio(values[:8], values[:8], 0.5) is not None
    assert st.paired_quantile_ratio(values[:39], values[:39], 0.9) is None
    exact = st.paired_quantile_ratio(values, 2 * values, 0.9)
    assert exact is not None and (exact.estimate, exact.low, exact.high) == pytest.approx((2.0, 2.0, 2.0))
    with pytest.raises(ValueError, match="share"):
        st.paired_quantile_ratio(values, values, 1.5)
    with pytest.raises(ValueError, match="non-positive"):
        st.paired_quantile_ratio(values - 1, values, 0.5)


def test_blocks_keep_coverage_where_neighbouring_rounds_share_their_noise() -> None:
    rng = np.random.default_rng(7)
    level = np.repeat(rng.normal(0, 0.03, (1000, 12)), 5, axis=1)  # the machine changes its speed every five rounds
    base = np.exp(level + rng.normal(0, 0.01, level.shape))
    head = np.exp(rng.normal(0, 0.01, level.shape))
    truth = math.exp(0.03**2 / 2)
    assert coverage(base, head, truth, block=5) == pytest.approx(0.95, abs=0.02)
    assert coverage(base, head, truth) < 0.80


def test_a_last_incomplete_block_joins_the_one_before() -> None:
    seconds, ones = [1.0, 2.0, 3.0, 4.0, 5.0], [1.0] * 5
    by_block = st.bootstrap_ratio(seconds, ones, block=2)
    by_hand = st.bootstrap_ratio([3.0, 12.0], [2.0, 3.0])
    assert by_block == by_hand


def test_common_difficulty_cancels_in_pairs() -> None:
    base, head, _ = timings("common difficulty", 1, 30, seed=8)
    base, head, tokens = base[0], head[0], np.full(30, TOKENS)
    paired = st.paired_ratio(base, tokens, head, tokens)
    shuffled = st.paired_ratio(base, tokens, np.roll(head, 1), tokens)
    assert (paired.high - paired.low) < 0.5 * (shuffled.high - shuffled.low)
    assert paired.excludes(1.0)


def test_same_seed_same_interval() -> None:
    base, head, _ = timings("heavy tails", 1, 10, seed=9)
    tokens = np.full(10, TOKENS)
    first, second = (st.paired_ratio(base[0], tokens, head[0], tokens, seed=1) for _ in range(2))
    assert first == second
    assert first != st.paired_ratio(base[0], tokens, head[0], tokens, seed=2)


def test_a_higher_confidence_is_wider() -> None:
    seconds, tokens = [1.0, 1.2, 0.9, 1.1], [10.0] * 4
    narrow, wide = (st.bootstrap_ratio(tokens, seconds, confidence=level) for level in (0.9, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_swapping_sides_inverts_the_interval() -> None:
    base, head, _ = timings("uneven gain", 1, 12, seed=10)
    tokens = np.full(12, TOKENS)
    there, back = (st.paired_ratio(a, tokens, b, tokens) for a, b in ((base[0], head[0]), (head[0], base[0])))
    assert (there.low, there.high) == pytest.approx((1 / back.high, 1 / back.low))


def test_one_prompt_says_nothing_and_no_spread_says_all() -> None:
    single = st.paired_ratio([2.0], [10], [1.0], [10])
    assert (single.estimate, single.low, single.high, single.method) == (2.0, 0.0, math.inf, "none")
    assert not single.excludes(1.0)
    steady = st.paired_ratio([2.0] * 5, [10] * 5, [1.0] * 5, [10] * 5)
    assert (steady.low, steady.high) == pytest.approx((2.0, 2.0))


def test_rates_may_hold_zeros() -> None:
    assert st.bootstrap_ratio([0, 0, 0], [5, 5, 5]).high == 0.0
    interval = st.bootstrap_ratio([0, 3, 0, 0], [5, 5, 0, 5])
    assert interval.estimate == pytest.approx(0.2)
    assert interval.low < 0.2 < interval.high


GOOD = {"base_seconds": [1.0, 2.0], "base_tokens": [3, 3], "head_seconds": [1.0, 2.0], "head_tokens": [3, 3]}


@pytest.mark.parametrize("name", list(GOOD))
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([], "empty"),
        ([1.0, math.nan], "not finite"),
        ([1.0, math.inf], "not finite"),
        ([1.0, 0.0], "non-positive"),
        ([1.0, -1.0], "non-positive"),
        ([1.0, 2.0, 3.0], "lengths differ"),
    ],
)
def test_unusable_samples_are_refused_by_name(name: str, bad: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        st.paired_ratio(**{**GOOD, name: bad})
    assert name in str(error.value)


@pytest.mark.parametrize("option", [{"block": 0}, {"resamples": 1}, {"confidence": 1.0}])
def test_unusable_options_are_refused(option: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        st.paired_ratio(**GOOD, **option)


def test_ratio_without_any_denominator_is_refused() -> None:
    with pytest.raises(ValueError, match="add up to zero"):
        st.bootstrap_ratio([1, 2], [0, 0])


def test_many_cases_of_500_samples_compare_in_little_memory() -> None:
    base, head, _ = timings("heavy tails", 500, 500, seed=11)
    tokens = np.full(500, TOKENS)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for base_row, head_row in zip(base, head, strict=True):
        st.paired_ratio(base_row, tokens, head_row, tokens)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 200_000  # kB


# --- quantiles, drift, many tests


def test_quantiles_by_hand() -> None:
    values = list(range(101))
    assert [st.quantile(values, share) for share in (0.5, 0.9, 0.99)] == [50.0, 90.0, 99.0]
    assert st.quantile([1.0, 2.0], 0.25) == 1.25
    with pytest.raises(ValueError, match="share"):
        st.quantile(values, 90)


def test_drift_above_one_means_slower() -> None:
    assert st.drift(0.040, 0.042) == pytest.approx(1.05)
    with pytest.raises(ValueError, match="first"):
        st.drift(0.0, 1.0)


def test_holm_by_hand() -> None:
    assert st.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert st.holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert st.holm([]) == []
    with pytest.raises(ValueError, match="p-values"):
        st.holm([0.5, math.nan])


def test_ratio_of_totals_agrees_with_speedup_and_takes_single_zeros() -> None:
    base_s, base_t, head_s, head_t = np.random.default_rng(31).uniform(1, 2, (4, 12))
    speedup = st.paired_ratio(base_s, base_t, head_s, head_t)
    ratio = st.paired_ratio_of_totals(head_s, head_t, base_s, base_t)
    assert (ratio.estimate, ratio.low, ratio.high) == pytest.approx((speedup.estimate, speedup.low, speedup.high))
    zeros = st.paired_ratio_of_totals([0, 2, 4], [5, 5, 5], [3, 0, 6], [5, 5, 5])
    assert zeros.estimate == pytest.approx(9 / 6)
    with pytest.raises(ValueError, match="head_tops add up to zero"):
        st.paired_ratio_of_totals([1, 2], [1, 1], [0, 0], [1, 1])


def test_acceptance_ratio_covers_95_percent() -> None:
    """Prompts differ in how well they are drafted; both cases meet the same ones."""
    random = np.random.default_rng(32)
    drafted, hits = np.full(20, 100), 0
    for _ in range(600):
        chances = random.uniform(0.3, 0.7, 20)
        base, head = random.binomial(100, chances), random.binomial(100, 1.2 * chances)
        found = st.paired_ratio_of_totals(base, drafted, head, drafted, resamples=200)
        hits += found.low <= 1.2 <= found.high
    assert hits / 600 == pytest.approx(0.95, abs=0.02)


def test_ratio_p_agrees_with_the_interval_and_with_students_t() -> None:
    base, head = np.random.default_rng(33).lognormal(0, 0.1, (2, 15))
    ones = np.ones(15)
    interval = st.paired_ratio(base, ones, head, ones)
    for edge in (interval.low, interval.high):
        assert st.ratio_p(interval, 15, null=edge) == pytest.approx(0.05)
    error = math.log(interval.high / interval.estimate) / stats.t.ppf(0.975, 14)
    expected = 2 * stats.t.sf(abs(math.log(interval.estimate / 1.1)) / error, 14)
    assert st.ratio_p(interval, 15, null=1.1) == pytest.approx(expected)


def test_ratio_p_without_a_known_spread_is_one_and_without_spread_is_certain() -> None:
    assert st.ratio_p(st.paired_ratio([2], [1], [1], [1]), 1) == 1.0
    certain = st.paired_ratio([2, 2], [1, 1], [1, 1], [1, 1])
    assert st.ratio_p(certain, 2) == 0.0
    assert st.ratio_p(certain, 2, null=2.0) == 1.0
    with pytest.raises(ValueError, match="null must be positive"):
        st.ratio_p(certain, 2, null=0.0)
