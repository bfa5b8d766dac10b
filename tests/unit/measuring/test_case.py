"""One case measured on a tiny pair: what is compiled while it is timed spoils it; others have their turns between."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import pytest

from fixtures.engines.transformers.models import compiling
from fixtures.engines.transformers.models.engine import Engine
from fixtures.measuring.case import CaseFailed, Measured, measure_case
from fixtures.measuring.turns import TurnTaker
from fixtures.study.pairs import find_pair
from fixtures.study.study import Case, DecodingPoint, EngineKey, Study, Workload
from fixtures.study.workload import load_prompts

WORKLOAD = Workload("synthetic", num_samples=3, max_prompt=6, gen_toks=6)
KEY = EngineKey("synthetic-tiny", dtype="fp32", compile=True)
ASSISTED = DecodingPoint("assisted", assist_toks=3, confidence_threshold=0.0, assist_schedule="constant")

pytestmark = pytest.mark.usefixtures("one_thread")


def timed(function: Callable[..., None], setup: Callable[[], Any], rounds: int) -> None:
    for _ in range(rounds):
        _, inputs = setup()
        function(**inputs)


def measured(tiny_engine: Callable[..., Engine], point: DecodingPoint, warmup: int) -> Measured:
    study = Study("unit", "", (find_pair("synthetic-tiny"),), (), WORKLOAD, warmup=warmup)
    prompts = load_prompts(WORKLOAD, list, vocab_size=512)
    found = Measured()
    case = Case(KEY, point, WORKLOAD, "compile", WORKLOAD.gen_toks)
    measure_case(case, tiny_engine(), prompts, study, timed, found, lambda: None)
    return found


@pytest.fixture(autouse=True)
def _quick_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs are traced and guarded as ever, then run as they are: inductor would take a minute."""
    quick = functools.partial(compiling.compiled_forwards, backend="eager")
    monkeypatch.setattr(compiling, "compiled_forwards", quick)


def test_a_case_that_compiles_while_it_is_timed_fails(tiny_engine: Callable[..., Engine]) -> None:
    with pytest.raises(CaseFailed, match=r"compiling took .* of the timed generations.*raise --warmup above 0"):
        measured(tiny_engine, DecodingPoint(cache="static"), warmup=0)
    assert len(measured(tiny_engine, DecodingPoint(cache="static"), warmup=1).samples) == 3


def test_drafts_of_all_lengths_are_compiled_before(tiny_engine: Callable[..., Engine]) -> None:
    found = measured(tiny_engine, ASSISTED, warmup=0)
    assert found.facts["timed_compile_seconds"] == 0.0
    assert found.facts["compiled_calls"] > 0
    assert [sample.new_tokens for sample in found.samples] == [6, 6, 6]


class Waiting(TurnTaker):
    """Sleeps instead of waiting for others, and tells the seconds it is to tell."""

    def __init__(self, seconds: float, told: float) -> None:
        super().__init__("nobody")
        self.seconds, self.told, self.turns = seconds, told, 0

    def wait(self) -> float:
        self.turns += 1
        time.sleep(self.seconds)
        return self.told


def test_others_have_a_turn_before_each_timed_generation_and_their_time_does_not_count(
    tiny_engine: Callable[..., Engine],
) -> None:
    study = Study("unit", "", (find_pair("synthetic-tiny"),), (), WORKLOAD, warmup=1, case_timeout=2.0)
    prompts = load_prompts(WORKLOAD, list, vocab_size=512)
    case = Case(EngineKey("synthetic-tiny", dtype="fp32"), DecodingPoint(), WORKLOAD, "baseline", WORKLOAD.gen_toks)

    def measure(turns: TurnTaker | None) -> Measured:
        found = Measured()
        measure_case(case, tiny_engine(), prompts, study, timed, found, lambda: None, turns)
        return found

    turns = Waiting(0.01, told=1.5)
    found = measure(turns)
    assert turns.turns == len(found.samples) == 3
    assert found.waited_seconds == 4.5
    assert found.telemetry == {}, "it would tell of the others too"
    assert measure(None).telemetry, "what a case that takes no turns has"
    with pytest.raises(TimeoutError, match="over its time limit of 2 s"):
        measure(Waiting(1.1, told=0.0))
