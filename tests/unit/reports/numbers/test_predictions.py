"""Predictions against planted walks, hand calculation and a run whose times follow the model by construction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from planted_runs import typed

from fixtures.engines.transformers.models import synthetic
from reports.numbers.cost_model import emitted_per_step
from reports.numbers.predictions import acceptance_of, curves, prediction_lines, predictions
from reports.record.run import CaseResult, Run, Sample
from reports.views.tables import run_sheet
from tools.walks import expected_counts, walked_steps

VOCAB = 512
TRUTH = synthetic.cycle(VOCAB, 0)
TARGET = {1: 0.040, 2: 0.042, 3: 0.044, 4: 0.046, 6: 0.050, 9: 0.056}
FACTS = {
    "target_seconds": {str(positions): seconds for positions, seconds in TARGET.items()},
    "draft_seconds": 0.008,
    "draft_token_seconds": 0.008,
    "draft_call_overhead_seconds": 0.004,
    "draft_prefill_seconds": 0.020,
}
FIRST = 0.130  # the target's set-up and prefill
STEP = 0.040
PROMPTS = (3, 77, 200, 401)
TOKENS = 49
ENGINE = {"pair": "tiny", "target_quant": "none", "draft_quant": "none", "dtype": "fp32", "compile": False}


def planted_steps(agreement: float, last: int, k: int) -> list[tuple[int, int]]:
    """(proposed, accepted) of each step, with the counts that the synthetic pair's own walk expects."""
    guess = synthetic.disagreeing(TRUTH, agreement, 1)
    steps = list(walked_steps(TRUTH.tolist(), guess.tolist(), last, TOKENS, k))
    expected = expected_counts(TRUTH, guess, last, TOKENS, k)
    assert (len(steps), sum(a for _, a in steps)) == (expected.steps, expected.accepted)
    return steps


def target_seconds(positions: int) -> float:
    return 0.040 + 0.002 * (positions - 1)


def assisted(agreement: float, k: int, prompt: int, *, slower: float = 1.0) -> Sample:
    """A sample whose time is the model's to the microsecond, times `slower`."""
    steps = planted_steps(agreement, PROMPTS[prompt], k)
    seconds = FIRST - STEP + 0.020
    for proposed, _ in steps:
        seconds += target_seconds(proposed + 1) + (0.004 + 0.008 * proposed if proposed else 0.0)
    return Sample(
        prompt=prompt,
        seconds=seconds * slower,
        new_tokens=TOKENS,
        target_forwards=len(steps),
        output_sha256="x",
        ttft_seconds=0.2,
        first_tokens=steps[0][1] + 1,
        drafted=sum(p for p, _ in steps),
        accepted=sum(a for _, a in steps),
        steps=tuple(steps),
    )


def plain(prompt: int) -> Sample:
    return Sample(prompt, FIRST + STEP * (TOKENS - 1), TOKENS, TOKENS, "x", ttft_seconds=FIRST)


def case(
    k: int | None, samples: list[Sample], *, facts: Any = FACTS, threshold: float = 0.0, **more: Any
) -> CaseResult:
    point: dict[str, Any] = {"strategy": "plain", "do_sample": False, "cache": "dynamic"}
    identity = "tiny/plain,greedy,dynamic"
    if k is not None:
        point |= {"strategy": "assisted", "assist_toks": k, "confidence_threshold": threshold}
        point |= {"assist_schedule": "constant"}
        identity = f"tiny/assisted,k={k},p={threshold:g},greedy,dynamic"
    found = CaseResult(
        identity,
        "ok",
        engine=more.pop("engine", ENGINE),
        point=point | more.pop("point", {}),
        workload={"prompts": "synthetic"},
        samples=tuple(samples),
        facts={"forward_costs": facts} if facts else {},
        **more,
    )
    return typed(found)


def run(*cases: CaseResult) -> Run:
    return Run(Path("run.jsonl"), {}, cases, True)


def baseline() -> CaseResult:
    return case(None, [plain(i) for i in range(len(PROMPTS))])


def drafting(agreement: float, k: int, **more: Any) -> CaseResult:
    return case(k, [assisted(agreement, k, i) for i in range(len(PROMPTS))], **more)


@pytest.mark.parametrize("agreement", [0.0, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("k", [1, 3, 5, 8])
def test_planted_agreement_gives_the_exact_tokens_per_step(agreement: float, k: int) -> None:
    (found,) = predictions(run(baseline(), drafting(agreement, k)))
    assert found.tokens_per_step == pytest.approx(found.measured_tokens_per_step, rel=1e-12)
    steps = sum(len(planted_steps(agreement, last, k)) for last in PROMPTS)
    assert found.tokens_per_step == pytest.approx(len(PROMPTS) * TOKENS / steps, rel=1e-12)


@pytest.mark.parametrize(("agreement", "rate"), [(0.0, 0.0), (1.0, 1.0)])
def test_certain_agreement_predicts_a_k_that_was_never_run(agreement: float, rate: float) -> None:
    (curve,) = curves(run(baseline(), drafting(agreement, 3)), [1, 2, 6])
    for point in curve.points:
        assert point.tokens_per_step == pytest.approx(1 + rate * point.k)
    (found,) = predictions(run(baseline(), drafting(agreement, 3)))
    assert set(found.conditional_rates) == {rate}


def test_conditional_rates_by_hand() -> None:
    steps = ((3, 3), (3, 1), (3, 0), (2, 2), (0, 0))
    found = acceptance_of([Sample(0, 1.0, 11, 5, "x", steps=steps)])
    assert found.judged == (4, 3, 1)
    assert found.conditional_rates == (3 / 4, 2 / 3, 1 / 1)
    assert found.proposed == (4, 4, 3)
    assert found.reached == (5, 3, 2)
    assert emitted_per_step(found.continued) == pytest.approx(1 + 6 / 5)


def test_tokens_past_the_end_of_the_output_were_not_judged() -> None:
    cut = Sample(0, 1.0, 4, 2, "x", steps=((3, 1), (3, 2)), censored=1)
    assert acceptance_of([cut]).conditional_rates == (1.0, 1 / 2)
    assert acceptance_of([Sample(0, 1.0, 4, 2, "x", steps=((3, 1), (3, 2)))]).conditional_rates == (1.0, 1 / 2, 0.0)


@pytest.mark.parametrize("k", [1, 3, 5, 8])
def test_speedup_is_exact_where_time_follows_the_model(k: int) -> None:
    (found,) = predictions(run(baseline(), drafting(0.8, k)))
    assert found.residual == pytest.approx(0.0, abs=1e-9)
    assert found.draft_cost == pytest.approx(0.2)
    assert found.call_overhead == pytest.approx(0.1)
    assert found.verify_costs[2] == pytest.approx(1.05)


def test_no_time_of_the_predicted_case_enters() -> None:
    slow = case(3, [assisted(0.8, 3, i, slower=1.5) for i in range(len(PROMPTS))])
    (right,), (wrong,) = predictions(run(baseline(), drafting(0.8, 3))), predictions(run(baseline(), slow))
    assert wrong.predicted_speedup == right.predicted_speedup
    assert wrong.residual == pytest.approx(0.5)


def test_a_machine_that_slowed_down_alike_is_predicted_alike() -> None:
    slower = {**FACTS, "target_seconds": {p: 2 * s for p, s in FACTS["target_seconds"].items()}}  # type: ignore[attr-defined]
    slower |= {name: 2 * FACTS[name] for name in FACTS if name != "target_seconds"}  # type: ignore[operator]
    (found,) = predictions(run(baseline(), drafting(0.8, 3, facts=slower)))
    assert found.residual == pytest.approx(0.0, abs=1e-9), "costs enter as ratios"


def test_a_curve_predicts_the_cases_that_were_left_out() -> None:
    ran = {k: drafting(0.8, k) for k in (1, 2, 3, 5, 8)}
    everything = {k: predictions(run(baseline(), each))[0].measured_speedup for k, each in ran.items()}
    (curve,) = curves(run(baseline(), ran[8]), [1, 2, 3, 5, 8])
    for point in curve.points:
        assert point.speedup == pytest.approx(everything[point.k], rel=0.10)
    assert curve.measured == {8: pytest.approx(everything[8])}
    assert curve.best.k == max(curve.points, key=lambda point: point.speedup).k


def test_best_k_is_one_where_nothing_is_accepted_and_the_largest_where_all_is() -> None:
    (nothing,) = curves(run(baseline(), drafting(0.0, 5)))
    assert nothing.best.k == 1 and nothing.best.speedup < 1
    free = {**FACTS, "draft_token_seconds": 0.0}
    (everything,) = curves(run(baseline(), drafting(1.0, 8, facts=free)), range(1, 9))
    assert everything.best.k == 8


def test_settings_have_a_curve_each_and_engines_their_own_costs() -> None:
    quantized = {**ENGINE, "target_quant": "4bit"}
    found = curves(
        run(
            baseline(),
            drafting(0.8, 3),
            drafting(0.8, 5),
            drafting(0.8, 3, threshold=0.4),
            replace(drafting(0.8, 3, engine=quantized), id="quantized"),  # whose plain decoding was not measured
        )
    )
    assert [sorted(curve.measured) for curve in found] == [[3, 5], [3]]
    assert found[0].setting == "tiny/assisted,p=0,greedy,dynamic"


def test_prompt_lookup_drafts_for_nothing() -> None:
    lookup = drafting(0.8, 3, point={"strategy": "prompt_lookup", "confidence_threshold": None})
    (found,) = predictions(run(baseline(), lookup))
    assert found.draft_cost == 0.0
    (costly,) = predictions(run(baseline(), drafting(0.8, 3)))
    assert found.predicted_speedup > costly.predicted_speedup


@pytest.mark.parametrize(
    "cases",
    [
        lambda: [drafting(0.8, 3)],
        lambda: [baseline(), drafting(0.8, 3, facts=None)],
        lambda: [baseline(), drafting(0.8, 3, facts={"target_seconds": FACTS["target_seconds"]})],
    ],
    ids=["no baseline", "no forward costs", "no costs of the draft"],
)
def test_nothing_is_predicted_from_nothing(cases: Callable[[], list[CaseResult]]) -> None:
    assert predictions(run(*cases())) == []
    assert curves(run(*cases())) == []
    assert prediction_lines(run(*cases())) == []


def test_lines_name_the_median_the_worst_and_the_best_k() -> None:
    slow = case(3, [assisted(0.8, 3, i, slower=1.2) for i in range(len(PROMPTS))])
    lines = prediction_lines(run(baseline(), drafting(0.8, 1), slow, drafting(0.8, 5)))
    assert "3 cases: median off by 0.0%, most +20.0% (tiny/assisted,k=3,p=0,greedy,dynamic)" in lines[0]
    assert lines[1].startswith("tiny/assisted,p=0,greedy,dynamic: predicted best k = ")
    assert len(lines) == 2


def test_more_tokens_than_curves_are_drawn_to_are_predicted_where_they_were_run() -> None:
    ran = run(baseline(), drafting(0.99, 3), drafting(0.99, 27))
    (curve,) = curves(ran)
    assert [point.k for point in curve.points] == [*range(1, 13), 27]
    assert "predicted best k = " in prediction_lines(ran)[1]


def test_the_table_shows_prediction_and_residual_of_each_case() -> None:
    slow = case(3, [assisted(0.8, 3, i, slower=1.2) for i in range(len(PROMPTS))])
    sheet = run_sheet(run(baseline(), slow))
    keys = [column.key for column in sheet.columns]
    cells = {row.values[0]: dict(zip(keys, row.cells, strict=True)) for row in sheet.rows}
    shown = cells["tiny/assisted,k=3,p=0,greedy,dynamic"]
    assert shown["predicted_ms"] == f"{float(shown['ms_per_token']) / 1.2:.1f} (-16.7%)", "it took 20% longer"
    assert cells[baseline().id]["predicted_ms"] == ""
