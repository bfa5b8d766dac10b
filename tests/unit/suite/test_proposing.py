"""`--race propose`: a setting that the study does not hold joins the race, decodes from then on, and says so."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fixtures.study.study import Sweep
from fixtures.suite import proposing
from reports.numbers.proposals import Proposal
from reports.record.reader import read_run
from reports.record.run import Run
from tests.unit.small_runs import BASELINE, HEURISTIC, WORKLOAD, begun, measure_all, small_study

pytestmark = pytest.mark.usefixtures("one_thread")

DRAFTED = Sweep(HEURISTIC.experiment, {**HEURISTIC.axes, "assist_schedule": ("constant",)})
LONG = dataclasses.replace(WORKLOAD, num_samples=9)


def test_a_proposed_setting_joins_after_the_least_rounds_and_is_written_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Run] = []

    def planted(run: Run, competing: list[str], *, most: int) -> list[Proposal]:
        asked.append(run)
        beside = next(case for case in run.cases if case.point.assist_toks == 4)
        assert beside.facts["forward_costs"], "what predictions rest on was measured before"
        assert {len(case.samples) for case in run.cases} == {5} and beside.id in competing
        point = dataclasses.replace(beside.point, assist_toks=3)
        return [Proposal(beside.engine, point, beside.workload, 0.1, "planted", beside, "assist_toks")][:most]

    monkeypatch.setattr(proposing, "propose", planted)
    study = small_study(BASELINE, DRAFTED, workload=LONG, race="propose")
    bench = begun(study, tmp_path / "run.jsonl")
    measure_all(bench)
    bench.end()
    run = read_run(tmp_path / "run.jsonl")
    assert run.complete and len(asked) == 1
    (joined,) = [case for case in run.cases if case.point.assist_toks == 3]
    assert joined.id not in {case.id for case in study.cases()}
    assert joined.notes[0] == "joined the race after round 5: planted"
    rounds = [sample.round for sample in joined.samples]
    assert joined.status in ("ok", "dropped") and rounds == list(range(5, 5 + len(rounds)))
    assert all((joined.id in done.order) == (done.round in rounds) for done in run.rounds)
    assert joined.facts["losslessness"]["verdict"] == "equal"


def test_without_being_asked_nothing_joins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposing, "propose", lambda *asked, **more: pytest.fail("nobody asked for proposals"))
    study = small_study(BASELINE, DRAFTED, workload=LONG, race=True)
    assert len(measure_all(begun(study, tmp_path / "run.jsonl"))) == len(study.cases())
