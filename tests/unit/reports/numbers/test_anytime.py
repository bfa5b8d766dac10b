"""Intervals that hold at all times: against the integral they close, by simulation, beside those that do not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats

from reports.numbers import anytime as at


def evidence(values: np.ndarray) -> float:
    """The likelihood ratio of Student's t of `values` under a normal prior of the effect, against no effect."""
    count = values.size
    student = math.sqrt(count) * values.mean() / values.std(ddof=1)
    width = at.PRIOR_ROUNDS**-0.5

    def under(effect: float) -> float:
        return float(stats.nct.pdf(student, count - 1, math.sqrt(count) * effect) * stats.norm.pdf(effect, 0, width))

    return integrate.quad(under, -25, 25, points=[0], limit=400)[0] / float(stats.t.pdf(student, count - 1))


@pytest.mark.parametrize("count", [4, 9, 25])
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_the_edge_is_where_the_evidence_against_the_mean_reaches_one_over_alpha(count: int, alpha: float) -> None:
    values = np.random.default_rng(count).normal(0.3, 0.05, count)
    centre, half_width = at.anytime(values, alpha)
    assert centre == pytest.approx(values.mean())
    for edge in (centre - half_width, centre + half_width):
        assert evidence(values - edge) == pytest.approx(1 / alpha, rel=1e-3)


def misses(draws: np.ndarray, alpha: float, reach: dict[int, float]) -> float:
    """The share of series (rows) of mean 0 whose interval misses 0 after any of the rounds."""
    rounds = np.arange(1, draws.shape[1] + 1)
    means = np.cumsum(draws, axis=1) / rounds
    spreads = np.sqrt(np.maximum(np.cumsum(draws**2, axis=1) / rounds - means**2, 0))
    reaches = np.array([reach[count] for count in rounds])
    with np.errstate(invalid="ignore"):
        missed = np.abs(means[:, 2:]) > reaches[2:] * spreads[:, 2:]
    return float(missed.any(axis=1).mean())


@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_looking_after_every_round_misses_in_at_most_alpha_of_all_runs(alpha: float) -> None:
    generator = np.random.default_rng(3)
    reach = {count: at.anytime_reach(count, alpha) for count in range(1, 61)}
    normal = generator.normal(0, 1, (8_000, 60))
    assert misses(normal, alpha, reach) <= alpha
    assert misses(generator.standard_t(3, (8_000, 60)), alpha, reach) <= alpha
    usual = {n: stats.t.ppf(1 - alpha / 2, n - 1) / math.sqrt(n - 1) if n > 1 else math.inf for n in range(1, 61)}
    assert misses(normal, alpha, usual) > 3 * alpha


def test_few_rounds_say_little_and_two_nothing_at_all() -> None:
    assert at.anytime([0.1])[1] == math.inf
    assert at.anytime([0.1, 0.2])[1] == math.inf
    reaches = [at.anytime_reach(count, 0.05) for count in range(3, 200)]
    assert reaches == sorted(reaches, reverse=True)
    assert at.anytime_reach(3, 0.05) > stats.t.ppf(0.975, 2) / math.sqrt(2)


def test_log_ratios_average_to_the_ratio_of_totals_not_to_the_mean_of_ratios() -> None:
    base, case = [1.0, 1.0], [1.0, 0.25]
    assert np.mean(at.log_ratios(base, case)) == pytest.approx(math.log(2 / 1.25))
    seconds, tokens = [6.0, 2.0], [64, 16]
    told = at.log_ratios([8.0, 8.0], seconds, [64, 64], tokens)
    assert np.mean(told) == pytest.approx(math.log((16 / 128) / (8 / 80)))
    moved = [8 / 8 - 64 / 64 - 6 / 4 + 64 / 40, 8 / 8 - 64 / 64 - 2 / 4 + 16 / 40]
    assert told - np.mean(told) == pytest.approx(moved)
    with pytest.raises(ValueError, match="both or for neither"):
        at.log_ratios([1.0], [1.0], [64])
    with pytest.raises(ValueError, match="positive"):
        at.log_ratios([1.0, 0.0], [1.0, 1.0])


def faded(generator: np.random.Generator, rows: int, rounds: int, fading: float) -> np.ndarray:
    series = np.empty((rows, rounds))
    series[:, 0] = generator.normal(0, 1 / math.sqrt(1 - fading**2), rows)
    for column in range(1, rounds):
        series[:, column] = fading * series[:, column - 1] + generator.normal(0, 1, rows)
    return series


def test_correlated_rounds_count_for_fewer() -> None:
    series = faded(np.random.default_rng(5), 1_000, 60, 0.6)
    anyhow = np.mean([abs(row.mean()) > stats.t.ppf(0.975, 59) * row.std() / math.sqrt(59) for row in series])
    told = []
    for row in series:
        rounds = at.independent_rounds(row)
        told.append(abs(row.mean()) > stats.t.ppf(0.975, rounds - 1) * row.std() / math.sqrt(rounds - 1))
    assert anyhow > 0.25
    assert np.mean(told) < 0.08


def test_precision_is_reached_by_the_widest_and_more_rounds_narrow_it() -> None:
    generator = np.random.default_rng(1)
    ratios = {"close": generator.normal(0.4, 0.02, 30), "wide": generator.normal(0.1, 0.2, 30), "unmeasured": []}
    widest, narrowest = at.half_widths(ratios, more_rounds=90)
    assert (widest.case, narrowest.case, widest.rounds) == ("wide", "close", 30)
    assert widest.half_width == at.anytime(ratios["wide"])[1]
    assert widest.percent == pytest.approx(100 * (math.exp(widest.half_width) - 1))
    assert 0.4 < widest.with_more / widest.half_width < 0.5
    assert at.precision_reached(ratios, widest.half_width)
    assert not at.precision_reached(ratios, 0.99 * widest.half_width)
    assert not at.precision_reached({"two": [0.1, 0.1]}, 0.5)
    with pytest.raises(ValueError, match="precision"):
        at.precision_reached(ratios, 0)
