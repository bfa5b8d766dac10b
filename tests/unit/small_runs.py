"""Runs of the suite in the test's own process, on the tiny synthetic pair: studies, sessions, what happens in them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fixtures.engines.transformers.decoding.measurement import TimedDecoder
from fixtures.engines.transformers.models.engine import Engine
from fixtures.measuring import quiet
from fixtures.measuring.case import CaseUnderWay, Measured
from fixtures.measuring.examination import Examiner
from fixtures.study.pairs import find_pair
from fixtures.study.study import Case, Study, Sweep, Workload
from fixtures.study.workload import Prompts
from fixtures.suite.session import BenchSession
from fixtures.telemetry.foreign import RoundMachine, RoundWatch
from reports.record.run import CaseResult, Sample

WORKLOAD = Workload("synthetic", num_samples=5, max_prompt=6, gen_toks=6)
BASELINE = Sweep("baseline", {"dtype": ("fp32",)})
LOOKUP = Sweep("speculative_decoding", {"dtype": ("fp32",), "strategy": ("prompt_lookup",), "assist_toks": (2, 3)})
HEURISTIC = Sweep(
    "speculative_decoding",
    {
        "dtype": ("fp32",),
        "strategy": ("assisted",),
        "assist_toks": (2, 4),
        "confidence_threshold": (0.0,),
        "assist_schedule": ("heuristic",),
    },
)

Happens = Callable[[CaseUnderWay, int], None]


def small_study(*sweeps: Sweep, workload: Workload = WORKLOAD, **settings: Any) -> Study:
    """A study of the tiny pair, of the baseline alone unless told otherwise."""
    settings = {"warmup": 0, **settings}
    return Study("unit", "", (find_pair("synthetic-tiny"),), sweeps or (BASELINE,), workload, **settings)


def begun(study: Study, path: Path, *, resume: bool = False, **settings: Any) -> BenchSession:
    """A run that is about to measure what the file does not have, of its shard if it has one."""
    bench = BenchSession(study, path, resume=resume, argv=[], **settings)
    own = bench.plan.of_shard(bench.cases)
    bench.begin([case for case in bench.cases if case.id in own and not bench.plan.is_done(case)])
    return bench


def measure_all(bench: BenchSession) -> list[CaseResult]:
    """Every case that is left, as its test would ask for it; the results in the study's order."""
    planned = bench.in_order()
    for case in planned:
        bench.measure_until(case)
    return [bench._results[case.id, False] for case in bench.cases if (case.id, False) in bench._results]


def make_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes seconds and decides nothing here: what the device could do at best, and walking all that a
    process of many tests holds, around every load. Nor does the load of the machine that runs the tests disturb."""
    monkeypatch.setattr(Examiner, "measure_limits", lambda self, dtypes: {})
    monkeypatch.setattr(quiet, "BRIEF_SECONDS", 0.0)
    monkeypatch.setattr(gc, "collect", lambda *_: 0)
    monkeypatch.setattr(RoundWatch, "end_round", lambda self, generations: RoundMachine())


def before_each(monkeypatch: pytest.MonkeyPatch, happens: Happens) -> None:
    """Before the timed generation of a case for a prompt something happens, with the case's settings in force."""
    current: list[CaseUnderWay] = []
    decode, timed = CaseUnderWay.decode, TimedDecoder.decode

    def decoding(self: CaseUnderWay, prompt: int, *arguments: Any, **place: Any) -> Any:
        current[:] = [self]
        try:
            return decode(self, prompt, *arguments, **place)
        finally:
            current.clear()

    def timing(self: TimedDecoder, prompt: int, *arguments: Any, **inputs: Any) -> Any:
        if current:
            happens(current[0], prompt)
        return timed(self, prompt, *arguments, **inputs)

    monkeypatch.setattr(CaseUnderWay, "decode", decoding)
    monkeypatch.setattr(TimedDecoder, "decode", timing)


def slow_at(monkeypatch: pytest.MonkeyPatch, slow: Callable[[int], float]) -> None:
    """Generations tell more seconds than they took, by prompt."""
    timed = TimedDecoder.decode

    def slower(self: TimedDecoder, prompt: int, *arguments: Any, **inputs: Any) -> Any:
        *decoded, seconds = timed(self, prompt, *arguments, **inputs)
        return (*decoded, seconds + slow(prompt))

    monkeypatch.setattr(TimedDecoder, "decode", slower)


def measured_alone(case: Case, engine: Engine, prompts: Prompts, study: Study, measured: Measured) -> Iterator[Sample]:
    """Measure a case by itself, prompt after prompt: warm-up, then one sample for each step of the iterator."""
    under_way = CaseUnderWay(case, engine, prompts, study, measured)
    with ExitStack() as stack:
        if case.engine.compile:
            from fixtures.engines.transformers.models.compiling import compiled_code

            stack.enter_context(compiled_code())
        for _ in under_way.warm_up():
            pass
        try:
            for number in range(case.workload.num_samples):
                yield under_way.decode(number)
        finally:
            under_way.close()
