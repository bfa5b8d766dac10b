"""A case that something outside ends (Ctrl-C, an exit, a plugin's time limit) leaves its line, and its end goes on."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fixtures.engines.transformers.models.engine import Engine
from fixtures.measuring.case import CaseFailed, CaseSkipped
from fixtures.measuring.examination import Examiner
from fixtures.study.pairs import find_pair
from fixtures.study.study import Study, Sweep, Workload
from fixtures.suite.progress import ProgressLine
from fixtures.suite.session import BenchSession
from reports.record.reader import read_run

WORKLOAD = Workload("synthetic", num_samples=4, max_prompt=6, gen_toks=6)
TIMEOUT = "Timeout (>6.0s) from pytest-timeout."

pytestmark = pytest.mark.usefixtures("one_thread")
Load = Callable[..., Engine]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BenchSession:
    """A run of one case, begun; what the device could do at best is not measured."""
    monkeypatch.setattr(Examiner, "measure_limits", lambda self, dtypes: {})
    sweeps = (Sweep("baseline", {"dtype": ("fp32",)}),)
    study = Study("unit", "", (find_pair("synthetic-tiny"),), sweeps, WORKLOAD, warmup=0)
    begun = BenchSession(study, tmp_path / "run.jsonl", resume=False, argv=[])
    begun.begin(begun.cases)
    return begun


def _rounds(happens: Callable[[], Any]) -> Callable[..., None]:
    """Runs set-up and function by turns, as pytest-benchmark does; before the third round something happens."""

    def timed(function: Callable[..., None], setup: Callable[[], Any], rounds: int) -> None:
        for number in range(rounds):
            if number == 2:
                happens()
            _, inputs = setup()
            function(**inputs)

    return timed


def _measure(bench: BenchSession, load: Load, happens: Callable[[], Any]) -> None:
    engine = load()
    engine.key = bench.cases[0].engine
    bench.measure(bench.cases[0], engine, _rounds(happens))


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (KeyboardInterrupt(), "failed", "interrupted (KeyboardInterrupt)"),
        (SystemExit(3), "failed", "interrupted (SystemExit: 3)"),
        (pytest.fail.Exception(TIMEOUT), "timeout", f"interrupted (Failed: {TIMEOUT})"),
        (pytest.exit.Exception("enough"), "failed", "interrupted (Exit: enough)"),
    ],
)
def test_what_ends_a_case_from_outside_is_recorded_and_goes_on(
    bench: BenchSession, tiny_engine: Load, error: BaseException, status: str, reason: str
) -> None:
    def stop() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        _measure(bench, tiny_engine, stop)
    assert raised.value is error
    bench.abandon()
    (case,) = read_run(bench.path).cases
    assert (case.status, case.reason) == (status, reason)
    assert [sample.prompt for sample in case.samples] == [0, 1], "what was over before it"


def test_a_run_that_lacks_a_planned_case_has_no_end_line(bench: BenchSession) -> None:
    shown = io.StringIO()
    bench._progress = ProgressLine(1, 1, Console(file=shown, width=200))
    bench.end()
    assert not read_run(bench.path).complete
    assert f"planned, but without a result: 1, the first {bench.cases[0].id}" in shown.getvalue()


def test_a_run_with_every_planned_case_has_its_end_line(bench: BenchSession, tiny_engine: Load) -> None:
    _measure(bench, tiny_engine, lambda: None)
    bench.end()
    assert read_run(bench.path).complete


def test_nothing_is_timed_under_a_profiler(bench: BenchSession, tiny_engine: Load) -> None:
    sys.setprofile(lambda *_: None)
    try:
        with pytest.raises(CaseFailed, match=r"a profiler is on \(test_stopped\): .* measure without it"):
            _measure(bench, tiny_engine, lambda: None)
    finally:
        sys.setprofile(None)
    bench.abandon()
    assert read_run(bench.path).cases[0].status == "failed"


def test_a_long_or_hostile_error_is_one_short_line(bench: BenchSession, tiny_engine: Load) -> None:
    def stop() -> None:
        raise RuntimeError("\x1b[2J\u202e half \ud83d\n" + "word " * 400_000)

    with pytest.raises(CaseFailed) as failed:
        _measure(bench, tiny_engine, stop)
    bench.abandon()
    (case,) = read_run(bench.path).cases
    assert str(failed.value) == f"failed: {case.reason}"
    assert case.reason.startswith("RuntimeError: \\x1b[2J\\u202e half \\ud83d word word")
    assert case.reason.isprintable() and len(case.reason) <= 400


def test_a_skip_is_a_skip(bench: BenchSession, tiny_engine: Load) -> None:
    def stop() -> None:
        raise CaseSkipped("not here")

    with pytest.raises(CaseSkipped):
        _measure(bench, tiny_engine, stop)
    bench.end()
    assert read_run(bench.path).complete


def test_a_run_is_not_resumed_with_other_prompts_under_the_same_name(bench: BenchSession, tiny_engine: Load) -> None:
    _measure(bench, tiny_engine, lambda: None)
    bench.abandon()
    (case,) = read_run(bench.path).cases
    written = bench.path.read_text()
    bench.path.write_text(written.replace(str(case.workload.prompts_sha256), "0" * 64))
    resumed = BenchSession(bench.study, bench.path, resume=True, argv=[])
    resumed.begin(resumed.cases)
    with pytest.raises(CaseFailed, match=r"--resume '.*': synthetic holds other prompts than its cases decoded; start"):
        _measure(resumed, tiny_engine, lambda: None)
    resumed.abandon()


def test_humaneval_that_is_ended_from_outside_is_recorded_too(
    bench: BenchSession, tiny_engine: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fixtures.humaneval.experiment.Attempt", ended)
    with pytest.raises(KeyboardInterrupt):
        bench.solve(bench.cases[0], tiny_engine())
    bench.abandon()
    (case,) = read_run(bench.path).cases
    assert (case.status, case.reason) == ("failed", "interrupted (KeyboardInterrupt)")
