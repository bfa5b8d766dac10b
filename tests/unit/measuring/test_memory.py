"""A case's peak memory is its own: without models that are there for others, without what earlier cases left.

There is no GPU here: the counters of torch.cuda are those of an allocator that is written down below.
"""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig

from fixtures.engines.transformers.models import resident
from fixtures.engines.transformers.models.engine import Loaded
from fixtures.engines.transformers.models.resident import Residents
from fixtures.engines.transformers.models.synthetic import tokenizer
from fixtures.measuring import memory
from fixtures.measuring.case import Measured
from fixtures.measuring.memory import Held, MemoryWatch
from fixtures.study.pairs import find_pair
from fixtures.study.study import Case, DecodingPoint, EngineKey, Study, Workload
from fixtures.study.workload import Prompts
from tests.unit.small_runs import measured_alone

CARD = torch.device("cuda:0")
GIB, CONTEXT = 2**30, 300 * 2**20
PAIR = find_pair("synthetic-tiny")
SIZES = {("target", "none"): 8 * GIB, ("target", "4bit"): 3 * GIB, ("draft", "none"): 2 * GIB, ("draft", "4bit"): GIB}
SEGMENT = GIB // 2  # the allocator takes whole segments of the device


@dataclass
class Allocator:
    """Of one card of 24 GiB: what is handed out, what is reserved for it, and the peaks since they were reset."""

    allocated: int = 0
    reserved: int = 0
    peaks: list[int] = field(default_factory=lambda: [0, 0])

    def take(self, size: int) -> None:
        self.allocated += size
        self.reserved = max(self.reserved, self.rounded(self.allocated))
        self.peaks = [max(self.peaks[0], self.allocated), max(self.peaks[1], self.reserved)]

    def give(self, size: int) -> None:
        self.allocated -= size

    def empty_cache(self) -> None:
        self.reserved = self.rounded(self.allocated)

    def reset_peak_memory_stats(self, _: Any = None) -> None:
        self.peaks = [self.allocated, self.reserved]

    @staticmethod
    def rounded(size: int) -> int:
        return -(-size // SEGMENT) * SEGMENT


class Model(torch.nn.Module):
    """Takes memory until nobody holds it."""

    def __init__(self, size: int, card: Allocator) -> None:
        super().__init__()
        self.config = LlamaConfig(attn_implementation="sdpa")
        card.take(size)
        weakref.finalize(self, card.give, size)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Allocator:
    made = Allocator()
    monkeypatch.setattr(gc, "collect", lambda *_: 0)  # nothing here is held by a cycle, and there is much to walk
    answers = {
        "is_available": lambda: True,
        "synchronize": lambda _=None: None,
        "empty_cache": made.empty_cache,
        "memory_allocated": lambda _=None: made.allocated,
        "memory_reserved": lambda _=None: made.reserved,
        "max_memory_allocated": lambda _=None: made.peaks[0],
        "max_memory_reserved": lambda _=None: made.peaks[1],
        "reset_peak_memory_stats": made.reset_peak_memory_stats,
        "mem_get_info": lambda _=None: (24 * GIB - made.reserved - CONTEXT, 24 * GIB),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)

    def loading(role: str) -> Any:
        def load(key: EngineKey, *_: Any, **__: Any) -> Loaded:
            size = SIZES[role, str(key.target_quant if role == "target" else key.draft_quant)]
            made.take(3 * GIB), made.give(3 * GIB)  # what loading needs and gives back
            return Loaded(Model(size, made), tokenizer(8), "", 1.0, size, "sdpa")  # type: ignore[arg-type]

        return load

    for role in ("target", "draft"):
        monkeypatch.setattr(resident, f"load_{role}", loading(role))
    return made


def facts(residents: Residents, card: Allocator, target: str, draft: str | None, *, work: int = GIB) -> dict[str, Any]:
    """The memory of a case that takes `work` bytes for its cache while it decodes, once warming up and once timed."""
    engine = residents.engine(EngineKey(PAIR.name, target, draft), PAIR)
    watch = MemoryWatch(CARD, held=engine.held)
    with watch.alone():
        decode(card, work)
    generation(watch, card, work)
    return told(watch)


def decode(card: Allocator, work: int) -> None:
    card.take(work)
    card.give(work)


def generation(watch: MemoryWatch, card: Allocator, work: int) -> None:
    watch.begin()
    decode(card, work)
    watch.end()


def told(watch: MemoryWatch) -> dict[str, Any]:
    return {name: value for name, value in watch.facts().items() if name != "host_rss_bytes"}


def test_a_case_without_a_draft_is_not_charged_with_the_draft_that_is_there_for_others(card: Allocator) -> None:
    residents = Residents(CARD)
    residents.keep([(EngineKey(PAIR.name, "none", draft), PAIR) for draft in (None, "none", "4bit")])
    alone = facts(residents, card, "none", None)
    assert alone == {
        "memory_allocated_bytes": 9 * GIB,
        "memory_reserved_bytes": 9 * GIB,
        "memory_device_bytes": 9 * GIB + CONTEXT,
    }
    drafted = facts(residents, card, "none", "none")
    assert drafted["memory_allocated_bytes"] == 11 * GIB
    assert "idle_bytes" not in drafted, "the draft is its own"
    assert facts(residents, card, "none", None) == alone | {"idle_bytes": 2 * GIB}
    assert facts(residents, card, "none", "4bit")["memory_allocated_bytes"] == 10 * GIB
    assert facts(residents, card, "none", None) == alone | {"idle_bytes": 3 * GIB}, "both drafts, the same case"


def test_what_models_hold_is_measured_and_not_what_loading_took(card: Allocator) -> None:
    residents = Residents(CARD)
    residents.engine(EngineKey(PAIR.name, "4bit", "4bit"), PAIR)
    assert {place.load.role: loaded.held for place, loaded in residents._kept.items()} == {
        "target": Held(3 * GIB, 3 * GIB),
        "draft": Held(GIB, GIB),
    }


def test_peaks_do_not_depend_on_the_order_of_cases(card: Allocator) -> None:
    residents = Residents(CARD)
    small = facts(residents, card, "4bit", None, work=GIB)
    large = facts(residents, card, "4bit", None, work=12 * GIB)
    assert large["memory_reserved_bytes"] == 15 * GIB
    assert facts(residents, card, "4bit", None, work=GIB) == small, "what the large case left is given back"


def test_a_peak_is_of_the_case_whose_turn_it_was(card: Allocator) -> None:
    """Cases that take turns, one of which keeps a static cache between its generations: to others it is idle."""
    engine = Residents(CARD).engine(EngineKey(PAIR.name, "4bit", None), PAIR)
    small, large = (MemoryWatch(CARD, held=engine.held) for _ in range(2))
    with small.alone():
        decode(card, GIB)
    with large.alone():
        card.take(2 * GIB)  # and keeps it
        decode(card, 6 * GIB)
    for _ in range(2):
        generation(small, card, GIB)
        generation(large, card, 6 * GIB)
    assert told(small) == {
        "memory_allocated_bytes": 4 * GIB,
        "memory_reserved_bytes": 4 * GIB,
        "memory_device_bytes": 4 * GIB + CONTEXT,
        "idle_bytes": 2 * GIB,
    }
    assert told(large) == {
        "memory_allocated_bytes": 11 * GIB,
        "memory_reserved_bytes": 11 * GIB,
        "memory_device_bytes": 11 * GIB + CONTEXT,
    }
    assert card.allocated == 5 * GIB


def test_of_a_device_that_others_use_what_it_holds_in_all_is_nobodys(card: Allocator) -> None:
    engine = Residents(CARD).engine(EngineKey(PAIR.name, "4bit", None), PAIR)
    watch = MemoryWatch(CARD, held=engine.held, shared=True)
    with watch.alone():
        decode(card, GIB)
    assert told(watch) == {"memory_allocated_bytes": 4 * GIB, "memory_reserved_bytes": 4 * GIB}


def test_every_case_is_measured_beside_what_its_own_models_hold(
    monkeypatch: pytest.MonkeyPatch, tiny_engine: Any
) -> None:
    seen: list[Held] = []

    class Seen(MemoryWatch):
        def __init__(self, device: torch.device, *, held: Held = memory.NOTHING, shared: bool = False) -> None:
            seen.append(held)
            super().__init__(device, held=held, shared=shared)

    monkeypatch.setattr(memory, "MemoryWatch", Seen)
    workload = Workload("synthetic", num_samples=1, max_prompt=2, gen_toks=2)
    engine = replace(tiny_engine(), held=Held(5, 7))
    case = Case(engine.key, DecodingPoint(), workload, "baseline", 2)
    measured = Measured()
    study = Study("unit", "", (PAIR,), (), workload, warmup=0)
    list(measured_alone(case, engine, Prompts("synthetic", ((1, 2),)), study, measured))
    assert seen == [Held(5, 7)]
    assert "memory_allocated_bytes" not in measured.facts, "a processor has no such peak"
