"""A run whose cases take turns: the same rounds for all, whatever ends it, whoever resumes it, in one block or more."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from fixtures.measuring.case import CaseUnderWay
from fixtures.measuring.rounds import mirrored, order_of_round
from fixtures.study.study import Case, Study, Sweep
from fixtures.suite.session import BenchSession
from fixtures.telemetry.foreign import RoundMachine, RoundWatch
from reports.gate.evidence import CONFIRMING
from reports.numbers.anytime import half_widths, log_ratios
from reports.record.reader import read_run
from reports.record.run import CaseResult, Run, Sample
from tests.unit.small_runs import (
    BASELINE,
    HEURISTIC,
    LOOKUP,
    WORKLOAD,
    before_each,
    begun,
    make_quick,
    measure_all,
    small_study,
)

QUANTIZED = Sweep("quantization", {"dtype": ("fp32",), "target_quant": ("4bit",)})
SEVEN = dataclasses.replace(WORKLOAD, num_samples=7)
STUDY = small_study(BASELINE, LOOKUP, HEURISTIC, workload=SEVEN)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


def run_of(study: Study, path: Path, **settings: Any) -> Run:
    """The study measured and written."""
    bench = begun(study, path, **settings)
    measure_all(bench)
    bench.end()
    return read_run(bench.path)


def counts(run: Run) -> dict[str, list[tuple[Any, ...]]]:
    """All of the samples of every case that no clock has a part in."""
    return {case.id: [counted(sample) for sample in case.samples] for case in run.cases if not case.again}


def counted(sample: Sample) -> tuple[Any, ...]:
    return (
        sample.prompt,
        sample.new_tokens,
        sample.target_forwards,
        sample.draft_forwards,
        sample.steps,
        sample.output_sha256,
        sample.next_assist_toks,
    )


def prompts(cases: Iterable[CaseResult]) -> list[list[int]]:
    return [[sample.prompt for sample in case.samples] for case in cases]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """STUDY measured without a stop."""
    with pytest.MonkeyPatch.context() as patched:
        make_quick(patched)
        return run_of(STUDY, tmp_path_factory.mktemp("run") / "run.jsonl")


def test_every_case_has_every_round_in_the_order_that_is_written(undisturbed: Run) -> None:
    run, baseline = undisturbed, undisturbed.cases[0].id
    assert run.complete and run.order == "rounds"
    assert run.header["blocks"] == [[case.engine.id for case in (run.cases[0], run.cases[3])]]
    baselines = {case.id: baseline for case in run.cases}
    seed = run.header["order_seed"]
    assert [list(done.order) for done in run.rounds] == [
        order_of_round(list(baselines), baselines, seed, number) for number in range(7)
    ]
    assert len({done.order for done in run.rounds}) > 1
    assert prompts(run.cases) == [list(range(7))] * 5
    for case in run.cases:
        assert [sample.round for sample in case.samples] == list(range(7))
        for sample in case.samples:
            assert sample.turn is not None and run.rounds[sample.prompt].order[sample.turn] == case.id
        assert case.block == 0 and case.status == "ok"
        assert [sample.started for sample in case.samples] == sorted(float(s.started or 0) for s in case.samples)
    drafting = [case for case in run.cases if case.point.speculative]
    assert [case.facts["losslessness"]["verdict"] for case in drafting] == ["equal"] * 4


def stop_at(turn: int) -> Callable[[CaseUnderWay, int], None]:
    """Ctrl-C in the generation of this number over the whole run."""
    turns = iter(range(10_000))

    def stop(under_way: CaseUnderWay, prompt: int) -> None:
        if next(turns) == turn:
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize("turn", [3, 5, 17, 34])
def test_a_run_that_is_stopped_anywhere_goes_on_to_the_counts_of_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: Run, turn: int
) -> None:
    path = tmp_path / "run.jsonl"
    first = begun(STUDY, path)
    with monkeypatch.context() as patched:
        before_each(patched, stop_at(turn))
        with pytest.raises(KeyboardInterrupt):
            measure_all(first)
    first.abandon()
    stopped = read_run(path)
    whole = turn // 5
    assert prompts(stopped.cases) == [list(range(whole))] * (5 if whole else 0), "whole rounds, the same for all"
    resumed = run_of(STUDY, path, resume=True)
    assert resumed.complete and counts(resumed) == counts(undisturbed)
    assert [done.round for done in resumed.rounds] == list(range(7))
    assert [done.order for done in resumed.rounds] == [done.order for done in undisturbed.rounds]
    assert [done.session for done in resumed.rounds] == [0] * whole + [1] * (7 - whole)
    if whole:
        assert {case.facts["prompts_kept"] for case in resumed.cases} == {whole}


def in_two_blocks(monkeypatch: pytest.MonkeyPatch, path: Path, **settings: Any) -> BenchSession:
    """Two targets in a memory that holds one of them."""
    study = small_study(BASELINE, LOOKUP, QUANTIZED, workload=SEVEN, block_memory=1.0, **settings)
    return begun(study, path)


def test_what_does_not_fit_together_is_visited_twice_in_mirrored_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = in_two_blocks(monkeypatch, tmp_path / "run.jsonl")
    blocks = len(bench._blocks[0]._blocks)
    assert blocks == 2
    measure_all(bench)
    bench.end()
    run = read_run(bench.path)
    visits: list[tuple[int, int]] = []
    for done in run.rounds:
        if (done.block, done.visit) not in visits:
            visits.append((done.block, done.visit))
    assert visits == mirrored(blocks), "one visit is over before the next begins"
    assert prompts(run.cases) == [list(range(7))] * len(run.cases)
    for case in run.cases:
        assert [sample.visit for sample in case.samples] == [0, 0, 0, 0, 1, 1, 1]
        assert [sample.round for sample in case.samples] == list(range(7))
        assert "prompts_left_out" not in case.facts
    loads = Counter((load.role, load.quantization) for load in bench.loads)
    assert loads["target", "4bit"] == 1, "what is visited twice in a row is loaded once"
    assert loads["target", "none"] == 2
    assert run.header["blocks"] == [
        sorted({case.engine.id for case in run.cases if case.block == number}) for number in range(blocks)
    ]


def test_a_time_budget_leaves_all_blocks_the_same_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = in_two_blocks(monkeypatch, tmp_path / "run.jsonl", time_budget=0.01)
    results = measure_all(bench)
    bench.abandon()
    assert prompts(results) == [[0, 1, 2]] * len(results)
    assert {result.facts["prompts_left_out"] for result in results} == {4}


def test_a_case_that_fails_costs_the_others_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: Run
) -> None:
    failing = STUDY.cases()[1]

    def fail(under_way: CaseUnderWay, prompt: int) -> None:
        if under_way.case.id == failing.id and prompt == 2:
            raise RuntimeError("no")

    before_each(monkeypatch, fail)
    run = run_of(STUDY, tmp_path / "run.jsonl")
    assert run.complete
    by_id = {case.id: case for case in run.cases}
    assert (by_id[failing.id].status, by_id[failing.id].reason) == ("failed", "RuntimeError: no")
    expected = counts(undisturbed)
    expected[failing.id] = expected[failing.id][:2]
    assert counts(run) == expected
    assert [failing.id in done.order for done in run.rounds] == [True, True] + [False] * 5


def test_disturbed_rounds_are_measured_again_and_their_counts_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: Run
) -> None:
    told = iter(range(10_000))

    def end_round(watch: RoundWatch, generations: Any) -> RoundMachine:
        return RoundMachine("others computed" if next(told) in (1, 4) else "", {"seconds": 1.0})

    monkeypatch.setattr(RoundWatch, "end_round", end_round)
    run = run_of(STUDY, tmp_path / "run.jsonl")
    assert counts(run) == counts(undisturbed)
    assert [(done.round, done.disturbed) for done in run.rounds if done.disturbed] == [
        (1, "others computed"),
        (4, "others computed"),
    ]
    assert [done.round for done in run.rounds] == [0, 1, 2, 3, 4, 5, 6, 1, 4]
    for case in run.cases:
        assert [sample.round for sample in case.samples] == list(range(7))
        started = [sample.started or 0.0 for sample in case.samples]
        last = [started.index(begun) for begun in sorted(started)][-2:]
        assert last == [1, 4], "the second measurement is the one that counts"


def known_seconds(monkeypatch: pytest.MonkeyPatch, seconds: Callable[[Case, int], float]) -> None:
    """Every generation takes what is told, by case and prompt."""
    decode = CaseUnderWay.decode

    def decoding(self: CaseUnderWay, prompt: int, *arguments: Any, **place: Any) -> Sample:
        samples = self.measured.repeats if place.get("repeat") else self.measured.samples
        sample = dataclasses.replace(
            decode(self, prompt, *arguments, **place), seconds=seconds(self.case, prompt), ttft_seconds=None
        )
        samples[-1] = sample
        return sample

    monkeypatch.setattr(CaseUnderWay, "decode", decoding)


LONG = dataclasses.replace(WORKLOAD, num_samples=60, gen_toks=2)


def test_a_precision_ends_the_run_as_soon_as_every_interval_is_as_narrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seconds(case: Case, prompt: int) -> float:
        return (2.0 if case.point.speculative else 1.0) * (
            1.0 + (0.03 if (prompt * 7) % 3 else 0.0) * case.point.speculative
        )

    known_seconds(monkeypatch, seconds)
    study = small_study(BASELINE, LOOKUP, workload=LONG, precision=0.02)
    run = run_of(study, tmp_path / "run.jsonl")
    count = len(run.rounds)
    assert 3 < count < 60
    assert prompts(run.cases) == [list(range(count))] * 3

    def widest(rounds: int) -> float:
        base = run.cases[0].samples[:rounds]
        ratios = {
            case.id: log_ratios([s.seconds for s in base], [s.seconds for s in case.samples[:rounds]])
            for case in run.cases[1:]
        }
        return max(width.half_width for width in half_widths(ratios, 0))

    assert widest(count) <= 0.02 < widest(count - 1), "not a round earlier, not one later"
    assert run.header["stopping"] == "precision"


def test_a_race_drops_what_cannot_be_the_best_and_a_resumed_one_drops_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small_study(BASELINE, LOOKUP, workload=LONG, race=True)
    slow, close = study.cases()[1:]

    def seconds(case: Case, prompt: int) -> float:
        noise = random.Random(f"{case.id} {prompt}").gauss(1.0, 0.03)
        return noise * {slow.id: 2.0, close.id: 0.95}.get(case.id, 1.0)

    known_seconds(monkeypatch, seconds)
    whole = run_of(study, tmp_path / "whole.jsonl")
    by_id = {case.id: case for case in whole.cases}
    dropped = by_id[slow.id]
    assert dropped.status == "dropped" and dropped.reason.startswith("cannot be the best: ")
    assert dropped.dropped_round == len(dropped.samples) - 1 >= 4
    assert by_id[close.id].status == "ok" and len(by_id[close.id].samples) > len(dropped.samples)
    assert len(by_id[close.id].samples) == len(whole.rounds) < 60, "it ends when it is decided"

    path, last = tmp_path / "run.jsonl", len(dropped.samples) + 1
    first = begun(study, path)
    with monkeypatch.context() as patched:
        before_each(patched, stop_in_round(last))
        with pytest.raises(KeyboardInterrupt):
            measure_all(first)
    first.abandon()
    resumed = run_of(study, path, resume=True)
    assert counts(resumed) == counts(whole)
    assert [(case.id, case.status, case.dropped_round, case.reason) for case in resumed.cases] == [
        (case.id, case.status, case.dropped_round, case.reason) for case in whole.cases
    ]


def stop_in_round(number: int) -> Callable[[CaseUnderWay, int], None]:
    def stop(under_way: CaseUnderWay, prompt: int) -> None:
        if prompt == number:
            raise KeyboardInterrupt

    return stop


def test_suspects_are_measured_once_more_in_turn_with_their_baseline(tmp_path: Path) -> None:
    bench = begun(small_study(BASELINE, LOOKUP), tmp_path / "run.jsonl")
    measure_all(bench)
    suspects = bench.cases[:2]
    bench.plan_again(suspects, "two again", CONFIRMING)
    for case in suspects:
        bench.measure_until(case, again=True)
        assert bench.handed_over(case, again=True).again
    bench.end()
    run = read_run(bench.path)
    again = [case for case in run.cases if case.again]
    assert [case.id for case in again] == [case.id for case in suspects]
    assert prompts(again) == [[0, 1, 2, 3, 4]] * 2
    assert all(CONFIRMING in case.notes for case in again)
    assert run.complete
