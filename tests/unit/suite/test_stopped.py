"""What ends a run from outside (Ctrl-C, an exit) goes on, and what was measured is in the file; what ends a test, as
plugins that limit its time do, costs one case.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fixtures.engines.transformers.models.engine import Engine
from fixtures.measuring.case import CaseFailed, CaseSkipped, CaseUnderWay
from fixtures.study.study import Case, Sweep
from fixtures.suite.progress import ProgressLine
from fixtures.suite.session import BenchSession
from fixtures.suite.solving import solve
from reports.record.reader import read_run
from reports.record.run import INTERRUPTED
from tests.unit.small_runs import BASELINE, LOOKUP, before_each, begun, make_quick, measure_all, small_study

TIMEOUT = "Timeout (>6.0s) from pytest-timeout."
ORDERS = pytest.mark.parametrize("order", ["rounds", "blocks"])

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., BenchSession]:
    """A run of one case, begun."""
    make_quick(monkeypatch)
    return lambda **settings: begun(small_study(**settings), tmp_path / "run.jsonl")


def in_third(error: BaseException) -> Callable[[CaseUnderWay, int], None]:
    """In the third generation this comes up."""

    def stop(under_way: CaseUnderWay, prompt: int) -> None:
        if prompt == 2:
            raise error

    return stop


@ORDERS
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyboardInterrupt(), "interrupted (KeyboardInterrupt)"),
        (pytest.exit.Exception("enough"), "interrupted (Exit: enough)"),
    ],
)
def test_what_ends_a_run_from_outside_goes_on_and_what_was_over_is_recorded(
    begin: Callable[..., BenchSession],
    monkeypatch: pytest.MonkeyPatch,
    order: str,
    error: BaseException,
    reason: str,
) -> None:
    bench = begin(order=order)
    before_each(monkeypatch, in_third(error))
    with pytest.raises(type(error)) as raised:
        measure_all(bench)
    assert raised.value is error
    bench.abandon()
    run = read_run(bench.path)
    (case,) = run.cases
    assert [sample.prompt for sample in case.samples] == [0, 1], "what was over before it"
    assert case.stopped and not run.complete, "it can be resumed"
    if order == "blocks":
        assert (case.status, case.reason) == ("failed", reason)
    else:
        assert case.status == "failed" and case.reason.startswith(INTERRUPTED)
        assert [done.round for done in run.rounds] == [0, 1]


@ORDERS
@pytest.mark.parametrize("where", ["in the third generation", "warming up", "loading"])
def test_what_ends_a_test_ends_its_case_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str, where: str
) -> None:
    make_quick(monkeypatch)
    quantized = Sweep("quantization", {"dtype": ("fp32",), "target_quant": ("4bit",)})
    bench = begun(small_study(BASELINE, quantized, order=order), tmp_path / "run.jsonl")
    plain, ended = bench.cases

    def end_its_test(case: Case) -> None:
        if case == ended:
            pytest.fail(TIMEOUT)

    if where == "loading":
        load = bench.load
        monkeypatch.setattr(bench, "load", lambda key: end_its_test(ended) if key == ended.engine else load(key))
    elif where == "warming up":
        look = bench.look
        monkeypatch.setattr(bench, "look", lambda case, *more: (end_its_test(case), look(case, *more)))
    else:
        before_each(monkeypatch, lambda under_way, prompt: end_its_test(under_way.case) if prompt == 2 else None)
    measure_all(bench)
    with pytest.raises(CaseFailed, match="timeout: interrupted"):
        bench.handed_over(ended)
    bench.end()
    run = read_run(bench.path)
    assert run.complete
    assert run.finished[plain.id].status == "ok"
    assert [sample.prompt for sample in run.finished[plain.id].samples] == [0, 1, 2, 3, 4]
    case = run.finished[ended.id]
    assert (case.status, case.reason) == ("timeout", f"interrupted (Failed: {TIMEOUT})")
    assert [sample.prompt for sample in case.samples] == ([0, 1] if where == "in the third generation" else [])


def test_a_run_that_lacks_a_planned_case_has_no_end_line(begin: Callable[..., BenchSession]) -> None:
    bench, shown = begin(), io.StringIO()
    bench._progress = ProgressLine(1, 1, Console(file=shown, width=200))
    bench.end()
    assert not read_run(bench.path).complete
    assert f"planned, but without a result: 1, the first {bench.cases[0].id}" in shown.getvalue()


@ORDERS
def test_a_run_with_every_planned_case_has_its_end_line(begin: Callable[..., BenchSession], order: str) -> None:
    bench = begin(order=order)
    measure_all(bench)
    bench.end()
    run = read_run(bench.path)
    assert run.complete and run.order == order
    assert [sample.prompt for sample in run.cases[0].samples] == [0, 1, 2, 3, 4]


@ORDERS
def test_nothing_is_timed_under_a_profiler(begin: Callable[..., BenchSession], order: str) -> None:
    bench = begin(order=order)
    sys.setprofile(lambda *_: None)
    try:
        measure_all(bench)
    finally:
        sys.setprofile(None)
    with pytest.raises(CaseFailed, match=r"a profiler is on \(test_stopped\): .* measure without it"):
        bench.handed_over(bench.cases[0])
    bench.abandon()
    (case,) = read_run(bench.path).cases
    assert case.status == "failed" and not case.samples


def test_a_profiler_that_comes_on_later_ends_the_run(
    begin: Callable[..., BenchSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = begin()
    before_each(monkeypatch, lambda _, prompt: sys.setprofile(lambda *_: None) if prompt == 1 else None)
    try:
        with pytest.raises(KeyboardInterrupt, match="a profiler is on"):
            measure_all(bench)
    finally:
        sys.setprofile(None)
    bench.abandon()
    assert len(read_run(bench.path).cases[0].samples) == 2


@ORDERS
def test_a_long_or_hostile_error_is_one_short_line(
    begin: Callable[..., BenchSession], monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    bench = begin(order=order)
    before_each(monkeypatch, in_third(RuntimeError("\x1b[2J\u202e half \ud83d\n" + "word " * 400_000)))
    measure_all(bench)
    with pytest.raises(CaseFailed) as failed:
        bench.handed_over(bench.cases[0])
    bench.abandon()
    (case,) = read_run(bench.path).cases
    assert str(failed.value) == f"failed: {case.reason}"
    assert case.reason.startswith("RuntimeError: \\x1b[2J\\u202e half \\ud83d word word")
    assert case.reason.isprintable() and len(case.reason) <= 400
    assert [sample.prompt for sample in case.samples] == [0, 1], "what it had stays"


@ORDERS
def test_a_skip_is_a_skip(begin: Callable[..., BenchSession], monkeypatch: pytest.MonkeyPatch, order: str) -> None:
    bench = begin(order=order)
    monkeypatch.setattr(bench.examiner, "why_unsupported", lambda case: "not here")
    measure_all(bench)
    with pytest.raises(CaseSkipped, match="not here"):
        bench.handed_over(bench.cases[0])
    assert bench.loads == [], "for nothing that can run nothing is loaded"
    bench.end()
    run = read_run(bench.path)
    assert run.complete and run.cases[0].status == "skipped"


def test_a_run_is_not_resumed_with_other_prompts_under_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_quick(monkeypatch)
    study, path = small_study(BASELINE, LOOKUP, order="blocks"), tmp_path / "run.jsonl"
    bench = begun(study, path)
    before_each(monkeypatch, lambda under_way, _: stop_drafting(under_way))
    with pytest.raises(KeyboardInterrupt):
        measure_all(bench)
    bench.abandon()
    plain = read_run(path).cases[0]
    assert plain.status == "ok"
    path.write_text(path.read_text().replace(str(plain.workload.prompts_sha256), "0" * 64))
    resumed = begun(study, path, resume=True)
    measure_all(resumed)
    for case in resumed.cases[1:]:
        with pytest.raises(CaseFailed, match=r"--resume '.*': synthetic holds other prompts than its cases decoded; "):
            resumed.handed_over(case)
    resumed.abandon()


def stop_drafting(under_way: CaseUnderWay) -> None:
    if under_way.case.point.speculative:
        raise KeyboardInterrupt


def test_humaneval_that_is_ended_from_outside_is_recorded_too(
    begin: Callable[..., BenchSession], tiny_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = begin()

    def ended(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fixtures.humaneval.experiment.Attempt", ended)
    with pytest.raises(KeyboardInterrupt):
        solve(bench, bench.cases[0], tiny_engine())
    bench.abandon()
    (case,) = read_run(bench.path).cases
    assert (case.status, case.reason) == ("failed", "interrupted (KeyboardInterrupt)")
