"""Compiling is counted where it happens, and compiling that did nothing is told."""

from __future__ import annotations

import importlib.util
import shutil
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures.engines.transformers.models import synthetic
from fixtures.engines.transformers.models.compiling import (
    CompileWatch,
    compiled_forwards,
    needs_dynamic_shapes,
    unsupported,
)
from fixtures.engines.transformers.models.shapes import SHAPES
from tests.unit.synthetic_pairs import SyntheticPair, build_pair

NEW = 6
PROMPTS = synthetic.prompts(512, 3, 12, seed=0)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pair() -> SyntheticPair:
    built = build_pair(SHAPES["tiny"], SHAPES["tiny-draft"], 0.5)
    built.draft.generation_config.assistant_confidence_threshold = 0.0
    built.draft.generation_config.num_assistant_tokens = 3
    built.draft.generation_config.num_assistant_tokens_schedule = "constant"
    return built


def decode(pair: SyntheticPair, prompt: list[int], **arguments: Any) -> int:
    """Decode and check the output; returns the forwards of target and draft."""
    forwards = 0

    def count(*_: Any) -> None:
        nonlocal forwards
        forwards += 1

    hooks = [model.register_forward_pre_hook(count) for model in (pair.target, pair.draft)]
    inputs = torch.tensor([prompt])
    generate: Any = pair.target.generate
    arguments = {"disable_compile": True, **arguments}
    with torch.inference_mode():
        output = generate(
            inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=NEW, do_sample=False, **arguments
        )
    for hook in hooks:
        hook.remove()
    assert output[0, len(prompt) :].tolist() == synthetic.continuation(pair.next_target, prompt[-1], NEW)
    return forwards


def test_plain_decoding_with_a_static_cache_compiles_in_the_warm_up_only(pair: SyntheticPair) -> None:
    with compiled_forwards(pair.target, None, dynamic=False, backend="eager") as watch:
        decode(pair, PROMPTS[0], cache_implementation="static")
        watch.timing_begins()
        forwards = sum(decode(pair, prompt, cache_implementation="static") for prompt in PROMPTS[1:])
        facts = watch.facts()
        assert watch.notes(forwards) == []
    assert facts["recompiles"] == 0 and facts["timed_compile_seconds"] == 0.0
    assert facts["compiled_graphs"] >= 2, "a prefill and a step"
    assert facts["compile_seconds"] > 0
    assert facts["compiled_calls"] >= forwards == 2 * NEW


def test_assisted_decoding_enters_compiled_code_of_both_models(pair: SyntheticPair) -> None:
    with compiled_forwards(pair.target, pair.draft, dynamic=True, backend="eager") as watch:
        for prompt in PROMPTS[:2]:
            decode(pair, prompt, assistant_model=pair.draft)
        watch.timing_begins()
        forwards = decode(pair, PROMPTS[2], assistant_model=pair.draft)
        assert watch.facts()["compiled_calls"] >= forwards
        assert watch.notes(forwards) == []


def test_compiling_within_the_timed_part_is_told(pair: SyntheticPair) -> None:
    with compiled_forwards(pair.target, None, dynamic=False, backend="eager") as watch:
        watch.timing_begins()  # no warm-up
        forwards = decode(pair, PROMPTS[0], cache_implementation="static")
        facts = watch.facts()
        assert facts["recompiles"] == facts["compiled_graphs"] > 0
        assert facts["timed_compile_seconds"] == facts["compile_seconds"] > 0
        assert "compiled within the timed generations" in watch.notes(forwards)[0]


def test_compile_that_did_nothing_is_told(pair: SyntheticPair) -> None:
    with (
        torch.compiler.set_stance("force_eager"),
        compiled_forwards(pair.target, None, dynamic=False, backend="eager") as watch,
    ):
        forwards = decode(pair, PROMPTS[0])
        assert watch.notes(forwards) == ["compile did nothing: no graph was compiled"]


def test_compiled_code_that_is_left_aside_later_is_told() -> None:
    """Past its limit of recompiles dynamo runs a forward uncompiled, and says so only in its log."""
    module: Any = torch.nn.Linear(4, 4)
    with (
        compiled_forwards(module, None, dynamic=False, backend="eager") as watch,
        torch._dynamo.config.patch(recompile_limit=1),
    ):
        module(torch.ones(2, 4))
        watch.timing_begins()
        for rows in (2, 3, 2):
            module(torch.ones(rows, 4))
        assert watch.facts()["compiled_calls"] == 2
        assert watch.notes(3) == ["compiled code was entered 2 times in 3 forwards: the rest ran uncompiled"]


def test_graph_breaks_are_counted() -> None:
    class Breaking(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x + 1
            torch._dynamo.graph_break()
            return x * 2

    module: Any = Breaking()
    with compiled_forwards(module, None, dynamic=False, backend="eager") as watch:
        module(torch.ones(3))
        facts = watch.facts()
    assert (facts["graph_breaks"], facts["compiled_graphs"]) == (1, 2)


def test_the_models_are_as_before_afterwards(pair: SyntheticPair) -> None:
    compiling = compiled_forwards(pair.target, pair.draft, dynamic=True, backend="eager")
    with pytest.raises(RuntimeError, match="midway"), compiling:
        raise RuntimeError("midway")
    assert "forward" not in pair.target.__dict__ and "forward" not in pair.draft.__dict__


def test_which_cases_need_dynamic_shapes() -> None:
    assert not needs_dynamic_shapes("static", speculative=False)
    assert needs_dynamic_shapes("dynamic", speculative=False)
    assert needs_dynamic_shapes("dynamic", speculative=True)


def test_reduce_overhead_compiles_steps_and_leaves_prefills_as_they_are(
    pair: SyntheticPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    replayed: list[Any] = []
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", replayed.append)
    with compiled_forwards(pair.target, None, dynamic=False, mode="reduce-overhead", backend="eager") as watch:
        decode(pair, PROMPTS[0], cache_implementation="static")
        watch.timing_begins()
        forwards = sum(decode(pair, prompt, cache_implementation="static") for prompt in (PROMPTS[1], PROMPTS[2][:7]))
        torch.cuda.CUDAGraph.replay("a graph")  # type: ignore[arg-type]
        facts = watch.facts()
        assert watch.notes(forwards, generations=2) == []
        watch.on_gpu, watch._replays = True, 0
        assert watch.notes(forwards, 2) == ["no CUDA graph was replayed: every kernel was launched by the host"]
    assert facts["compiled_graphs"] == 1, "a step; prompts of any length are not compiled"
    assert facts["recompiles"] == 0
    assert facts["compiled_calls"] == forwards - 2 == 2 * (NEW - 1)
    assert (facts["graph_replays"], replayed) == (1, ["a graph"])
    torch.cuda.CUDAGraph.replay("another")  # type: ignore[arg-type]
    assert watch.facts()["graph_replays"] == 0, "counted no longer"


def test_reduce_overhead_is_inductors_own_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def wrapper(mode: str, options: Any, dynamic: bool) -> Any:
        made.append((mode, options, dynamic))
        return lambda module, inputs: module.forward

    monkeypatch.setattr(torch, "_TorchCompileInductorWrapper", wrapper)
    module: Any = torch.nn.Linear(4, 4)
    CompileWatch("reduce-overhead").backend("inductor", dynamic=False)(module, [])
    assert made == [("reduce-overhead", None, False)]


def test_stock_is_what_generate_compiles_by_itself(pair: SyntheticPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where transformers finds it worth compiling; with a cheap backend in its own configuration."""
    from transformers import CompileConfig

    target: Any = pair.target
    monkeypatch.setattr(target, "_valid_auto_compile_criteria", lambda inputs, config: not config.disable_compile)
    monkeypatch.setattr(
        type(target), "_default_compile_config", classmethod(lambda cls: CompileConfig(backend="eager", mode=None))
    )
    with compiled_forwards(target, None, dynamic=False, mode="stock") as watch:
        decode(pair, PROMPTS[0], cache_implementation="static", disable_compile=False)
        watch.timing_begins()
        forwards = sum(
            decode(pair, prompt, cache_implementation="static", disable_compile=False) for prompt in PROMPTS[1:]
        )
        facts = watch.facts()
        assert watch.notes(forwards, generations=2) == []
    assert forwards == 2 * NEW, "the hooks that count forwards see compiled ones too"
    assert facts["compiled_calls"] == forwards - 2
    assert facts["compiled_graphs"] >= 1 and facts["recompiles"] == 0
    assert facts["graph_breaks"] == 0, "no hook was compiled in"
    assert not {"get_compiled_call", "_compiled_call"} & set(target.__dict__)
    with compiled_forwards(target, None, dynamic=False, mode="stock") as watch:
        forwards = decode(pair, PROMPTS[0], cache_implementation="static")
        assert watch.notes(forwards, 1) == ["compile did nothing: no graph was compiled"]


@pytest.mark.parametrize("missing", ["triton", "gcc", "Python.h"])
def test_what_a_gpu_needs_for_compiling_is_named(missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CC", raising=False)
    (tmp_path / "Python.h").touch()
    there = {"triton", "gcc", "Python.h"} - {missing}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in there else None)
    monkeypatch.setattr(shutil, "which", lambda name: name if name in there else None)
    headers = tmp_path if "Python.h" in there else tmp_path / "nothing"
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(headers))
    refusal = unsupported("cuda") or ""
    assert missing in refusal and ("install" in refusal)
    there.add(missing)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    assert unsupported("cuda", "reduce-overhead") is None


@pytest.mark.parametrize("mode", ["reduce-overhead", "stock"])
def test_modes_of_gpus_are_not_measured_on_a_processor(mode: str) -> None:
    assert "use --compile-mode default" in (unsupported("cpu", mode) or "")


def test_without_a_compiler_the_reason_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "no-such-compiler" in (unsupported("cpu") or "")
    assert CompileWatch().facts()["compiled_graphs"] == 0
