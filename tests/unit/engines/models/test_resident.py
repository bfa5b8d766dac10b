"""Models in memory: one load of a target serves all its drafts, and what no engine of the block needs is gone."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures.engines.transformers.models import resident
from fixtures.engines.transformers.models.frames import without_frames
from fixtures.engines.transformers.models.resident import Load, Residents
from fixtures.study.pairs import Pair, find_pair
from fixtures.study.study import EngineKey

CPU = torch.device("cpu")
PAIR = find_pair("synthetic-tiny")
TARGET, SAME, WRONG = (f"synthetic: {name}" for name in ("tiny", "tiny-draft, right on 0.8", "tiny-draft, right on 0"))


def key(target: str = "none", draft: str | None = None, pair: str = PAIR.name, dtype: str = "fp32") -> EngineKey:
    return EngineKey(pair, target, draft, dtype)


def test_a_target_is_loaded_once_for_all_its_drafts_and_for_all_its_pairs() -> None:
    residents = Residents(CPU)
    targets, drafts = set(), []
    for wanted in (
        key(),
        key(draft="none"),
        key(),
        key(draft="none"),
        key(draft="4bit"),
        key(draft="none", pair="synthetic-tiny-wrong"),
        key(pair="synthetic-tiny-wrong"),
    ):
        engine = residents.engine(wanted, find_pair(wanted.pair))
        assert engine.key == wanted
        targets.add(id(engine.target))
        drafts.append(engine.draft is not None)
    assert len(targets) == 1
    assert drafts == [False, True, False, True, True, True, False], "a draft that stays in memory is no part of others"
    assert residents.loads == [
        Load("target", TARGET, "none", "fp32"),
        Load("draft", SAME, "none", "fp32"),
        Load("draft", SAME, "4bit", "fp32"),
        Load("draft", WRONG, "none", "fp32"),
    ]


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many models were alive at each load."""
    alive: list[weakref.ref[Any]] = []
    counts: list[int] = []

    def counted(load: Any) -> Any:
        def counting(*arguments: Any, **settings: Any) -> Any:
            counts.append(sum(reference() is not None for reference in alive))
            loaded = load(*arguments, **settings)
            alive.append(weakref.ref(loaded.model))
            return loaded

        return counting

    for name in ("load_target", "load_draft"):
        monkeypatch.setattr(resident, name, counted(getattr(resident, name)))
    return counts


def test_what_is_not_needed_any_more_is_gone_before_the_next_is_loaded(beside: list[int]) -> None:
    residents = Residents(CPU)
    for wanted in (key(draft="none"), key(draft="4bit"), key("4bit", "none"), key(dtype="bf16")):
        residents.engine(wanted, PAIR)
    assert beside == [0, 1, 1, 0, 1, 0], "a draft beside its target, a target beside nothing"
    model = weakref.ref(residents.engine(key(dtype="bf16"), PAIR).target)
    assert model() is not None
    residents.drop()
    assert model() is None


def test_engines_that_are_kept_together_are_all_in_memory_and_loaded_once(beside: list[int]) -> None:
    residents = Residents(CPU)
    together = [key(), key(draft="none"), key(draft="4bit"), key("4bit", "none")]
    residents.keep([(wanted, PAIR) for wanted in together])
    for _ in range(2):
        engines = [residents.engine(wanted, PAIR) for wanted in together]
    assert [(load.role, load.quantization) for load in residents.loads] == [
        ("target", "none"),
        ("draft", "none"),
        ("draft", "4bit"),
        ("target", "4bit"),
    ]
    assert beside == [0, 1, 2, 3]
    assert len({id(engine.target) for engine in engines}) == 2
    assert engines[0].target is engines[1].target is engines[2].target
    targets = [weakref.ref(engines[0].target), weakref.ref(engines[3].target)]
    del engines
    residents.keep([(key("4bit", "none"), PAIR)])
    assert [reference() is None for reference in targets] == [True, False], "the next block keeps what it shares"
    residents.engine(key("4bit", "none"), PAIR)
    assert len(residents.loads) == 4


def test_a_target_whose_draft_does_not_fit_beside_it_still_decodes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[str] = []

    def too_large(wanted: EngineKey, *_: Any, **__: Any) -> Any:
        attempts.append(str(wanted.draft_quant))
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(resident, "load_draft", too_large)
    residents = Residents(CPU)
    target = weakref.ref(residents.engine(key(), PAIR).target)
    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError) as refusal:
            residents.engine(key(draft="none"), PAIR)
        without_frames(refusal.value)
        del refusal
        assert residents.engine(key(), PAIR).target is target()
    assert attempts == ["none"], "what could not be loaded is not tried again beside the same target"
    assert [load.role for load in residents.loads] == ["target", "draft"]


def test_a_target_that_cannot_be_loaded_is_tried_once_for_all_its_drafts(tmp_path: Path) -> None:
    from fixtures.engines.transformers.models import hub

    pair = Pair.from_hub(str(tmp_path / "nothing"))
    residents = Residents(CPU)
    for _ in range(3):
        with pytest.raises(hub.ModelUnavailable):
            residents.engine(EngineKey(pair.name, draft_quant=None), pair)
    assert len(residents.loads) == 1
