"""Damaged run files: what a file lost is told by every command, and what it must not hold is refused in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from planted_runs import assisted, case, plain

from reports.__main__ import main
from reports.record.reader import read_run
from reports.record.run import Run

Plant = Callable[..., Run]

READERS = (
    ["show", "RUN"],
    ["advise", "RUN"],
    ["compare", "RUN", "RUN"],
    ["page", "RUN", "-o", "DIR/page.html"],
    ["claims", "RUN"],
    ["gate", "COPY", "RUN"],
)


def called(arguments: Sequence[str], run: Path) -> int:
    """The exit code of a command on a run file, its folder for DIR and another file of the same content for COPY."""
    copy = run.with_name("copy.jsonl")
    if "COPY" in arguments:
        shutil.copy(run, copy)
    names = {"RUN": run, "DIR": run.parent, "COPY": copy}
    return main([str(names.get(each, each)).replace("DIR/", f"{run.parent}/") for each in arguments])


def set_in(path: Path, line: int, keys: Sequence[str | int], value: Any) -> None:
    """Put a value at a place of a line, counted from 0."""
    lines = [json.loads(each) for each in path.read_text(encoding="utf-8").splitlines()]
    place = lines[line]
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text("".join(json.dumps(each, separators=(",", ":")) + "\n" for each in lines), encoding="utf-8")


@pytest.fixture
def run(planted: Plant) -> Path:
    """Plain decoding and assisted decoding of two prompts, and the end line."""
    point = {"strategy": "assisted", "do_sample": False, "cache": "dynamic"}
    return planted(
        case(
            "p/plain",
            [plain(0, 1.0), plain(1, 1.0)],
            experiment="baseline",
            metrics={"latency_tok": 0.1},
            facts={"load_seconds": 1.0},
        ),
        case("p/assisted", [assisted(0, 0.5), assisted(1, 0.5)], point=point, metrics={"assisted_latency_tok": 0.05}),
    ).path


def test_every_reader_takes_the_file_as_long_as_it_is_whole(run: Path) -> None:
    assert [called(arguments, run) for arguments in READERS] == [0] * len(READERS)


HEADER, FIRST = 0, 1


@pytest.mark.parametrize(
    ("line", "keys", "value", "told"),
    [
        (HEADER, ["study"], "planted", "study is 'planted', not an object"),
        (HEADER, ["study"], None, "study is None, not an object"),
        (HEADER, ["study", "workload"], [], "study.workload is [], not an object"),
        (HEADER, ["study", "drift_limit"], "5%", "study.drift_limit is '5%', not a finite number"),
        (HEADER, ["environment"], 3, "environment is 3, not an object"),
        (HEADER, ["environment", "hardware"], "a processor", "environment.hardware is 'a processor', not an object"),
        (HEADER, ["environment", "versions"], ["torch"], "environment.versions is ['torch'], not an object"),
        (HEADER, ["by_turns"], "no", "by_turns is 'no', not true or false"),
        (FIRST, ["engine"], "p", "engine is 'p', not an object"),
        (FIRST, ["point"], ["plain"], "point is ['plain'], not an object"),
        (FIRST, ["workload"], 2, "workload is 2, not an object"),
        (FIRST, ["metrics"], [0.1], "metrics is [0.1], not an object"),
        (FIRST, ["metrics", "latency_tok"], "fast", "metrics.latency_tok is 'fast', not a finite number"),
        (FIRST, ["engine", "pair"], ["p"], "engine.pair is ['p'], not a text"),
        (FIRST, ["point", "cache"], {}, "point.cache is {}, not a text"),
        (FIRST, ["workload", "gen_toks"], "10", "workload.gen_toks is '10', not a whole number"),
        (FIRST, ["facts", "weight_bytes"], {"target": "1 GB"}, "facts.weight_bytes.target is '1 GB', not a finite"),
        (FIRST, ["facts", "weight_bytes"], 10, "facts.weight_bytes is 10, not an object"),
        (FIRST, ["facts", "cache_bytes"], "1 GB", "facts.cache_bytes is '1 GB', not a finite number"),
        (FIRST, ["facts"], "none", "facts is 'none', not an object"),
        (FIRST, ["telemetry"], None, "telemetry is None, not an object"),
        (FIRST, ["telemetry"], {"cpu": 3}, "telemetry.cpu is 3, not an object"),
        (FIRST, ["telemetry"], {"cpu": {"series": [1]}}, "telemetry.cpu.series is [1], not an object"),
        (FIRST, ["telemetry"], {"cpu": {"series": {"a": 1}}}, "telemetry.cpu.series.a is 1, not an object"),
        (
            FIRST,
            ["telemetry"],
            {"cpu": {"series": {"a": {"values": ["x"]}}}},
            "telemetry.cpu.series.a.values[0] is 'x', not a finite number",
        ),
        (FIRST, ["telemetry"], {"cpu": {"values": 1}}, "telemetry.cpu.values is 1, not an object"),
        (FIRST, ["facts", "revisions"], "main", "facts.revisions is 'main', not an object"),
        (FIRST, ["point", "assist_toks"], "three", "point.assist_toks is 'three', not a whole number"),
        (HEADER, ["limit"], {"bf16": {"copy_bytes_per_second": "1"}}, "limit.bf16.copy_bytes_per_second is '1', not a"),
        (FIRST, ["id"], 7, "id is 7, not a text"),
        (FIRST, ["samples"], {"0": 1.0}, "samples is {'0': 1.0}, not a list of objects"),
        (FIRST, ["samples", 1, "seconds"], "fast", "samples[1].seconds is 'fast', not a finite number"),
        (FIRST, ["samples", 1, "seconds"], "1.0", "samples[1].seconds is '1.0', not a finite number"),
        (FIRST, ["samples", 0, "seconds"], float("nan"), "samples[0].seconds is nan, not a finite number"),
        (FIRST, ["samples", 0, "seconds"], float("inf"), "samples[0].seconds is inf, not a finite number"),
        (FIRST, ["samples", 0, "seconds"], 10**400, "samples[0].seconds is 1000"),
        (FIRST, ["samples", 0, "seconds"], None, "samples[0].seconds is None, not a finite number"),
        (FIRST, ["samples", 0, "seconds"], -1.0, "samples[0].seconds is -1.0, not a finite number above 0"),
        (FIRST, ["samples", 0, "seconds"], 0.0, "samples[0].seconds is 0.0, not a finite number above 0"),
        (FIRST, ["samples", 0, "new_tokens"], 0, "samples[0].new_tokens is 0, not a whole number of at least 1"),
        (FIRST, ["samples", 1, "new_tokens"], 2.5, "samples[1].new_tokens is 2.5, not a whole number"),
        (FIRST, ["samples", 1, "target_forwards"], True, "samples[1].target_forwards is True, not a whole number"),
        (FIRST, ["samples", 0, "prompt"], "0", "samples[0].prompt is '0', not a whole number"),
    ],
)
def test_a_key_that_holds_something_else_is_told_in_one_line(
    run: Path, capsys: pytest.CaptureFixture[str], line: int, keys: list[str | int], value: Any, told: str
) -> None:
    set_in(run, line, keys, value)
    for arguments in READERS:
        assert called(arguments, run) == 2, arguments
        captured = capsys.readouterr()
        (refusal,) = captured.err.splitlines()
        assert captured.out == ""
        assert refusal.startswith(f"reports: {run}: line {line + 1}: ") and told in refusal


@pytest.mark.parametrize(
    ("keys", "value"),
    [(["samples", 0, "drafted"], "9"), (["samples", 0, "draft_seconds"], "1"), (["samples", 0, "rollbacks"], 1.5)],
)
def test_the_figures_of_drafting_are_checked_where_samples_are_read_whole(
    run: Path, capsys: pytest.CaptureFixture[str], keys: list[str | int], value: Any
) -> None:
    set_in(run, 2, keys, value)
    assert called(["show", "RUN"], run) == 2
    (refusal,) = capsys.readouterr().err.splitlines()
    assert f"{run}: line 3: " in refusal and f"samples[0].{keys[-1]} is {value!r}" in refusal


@pytest.mark.parametrize(
    "arguments",
    [
        ["advise", "RUN"],
        ["export", "RUN", "--format", "csv"],
        ["merge", "RUN", "-o", "DIR/merged.jsonl"],
        ["history", "DIR", "--format", "json"],
        ["gate", "COPY", "RUN"],
        ["promote", "RUN", "--baseline", "DIR/baselines"],
        ["claims", "RUN"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_last_line_that_was_cut_off_is_told(
    run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    lines = run.read_bytes().splitlines(keepends=True)
    run.write_bytes(b"".join([*lines, lines[2][:-30]]))
    assert called(arguments, run) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "cut off" in line and "copy" not in line]
    assert told == [f"reports: {run}: line 5 is cut off and was dropped (the run was killed while writing)"]


def test_runs_of_other_machines_or_versions_are_not_merged(planted: Plant, capsys: pytest.CaptureFixture[str]) -> None:
    here = {"hardware": {"cpu": "A processor", "cpu_cores": 2}, "versions": {"torch": "2.13.0", "numpy": "2.3.0"}}
    one = planted(name="one.jsonl", environment=here).path
    other = planted(name="other.jsonl", environment=here | {"hardware": {"gpu": "NVIDIA H100"}}).path
    newer = planted(name="newer.jsonl", environment=here | {"versions": {"torch": "2.14.0", "numpy": "2.3.0"}}).path
    merged = one.with_name("merged.jsonl")
    for file, told in (
        (other, "other hardware than {one}: gpu-nvidia-h100 instead of cpu-a-processor-2c; compare them instead"),
        (newer, "other versions than {one}: torch=2.14.0 instead of torch=2.13.0; compare them instead"),
    ):
        assert main(["merge", str(one), str(file), "-o", str(merged)]) == 2
        (refusal,) = capsys.readouterr().err.splitlines()
        assert refusal.startswith(f"reports: {file}: {told.format(one=one)}")
        assert not merged.exists()
    assert main(["merge", str(one), str(one), "-o", str(merged)]) == 0
    assert len(read_run(merged).cases) == 6


@pytest.mark.parametrize(
    "arguments",
    [
        ["merge", "RUN"],
        ["page", "RUN"],
        ["export", "RUN", "--format", "csv"],
        ["history", "DIR"],
        ["gate", "COPY", "RUN"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_an_output_that_cannot_be_written_is_one_line(
    run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    (run.parent / "file").write_text("no folder")
    assert called([*arguments, "-o", "DIR/file/output"], run) == 2
    (refusal,) = capsys.readouterr().err.splitlines()
    assert "file/output: cannot be written" in refusal and "name a" in refusal
