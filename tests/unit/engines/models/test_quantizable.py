"""What people bring beside Llama: other linear layers, fused experts, checkpoints that are quantized already."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn

from fixtures.engines.transformers.models import hub
from fixtures.engines.transformers.models.quantization import (
    QuantizationNotApplied,
    check_quantization,
    matrices_of,
    quantization_config,
    quantization_of,
    quantize_in_place,
    weight_bytes,
)

SMALL = {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
EXPERTS = {**SMALL, "intermediate_size": 48, "num_key_value_heads": 2}
CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: hf.LlamaConfig(**EXPERTS),
    "gpt2": lambda: hf.GPT2Config(vocab_size=96, n_positions=64, n_embd=32, n_layer=2, n_head=2),
    "gpt_neox": lambda: hf.GPTNeoXConfig(**SMALL, intermediate_size=48, max_position_embeddings=64),
    "opt": lambda: hf.OPTConfig(**SMALL, ffn_dim=48, max_position_embeddings=64, word_embed_proj_dim=32),
    "phi": lambda: hf.PhiConfig(**SMALL, intermediate_size=48, max_position_embeddings=64),
    "bloom": lambda: hf.BloomConfig(vocab_size=96, hidden_size=32, n_layer=2, n_head=2),
    "mamba": lambda: hf.MambaConfig(vocab_size=96, hidden_size=32, num_hidden_layers=2, state_size=8),
    "falcon": lambda: hf.FalconConfig(**SMALL, new_decoder_architecture=False, multi_query=True),
    "mixtral": lambda: hf.MixtralConfig(**EXPERTS, num_local_experts=4, num_experts_per_tok=2),
    "qwen3_moe": lambda: hf.Qwen3MoeConfig(
        **EXPERTS, moe_intermediate_size=32, head_dim=16, num_experts=4, num_experts_per_tok=2
    ),
}
CPU = torch.device("cpu")


def made(family: str) -> Any:
    torch.manual_seed(0)
    return hf.AutoModelForCausalLM.from_config(CONFIGS[family]()).eval()


def load(folder: Path, quantization: str, dtype: torch.dtype = torch.float32, **settings: Any) -> Any:
    return hub.load_model(str(folder), dtype=dtype, quantization=quantization, device=CPU, **settings)


def config_only(folder: Path, family: str, **more: Any) -> Path:
    """A checkpoint of which only the configuration is there: whatever is said of it was said before loading."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**CONFIGS[family]().to_dict(), **more}))
    return folder


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "opt", "phi", "bloom"])
def test_a_family_is_really_quantized_at_load_and_in_place_alike(family: str, tmp_path: Path) -> None:
    original = made(family)
    original.save_pretrained(tmp_path)
    assert quantization_of(matrices_of(original)) == "none"
    check_quantization(original, "none")
    tokens = torch.tensor([[3, 14, 15, 9, 26]])
    logits, stored = original(tokens).logits.detach(), [weight_bytes(original)]
    for quantization in ("8bit", "4bit"):
        loaded, placed = load(tmp_path, quantization), made(family)
        quantize_in_place(placed, quantization)
        for model in (loaded, placed):
            check_quantization(model, quantization, dtype=torch.float32, double_quant=True)
            assert type(model.get_output_embeddings()) is nn.Linear
        assert weight_bytes(loaded) == weight_bytes(placed)
        assert torch.equal(loaded(tokens).logits, placed(tokens).logits)
        assert float((loaded(tokens).logits.detach() - logits).norm() / logits.norm()) < 0.5, "the same model, rounded"
        stored.append(weight_bytes(loaded))
    assert stored[0] > stored[1] > stored[2]


@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("mixtral", r"\d\d% of its weights .*MixtralExperts holds its experts in one tensor, bitsandbytes#1849"),
        ("qwen3_moe", r"\d\d% of its weights .*Qwen3MoeExperts holds its experts in one tensor, bitsandbytes#1849"),
        ("mamba", "MambaMixer multiplies by the weights of its dt_proj itself"),
        ("falcon", "100% of its weights .*replaces plain linear layers only, not FalconLinear"),
    ],
)
def test_what_would_stay_unquantized_is_refused_before_weights_are_read(
    family: str, reason: str, quantization: str, tmp_path: Path
) -> None:
    with pytest.raises(QuantizationNotApplied, match=reason) as refusal:
        load(config_only(tmp_path / family, family), quantization)
    assert "measure it unquantized (--target-quant none" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_experts_left_in_16_bits_are_found_in_a_loaded_model_too() -> None:
    model = made("mixtral")
    check_quantization(model, "none")
    quantize_in_place(model, "4bit")
    with pytest.raises(QuantizationNotApplied, match=r"is mixed \(4bit, none\): \d\d% of its weights"):
        check_quantization(model, "4bit")


NF4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
NF4_DOUBLE = {**NF4, "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": "bfloat16"}
INT8 = {"quant_method": "bitsandbytes", "load_in_8bit": True, "llm_int8_threshold": 6.0}


@pytest.mark.parametrize(
    ("saved", "asked", "said"),
    [
        ({"quant_method": "gptq", "bits": 4}, "none", r"\(gptq, 4 bits\); give the unquantized checkpoint"),
        ({"quant_method": "awq", "bits": 4}, "4bit", r"\(awq, 4 bits\); give the unquantized checkpoint"),
        ({"quant_method": "fp8"}, "none", r"\(fp8\)"),
        ({"quant_method": "mxfp4"}, "8bit", r"\(mxfp4\)"),
        ({"quant_method": "of tomorrow"}, "none", r"\(of tomorrow\)"),
        ({**NF4, "bnb_4bit_quant_type": "fp4"}, "4bit", r"bitsandbytes FP4, single quantization.*4bit is NF4"),
        ({**NF4, "bnb_4bit_quant_type": "fp4"}, "none", r"bitsandbytes FP4, single quantization, computing in float32"),
        (NF4_DOUBLE, "none", r"NF4, double quantization, computing in bfloat16\).*--target-quant 4bit"),
        (NF4_DOUBLE, "8bit", "or ask for 4bit"),
        ({**NF4_DOUBLE, "bnb_4bit_use_double_quant": False}, "4bit", "or ask for --nf4-double-quant false"),
        ({**NF4_DOUBLE, "bnb_4bit_compute_dtype": "float16"}, "4bit", "computing in float16.*, not in bfloat16"),
        (INT8, "none", r"LLM.int8\(\), outlier threshold 6\).*or ask for 8bit"),
        ({**INT8, "llm_int8_threshold": 3.0}, "8bit", "outlier threshold 3.*with an outlier threshold of 6"),
    ],
)
def test_a_checkpoint_that_is_quantized_otherwise_says_what_it_is_before_weights_are_read(
    saved: dict[str, Any], asked: str, said: str, tmp_path: Path
) -> None:
    folder = config_only(tmp_path / "saved", "llama", quantization_config=saved)
    with pytest.raises(QuantizationNotApplied, match=said) as refusal:
        load(folder, asked, torch.bfloat16)
    assert str(refusal.value).startswith(f"{folder} in quantization {asked}: already quantized (")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_a_checkpoint_saved_as_asked_for_is_loaded(quantization: str, tmp_path: Path) -> None:
    made("llama").save_pretrained(tmp_path / "plain")
    settings = quantization_config(quantization, dtype=torch.bfloat16)
    saved = hf.AutoModelForCausalLM.from_pretrained(
        tmp_path / "plain", quantization_config=settings, dtype=torch.bfloat16, device_map={"": "cpu"}
    )
    saved.save_pretrained(tmp_path / "saved")
    loaded = load(tmp_path / "saved", quantization, torch.bfloat16)
    check_quantization(loaded, quantization, dtype=torch.bfloat16, double_quant=True)
    assert weight_bytes(loaded) == weight_bytes(load(tmp_path / "plain", quantization, torch.bfloat16))
