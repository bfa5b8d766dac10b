"""One case measured on a tiny pair: what is compiled while it is timed spoils it; others have their turns between."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from fixtures.engines.transformers.models import compiling
from fixtures.engines.transformers.models.engine import Engine
from fixtures.measuring.case import CaseFailed, CaseUnderWay, Measured
from fixtures.measuring.turns import TurnTaker
from fixtures.study.study import Case, DecodingPoint, EngineKey, Workload
from fixtures.study.workload import load_prompts
from tests.unit.small_runs import measured_alone, small_study

WORKLOAD = Workload("synthetic", num_samples=3, max_prompt=6, gen_toks=6)
PROMPTS = load_prompts(WORKLOAD, list, vocab_size=512)
KEY = EngineKey("synthetic-tiny", dtype="fp32", compile=True)
PLAIN = Case(EngineKey("synthetic-tiny", dtype="fp32"), DecodingPoint(), WORKLOAD, "baseline", WORKLOAD.gen_toks)
ASSISTED = DecodingPoint("assisted", assist_toks=3, confidence_threshold=0.0, assist_schedule="constant")

pytestmark = pytest.mark.usefixtures("one_thread")
Load = Callable[..., Engine]


def compiled(tiny_engine: Load, point: DecodingPoint, warmup: int) -> Measured:
    measured = Measured()
    case = Case(KEY, point, WORKLOAD, "compile", WORKLOAD.gen_toks)
    study = small_study(workload=WORKLOAD, warmup=warmup)
    yielded = list(measured_alone(case, tiny_engine(), PROMPTS, study, measured))
    assert yielded == measured.samples
    return measured


@pytest.fixture(autouse=True)
def _quick_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs are traced and guarded as ever, then run as they are: inductor would take a minute."""
    monkeypatch.setattr(compiling, "CompiledForwards", functools.partial(compiling.CompiledForwards, backend="eager"))


def test_a_case_that_compiles_while_it_is_timed_fails(tiny_engine: Load) -> None:
    with pytest.raises(CaseFailed, match=r"compiling took .* of the timed generations.*raise --warmup above 0"):
        compiled(tiny_engine, DecodingPoint(cache="static"), warmup=0)
    assert len(compiled(tiny_engine, DecodingPoint(cache="static"), warmup=1).samples) == 3


def test_drafts_of_all_lengths_are_compiled_before(tiny_engine: Load) -> None:
    measured = compiled(tiny_engine, ASSISTED, warmup=0)
    assert measured.facts["timed_compile_seconds"] == 0.0
    assert measured.facts["compiled_calls"] > 0
    assert [sample.new_tokens for sample in measured.samples] == [6, 6, 6]
    assert [sample.prompt for sample in measured.warm_ups] == [0, 1, 2], "every prompt once"


class Waiting(TurnTaker):
    """Waits for nobody, and tells the seconds it is to tell."""

    def __init__(self, waited: float) -> None:
        super().__init__("nobody")
        self.waited, self.turns = waited, 0

    def wait(self) -> float:
        self.turns += 1
        return self.waited


def test_others_have_a_turn_before_each_timed_generation_and_their_time_does_not_count(tiny_engine: Load) -> None:
    turns, measured = Waiting(1.5), Measured()
    under_way = CaseUnderWay(PLAIN, tiny_engine(), PROMPTS, small_study(warmup=1), measured, turns=turns)
    assert len(list(under_way.warm_up())) == 1
    assert turns.turns == 0, "warming up needs none"
    for number in range(3):
        under_way.decode(number)
    assert turns.turns == len(measured.samples) == 3
    assert measured.waited_seconds == 4.5
    assert measured.timed_seconds == sum(sample.seconds for sample in measured.samples) < 4.5
    under_way.close()


def test_warm_ups_are_samples_of_their_own_kind(tiny_engine: Load) -> None:
    measured = Measured()
    under_way = CaseUnderWay(PLAIN, tiny_engine(), PROMPTS, small_study(warmup=4), measured)
    assert list(under_way.warm_up()) == measured.warm_ups
    assert [sample.prompt for sample in measured.warm_ups] == [0, 1, 2, 0]
    assert measured.samples == [] and measured.timed_seconds == 0.0
    assert measured.facts["warm_up_seconds"] == measured.warm_up_seconds > 0
    first = under_way.decode(0)
    assert first.output_sha256 == measured.warm_ups[0].output_sha256


def test_who_watches_is_told_of_every_timed_generation_and_of_no_other(tiny_engine: Load) -> None:
    told: list[str] = []

    class Watching:
        def begin(self, case_id: str) -> None:
            told.append(f"begin {case_id}")

        def end(self) -> None:
            told.append("end")

    under_way = CaseUnderWay(PLAIN, tiny_engine(), PROMPTS, small_study(warmup=1), Measured())
    list(under_way.warm_up())
    assert told == []
    for number in range(2):
        under_way.decode(number, Watching())
    assert told == [f"begin {PLAIN.id}", "end"] * 2


def test_a_watch_ends_where_a_generation_fails(tiny_engine: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    class Watching:
        def begin(self, case_id: str) -> None:
            told.append("begin")

        def end(self) -> None:
            told.append("end")

    under_way = CaseUnderWay(PLAIN, tiny_engine(), PROMPTS, small_study(), Measured())

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no")

    monkeypatch.setattr(under_way._decoder, "_generate", fail)
    with pytest.raises(RuntimeError, match="no"):
        under_way.decode(0, Watching())
    assert told == ["begin", "end"]


def test_where_a_sample_stands_among_the_others_is_told_with_it(tiny_engine: Load) -> None:
    measured = Measured()
    under_way = CaseUnderWay(PLAIN, tiny_engine(), PROMPTS, small_study(), measured)
    under_way.decode(2, round=2, turn=5, visit=1)
    under_way.decode(2, round=2, turn=9, visit=1, repeat=True)
    (sample,), (repeat,) = measured.samples, measured.repeats
    assert [(each.prompt, each.round, each.turn, each.visit) for each in (sample, repeat)] == [
        (2, 2, 5, 1),
        (2, 2, 9, 1),
    ]
    assert sample.started is not None and repeat.started is not None and sample.started < repeat.started
    assert repeat.output_sha256 == sample.output_sha256
    assert measured.timed_seconds == sample.seconds + repeat.seconds
