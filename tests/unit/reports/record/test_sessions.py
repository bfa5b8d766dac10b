"""Two processes in one run file, resumed or merged: times stay within a session, or between like machines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from planted_runs import ENGINE, HEADER, case, plain

from reports.gate.evidence import measurements
from reports.numbers.speedups import drifts, speedup
from reports.record.merging import write_merged
from reports.record.reader import read_run
from reports.record.run import CaseResult, Run
from reports.record.writer import RunWriter

Plant = Callable[..., Run]
HERE: dict[str, Any] = HEADER["environment"]
OTHER = {"hardware": {"cpu": "Another processor", "cpu_cores": 2}, "versions": {"torch": "2.13.0"}}
QUANTIZED = {**ENGINE, "target_quant": "4bit"}


def baseline(seconds: float, *, again: bool = False) -> CaseResult:
    return case("p/plain", [plain(0, seconds), plain(1, seconds)], experiment="baseline", again=again)


def quantized(seconds: float) -> CaseResult:
    return case("p/4bit", [plain(0, seconds), plain(1, seconds)], engine=QUANTIZED)


def ratio(run: Run, name: str = "p/4bit") -> float | None:
    found = speedup(run.finished[name], run)
    return None if found is None else found.interval.estimate


@pytest.mark.parametrize("environment", [HERE, OTHER], ids=["another day", "another machine"])
def test_a_case_is_compared_with_the_baseline_of_its_own_session(
    environment: dict[str, Any], planted: Plant, tmp_path: Path
) -> None:
    fast = planted(baseline(1.0), name="fast.jsonl")
    slow = planted(baseline(2.0), quantized(2.0), name="slow.jsonl", environment=environment)
    write_merged([fast, slow], tmp_path / "both.jsonl")
    both = read_run(tmp_path / "both.jsonl")
    assert [one.session for one in both.cases] == [0, 1, 1]
    assert both.sessions[1]["environment"] == environment
    assert ratio(both) == pytest.approx(1.0)
    assert [one.session for one in measurements(both.finished["p/plain"], both)] == [1]


def test_another_machine_s_baseline_serves_nobody_and_a_like_one_s_does(planted: Plant, tmp_path: Path) -> None:
    fast = planted(baseline(1.0), name="fast.jsonl")
    for name, environment, wanted in (("like", HERE, 0.5), ("other", OTHER, None)):
        alone = planted(quantized(2.0), name=f"{name}.jsonl", environment=environment)
        write_merged([fast, alone], tmp_path / f"{name}-merged.jsonl")
        assert ratio(read_run(tmp_path / f"{name}-merged.jsonl")) == (None if wanted is None else pytest.approx(wanted))


def test_the_drift_of_one_session_is_not_the_difference_of_two(planted: Plant, tmp_path: Path) -> None:
    runs = [planted(baseline(s), baseline(1.02 * s, again=True), name=f"{s}.jsonl") for s in (1.0, 2.0)]
    write_merged(runs, tmp_path / "both.jsonl")
    assert [drift.ratio for drift in drifts(read_run(tmp_path / "both.jsonl"))] == [pytest.approx(1.02)] * 2


def test_a_resumed_file_is_two_sessions_and_survives_merging(planted: Plant, tmp_path: Path) -> None:
    path = planted(baseline(1.0), ended=False).path
    writer = RunWriter(path)
    writer.session({"environment": HERE, "started_at": "2026-01-02T00:00:00+00:00"})
    writer.case(baseline(2.0))
    writer.case(quantized(2.0))
    writer.close()
    assert ratio(read_run(path)) == pytest.approx(1.0)
    write_merged([read_run(path)], tmp_path / "merged.jsonl")
    merged = read_run(tmp_path / "merged.jsonl")
    assert [one.session for one in merged.cases] == [0, 1, 1]
    assert merged.sessions[1]["started_at"] == "2026-01-02T00:00:00+00:00"


def test_a_file_of_the_first_schema_is_one_session(tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl"
    lines = [{"kind": "run", "schema": 1, **HEADER}, {"kind": "case", "id": "p/plain", "status": "ok"}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = read_run(path)
    assert [one.session for one in run.cases] == [0]
    assert len(run.sessions) == 1
