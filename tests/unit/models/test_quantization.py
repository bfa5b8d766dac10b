"""Quantization: what is asked for is what the linear layers are, for either role and from either kind of source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from torch import nn

from fixtures.models import synthetic
from fixtures.models.engine import load_engine, synthetic_maps
from fixtures.models.pairs import Pair, find_pair
from fixtures.models.quantization import (
    QuantizationNotApplied,
    check_quantization,
    quantization_config,
    quantization_of,
    quantize_in_place,
    weight_bytes,
)
from fixtures.study import EngineKey

KINDS = {"none": nn.Linear, "8bit": bnb.nn.Linear8bitLt, "4bit": bnb.nn.Linear4bit}
TINY = synthetic.SHAPES["tiny"]


def linear_layers(model: Any) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.Linear) and module is not model.lm_head]


@pytest.fixture(scope="module")
def saved_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The tiny synthetic pair as two checkpoint folders, which load as models of the hub do."""
    folder = tmp_path_factory.mktemp("pair")
    pair = synthetic.build_pair(TINY, synthetic.SHAPES["tiny-draft"], 1.0, dtype=torch.bfloat16)
    synthetic.save(pair.target, folder / "target")
    synthetic.save(pair.draft, folder / "draft")
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
        assert quantization_of(model) == quantization
    truth, _ = synthetic_maps(find_pair("synthetic-tiny-same"), 0)
    prompt = torch.tensor([[3, 141, 59]])
    output = engine.target.generate(
        prompt, attention_mask=torch.ones_like(prompt), assistant_model=engine.draft, max_new_tokens=6
    )
    assert output[0, 3:].tolist() == synthetic.continuation(truth, 59, 6)


@pytest.mark.parametrize("double_quant", [True, False])
def test_4bit_is_nf4_with_bf16_compute_from_either_source(saved_pair: Pair, double_quant: bool) -> None:
    for pair in (find_pair("synthetic-tiny"), saved_pair):
        engine = load_engine(EngineKey(pair.name, "4bit", None), pair, torch.device("cpu"), double_quant=double_quant)
        layer: Any = linear_layers(engine.target)[0]
        assert layer.compute_dtype == torch.bfloat16
        assert layer.weight.quant_state.quant_type == "nf4"
        assert layer.weight.quant_state.nested == double_quant


def test_a_model_of_another_quantization_is_not_accepted() -> None:
    model = synthetic.build(TINY, synthetic.cycle(TINY.vocab, 0))
    with pytest.raises(QuantizationNotApplied, match="asked for 4bit, but the loaded model is none"):
        check_quantization(model, "4bit")
    model.model.layers[0].mlp.up_proj = bnb.nn.Linear8bitLt(64, 128, bias=False)
    assert quantization_of(model) == "mixed (8bit, none)"
    with pytest.raises(QuantizationNotApplied, match="mixed"):
        check_quantization(model, "none")


def test_weight_bytes_are_those_that_are_stored() -> None:
    stored = {}
    for quantization in ("none", "8bit", "4bit"):
        model = synthetic.build(TINY, synthetic.cycle(TINY.vocab, 0), dtype=torch.bfloat16)
        quantize_in_place(model, quantization)
        stored[quantization] = weight_bytes(model)
    inside = sum(layer.weight.numel() for layer in linear_layers(synthetic.build(TINY, synthetic.cycle(TINY.vocab, 0))))
    model = synthetic.build(TINY, synthetic.cycle(TINY.vocab, 0), dtype=torch.bfloat16)
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    assert stored["none"] == 2 * synthetic.parameter_count(TINY) + buffers
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
    assert engine.revisions == {"target": "local folder", "draft": "local folder"}
    assert Path(saved_pair.target).is_dir()
