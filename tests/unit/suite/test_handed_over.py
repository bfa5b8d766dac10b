"""What a test's parameter hands over is what is measured: the case itself, not what the study has under its name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fixtures.suite.items import Planned
from fixtures.suite.session import BenchSession
from reports.record.reader import read_run
from tests.unit.small_runs import BASELINE, LOOKUP, make_quick, small_study


def test_the_case_of_the_parameter_is_measured_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The handed-over case drafts as many tokens as no case of the study does."""
    make_quick(monkeypatch)
    path = tmp_path / "run.jsonl"
    bench = BenchSession(small_study(BASELINE, LOOKUP), path, resume=False, argv=[])
    base, lookup = bench.cases[0], bench.cases[-1]
    other = dataclasses.replace(lookup, point=dataclasses.replace(lookup.point, assist_toks=1))
    assert other.id not in {case.id for case in bench.cases}
    handed_over = [Planned(base).case, Planned(other).case]
    bench.begin(handed_over)
    for case in bench.in_order():
        bench.measure_until(case)
        result = bench.handed_over(case)
        assert (result.id, result.point, result.status) == (case.id, case.point, "ok")
        assert result.engine == case.engine.of_case(case.point)
    bench.end()
    measured = {case.id: case for case in read_run(path).cases}
    assert measured.keys() == {base.id, other.id}
    assert {proposed for sample in measured[other.id].samples for proposed, _ in sample.steps} <= {0, 1}
