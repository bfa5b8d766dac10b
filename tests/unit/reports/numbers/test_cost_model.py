"""The cost model against hand calculation, a simulation of its own process, and published figures."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from reports.numbers import cost_model as cm

PUBLISHED = Path(__file__).parents[4] / "reports" / "published" / "seed_study_l4.csv"
PLAIN_MS = 65.06  # the study's own baseline, in the table's heading


def simulated_steps(conditional_rates: list[float], steps: int = 200_000) -> np.ndarray:
    """Return the accepted tokens of each step of a process that stops at its first rejection."""
    draws = np.random.default_rng(0).random((steps, len(conditional_rates))) < np.array(conditional_rates)
    return np.cumprod(draws, axis=1).sum(axis=1)


def seed_rows(draft: str, do_sample: str) -> dict[int, cm.PublishedRow]:
    """Return the published unquantized rows at threshold 0.0001, by assistant tokens."""
    with PUBLISHED.open(encoding="utf-8") as file:
        lines = csv.DictReader(line for line in file if not line.startswith("#"))
        return {
            int(row["assist_toks"]): cm.PublishedRow(
                float(row["accept_rate"]), int(row["assist_toks"]), float(row["latency_ms_tok"])
            )
            for row in lines
            if (row["draft"], row["do_sample"], row["confidence_threshold"]) == (draft, do_sample, "0.0001")
        }


# --- acceptance


def test_tokens_per_step_by_hand() -> None:
    assert cm.expected_tokens_per_step(0.5, 2) == pytest.approx(1 + 0.5 + 0.25)
    assert cm.expected_tokens_per_step(0.8, 5) == pytest.approx((1 - 0.8**6) / (1 - 0.8))
    assert cm.expected_tokens_per_step(0.0, 7) == 1.0
    assert cm.expected_tokens_per_step(1.0, 7) == 8.0


@pytest.mark.parametrize(("alpha", "k"), [(0.8, 5), (0.54, 3)])
def test_tokens_per_step_accept_rate_and_alpha_of_the_simulated_process(alpha: float, k: int) -> None:
    accepted = simulated_steps([alpha] * k)
    assert cm.expected_tokens_per_step(alpha, k) == pytest.approx(accepted.mean() + 1, rel=0.01)
    assert cm.expected_accept_rate(alpha, k) == pytest.approx(accepted.mean() / k, rel=0.01)
    assert cm.alpha_from_counts(int(accepted.sum()), int((accepted < k).sum())) == pytest.approx(alpha, rel=0.01)


def test_alpha_of_0_8_gives_an_accept_rate_of_only_0_54() -> None:
    assert cm.expected_accept_rate(0.8, 5) == pytest.approx(0.54, abs=0.005)


def test_positions_of_unequal_acceptance() -> None:
    assert cm.expected_from_positions([0.9, 0.5, 0.2]) == pytest.approx(1 + 0.9 + 0.45 + 0.09)
    assert cm.expected_from_positions([0.9, 0.5, 0.2]) == pytest.approx(
        simulated_steps([0.9, 0.5, 0.2]).mean() + 1, rel=0.01
    )
    assert cm.expected_from_positions([]) == 1.0


def test_positions_cut_and_carry_on_with_the_last_rate() -> None:
    assert cm.tokens_per_step([0.9, 0.5], 1) == pytest.approx(1.9)
    assert cm.tokens_per_step([0.9, 0.5], 4) == pytest.approx(1 + 0.9 + 0.45 + 0.225 + 0.1125)
    assert cm.tokens_per_step(0.5, 4) == cm.expected_tokens_per_step(0.5, 4)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.8, 0.999, 1.0])
@pytest.mark.parametrize("k", [1, 5, 8])
def test_alpha_from_accept_rate_inverts(alpha: float, k: int) -> None:
    assert cm.alpha_from_accept_rate(cm.expected_accept_rate(alpha, k), k) == pytest.approx(alpha, abs=1e-9)


# --- costs and speedups


def test_speedup_is_the_papers_formula_at_free_verification() -> None:
    alpha, k, c = 0.8, 5, 0.05
    assert cm.predicted_speedup(alpha, k, cm.Costs(c)) == pytest.approx((1 - alpha**6) / ((1 - alpha) * (k * c + 1)))


def test_speedup_with_measured_verification_and_overhead_by_hand() -> None:
    costs = cm.Costs(0.2, {4: 1.1, 6: 1.3}, overhead=0.1)
    assert cm.predicted_speedup(0.5, 3, costs) == pytest.approx(1.875 / (0.6 + 1.1 + 0.1))
    assert cm.predicted_latency(40.0, 1.875, 3, costs) == pytest.approx(40 * (0.6 + 1.1 + 0.1) / 1.875)


@pytest.mark.parametrize(
    ("positions", "cost"), [(1, 1.0), (2, 1.05), (4, 1.15), (5, 1.2), (6, 1.3), (9, 1.6), (2.5, 1.075)]
)
def test_verification_between_and_beyond_measured_points(positions: float, cost: float) -> None:
    assert cm.Costs(0.2, {5: 1.2, 6: 1.3}).verification(positions) == pytest.approx(cost)


def test_constant_verification_costs_one_when_nothing_is_drafted() -> None:
    costs = cm.Costs(0.2, 1.12)
    assert [costs.verification(positions) for positions in (1, 2, 9)] == pytest.approx([1.0, 1.12, 1.12])
    assert costs.step(0) == 1.0


def test_steps_that_drafted_less_are_paid_less() -> None:
    """A threshold that stops drafting early: the mean number drafted predicts, k does not."""
    costs = cm.Costs(0.3, {p: 0.9 + 0.1 * p for p in (2, 4, 6)})
    drafted = np.array([5, 1, 2, 5, 1, 1])
    accepted = np.array([5, 1, 2, 3, 0, 1])
    emitted = (accepted + 1).mean()
    true_time = sum(0.3 * g + 0.9 + 0.1 * (g + 1) for g in drafted) / len(drafted)
    assert cm.speedup_of_steps(emitted, drafted.mean(), costs) == pytest.approx(emitted / true_time)
    assert cm.speedup_of_steps(emitted, 5, costs) < 0.8 * emitted / true_time


def test_curve_rises_then_falls_and_best_k_is_its_peak() -> None:
    costs = cm.Costs(0.1, {2: 1.02, 9: 1.16})
    predictions = cm.curve(range(1, 13), 0.7, costs)
    speedups = [prediction.speedup for prediction in predictions]
    best = cm.best_k(range(12, 0, -1), 0.7, costs)
    assert best == predictions[int(np.argmax(speedups))]
    assert 1 < best.k < 12
    assert best.tokens_per_step == cm.expected_tokens_per_step(0.7, best.k)
    assert speedups == sorted(speedups[: best.k]) + sorted(speedups[best.k :], reverse=True)


def test_a_draft_as_slow_as_its_target_never_pays() -> None:
    best = cm.best_k(range(1, 9), 0.8, cm.Costs(1.0))
    assert best.k == 1
    assert best.speedup < 1


def test_a_perfect_free_draft_gives_k_plus_one() -> None:
    assert cm.predicted_speedup(1.0, 7, cm.Costs(0.0)) == pytest.approx(8.0)


def test_residual_is_positive_where_the_model_promised_more() -> None:
    assert cm.residual(1.1, 1.0) == pytest.approx(0.1)
    assert cm.residual(0.9, 1.0) == pytest.approx(-0.1)


# --- fitting published rows


def test_fit_finds_planted_costs() -> None:
    planted = cm.Costs(0.25, 1.2)
    rows = [
        cm.PublishedRow(
            cm.expected_accept_rate(0.7, k), k, cm.predicted_latency(50.0, cm.tokens_per_step(0.7, k), k, planted)
        )
        for k in (2, 3, 6)
    ]
    fitted = cm.fit(rows, 50.0)
    assert (fitted.draft, fitted.verify) == pytest.approx((0.25, 1.2))


@pytest.mark.parametrize("do_sample", ["false", "true"])
def test_fitted_on_3_and_5_assistant_tokens_the_published_row_with_7_is_predicted(do_sample: str) -> None:
    rows = seed_rows("Llama-3.2-1B", do_sample)
    costs = cm.fit([rows[3], rows[5]], PLAIN_MS)
    held_out = rows[7]
    predicted = cm.predicted_latency(PLAIN_MS, held_out.accept_rate * 7 + 1, 7, costs)
    assert cm.residual(predicted, held_out.latency) == pytest.approx(0, abs=0.02)
    if do_sample == "false":
        assert (held_out.latency, predicted) == pytest.approx((59.896, 59.6), abs=0.05)
        assert (costs.draft, costs.verify) == pytest.approx((0.303, 1.12), abs=0.001)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "two values of k"),
        ([cm.PublishedRow(0.5, 3, 50.0), cm.PublishedRow(0.4, 3, 51.0)], "two values of k"),
        ([cm.PublishedRow(1.5, 3, 50.0), cm.PublishedRow(0.4, 5, 51.0)], "accept_rate"),
        ([cm.PublishedRow(0.5, 3, 90.0), cm.PublishedRow(0.5, 5, 30.0)], "do not follow"),
        ([cm.PublishedRow(0.5, 3, math.nan), cm.PublishedRow(0.5, 5, 30.0)], "latency"),
    ],
)
def test_rows_that_cannot_be_fitted_are_refused(rows: list[cm.PublishedRow], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cm.fit(rows, 65.0)


# --- the hardware limit


def test_an_8b_model_in_bf16_is_bound_by_bandwidth() -> None:
    """Llama-3.1-8B on a card of 300 GB/s and 120 TFLOP/s: 15.0 GB of layers and head, 128 kB of cache per position."""
    moved = cm.decode_step_bytes(15.0e9, 131_072, 256)
    assert moved == pytest.approx(15.0e9 + 33_554_432)
    limit = cm.hardware_limit(moved, cm.decode_step_operations(7.5e9), 300e9, 120e12)
    assert limit.bound == "bandwidth"
    assert limit.seconds == limit.bandwidth_seconds == pytest.approx(0.05011, abs=1e-5)
    assert limit.compute_seconds == pytest.approx(0.000125)
    assert limit.tokens_per_second() == pytest.approx(19.956, abs=1e-3)
    assert limit.tokens_per_second(2.641) == pytest.approx(2.641 * 19.956, abs=1e-2)


def test_many_positions_are_bound_by_compute() -> None:
    limit = cm.hardware_limit(1e9, cm.decode_step_operations(0.5e9, positions=2048), 100e9, 1e12)
    assert limit.bound == "compute"
    assert limit.seconds == limit.compute_seconds == pytest.approx(2.048)


def test_achieved_share_of_the_limit() -> None:
    limit = cm.hardware_limit(10e9, 1e9, 100e9, 1e12)
    reached = cm.achieved(10e9, 0.125, limit)
    assert (reached.bytes_per_second, reached.share_of_limit) == pytest.approx((80e9, 0.8))


# --- refusals


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cm.expected_tokens_per_step(1.1, 3), "acceptance"),
        (lambda: cm.expected_tokens_per_step(math.nan, 3), "acceptance"),
        (lambda: cm.expected_tokens_per_step(0.5, 0), "k, the tokens"),
        (lambda: cm.expected_from_positions([0.5, -0.1]), "acceptance"),
        (lambda: cm.tokens_per_step([], 3), "no position"),
        (lambda: cm.alpha_from_counts(0, 0), "at least one"),
        (lambda: cm.alpha_from_counts(-1, 3), "accepted"),
        (lambda: cm.alpha_from_accept_rate(1.2, 3), "accept_rate"),
        (lambda: cm.Costs(-0.1), "draft"),
        (lambda: cm.Costs(0.1, {0: 1.0}), "verify"),
        (lambda: cm.Costs(0.1, math.nan), "verify"),
        (lambda: cm.Costs(0.1).step(-1), "drafted"),
        (lambda: cm.Costs(0.1).verification(0), "at least one position"),
        (lambda: cm.speedup_of_steps(0.5, 3, cm.Costs(0.1)), "at least one token"),
        (lambda: cm.best_k([], 0.5, cm.Costs(0.1)), "ks is empty"),
        (lambda: cm.residual(1.0, 0.0), "measured"),
        (lambda: cm.predicted_latency(0.0, 2.0, 3, cm.Costs(0.1)), "plain_latency"),
        (lambda: cm.hardware_limit(1.0, 1.0, 0.0, 1.0), "copy_bytes_per_second"),
        (lambda: cm.decode_step_bytes(-1.0, 0.0, 0), "weight_bytes"),
    ],
)
def test_figures_out_of_range_are_refused_by_name(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
