"""A study that keeps no tokens in its run file still has its cases examined: the tokens go when a case is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures.engines.transformers.decoding.measurement import TimedDecoder
from fixtures.study.study import Sweep, Workload
from fixtures.suite.session import BenchSession
from reports.record.reader import read_run
from tests.unit.small_runs import before_each, begun, make_quick, measure_all, small_study

AXES = {"strategy": ("prompt_lookup",), "assist_toks": (3,), "dtype": ("fp32",)}
WORKLOAD = Workload("synthetic", num_samples=2, max_prompt=6, gen_toks=6)
STUDY = small_study(Sweep("speculative_decoding", AXES), workload=WORKLOAD, keep_tokens=False)
ORDERS = pytest.mark.parametrize("order", ["rounds", "blocks"])
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


@pytest.fixture
def spoiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it drafts, another token is the likeliest after every token, as in a bug that plain decoding lacks."""
    in_turn = TimedDecoder.in_turn

    @contextmanager
    def spoiling(self: TimedDecoder) -> Iterator[None]:
        head: Any = self._engine.target.lm_head
        shift = 1 if self._point.speculative else 0
        with in_turn(self), torch.no_grad():
            head.weight.copy_(head.weight.roll(shift, 0))
            try:
                yield
            finally:
                head.weight.copy_(head.weight.roll(-shift, 0))

    monkeypatch.setattr(TimedDecoder, "in_turn", spoiling)


def run(path: Path, order: str, *, resume: bool = False) -> BenchSession:
    return begun(dataclasses.replace(STUDY, order=order), path, resume=resume)


def verdicts(path: Path) -> list[str]:
    written = read_run(path)
    kept = [sample for case in written.cases for sample in (*case.samples, *case.repeats, *case.warm_ups)]
    assert all(sample.output_tokens == () for sample in kept), "none is in the file"
    return [case.facts["losslessness"]["verdict"] for case in written.cases if "losslessness" in case.facts]


@ORDERS
def test_outputs_are_examined_with_their_tokens(tmp_path: Path, order: str) -> None:
    bench = run(tmp_path / "run.jsonl", order)
    measure_all(bench)
    bench.abandon()
    assert verdicts(bench.path) == ["equal"]


@ORDERS
@pytest.mark.usefixtures("spoiled")
def test_a_wrong_output_is_found_by_its_tokens(tmp_path: Path, order: str) -> None:
    bench = run(tmp_path / "run.jsonl", order)
    measure_all(bench)
    bench.abandon()
    assert verdicts(bench.path) == ["wrong"]


def stopped_before_drafting(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that measured plain decoding, one case after the other, and was then interrupted."""
    with monkeypatch.context() as patched:

        def stop(under_way: Any, prompt: int) -> None:
            if under_way.case.point.speculative:
                raise KeyboardInterrupt

        before_each(patched, stop)
        bench = run(path, "blocks")
        with pytest.raises(KeyboardInterrupt):
            measure_all(bench)
        bench.abandon()


def test_of_a_resumed_run_outputs_are_compared_by_their_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.jsonl"
    stopped_before_drafting(path, monkeypatch)
    bench = run(path, "blocks", resume=True)
    measure_all(bench)
    bench.abandon()
    assert verdicts(path) == ["equal"]


@pytest.mark.usefixtures("spoiled")
def test_of_a_resumed_run_an_output_that_differs_cannot_be_examined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.jsonl"
    stopped_before_drafting(path, monkeypatch)
    bench = run(path, "blocks", resume=True)
    measure_all(bench)
    bench.abandon()
    assert verdicts(path) == ["not comparable"]


def test_a_study_that_keeps_tokens_writes_them(tmp_path: Path) -> None:
    bench = begun(small_study(workload=WORKLOAD, keep_tokens=True), tmp_path / "run.jsonl")
    measure_all(bench)
    bench.abandon()
    assert [len(sample.output_tokens) for sample in read_run(bench.path).cases[0].samples] == [6, 6]
