"""The run file: what is written comes back, a crash costs one line at most, and what is no run file is refused."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from reports.record.lines import SCHEMA
from reports.record.merging import write_merged
from reports.record.reader import read_run
from reports.record.run import CaseResult, Run, RunFileError, Sample
from reports.record.settings import DecodingPoint, EngineKey, WorkloadDone
from reports.record.writer import RunWriter

ROOT = Path(__file__).resolve().parents[4]
SAMPLE = Sample(
    0,
    1.5,
    3,
    2,
    "ab",
    0.5,
    2,
    4,
    4,
    2,
    1,
    1,
    1,
    (2, 1),
    (1, 1),
    ((2, 2), (1, 0)),
    0.1,
    0.2,
    1.2,
    (7, 8, 9),
    round=0,
    turn=0,
    visit=1,
    started=0.0,
    next_assist_toks=2.5,
)
CASE = CaseResult(
    id="a/b",
    status="ok",
    experiment="speculative_decoding",
    engine=EngineKey("a", compile=True),
    point=DecodingPoint("assisted", assist_toks=None),
    workload=WorkloadDone("embedded", prompts_sha256="abc"),
    again=True,
    started_at="2026-01-01T00:00:00+00:00",
    samples=(SAMPLE, dataclasses.replace(SAMPLE, prompt=1, output_tokens=())),
    metrics={"thr": 2.0},
    facts={"load_seconds": 1.25},
    telemetry={"power": [1, 2]},
    notes=("a note",),
    warm_ups=(dataclasses.replace(SAMPLE, round=None, turn=None),),
    repeats=(dataclasses.replace(SAMPLE, turn=3),),
    block=0,
    dropped_round=7,
)


def test_a_case_comes_back_as_it_was_written(planted: Callable[..., Run]) -> None:
    other = dataclasses.replace(CASE, kind="humaneval", status="timeout", reason="too slow", samples=(), again=False)
    run = planted(CASE, other)
    assert run.cases == (CASE, other)
    assert run.complete
    assert run.warnings == ()
    assert run.header["schema"] == SCHEMA


def test_cases_of_older_files_that_draft_without_a_draft_model_have_todays_ids(tmp_path: Path) -> None:
    baseline = read_run(ROOT / "reports/baselines/smoke/cpu-amd-epyc-2c-avx512.jsonl")
    assert list(baseline.finished) == [
        "embedded/t=none,bf16/plain,greedy,dynamic",
        "embedded/t=none,d=none,bf16/assisted,k=3,p=0.4,greedy,dynamic",
        "embedded/t=none,bf16/prompt_lookup,k=3,greedy,dynamic",
        "embedded/t=none,fp32/plain,greedy,dynamic",
        "embedded/t=none,d=none,fp32/assisted,k=3,p=0.4,greedy,dynamic",
    ]
    published = read_run(ROOT / "reports/published/embedded.jsonl")
    for case in (*baseline.cases, *published.cases):
        assert case.engine.draft_quant == (None if ",d=" not in case.id else case.id.partition(",d=")[2].split(",")[0])
        assert (",d=" in case.id) == (case.point.strategy == "assisted")
    solved = {completion.case for completion in published.completions}
    assert solved and solved <= set(published.finished)
    again = tmp_path / "run.jsonl"
    write_merged([published], again)
    assert read_run(again).cases == published.cases


def test_every_field_of_a_sample_is_exercised_above() -> None:
    for field in dataclasses.fields(Sample):
        if field.default is not dataclasses.MISSING:
            assert getattr(SAMPLE, field.name) != field.default, field.name


def test_a_figure_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        RunWriter(tmp_path / "run.jsonl").case(dataclasses.replace(CASE, metrics={"thr": math.nan}))


def test_every_line_is_on_disk_when_the_call_returns(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "run.jsonl")
    writer.run({})
    writer.case(CASE)
    assert read_run(tmp_path / "run.jsonl").cases == (CASE,)


@pytest.mark.parametrize("kept", [1, 40, -2], ids=["one byte", "a part", "all but the brace"])
def test_a_torn_last_line_costs_that_line_only(planted: Callable[..., Run], kept: int) -> None:
    path = planted(CASE, ended=False).path
    whole = path.read_bytes()
    last = json.dumps({"kind": "case", "id": "torn", "status": "ok", "note": "é" * 50}, ensure_ascii=False).encode()
    path.write_bytes(whole + last[:kept])
    run = read_run(path)
    assert [case.id for case in run.cases] == ["a/b"]
    assert not run.complete
    assert ["line 3 is cut off and was dropped" in warning for warning in run.warnings] == [True]
    RunWriter(path).close()
    assert path.read_bytes() == whole, "the next line must not be glued to the torn one"


def test_a_last_line_that_lacks_only_its_line_break_is_kept_when_the_run_goes_on(planted: Callable[..., Run]) -> None:
    path = planted(CASE, ended=False).path
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert read_run(path).cases == (CASE,)
    writer = RunWriter(path)
    writer.case(dataclasses.replace(CASE, id="next"))
    assert [case.id for case in read_run(path).cases] == ["a/b", "next"]


def test_a_run_that_goes_on_after_its_end_is_incomplete_until_it_ends_again(planted: Callable[..., Run]) -> None:
    path = planted(CASE).path
    writer = RunWriter(path)
    writer.case(dataclasses.replace(CASE, id="more"))
    assert not read_run(path).complete
    writer.end({"seconds": 3})
    assert read_run(path).end["seconds"] == 3


def test_the_last_result_of_a_case_counts_and_a_repetition_is_apart(planted: Callable[..., Run]) -> None:
    first = dataclasses.replace(CASE, again=False, status="failed")
    second = dataclasses.replace(CASE, again=False, status="ok")
    assert planted(first, second, CASE).finished == {"a/b": second}


def test_keys_that_are_not_known_are_left_out(planted: Callable[..., Run]) -> None:
    path = planted(ended=False).path
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[1]["novelty"] = lines[1]["samples"][0]["novelty"] = 1
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_run(path).cases[0].samples[0].seconds == 1.0


def lines(*texts: str) -> bytes:
    return "".join(text + "\n" for text in texts).encode()


HEAD = '{"kind":"run","schema":1}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"no line of kind 'run': the file is empty or not a run file; measure again"),
        (b"\n \n", r"no line of kind 'run'"),
        (lines('{"kind":"run","schema":3}'), r"schema 3 is newer than 2, .*; update decodebench"),
        (lines('{"kind":"run","schema":"1"}'), r"schema is '1', not a number"),
        (lines('{"kind":"run","schema":true}'), r"schema is True, not a number"),
        (lines('{"kind":"run"}'), r"schema is None, not a number"),
        (lines(HEAD, "{broken", '{"kind":"end"}'), r"line 2 is not JSON; the file is damaged"),
        (lines(HEAD) + b"\xff\xfe\n" + lines('{"kind":"end"}'), r"line 2 is not JSON; the file is damaged"),
        (lines(HEAD, "[1]"), r"line 2 is not a JSON object"),
        (lines(HEAD, '{"kind":"cage"}'), r"line 2: kind is 'cage', not run, session, case, "),
        (lines('{"kind":"case","id":"a","status":"ok"}'), r"line 1: a case before any line of kind 'run'"),
        (lines(HEAD, '{"kind":"case","id":"a","status":"fine"}'), r"line 2: status is 'fine', not one of ok"),
        (lines(HEAD, '{"kind":"case","status":"ok"}'), r"line 2: not a case of schema 2: .*'id'"),
        (lines(HEAD, '{"kind":"case","id":"a","status":"ok","samples":[{"prompt":0}]}'), r"line 2: not a case"),
        (lines(HEAD, '{"kind":"case","id":"a","status":"ok","samples":[3]}'), r"line 2: not a case"),
        (
            lines(
                HEAD,
                '{"kind":"case","id":"a","status":"ok","samples":[{"prompt":0,"seconds":1,"new_tokens":1,'
                '"target_forwards":1,"output_sha256":"","steps":[[1]]}]}',
            ),
            r"line 2: not a case",
        ),
        (b"PK\x03\x04 this is a zip\n", r"line 1 is not JSON"),
    ],
)
def test_what_is_no_run_file_is_refused_in_one_line_that_names_it(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "given.jsonl"
    path.write_bytes(content)
    with pytest.raises(RunFileError, match=message) as refusal:
        read_run(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert "\n" not in str(refusal.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFileError, match="no such file; `make bench` writes one"):
        read_run(tmp_path / "none.jsonl")
    with pytest.raises(RunFileError, match="cannot be read"):
        read_run(tmp_path)


def test_merging_concatenates_cases_and_says_from_where(planted: Callable[..., Run], tmp_path: Path) -> None:
    first = planted(CASE, name="one.jsonl")
    second = planted(dataclasses.replace(CASE, id="c/d"), name="two.jsonl", ended=False)
    write_merged([first, second], tmp_path / "both.jsonl")
    merged = read_run(tmp_path / "both.jsonl")
    assert [case.id for case in merged.cases] == ["a/b", "c/d"]
    assert merged.header["merged_from"] == ["one.jsonl", "two.jsonl"]
    assert not merged.complete, "one of them was interrupted"
    with pytest.raises(RunFileError, match="exists already"):
        write_merged([first], tmp_path / "both.jsonl")
