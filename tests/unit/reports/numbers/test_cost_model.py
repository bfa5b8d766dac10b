"""The cost model against hand calculation, a simulation of its own process, and published figures."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from reports.numbers.cost_model import SpeculationCosts, emitted_per_step, hardware_limit, residual

PUBLISHED = Path(__file__).parents[4] / "reports" / "published" / "seed_study_l4.csv"
PLAIN_MS = 65.06  # the study's own baseline, in the table's heading


def simulated_steps(conditional_rates: list[float], steps: int = 200_000) -> np.ndarray:
    """Return the accepted tokens of each step of a process that stops at its first rejection."""
    draws = np.random.default_rng(0).random((steps, len(conditional_rates))) < np.array(conditional_rates)
    return np.cumprod(draws, axis=1).sum(axis=1)


def published_rows(do_sample: str) -> dict[int, tuple[float, float]]:
    """Accept rate and milliseconds per token of the published rows of the 1B draft at threshold 0.0001, by k."""
    with PUBLISHED.open(encoding="utf-8") as file:
        lines = csv.DictReader(line for line in file if not line.startswith("#"))
        return {
            int(row["assist_toks"]): (float(row["accept_rate"]), float(row["latency_ms_tok"]))
            for row in lines
            if (row["draft"], row["do_sample"], row["confidence_threshold"]) == ("Llama-3.2-1B", do_sample, "0.0001")
        }


# --- acceptance


def test_tokens_per_step_are_the_papers() -> None:
    assert emitted_per_step([0.5] * 2) == pytest.approx(1 + 0.5 + 0.25)
    assert emitted_per_step([0.8] * 5) == pytest.approx((1 - 0.8**6) / (1 - 0.8))
    assert emitted_per_step([0.0] * 7) == 1.0
    assert emitted_per_step([1.0] * 7) == 8.0
    assert emitted_per_step([]) == 1.0


def test_positions_of_unequal_acceptance() -> None:
    assert emitted_per_step([0.9, 0.5, 0.2]) == pytest.approx(1 + 0.9 + 0.45 + 0.09)
    assert emitted_per_step([0.9, 0.5, 0.2]) == pytest.approx(simulated_steps([0.9, 0.5, 0.2]).mean() + 1, rel=0.01)


def test_alpha_of_0_8_gives_an_accept_rate_of_only_0_54() -> None:
    assert (emitted_per_step([0.8] * 5) - 1) / 5 == pytest.approx(0.54, abs=0.005)
    assert (emitted_per_step([0.8] * 5) - 1) / 5 == pytest.approx(simulated_steps([0.8] * 5).mean() / 5, rel=0.01)


# --- costs


def test_a_step_by_hand() -> None:
    assert SpeculationCosts(0.2, {4: 1.1, 6: 1.3}, overhead=0.1).step(3) == pytest.approx(0.6 + 1.1 + 0.1)


def test_speedup_is_the_papers_formula_at_free_verification() -> None:
    """Theorem 3.8: (1 - alpha^(k+1)) / ((1 - alpha) (k c + 1))."""
    alpha, k, c = 0.8, 5, 0.05
    speedup = emitted_per_step([alpha] * k) / SpeculationCosts(c, {k + 1: 1.0}).step(k)
    assert speedup == pytest.approx((1 - alpha**6) / ((1 - alpha) * (k * c + 1)))


@pytest.mark.parametrize(
    ("positions", "cost"), [(1, 1.0), (2, 1.05), (4, 1.15), (5, 1.2), (6, 1.3), (9, 1.6), (2.5, 1.075)]
)
def test_verification_between_and_beyond_measured_points(positions: float, cost: float) -> None:
    assert SpeculationCosts(0.2, {5: 1.2, 6: 1.3}).verification(positions) == pytest.approx(cost)


def test_a_step_that_drafts_nothing_costs_one_forward() -> None:
    assert SpeculationCosts(0.2, {4: 1.12}).step(0) == 1.0


def test_steps_that_drafted_less_are_paid_less() -> None:
    """Where verification is linear in positions, the mean number drafted costs what the steps cost in the mean."""
    costs = SpeculationCosts(0.3, {p: 0.9 + 0.1 * p for p in (2, 4, 6)})
    drafted = np.array([5, 1, 2, 5, 1, 1])
    assert costs.step(drafted.mean()) == pytest.approx(np.mean([costs.step(int(count)) for count in drafted]))
    assert costs.step(drafted.mean()) < 0.8 * costs.step(5)


def test_residual_is_positive_where_the_model_promised_more() -> None:
    assert residual(1.1, 1.0) == pytest.approx(0.1)
    assert residual(0.9, 1.0) == pytest.approx(-0.1)


@pytest.mark.parametrize("do_sample", ["false", "true"])
def test_fitted_on_3_and_5_assistant_tokens_the_published_row_with_7_is_predicted(do_sample: str) -> None:
    """A step of k drafted tokens costs accept_rate * k + 1 tokens' time, which the model says is c k + v."""
    rows = published_rows(do_sample)
    steps = {k: (rate * k + 1) * latency / PLAIN_MS for k, (rate, latency) in rows.items()}
    draft = (steps[5] - steps[3]) / 2
    verify = steps[3] - 3 * draft
    rate, latency = rows[7]
    predicted = PLAIN_MS * SpeculationCosts(draft, {8: verify}).step(7) / (rate * 7 + 1)
    assert residual(predicted, latency) == pytest.approx(0, abs=0.02)
    if do_sample == "false":
        assert (latency, predicted) == pytest.approx((59.896, 59.6), abs=0.05)
        assert (draft, verify) == pytest.approx((0.303, 1.12), abs=0.001)


# --- the hardware limit


def test_an_8b_model_in_bf16_is_bound_by_bandwidth() -> None:
    """Llama-3.1-8B on a card of 300 GB/s and 120 TFLOP/s: 15.0 GB of layers and head, 128 kB of cache per position."""
    limit = hardware_limit(15.0e9 + 131_072 * 256, 2 * 7.5e9, 300e9, 120e12)
    assert limit.bound == "bandwidth"
    assert 1 / limit.seconds == pytest.approx(19.956, abs=1e-3)


def test_many_positions_are_bound_by_compute() -> None:
    limit = hardware_limit(1e9, 2 * 0.5e9 * 2048, 100e9, 1e12)
    assert limit.bound == "compute"
    assert limit.seconds == pytest.approx(2.048)


# --- refusals


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: emitted_per_step([1.1]), "acceptance"),
        (lambda: emitted_per_step([math.nan]), "acceptance"),
        (lambda: emitted_per_step([0.5, -0.1]), "acceptance"),
        (lambda: SpeculationCosts(-0.1, {}), "draft"),
        (lambda: SpeculationCosts(0.1, {0: 1.0}), "verify"),
        (lambda: SpeculationCosts(0.1, {2: math.nan}), "verify"),
        (lambda: SpeculationCosts(0.1, {}).step(-1), "drafted"),
        (lambda: SpeculationCosts(0.1, {}).verification(0), "at least one position"),
        (lambda: residual(1.0, 0.0), "measured"),
        (lambda: hardware_limit(1.0, 1.0, 0.0, 1.0), "copy_bytes_per_second"),
        (lambda: hardware_limit(1.0, -1.0, 1.0, 1.0), "operations_per_step"),
    ],
)
def test_figures_out_of_range_are_refused_by_name(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
