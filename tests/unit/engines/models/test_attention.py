"""The implementation of attention: the one asked for runs, is refused where it cannot, and is part of a case."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.models.llama import modeling_llama

from fixtures.engines.transformers.models.attention import (
    AttentionNotApplied,
    apply_attention,
    attention_of,
    unsupported,
)
from fixtures.engines.transformers.models.engine import Engine
from fixtures.engines.transformers.models.resident import Residents
from fixtures.study.options import build_study
from fixtures.study.pairs import find_pair
from fixtures.study.rules import why_impossible
from fixtures.study.study import (
    Case,
    DecodingPoint,
    EngineKey,
    StudyError,
    Workload,
    baseline_of,
    same_engine_baseline_of,
)

EAGER = EngineKey("synthetic-tiny", dtype="fp32", attention="eager")


def eager_calls(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often a forward of both models enters the eager implementation."""
    calls = 0
    stock = modeling_llama.eager_attention_forward

    def counted(*arguments: Any, **settings: Any) -> Any:
        nonlocal calls
        calls += 1
        return stock(*arguments, **settings)

    with monkeypatch.context() as patched, torch.inference_mode():
        patched.setattr(modeling_llama, "eager_attention_forward", counted)
        for model in (engine.target, engine.draft):
            assert model is not None
            model(input_ids=torch.tensor([[1, 2, 3]]))
    return calls


def test_engines_that_share_their_models_run_each_its_own_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    residents, pair = Residents(torch.device("cpu")), find_pair("synthetic-tiny")
    layers = 3  # of the tiny target and its draft
    for attention, calls in (("sdpa", 0), ("eager", layers), ("sdpa", 0)):
        engine = residents.engine(EngineKey("synthetic-tiny", dtype="fp32", attention=attention), pair)
        assert attention_of(engine.target) == attention
        assert eager_calls(engine, monkeypatch) == calls
    assert [load.role for load in residents.loads] == ["target", "draft"], "nothing was loaded again"


def test_a_model_that_keeps_another_attention_is_refused() -> None:
    """transformers only warns where a model cannot change it, and may take a kernel from the hub instead."""
    config = SimpleNamespace(_attn_implementation="sdpa")
    model = SimpleNamespace(config=config, set_attn_implementation=lambda wanted: None)
    with pytest.raises(AttentionNotApplied, match="asked for attention eager, but SimpleNamespace runs sdpa"):
        apply_attention(model, "eager", "sdpa")


def test_the_default_is_what_transformers_chose() -> None:
    model = SimpleNamespace(config=SimpleNamespace(_attn_implementation="eager"))
    apply_attention(model, "sdpa", "eager")  # a model without sdpa


@pytest.mark.parametrize("attention", ["flash_attention_2", "flash_attention_3"])
def test_flash_attention_needs_a_gpu_and_its_package(attention: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "use --attention sdpa" in (unsupported(attention, "cpu") or "")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install flash-attn" in (unsupported(attention, "cuda") or "")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert unsupported(attention, "cuda") is None
    assert unsupported("eager", "cpu") is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"attention": "flash_attention_2"}, "--attention flash_attention_2: .* runs on cpu; use --attention sdpa"),
        ({"attention": "flash"}, "--attention 'flash': choose from sdpa, eager, flash_attention_2"),
        ({"compile_mode": "reduce-overhead"}, "--compile-mode reduce-overhead: study smoke .* add --compile"),
        ({"compile_mode": "max"}, "--compile-mode 'max': choose from default, reduce-overhead, stock"),
        ({"compile": "true", "compile_mode": "stock"}, "compile_mode stock needs a static cache.* use --cache static"),
    ],
    ids=lambda item: str(item)[:40],
)
def test_what_cannot_run_is_refused_before_anything_loads(options: dict[str, str], said: str) -> None:
    with pytest.raises(StudyError, match=said):
        build_study({"study": "smoke", "device": "cpu", "dtype": "bf16", **options})


def test_flash_attention_in_fp32_is_refused_wherever_it_is() -> None:
    key = EngineKey("embedded", dtype="fp32", attention="flash_attention_3")
    assert "use --dtype bf16 or fp16" in (why_impossible(key, DecodingPoint(), find_pair("embedded")) or "")


def test_attention_and_compile_mode_are_in_the_id_where_they_are_not_the_default() -> None:
    key = EngineKey("p", draft_quant=None, attention="eager", compile=True, compile_mode="stock")
    assert key.id == "p/t=none,bf16,attention=eager,compile=stock"
    assert EngineKey("p", draft_quant=None, compile=True).id == "p/t=none,bf16,compile"
    case = Case(key, DecodingPoint(cache="static"), Workload(), "compile", 128)
    assert baseline_of(case).engine == EngineKey("p", draft_quant=None)
    assert same_engine_baseline_of(case).engine == key


def test_without_compiling_the_mode_does_not_multiply() -> None:
    study = build_study(
        {"study": "smoke", "device": "cpu", "dtype": "bf16", "compile": "false,true", "compile_mode": "default,stock",
         "strategy": "plain", "cache": "dynamic,static"}
    )  # fmt: skip
    engines = {(case.engine.compile, case.engine.compile_mode) for case in study.cases()}
    assert engines == {(False, "default"), (True, "default"), (True, "stock")}
