"""What a process does about the case with which the one before it died under the same supervisor, and later by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.measuring.case import CaseUnderWay
from fixtures.suite.session import BenchSession
from fixtures.suite.supervised import Ended, Heartbeat, Supervised
from reports.record.reader import read_run
from tests.unit.small_runs import BASELINE, LOOKUP, before_each, begun, make_quick, measure_all, small_study

pytestmark = pytest.mark.usefixtures("one_thread")
STUDY = small_study(BASELINE, LOOKUP)


@pytest.fixture
def died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BenchSession:
    """A supervised run that ended in its third round."""
    make_quick(monkeypatch)
    bench = begun(STUDY, tmp_path / "run.jsonl", supervised=Supervised("one", Heartbeat()))

    def end(under_way: CaseUnderWay, prompt: int) -> None:
        if prompt == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        before_each(patch, end)
        with pytest.raises(KeyboardInterrupt):
            measure_all(bench)
    bench.abandon()
    return bench


def after(died: BenchSession, what: str, subject: str, name: str = "one") -> BenchSession:
    """The next process, which is told that the one before it crashed with this."""
    told = Supervised(name, Heartbeat(), died.path, Ended("crashed", "SIGSEGV", what, subject))
    return begun(STUDY, died.path, resume=True, supervised=told)


def test_it_is_written_with_its_rounds_among_the_lines_of_the_process_that_died(died: BenchSession) -> None:
    plain, two, three = (case.id for case in died.cases)
    bench = after(died, "decoding", two)
    assert [case.id for case in bench.in_order()] == [plain, three]
    measure_all(bench)
    bench.end()
    run = read_run(died.path)
    assert run.complete
    assert {name: (case.status, len(case.samples)) for name, case in run.finished.items()} == {
        plain: ("ok", 5),
        two: ("crashed", 2),
        three: ("ok", 5),
    }
    assert (run.finished[two].session, run.finished[two].reason) == (0, "SIGSEGV")

    again = begun(STUDY, died.path, resume=True)
    assert two in {case.id for case in again.in_order()}, "by hand it is tried once more"
    measure_all(again)
    again.end()
    finished = read_run(died.path).finished[two]
    assert (finished.status, [sample.prompt for sample in finished.samples]) == ("ok", [0, 1, 2, 3, 4])
    assert finished.samples[:2] == run.finished[two].samples


def test_all_cases_of_an_engine_that_could_not_be_loaded_have_a_line_and_the_run_its_end(died: BenchSession) -> None:
    told = Supervised("one", Heartbeat(), died.path, Ended("crashed", "SIGBUS", "loading", died.cases[0].engine.id))
    bench = BenchSession(STUDY, died.path, resume=True, argv=[], supervised=told)
    assert all(bench.plan.is_done(case) for case in bench.cases)
    bench.finish()
    run = read_run(died.path)
    assert run.complete and {case.status for case in run.finished.values()} == {"crashed"}


def test_other_faults_of_one_supervision_are_not_tried_again_in_it(died: BenchSession) -> None:
    plain, two, three = (case.id for case in died.cases)
    after(died, "decoding", two).abandon()
    assert [case.id for case in after(died, "decoding", three).in_order()] == [plain]


def test_a_baseline_that_was_set_aside_is_not_measured_beside_what_is_left(died: BenchSession) -> None:
    plain, two, three = (case.id for case in died.cases)
    assert [case.id for case in after(died, "warming up", plain).in_order()] == [two, three]


def test_a_new_supervision_tries_what_another_set_aside(died: BenchSession) -> None:
    plain, two, three = (case.id for case in died.cases)
    after(died, "decoding", two).abandon()
    assert [case.id for case in after(died, "decoding", three, name="another").in_order()] == [plain, two]


@pytest.mark.parametrize("order", ["rounds", "blocks"])
def test_a_case_that_asks_python_to_exit_costs_itself(
    order: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_quick(monkeypatch)

    def leave(under_way: CaseUnderWay, prompt: int) -> None:
        if prompt == 2 and under_way.case.point.assist_toks == 2:
            raise SystemExit(3)

    before_each(monkeypatch, leave)
    results = measure_all(begun(small_study(BASELINE, LOOKUP, order=order), tmp_path / "run.jsonl"))
    assert [(case.status, len(case.samples)) for case in results] == [("ok", 5), ("crashed", 2), ("ok", 5)]
    assert results[1].reason == "SystemExit: asked Python to exit (3)"
