"""One case measured on a tiny pair: what is compiled while it is timed spoils it, and warming up prevents that."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from fixtures.measuring import CaseFailed, Measured, measure_case
from fixtures.models import compiling
from fixtures.models.engine import Engine
from fixtures.models.pairs import find_pair
from fixtures.study import Case, DecodingPoint, EngineKey, Study, Workload
from fixtures.workload import load_prompts

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
