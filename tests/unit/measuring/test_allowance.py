"""What a case may take: limits come from the workload, and what was measured before a limit or a stop is kept."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from fixtures.measuring.allowance import FLOOR_SECONDS, allowance
from fixtures.measuring.case import CaseFailed
from fixtures.measuring.turns import TurnTaker
from fixtures.study.study import Case, DecodingPoint, EngineKey
from fixtures.study.study_file import load_study
from fixtures.suite.session import BenchSession
from reports.gate.faults import unmeasured
from reports.numbers.speedups import speedup
from reports.record.reader import read_run
from reports.record.run import INTERRUPTED, CaseResult, Sample
from reports.record.writer import RunWriter
from tests.unit.small_runs import (
    BASELINE,
    LOOKUP,
    WORKLOAD,
    before_each,
    begun,
    make_quick,
    measure_all,
    slow_at,
    small_study,
)

L4_PLAIN = Sample(prompt=0, seconds=128 / 15.499, new_tokens=128, target_forwards=128, output_sha256="")

pytestmark = pytest.mark.usefixtures("one_thread")
ORDERS = pytest.mark.parametrize("order", ["rounds", "blocks"])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


def prompts_of(result: CaseResult) -> list[int]:
    return [sample.prompt for sample in result.samples]


def test_the_original_study_does_not_run_into_a_limit_on_its_own_card() -> None:
    plain = 500 * 128 / 15.499  # seconds, by the seed's own figure for plain bf16 decoding on an L4
    for case in load_study("llama3", {"num_samples": "500"}).cases():
        assert allowance(case, None, ()).seconds > 2 * plain
        assert allowance(case, None, (L4_PLAIN,)).seconds > 9 * plain
        assert allowance(case, 60.0, (L4_PLAIN,)).seconds == 60.0


def test_a_limit_has_a_floor_and_says_where_it_comes_from() -> None:
    case = Case(EngineKey("synthetic-tiny"), DecodingPoint(), WORKLOAD, "baseline", WORKLOAD.gen_toks)
    assert allowance(case, None, ()).seconds == FLOOR_SECONDS
    long = dataclasses.replace(case, workload=dataclasses.replace(WORKLOAD, num_samples=500, gen_toks=128))
    assert "500 x 128 tokens at 1 s a token, assumed" in allowance(long, None, ()).why
    assert "65 ms a token" in allowance(long, None, (L4_PLAIN,)).why
    assert allowance(long, 60.0, ()).why == "case_timeout"
    assert allowance(long, None, (L4_PLAIN,), 5).seconds == FLOOR_SECONDS, "of the prompts that are decoded"


@ORDERS
def test_over_its_limit_a_case_with_enough_samples_ends_well_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    slow_at(monkeypatch, lambda prompt: 60.0 if prompt == 2 else 0.0)
    bench = begun(small_study(case_timeout=30.0, order=order), tmp_path / "run.jsonl")
    (result,) = measure_all(bench)
    assert result.status == "ok"
    assert prompts_of(result) == [0, 1, 2]
    assert result.notes == ("3 of 5 prompts: over its time limit of 30 s (case_timeout)",)
    bench.abandon()
    run = read_run(bench.path)
    (written,) = run.cases
    assert written.workload.num_samples == 5, "as planned, so that it is still the same case"
    assert unmeasured(written, run) is None, "the gate compares the prompts that both have"
    assert unmeasured(dataclasses.replace(written, facts={}), run) == ("unmeasured", "3 of 5 prompts")


@ORDERS
def test_what_a_case_measured_before_it_was_stopped_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    with monkeypatch.context() as patched:
        slow_at(patched, lambda prompt: 60.0 if prompt == 1 else 0.0)
        first = begun(small_study(case_timeout=30.0, order=order), tmp_path / "run.jsonl")
        measure_all(first)
        with pytest.raises(CaseFailed, match=r"timeout: over its time limit .* after 2 samples; raise it by --case"):
            first.handed_over(first.cases[0])
        first.abandon()
    (stopped,) = read_run(first.path).cases
    assert (stopped.status, len(stopped.samples)) == ("timeout", 2)

    second = begun(small_study(case_timeout=600.0, order=order), first.path, resume=True)  # it is no other study
    decoded: list[int] = []
    before_each(monkeypatch, lambda _, prompt: decoded.append(prompt))
    (result,) = measure_all(second)
    assert decoded == [2, 3, 4]
    assert result.samples[:2] == stopped.samples
    assert prompts_of(result) == [0, 1, 2, 3, 4]
    assert result.notes == ("2 prompts measured before the run was resumed",)
    assert result.facts["prompts_kept"] == 2
    assert second.split()["timed"] == pytest.approx(sum(sample.seconds for sample in result.samples[2:]))
    second.abandon()
    assert BenchSession(second.study, first.path, resume=True, argv=[]).plan.is_done(second.cases[0])


@ORDERS
@pytest.mark.parametrize(
    ("status", "reason", "prompts", "again"),
    [
        ("failed", f"{INTERRUPTED} (KeyboardInterrupt)", "same", []),
        ("failed", "RuntimeError: no", "same", [0, 1, 2, 3, 4]),
        ("timeout", "over its time limit", "others", [0, 1, 2, 3, 4]),
    ],
)
def test_only_what_still_stands_is_taken_over(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    order: str,
    status: Any,
    reason: str,
    prompts: str,
    again: list[int],
) -> None:
    study = small_study(order=order)
    first = begun(study, tmp_path / "run.jsonl")
    (result,) = measure_all(first)
    first.abandon()
    sha256 = result.workload.prompts_sha256 if prompts == "same" else "others"
    workload = dataclasses.replace(result.workload, prompts_sha256=sha256)
    writer = RunWriter(first.path)
    writer.case(dataclasses.replace(result, status=status, reason=reason, workload=workload))
    writer.close()
    lines = first.path.read_text().splitlines()
    first.path.write_text("\n".join([lines[0], lines[-1]]) + "\n")

    second = begun(study, first.path, resume=True)
    decoded: list[int] = []
    before_each(monkeypatch, lambda _, prompt: decoded.append(prompt))
    (anew,) = measure_all(second)
    assert prompts_of(anew) == [0, 1, 2, 3, 4]
    assert decoded == again
    second.abandon()


class Alone(TurnTaker):
    """Nobody else has turns."""

    def __init__(self) -> None:
        super().__init__("nobody")

    def wait(self) -> float:
        return 0.0


@ORDERS
@pytest.mark.parametrize(("turns", "prompts"), [(None, 3), (Alone(), 5)], ids=["alone", "by turns"])
def test_a_time_budget_leaves_prompts_out_of_all_cases_alike_and_says_so(
    tmp_path: Path, turns: TurnTaker | None, prompts: int, order: str, capfd: pytest.CaptureFixture[str]
) -> None:
    study = small_study(BASELINE, LOOKUP, time_budget=0.01, order=order)
    bench = begun(study, tmp_path / "run.jsonl", turns=turns)
    results = measure_all(bench)
    bench.end()
    assert [prompts_of(result) for result in results] == [list(range(prompts))] * 3
    run = read_run(bench.path)
    assert all(case.workload.num_samples == 5 for case in run.cases), "as planned: the same cases as elsewhere"
    if turns is not None:
        assert all(not case.notes for case in run.cases), "those who take turns decode the same prompts"
        return
    for case in run.cases:
        assert unmeasured(case, run) is None
        assert case.facts["prompts_left_out"] == 2
    for case in run.cases[1:]:
        assert speedup(case, run) is not None, "over the three that both have"
    output = capfd.readouterr().out
    if order == "rounds":
        assert output.count("leaves about 3 of 5 rounds") == 1, "told once"
        return
    assert run.cases[0].notes == ("3 of 5 prompts: the rest of the time budget is for other cases",)
    for case in run.cases[1:]:
        assert case.notes == ("3 of 5 prompts: time budget of 0.01 s",)
    assert output.count("leaves 3 of 5 prompts a case") == 1, "told once"
