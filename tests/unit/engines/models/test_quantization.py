"""Quantization: what is asked for is what the linear layers are, for either role and from either kind of source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from fixtures.engines.transformers.models import synthetic
from fixtures.engines.transformers.models.engine import TORCH_DTYPES, load_engine, synthetic_maps
from fixtures.engines.transformers.models.quantization import (
    QuantizationNotApplied,
    check_quantization,
    matrices_of,
    quantization_config,
    quantization_of,
    quantize_in_place,
    weight_bytes,
)
from fixtures.engines.transformers.models.shapes import SHAPES
from fixtures.study.pairs import Pair, find_pair
from fixtures.study.study import EngineKey
from tests.unit.synthetic_pairs import build_pair, parameter_count, save

KINDS = {"none": nn.Linear, "8bit": bnb.nn.Linear8bitLt, "4bit": bnb.nn.Linear4bit}
TINY = SHAPES["tiny"]


def linear_layers(model: Any) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.Linear) and module is not model.lm_head]


@pytest.fixture(scope="module")
def saved_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The tiny synthetic pair as two checkpoint folders, which load as models of the hub do."""
    folder = tmp_path_factory.mktemp("pair")
    pair = build_pair(TINY, SHAPES["tiny-draft"], 1.0, dtype=torch.bfloat16)
    save(pair.target, folder / "target")
    save(pair.draft, folder / "draft")
    return Pair.from_hub(str(folder / "target"), str(folder / "draft"))


@pytest.mark.parametrize("source", ["synthetic", "folder"])
@pytest.mark.parametrize(("target", "draft"), [("none", "4bit"), ("8bit", "none"), ("4bit", "8bit")])
def test_each_role_is_quantized_as_asked_and_still_decodes(
    saved_pair: Pair, source: str, target: str, draft: str
) -> None:
    pair = find_pair("synthetic-tiny-same") if source == "synthetic" else saved_pair
    engine = load_engine(EngineKey(pair.name, target, draft), pair, torch.device("cpu"))
    for model, quantization in ((engine.target, target), (engine.draft, draft)):
        assert {type(layer) for layer in linear_layers(model)} == {KINDS[quantization]}
        assert type(model.lm_head) is nn.Linear
        assert quantization_of(matrices_of(model)) == quantization
    truth, _ = synthetic_maps(find_pair("synthetic-tiny-same"), 0)
    prompt = torch.tensor([[3, 141, 59]])
    output = engine.target.generate(
        prompt, attention_mask=torch.ones_like(prompt), assistant_model=engine.draft, max_new_tokens=6
    )
    assert output[0, 3:].tolist() == synthetic.continuation(truth, 59, 6)


@pytest.mark.parametrize(("dtype", "double_quant"), [("bf16", True), ("fp16", False), ("fp32", True)])
def test_4bit_is_nf4_that_computes_in_the_dtype_asked_for_from_either_source(
    saved_pair: Pair, dtype: str, double_quant: bool
) -> None:
    for pair in (find_pair("synthetic-tiny"), saved_pair):
        key = EngineKey(pair.name, "4bit", None, dtype)
        engine = load_engine(key, pair, torch.device("cpu"), double_quant=double_quant)
        layer: Any = linear_layers(engine.target)[0]
        assert layer.compute_dtype == TORCH_DTYPES[dtype]
        assert layer.weight.quant_state.quant_type == "nf4"
        assert layer.weight.quant_state.nested == double_quant


def test_a_model_of_another_quantization_is_not_accepted() -> None:
    model = synthetic.build(TINY, synthetic.cycle(TINY.vocab, 0))
    with pytest.raises(QuantizationNotApplied, match="asked for 4bit, but the loaded model is none"):
        check_quantization(model, "4bit")
    quantize_in_place(model.model.layers[0], "8bit")
    assert quantization_of(matrices_of(model)) == "mixed (8bit, none)"
    with pytest.raises(QuantizationNotApplied, match="mixed"):
        check_quantization(model, "none")


@pytest.mark.parametrize(("quantization", "dtype"), [("8bit", torch.int8), ("4bit", torch.uint8)])
def test_weights_are_quantized_where_they_are(quantization: str, dtype: torch.dtype) -> None:
    """As on a GPU, moving does not quantize on the meta device: 8-bit parameters want to come from a CPU."""
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(TINY.config(), dtype=torch.bfloat16)
    quantize_in_place(model, quantization)
    weights: list[Any] = [layer.weight for layer in linear_layers(model)]
    assert {weight.dtype for weight in weights} == {dtype}
    assert all((weight.SCB if quantization == "8bit" else weight.quant_state) is not None for weight in weights)
    check_quantization(model, quantization, dtype=torch.bfloat16, double_quant=True)


@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_layers_of_the_right_class_that_hold_16_bits_are_not_accepted(quantization: str) -> None:
    model: Any = synthetic.build(TINY, synthetic.cycle(TINY.vocab, 0), dtype=torch.bfloat16)
    quantize_in_place(model, quantization)
    layer = model.model.layers[1].self_attn.q_proj
    parameter = bnb.nn.Int8Params if quantization == "8bit" else bnb.nn.Params4bit
    layer.weight = parameter(torch.ones(64, 64, dtype=torch.bfloat16), requires_grad=False)
    with pytest.raises(QuantizationNotApplied, match=f"{quantization} layers that hold bfloat16"):
        check_quantization(model, quantization)


@pytest.mark.parametrize(
    ("quantization", "made", "wanted", "said"),
    [
        ("4bit", True, {"double_quant": False}, "with single quantization, but the loaded model has double"),
        ("4bit", False, {"double_quant": True}, "with double quantization, but the loaded model has single"),
        ("4bit", True, {"dtype": torch.float16}, "compute dtype torch.float16, but .* compute dtype torch.bfloat16"),
        ("8bit", True, {}, "with outlier threshold 6, but the loaded model has outlier threshold 3"),
    ],
)
def test_other_settings_under_the_same_label_are_not_accepted(
    quantization: str, made: bool, wanted: dict[str, Any], said: str
) -> None:
    model: Any = synthetic.build(TINY, synthetic.cycle(TINY.vocab, 0), dtype=torch.bfloat16)
    quantize_in_place(model, quantization, double_quant=made)
    if quantization == "8bit":
        model.model.layers[1].mlp.up_proj.state.threshold = 3.0
    with pytest.raises(QuantizationNotApplied, match=said):
        check_quantization(model, quantization, **wanted)


def test_fp4_is_not_taken_for_nf4() -> None:
    model: Any = synthetic.build(TINY, synthetic.cycle(TINY.vocab, 0), dtype=torch.bfloat16)
    for block in model.model.layers:
        block.mlp.up_proj = bnb.nn.Linear4bit(64, 128, bias=False, quant_type="fp4").to("cpu")
    with pytest.raises(QuantizationNotApplied, match="4bit in FP4"):
        check_quantization(model, "4bit")


def test_a_model_without_linear_layers_is_unquantized() -> None:
    model = nn.Sequential(nn.Embedding(8, 4), nn.LayerNorm(4))
    assert quantization_of(matrices_of(model)) == "none"
    check_quantization(model, "none")


def test_the_scales_stay_counted_when_the_first_forward_moves_them() -> None:
    model: Any = synthetic.build(TINY, synthetic.cycle(TINY.vocab, 0), dtype=torch.bfloat16)
    quantize_in_place(model, "8bit")
    before = weight_bytes(model)
    model(torch.tensor([[3, 141]]))
    assert linear_layers(model)[0].weight.SCB is None
    assert weight_bytes(model) == before
    check_quantization(model, "8bit")


def test_weight_bytes_are_those_that_are_stored() -> None:
    stored = {}
    for quantization in ("none", "8bit", "4bit"):
        model = synthetic.build(TINY, synthetic.cycle(TINY.vocab, 0), dtype=torch.bfloat16)
        quantize_in_place(model, quantization)
        stored[quantization] = weight_bytes(model)
    inside = sum(layer.weight.numel() for layer in linear_layers(synthetic.build(TINY, synthetic.cycle(TINY.vocab, 0))))
    model = synthetic.build(TINY, synthetic.cycle(TINY.vocab, 0), dtype=torch.bfloat16)
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    assert stored["none"] == 2 * parameter_count(TINY) + buffers
    assert 0.9 * inside < stored["none"] - stored["8bit"] < inside, "a byte a weight instead of two, plus row scales"
    assert 1.3 * inside < stored["none"] - stored["4bit"] < 1.5 * inside, (
        "half a byte a weight instead of two, plus block scales"
    )


def test_an_unknown_quantization_has_no_configuration() -> None:
    assert quantization_config("none") is None
    with pytest.raises(ValueError, match="quantization '2bit': choose from none, 8bit, 4bit"):
        quantization_config("2bit")


def test_a_checkpoint_folder_is_what_the_revision_says(saved_pair: Pair) -> None:
    engine = load_engine(EngineKey(saved_pair.name), saved_pair, torch.device("cpu"))
    assert set(engine.revisions) == {"target", "draft"}
    assert all(revision.startswith("folder ") for revision in engine.revisions.values())
    assert Path(saved_pair.target).is_dir()
