"""Shards measured by themselves and merged are the whole run: every case once, the same tokens, its own baseline."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from fixtures.study.shard import Shard
from fixtures.study.study import Study, StudyError, Sweep, Workload
from fixtures.suite.plan import Plan
from fixtures.suite.supervised import Ended, Heartbeat, Supervised
from reports.__main__ import main
from reports.numbers.speedups import speedup
from reports.record.reader import read_run
from reports.record.run import CaseResult, Run, Sample
from tests.unit.small_runs import HEURISTIC, LOOKUP, begun, make_quick, measure_all, small_study

pytestmark = pytest.mark.usefixtures("one_thread")

SAMPLED = Sweep(
    "speculative_decoding",
    {
        "dtype": ("fp32",),
        "strategy": ("assisted",),
        "assist_toks": (3,),
        "confidence_threshold": (0.4,),
        "attention": ("eager",),
        "do_sample": (False, True),
    },
)
STUDY = small_study(LOOKUP, HEURISTIC, SAMPLED, workload=Workload("synthetic", num_samples=3, max_prompt=6, gen_toks=8))
COUNT = 3
ALL = [None, *(Shard(number, COUNT) for number in range(1, COUNT + 1))]
TIMES = {"seconds", "ttft_seconds", "draft_seconds", "verify_seconds", "other_seconds", "started", "turn", "round"}


def measured(study: Study, path: Path, shard: Shard | None) -> Path:
    bench = begun(study, path, shard=shard)
    measure_all(bench)
    bench.end()
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The whole study, then each of its shards."""
    folder = tmp_path_factory.mktemp("shards")
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        return [measured(STUDY, folder / f"{number}.jsonl", shard) for number, shard in enumerate(ALL)]


@pytest.fixture(scope="module")
def merged(files: list[Path]) -> Run:
    path = files[0].with_name("merged.jsonl")
    assert main(["merge", *map(str, files[1:]), "-o", str(path)]) == 0
    return read_run(path)


def counts(case: CaseResult) -> list[dict[str, Any]]:
    """What of a case's generations no clock decides, by prompt."""
    keys = [item.name for item in dataclasses.fields(Sample) if item.name not in TIMES]
    samples = sorted(case.samples, key=lambda sample: sample.prompt)
    return [{key: getattr(sample, key) for key in keys} for sample in samples]


def test_the_shards_have_every_case_once_and_what_it_is_compared_with(files: list[Path]) -> None:
    whole, *shards = map(read_run, files)
    assert [run.header.get("shard") for run in (whole, *shards)] == [None, "1/3", "2/3", "3/3"]
    of_shards = [set(run.finished) for run in shards]
    assert set().union(*of_shards) == set(whole.finished)
    baselines = {name for name, case in whole.finished.items() if case.point.strategy == "plain"}
    for number, own in enumerate(of_shards):
        for other in of_shards[number + 1 :]:
            assert own & other <= baselines
    for run in shards:
        drafting = [case for case in run.cases if case.point.speculative]
        assert drafting
        for case in drafting:
            for same_engine in (False, True):
                assert run.baseline_measurements(case, same_engine=same_engine)
            assert case.facts.get("losslessness", {}).get("verdict", "equal") == "equal"


def test_shards_merge_to_the_whole(files: list[Path], merged: Run) -> None:
    whole, *shards = map(read_run, files)
    assert merged.complete and merged.header["shards"] == ["1/3", "2/3", "3/3"] and "shard" not in merged.header
    once = [case.id for case in merged.cases if not case.again]
    assert sorted(once) == sorted(whole.finished), "every case counts once"
    again = [case for case in merged.cases if case.again]
    assert len(again) == sum(len(run.cases) for run in shards) - len(once), "and no measurement is lost"
    assert {case.point.strategy for case in again} == {"plain"}
    for case in merged.cases:
        assert counts(case) == counts(whole.finished[case.id]), case.id
    for run in shards:
        for case in run.cases:
            if case.point.speculative:
                for same_engine in (False, True):
                    alone = speedup(case, run, same_engine=same_engine)
                    assert alone is not None
                    assert speedup(merged.finished[case.id], merged, same_engine=same_engine) == alone


def test_case_after_case_gives_the_same_tokens_acceptance_and_counts(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_quick(monkeypatch)
    whole = read_run(files[0])
    one_by_one = dataclasses.replace(STUDY, order="blocks")
    for number, shard in enumerate((None, Shard(2, COUNT))):
        run = read_run(measured(one_by_one, tmp_path / f"{number}.jsonl", shard))
        assert run.order == "blocks" and all(case.status == "ok" and case.samples for case in run.cases)
        for case in run.cases:
            assert counts(case) == counts(whole.finished[case.id]), case.id
            for key in ("accept_rate", "tokens_per_step", "total_rollbacks"):
                assert case.metrics.get(key) == whole.finished[case.id].metrics.get(key)


def test_a_shard_is_resumed_as_itself_only(files: list[Path]) -> None:
    for path, shard, holds in (
        (files[2], Shard(1, COUNT), "it holds shard 2/3; resume it with --shard 2/3"),
        (files[2], None, "it holds shard 2/3"),
        (files[0], Shard(1, COUNT), "it holds a run without --shard; resume it so"),
    ):
        with pytest.raises(StudyError, match=re.escape(f"--resume {str(path)!r}: {holds}")):
            Plan(STUDY, path, resume=True, shard=shard)
    plan = Plan(STUDY, files[2], resume=True, shard=Shard(2, COUNT))
    assert {case.id for case in plan.cases if plan.is_done(case)} == plan.of_shard(plan.cases)


def test_an_engine_that_ended_the_process_costs_no_case_of_another_shard(files: list[Path], tmp_path: Path) -> None:
    for number, path in enumerate(files[1:], 1):
        begun_only = tmp_path / path.name
        begun_only.write_text(path.read_text().partition("\n")[0] + "\n")
        shard, engine = Shard(number, COUNT), "synthetic-tiny/t=none,fp32"
        died = Supervised("one", Heartbeat(), begun_only, Ended("crashed", "SIGBUS", "loading", engine))
        plan = Plan(STUDY, begun_only, resume=True, supervised=died, shard=shard)
        own = plan.of_shard(plan.cases)
        lost = {case.id for case, _, _ in plan.lost()}
        assert lost == {case.id for case in plan.cases if case.engine.id == engine and case.id in own}
        assert lost


def test_what_is_missing_is_told_and_left_to_measure(files: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    _, first, second, third = files
    part, whole = first.with_name("part.jsonl"), first.with_name("from-part.jsonl")
    assert main(["merge", str(third), str(first), "-o", str(part)]) == 0
    assert "the study is not whole without shard 2/3" in capsys.readouterr().err
    assert not read_run(part).complete
    plan = Plan(STUDY, part, resume=True)
    left = {case.id for case in plan.cases if not plan.is_done(case)}
    assert left == set(read_run(second).finished) - set(read_run(first).finished) - set(read_run(third).finished)
    assert main(["merge", str(part), str(second), "-o", str(whole)]) == 0
    assert capsys.readouterr().err == "" and read_run(whole).complete


def test_shards_that_do_not_go_together_are_refused(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, first, second, _ = files
    other = tmp_path / "other.jsonl"
    other.write_text(second.read_text().replace('"2/3"', '"2/4"', 1))
    seeded = tmp_path / "seeded.jsonl"
    seeded.write_text(second.read_text().replace('"seed":0', '"seed":1', 1))
    for files_given, told in (
        ((first, first), "shard 1/3 is in"),
        ((first, whole), "shards and whole runs do not go together"),
        ((whole, first), "shards and whole runs do not go together"),
        ((first, other), "shard 2/4 does not go with 1/3"),
        ((first, seeded), "a shard of another study"),
    ):
        assert main(["merge", *map(str, files_given), "-o", str(tmp_path / "out.jsonl")]) == 2
        error = capsys.readouterr().err
        assert told in error and len(error.splitlines()) == 1
        assert not (tmp_path / "out.jsonl").exists()
