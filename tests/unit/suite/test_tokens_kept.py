"""A study that keeps no tokens in its run file still has its cases examined: the tokens go when a case is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures.engines.transformers.models.engine import Engine, load_engine
from fixtures.measuring.examination import Examiner
from fixtures.study.pairs import find_pair
from fixtures.study.study import Study, Sweep, Workload
from fixtures.suite.session import BenchSession
from reports.record.reader import read_run

PAIR = find_pair("synthetic-tiny")
AXES = {"strategy": ("prompt_lookup",), "assist_toks": (3,), "dtype": ("fp32",)}
STUDY = Study(
    "unit",
    "",
    (PAIR,),
    (Sweep("speculative_decoding", AXES),),
    Workload("synthetic", num_samples=2, max_prompt=6, gen_toks=6),
    warmup=0,
    keep_tokens=False,
)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _no_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Examiner, "measure_limits", lambda self, dtypes: {})


def rounds(function: Callable[..., None], setup: Callable[[], Any], count: int) -> None:
    for _ in range(count):
        function(**setup()[1])


def begun(path: Path, *, resume: bool = False) -> BenchSession:
    bench = BenchSession(STUDY, path, resume=resume, argv=[])
    bench.begin([case for case in bench.cases if not bench.is_done(case)])
    return bench


def spoil(engine: Engine) -> None:
    """Another token is the likeliest after every token, as in a bug that plain decoding does not have."""
    head: Any = engine.target.lm_head
    with torch.no_grad():
        head.weight.copy_(head.weight.roll(1, 0))


def verdicts(path: Path) -> list[str]:
    run = read_run(path)
    assert all(sample.output_tokens == () for case in run.cases for sample in case.samples), "none is in the file"
    return [case.facts["losslessness"]["verdict"] for case in run.cases if "losslessness" in case.facts]


@pytest.mark.parametrize(("spoiled", "verdict"), [(False, "equal"), (True, "wrong")])
def test_outputs_are_examined_with_their_tokens(tmp_path: Path, spoiled: bool, verdict: str) -> None:
    path = tmp_path / "run.jsonl"
    bench = begun(path)
    plain, lookup = bench.cases
    engine = load_engine(plain.engine, PAIR, torch.device("cpu"))
    bench.measure(plain, engine, rounds)
    if spoiled:
        spoil(engine)
    bench.measure(lookup, engine, rounds)
    bench.abandon()
    assert verdicts(path) == [verdict]


@pytest.mark.parametrize(("spoiled", "verdict"), [(False, "equal"), (True, "not comparable")])
def test_of_a_resumed_run_outputs_are_compared_by_their_hashes(tmp_path: Path, spoiled: bool, verdict: str) -> None:
    path = tmp_path / "run.jsonl"
    first = begun(path)
    plain, lookup = first.cases
    engine = load_engine(plain.engine, PAIR, torch.device("cpu"))
    first.measure(plain, engine, rounds)
    first.abandon()
    second = begun(path, resume=True)
    if spoiled:
        spoil(engine)
    second.measure(lookup, engine, rounds)
    second.abandon()
    assert verdicts(path) == [verdict]


def test_a_study_that_keeps_tokens_writes_them(tmp_path: Path) -> None:
    study = dataclasses.replace(STUDY, keep_tokens=True, sweeps=(Sweep("baseline", {"dtype": ("fp32",)}),))
    bench = BenchSession(study, tmp_path / "run.jsonl", resume=False, argv=[])
    bench.begin(bench.cases)
    bench.measure(bench.cases[0], load_engine(bench.cases[0].engine, PAIR, torch.device("cpu")), rounds)
    bench.abandon()
    assert [len(sample.output_tokens) for sample in read_run(bench.path).cases[0].samples] == [6, 6]
