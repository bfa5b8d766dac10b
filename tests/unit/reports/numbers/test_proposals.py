"""What a race tries beside its grid: predicted to be best, inside its bounds, never past a slower measured point."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_predictions import PROMPTS, assisted, baseline, case, drafting, run

from reports.numbers.cases import seconds_per_token
from reports.numbers.predictions import curves
from reports.numbers.proposals import Bounds, Proposal, propose
from reports.record.run import CaseResult


def told(*cases: CaseResult, bounds: Bounds | None = None, most: int = 3) -> list[Proposal]:
    measured = run(baseline(), *cases)
    return propose(measured, [each.id for each in measured.cases], bounds, most=most)


def slower(result: CaseResult, factor: float) -> CaseResult:
    return replace(result, samples=tuple(replace(s, seconds=s.seconds * factor) for s in result.samples))


def test_the_best_k_between_two_measured_ones_is_proposed_with_its_predicted_time() -> None:
    ends = [drafting(0.8, 1), drafting(0.8, 9)]
    (proposal,) = told(*ends)
    k = proposal.point.assist_toks
    assert k is not None
    assert 1 < k < 9
    assert proposal.point == replace(ends[0].point, assist_toks=k)
    latencies = {each: seconds_per_token(drafting(0.8, each)) or 0.0 for each in range(1, 10)}
    assert proposal.seconds_per_token == pytest.approx(latencies[k], rel=0.06)
    assert latencies[k] <= 1.05 * min(latencies.values())
    assert "the cost model predicts" in proposal.because


def test_what_is_measured_already_or_not_faster_is_not_proposed() -> None:
    assert told(*(drafting(0.8, k) for k in range(1, 13))) == []
    assert told(drafting(0.0, 3)) == []
    assert told(drafting(0.8, 1), drafting(0.8, 9), most=0) == []
    fast = slower(drafting(0.8, 3, threshold=0.2), 0.1)
    assert told(drafting(0.8, 1), drafting(0.8, 9), fast) == []


def test_nothing_lies_past_a_measured_point_that_was_slower() -> None:
    # All accepted: the model would draft as many tokens as it may. What was measured says that 8 is slower than 5.
    measured = [drafting(1.0, 3), drafting(1.0, 5), slower(drafting(1.0, 8), 1.5)]
    proposals = told(*measured)
    assert all((proposal.point.assist_toks or 0) < 8 for proposal in proposals)
    (beyond,) = told(*measured[:2])
    assert beyond.point.assist_toks == 12
    (bounded,) = told(*measured[:2], bounds=Bounds(most_toks=7))
    assert bounded.point.assist_toks == 7


def test_a_curve_goes_through_what_was_measured() -> None:
    (curve,) = curves(run(baseline(), slower(drafting(0.8, 3), 1.2), drafting(0.8, 6)))
    predicted = {point.k: point.speedup for point in curve.points}
    for k, speedup in curve.measured.items():
        assert curve.corrected(k) == pytest.approx(speedup)
    off = {k: curve.measured[k] / predicted[k] for k in curve.measured}
    assert curve.corrected(1) == pytest.approx(predicted[1] * off[3])
    assert curve.corrected(4) == pytest.approx(predicted[4] * off[3] ** (2 / 3) * off[6] ** (1 / 3))
    assert curve.corrected(9) == pytest.approx(predicted[9] * off[6])


def test_a_threshold_between_three_measured_ones_is_proposed_where_the_middle_one_is_fastest() -> None:
    samples = [assisted(0.8, 3, prompt) for prompt in range(len(PROMPTS))]
    every = {k: drafting(0.8, k) for k in range(1, 13) if k != 3}
    at = {threshold: case(3, samples, threshold=threshold) for threshold in (0.0, 0.4, 0.8)}
    flat = [*every.values(), slower(at[0.0], 0.55), slower(at[0.4], 0.5), slower(at[0.8], 0.7)]
    proposals = [p for p in told(*flat) if p.point.confidence_threshold not in at]
    (proposal,) = proposals
    assert proposal.point.confidence_threshold == pytest.approx(0.3)
    assert proposal.point.assist_toks == 3
    assert proposal.seconds_per_token < (seconds_per_token(flat[-2]) or 0.0)
    falling = [*every.values(), slower(at[0.0], 0.7), slower(at[0.4], 0.6), slower(at[0.8], 0.5)]
    assert all(p.point.confidence_threshold in at for p in told(*falling))
    narrow = told(*flat, bounds=Bounds(most_threshold=0.2))
    assert [p.point.confidence_threshold for p in narrow if p.point.confidence_threshold not in at] in ([], [0.2])


def test_only_what_may_win_is_asked() -> None:
    measured = run(baseline(), drafting(0.8, 1), drafting(0.8, 9))
    assert propose(measured, [measured.cases[0].id]) == []
    assert propose(measured, []) == []
