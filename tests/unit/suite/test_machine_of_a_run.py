"""What a run does about its machine: looks at it, waits for it if asked to, and measures its memory more than once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures.measuring import limit, quiet
from fixtures.measuring.limit import DeviceLimit
from fixtures.telemetry.conditions import Conditions, Observation
from reports.record.reader import read_run
from tests.unit.small_runs import LOOKUP, begun, make_quick, measure_all, small_study

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("order", ["rounds", "blocks"])
def test_the_machine_is_in_the_run_file_and_copies_are_measured_again_before_cases_are_examined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str, capfd: Any
) -> None:
    copies = iter([3e10, 2e10, 2.5e10])
    monkeypatch.setattr(limit, "measure_limit", lambda device, dtype: DeviceLimit(1e10, 1e11, 0.0, "made up"))
    monkeypatch.setattr(limit, "measure_copy", lambda device: next(copies, 1.5e10))
    conditions = Conditions({"governor": "powersave"}, (Observation("frequency", "doubtful", "clocks vary", "sudo x"),))
    looked: list[tuple[int, float]] = []

    def look(threads: int, uuid: Any, *, seconds: float) -> Conditions:
        looked.append((threads, seconds))
        return conditions

    monkeypatch.setattr(quiet, "look", look)
    bench = begun(small_study(LOOKUP, order=order), tmp_path / "run.jsonl")
    measure_all(bench)
    bench.end()
    run = read_run(bench.path)
    assert run.header["environment"]["conditions"] == {"governor": "powersave"}
    assert looked == [(torch.get_num_threads(), quiet.BRIEF_SECONDS)]
    assert "clocks vary: sudo x" in "".join(capfd.readouterr())
    assert run.cases and all(case.facts["copy_bandwidth"] == {"lowest": 1e10, "highest": 3e10} for case in run.cases)


def test_a_run_waits_for_a_quiet_machine_and_its_budget_begins_after_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_quick(monkeypatch)
    monkeypatch.setattr(quiet, "look", lambda *_, **__: Conditions({}, ()))
    clock = iter([100.0, 160.0])
    waits: list[float] = []
    monkeypatch.setattr(quiet, "wait_until_quiet", lambda seconds, *_: waits.append(seconds))
    monkeypatch.setattr(quiet, "time", type("Clock", (), {"monotonic": staticmethod(lambda: next(clock))}))
    bench = begun(small_study(), tmp_path / "run.jsonl", quiet_wait=300.0)
    assert waits == [300.0]
    assert bench.elapsed < 0, "a minute was waited, and is no part of the run"
    bench.abandon()
    assert read_run(bench.path).header["environment"]["conditions"] == {"waited_seconds": 60.0}
