"""Rounds in a run file: what a killed run leaves of its cases, and what is kept when runs are merged or resumed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from planted_runs import ENGINE, HEADER, assisted, case, plain

from reports.record.columns import open_journal
from reports.record.merging import write_merged
from reports.record.reader import read_outline, read_run
from reports.record.run import INTERRUPTED, CaseResult, Round, Run, RunFileError, Sample
from reports.record.writer import RunWriter

PLAIN, DRAFTED = "p/t=none,bf16/plain,greedy,dynamic", "p/t=none,d=none,bf16/assisted,k=3,greedy,dynamic"
CASES = (
    case(PLAIN, [], engine={**ENGINE, "draft_quant": None}, experiment="baseline"),
    case(DRAFTED, [], point={"strategy": "assisted", "assist_toks": 3}, facts={"load_seconds": 1.5}),
)
ORDERS = ((DRAFTED, PLAIN, PLAIN), (PLAIN, DRAFTED, PLAIN), (PLAIN, PLAIN, DRAFTED))
PLANNED = {"order": "rounds", "order_seed": 7, "blocks": [["p/t=none,d=none,bf16"]]}


def turn(sample: Sample, number: int, place: int, visit: int = 0) -> Sample:
    return dataclasses.replace(sample, round=number, turn=place, visit=visit, started=10.0 * number + place)


def samples_of(number: int, name: str) -> list[Sample]:
    """Those of one case in a round: the baseline is decoded twice."""
    made = plain(number, 1.0) if name == PLAIN else assisted(number, 0.5)
    return [turn(made, number, place) for place, decoded in enumerate(ORDERS[number]) if decoded == name]


def write_round(writer: RunWriter, number: int, cases: Sequence[CaseResult] = CASES, **more: Any) -> None:
    done = Round(0, 0, 0, number, ORDERS[number], **more)
    writer.round(done, {name: samples_of(number, name) for name in (PLAIN, DRAFTED)}, cases)


def killed(path: Path, rounds: int = 2, *over: CaseResult) -> Path:
    """A run that was killed after so many rounds, some of whose cases had ended."""
    writer = RunWriter(path)
    writer.run({**HEADER, **PLANNED})
    for number in range(rounds):
        write_round(writer, number, disturbed="foreign load" if number else "", machine={"cpu_busy": 0.5})
    for result in over:
        writer.case(result)
    writer.close()
    return path


def result(name: str, numbers: Sequence[int], **more: Any) -> CaseResult:
    found = [samples_of(number, name) for number in numbers]
    plan = next(planned for planned in CASES if planned.id == name)
    changes = {
        "samples": tuple(first for first, *_ in found),
        "repeats": tuple(one for _, *further in found for one in further),
        "block": 0,
    }
    return dataclasses.replace(plan, metrics={}, **{**changes, **more})


def test_a_killed_run_s_cases_hold_the_samples_of_its_whole_rounds(tmp_path: Path) -> None:
    run = read_run(killed(tmp_path / "run.jsonl"))
    assert not run.complete and run.order == "rounds"
    reason = f"{INTERRUPTED} (the run ended 2 rounds after it began)"
    assert {one.id: one for one in run.cases} == {
        name: result(name, [0, 1], status="failed", reason=reason) for name in (PLAIN, DRAFTED)
    }
    assert all(one.stopped for one in run.cases)
    assert run.rounds == tuple(
        Round(0, 0, 0, number, ORDERS[number], "foreign load" if number else "", {"cpu_busy": 0.5})
        for number in range(2)
    )


def test_a_case_with_a_line_of_its_own_is_read_from_that_and_no_second_time(tmp_path: Path) -> None:
    whole = result(PLAIN, [0, 1, 2])
    run = read_run(killed(tmp_path / "run.jsonl", 2, whole))
    assert [(one.id, one.status, len(one.samples)) for one in run.cases] == [(PLAIN, "ok", 3), (DRAFTED, "failed", 2)]
    assert run.cases[0] == whole


def test_samples_are_fetched_from_the_rounds_where_a_case_has_no_line(tmp_path: Path) -> None:
    path = killed(tmp_path / "run.jsonl", 2, result(PLAIN, [0, 1]))
    whole, outline = read_run(path), read_outline(path)
    assert outline.run.rounds == whole.rounds
    bare = [dataclasses.replace(one, samples=(), repeats=()) for one in whole.cases]
    assert [dataclasses.replace(one, repeats=()) for one in outline.run.cases] == bare
    with open_journal(path) as journal:
        for one, found in zip(whole.cases, journal.run.cases, strict=True):
            assert journal.samples(found).column("seconds").tolist() == [sample.seconds for sample in one.samples]
            assert journal.samples(found).prompts.tolist() == [0, 1]


def test_a_case_that_was_stopped_and_killed_when_it_went_on_has_both_parts(tmp_path: Path) -> None:
    path = killed(tmp_path / "run.jsonl", 2, *(result(name, [0, 1], status="timeout") for name in (PLAIN, DRAFTED)))
    writer = RunWriter(path)
    writer.session({"environment": HEADER["environment"], "order": "rounds"})
    write_round(writer, 2)
    writer.close()
    run = read_run(path)
    assert [(one.id, one.session, len(one.samples), len(one.repeats)) for one in run.cases[2:]] == [
        (PLAIN, 1, 3, 3),
        (DRAFTED, 1, 3, 0),
    ]
    assert run.rounds[-1].session == 1
    with open_journal(path) as journal:
        assert journal.samples(journal.run.cases[2]).prompts.tolist() == [0, 1, 2]


def test_a_baseline_that_ended_well_before_is_measured_again_in_later_rounds(tmp_path: Path) -> None:
    path = killed(tmp_path / "run.jsonl", 2, result(PLAIN, [0, 1]))
    writer = RunWriter(path)
    writer.session({"environment": HEADER["environment"]})
    write_round(writer, 2)
    writer.close()
    run = read_run(path)
    assert [(one.id, one.again, len(one.samples)) for one in run.cases] == [
        (PLAIN, False, 2),
        (DRAFTED, False, 3),
        (PLAIN, True, 1),
    ]
    assert run.finished[PLAIN].status == "ok"


def test_a_round_that_was_measured_again_counts_as_it_was_the_last_time(tmp_path: Path) -> None:
    writer = RunWriter(killed(tmp_path / "run.jsonl", 2))
    slower = {name: [dataclasses.replace(one, seconds=9.0) for one in samples_of(0, name)] for name in (PLAIN, DRAFTED)}
    writer.round(Round(0, 0, 0, 0, ORDERS[0]), slower)
    writer.close()
    run = read_run(tmp_path / "run.jsonl")
    for one in run.cases:
        assert sorted((sample.prompt, sample.seconds == 9.0) for sample in one.samples) == [(0, True), (1, False)]
        assert sorted(sample.seconds == 9.0 for sample in one.repeats) == [False, True] * (one.id == PLAIN)
        assert "ended 2 rounds after" in one.reason
    assert [(one.round, bool(one.disturbed)) for one in run.rounds] == [(0, False), (1, True), (0, False)]
    with open_journal(tmp_path / "run.jsonl") as journal:
        assert journal.samples(journal.run.cases[0]).column("seconds")[0] == 9.0


def test_a_baseline_decoded_for_others_only_is_not_measured_again(tmp_path: Path) -> None:
    path = killed(tmp_path / "run.jsonl", 2, result(PLAIN, [0, 1]))
    writer = RunWriter(path)
    writer.session({"environment": HEADER["environment"]})
    writer.round(Round(1, 0, 1, 2, ORDERS[2]), {DRAFTED: samples_of(2, DRAFTED)}, CASES)
    writer.close()
    for run in (read_run(path), read_outline(path).run):
        assert [(one.id, one.again, one.status) for one in run.cases] == [
            (PLAIN, False, "ok"),
            (DRAFTED, False, "failed"),
        ]


def test_a_dropped_case_keeps_its_samples(tmp_path: Path) -> None:
    dropped = result(DRAFTED, [0], status="dropped", reason="slower than the best", dropped_round=0)
    run = read_run(killed(tmp_path / "run.jsonl", 2, result(PLAIN, [0, 1]), dropped))
    assert run.cases[1] == dropped and dropped.measured and not dropped.stopped


def test_merging_keeps_rounds_and_what_only_they_hold_and_tells_blocks_apart(tmp_path: Path) -> None:
    runs = [read_run(killed(tmp_path / f"{name}.jsonl", 2)) for name in "ab"]
    write_merged(runs, tmp_path / "both.jsonl")
    both = read_run(tmp_path / "both.jsonl")
    assert both.header["blocks"] == PLANNED["blocks"] * 2
    assert [(one.session, one.block) for one in both.cases] == [(0, 0), (0, 0), (1, 1), (1, 1)]
    moved = [dataclasses.replace(one, session=1, block=1) for one in runs[1].cases]
    assert both.cases == (*runs[0].cases, *moved)
    assert both.rounds == (
        *runs[0].rounds,
        *(dataclasses.replace(one, session=1, block=1) for one in runs[1].rounds),
    )
    assert [one.get("order") for one in both.sessions] == ["rounds", "rounds"]


def test_a_whole_file_ends_with_its_end_line_and_a_later_round_reopens_it(tmp_path: Path) -> None:
    path = killed(tmp_path / "run.jsonl", 2, result(PLAIN, [0, 1]), result(DRAFTED, [0, 1]))
    writer = RunWriter(path)
    writer.end({})
    assert read_run(path).complete
    write_round(writer, 2)
    writer.close()
    assert not read_run(path).complete


def test_settings_of_a_case_are_written_once(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in killed(tmp_path / "run.jsonl").read_text().splitlines()]
    assert list(lines[1]["cases"]) == [PLAIN, DRAFTED] and "cases" not in lines[2]
    assert list(lines[1])[-1] == "samples"


def test_rounds_of_a_case_that_no_line_describes_are_left_out_with_a_warning(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "run.jsonl")
    writer.run(dict(HEADER))
    write_round(writer, 0, CASES[:1])
    run = read_run(tmp_path / "run.jsonl")
    assert [one.id for one in run.cases] == [PLAIN]
    assert run.warnings == (
        f"{run.path}: {DRAFTED}: no line says what it is, so its rounds were left out; measure it again",
    )


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"round": -1}, "round is -1, not a whole number of at least 0"),
        ({"block": None}, "block is None, not a whole number"),
        ({"order": [3]}, "order[0] is 3, not a text"),
        ({"order": None}, "order is None, not a list of texts"),
        ({"disturbed": 3}, "disturbed is 3, not a text"),
        ({"machine": []}, "machine is [], not an object"),
        ({"cases": {PLAIN: 3}}, f"cases.{PLAIN} is 3, not an object"),
        ({"samples": {PLAIN: 3}}, f"samples.{PLAIN} is 3, not a list of objects"),
        ({"samples": {PLAIN: [{"prompt": 0}]}}, f"samples.{PLAIN}[0]: 'seconds' is missing"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_damaged_round_is_told_in_one_line(change: dict[str, Any], wanted: str, tmp_path: Path) -> None:
    path = killed(tmp_path / "run.jsonl")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], json.dumps({**json.loads(lines[1]), **change}), *lines[2:]]) + "\n")
    with pytest.raises(RunFileError) as caught:
        read_run(path)
    assert str(caught.value).startswith(f"{path}: line 2: ") and wanted in str(caught.value)


def test_an_older_file_is_by_blocks(planted: Any) -> None:
    run: Run = planted(*CASES)
    assert (run.order, run.rounds) == ("blocks", ())
