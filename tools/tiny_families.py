"""Tiny random checkpoints of the families that people decode with: real classes and real configurations, 64 wide.

Each is made in milliseconds from a seed, saved as any checkpoint is, with one small tokenizer of bytes. Random weights
of the usual size repeat one token soon, so they are drawn widely: outputs then depend on their context, and a cache
that is filled or rolled back wrongly shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VOCABULARY = 320
WIDTH, HEADS, FEED_FORWARD, LAYERS, WINDOW = 64, 4, 128, 4, 16
_ENDS = {"eos_token_id": 0, "bos_token_id": 1, "pad_token_id": 2}
_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": FEED_FORWARD,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": 2048,
    **_ENDS,
}
_GROUPED = {**_SHAPE, "num_key_value_heads": 2}
_FULL_AND_LINEAR = ["linear_attention", "full_attention"] * (LAYERS // 2)


@dataclass(frozen=True)
class Family:
    """A family: the name of its transformers classes, and the settings of one tiny model of it.

    title: as in the table of docs/families.md.
    """

    name: str
    title: str
    config: str
    model: str
    settings: Mapping[str, Any]

    def build(self, seed: int = 0, *, noise: float = 0.0, **changes: Any) -> Any:
        """The model with random weights in fp32. noise: share of other weights in it; changes: to its configuration."""
        import torch
        import transformers

        torch.manual_seed(seed)
        weights, others = (torch.Generator().manual_seed(seed + number) for number in (1, 2))
        config = getattr(transformers, self.config)(**{**self.settings, **changes})
        model = getattr(transformers, self.model)(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    std = 2.5 * parameter.shape[-1] ** -0.5
                    parameter.normal_(std=std, generator=weights)
                    parameter.add_(torch.randn(parameter.shape, generator=others), alpha=noise * std)
        return model

    def save(self, folder: Path, seed: int = 0, *, noise: float = 0.0, **changes: Any) -> Path:
        """A checkpoint with its tokenizer, in its own folder below `folder`."""
        path = folder / self.name
        self.build(seed, noise=noise, **changes).save_pretrained(path)
        tokenizer().save_pretrained(path)
        return path


def tokenizer() -> Any:
    """Bytes as tokens after three special ones; no chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    specials = ["<eos>", "<bos>", "<pad>"]
    letters = [*specials, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    base = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, merges=[]))
    base.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    base.decoder = decoders.ByteLevel()
    base.add_special_tokens(specials)
    return PreTrainedTokenizerFast(
        tokenizer_object=base, eos_token="<eos>", bos_token="<bos>", pad_token="<pad>", model_max_length=2048
    )


_VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
_WINDOWED = {**_GROUPED, "sliding_window": WINDOW}
_GEMMA = {**_WINDOWED, "head_dim": 16, "tie_word_embeddings": False}
_MAMBA = {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "state_size": 8, **_ENDS}

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("llama", "Llama, SmolLM, Yi", "LlamaConfig", "LlamaForCausalLM", _GROUPED),
        Family(
            "gpt2",
            "GPT-2",
            "GPT2Config",
            "GPT2LMHeadModel",
            {
                "vocab_size": VOCABULARY,
                "n_positions": 2048,
                "n_embd": WIDTH,
                "n_layer": LAYERS,
                "n_head": HEADS,
                **_ENDS,
            },
        ),
        Family("gpt_neox", "GPT-NeoX, Pythia", "GPTNeoXConfig", "GPTNeoXForCausalLM", _SHAPE),
        Family(
            "opt",
            "OPT",
            "OPTConfig",
            "OPTForCausalLM",
            {**_SHAPE, "ffn_dim": FEED_FORWARD, "word_embed_proj_dim": WIDTH},
        ),
        Family(
            "bloom",
            "BLOOM",
            "BloomConfig",
            "BloomForCausalLM",
            {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "n_layer": LAYERS, "n_head": HEADS, **_ENDS},
        ),
        Family(
            "falcon",
            "Falcon",
            "FalconConfig",
            "FalconForCausalLM",
            {**_SHAPE, "new_decoder_architecture": False, "multi_query": True},
        ),
        Family("phi", "Phi 1, 1.5, 2", "PhiConfig", "PhiForCausalLM", _SHAPE),
        Family("phi3", "Phi 3, 4", "Phi3Config", "Phi3ForCausalLM", _GROUPED),
        Family("qwen2", "Qwen 2, 2.5", "Qwen2Config", "Qwen2ForCausalLM", _GROUPED),
        Family("qwen3", "Qwen 3", "Qwen3Config", "Qwen3ForCausalLM", {**_GROUPED, "head_dim": 16}),
        Family("gemma2", "Gemma 2", "Gemma2Config", "Gemma2ForCausalLM", _GEMMA),
        Family("gemma3", "Gemma 3, text", "Gemma3TextConfig", "Gemma3ForCausalLM", _GEMMA),
        Family(
            "gemma3_multimodal",
            "Gemma 3, with images",
            "Gemma3Config",
            "Gemma3ForConditionalGeneration",
            {
                "text_config": {**_GEMMA, "num_hidden_layers": 6},
                "vision_config": _VISION,
                "mm_tokens_per_image": 4,
                "image_token_index": 5,
                "boi_token_index": 3,
                "eoi_token_index": 4,
                "tie_word_embeddings": False,
                **_ENDS,
            },
        ),
        Family("mistral", "Mistral with a sliding window", "MistralConfig", "MistralForCausalLM", _WINDOWED),
        Family(
            "mixtral",
            "Mixtral",
            "MixtralConfig",
            "MixtralForCausalLM",
            {**_GROUPED, "num_local_experts": 8, "num_experts_per_tok": 2},
        ),
        Family(
            "qwen2_moe",
            "Qwen 2 MoE",
            "Qwen2MoeConfig",
            "Qwen2MoeForCausalLM",
            {
                **_GROUPED,
                "num_experts": 8,
                "num_experts_per_tok": 2,
                "moe_intermediate_size": 32,
                "shared_expert_intermediate_size": 64,
            },
        ),
        Family(
            "qwen3_moe",
            "Qwen 3 MoE",
            "Qwen3MoeConfig",
            "Qwen3MoeForCausalLM",
            {**_GROUPED, "head_dim": 16, "num_experts": 16, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
        ),
        Family("mamba", "Mamba", "MambaConfig", "MambaForCausalLM", _MAMBA),
        Family(
            "mamba2",
            "Mamba 2",
            "Mamba2Config",
            "Mamba2ForCausalLM",
            {**_MAMBA, "state_size": 12, "num_heads": 8, "head_dim": 16, "n_groups": 1, "chunk_size": 16},
        ),
        Family(
            "jamba",
            "Jamba",
            "JambaConfig",
            "JambaForCausalLM",
            {
                **_GROUPED,
                "num_experts": 4,
                "num_experts_per_tok": 2,
                "attn_layer_period": 2,
                "attn_layer_offset": 1,
                "expert_layer_period": 2,
                "expert_layer_offset": 1,
                "mamba_d_state": 8,
                "use_mamba_kernels": False,
            },
        ),
        Family(
            "bamba",
            "Bamba",
            "BambaConfig",
            "BambaForCausalLM",
            {
                **_GROUPED,
                "attn_layer_indices": [1, 3],
                "mamba_n_heads": 8,
                "mamba_d_head": 16,
                "mamba_n_groups": 1,
                "mamba_d_state": 12,
                "mamba_chunk_size": 16,
            },
        ),
        Family(
            "lfm2",
            "LFM2",
            "Lfm2Config",
            "Lfm2ForCausalLM",
            {**_GROUPED, "layer_types": ["conv", "full_attention"] * (LAYERS // 2)},
        ),
        Family(
            "qwen3_next",
            "Qwen3-Next",
            "Qwen3NextConfig",
            "Qwen3NextForCausalLM",
            {
                **_GROUPED,
                "head_dim": 16,
                "layer_types": _FULL_AND_LINEAR,
                "linear_num_value_heads": 4,
                "linear_num_key_heads": 2,
                "linear_key_head_dim": 16,
                "linear_value_head_dim": 16,
                "num_experts": 4,
                "num_experts_per_tok": 2,
                "moe_intermediate_size": 32,
                "shared_expert_intermediate_size": 32,
            },
        ),
        Family(
            "recurrent_gemma",
            "RecurrentGemma",
            "RecurrentGemmaConfig",
            "RecurrentGemmaForCausalLM",
            {
                **_GROUPED,
                "num_key_value_heads": 1,
                "num_hidden_layers": 3,
                "head_dim": 16,
                "lru_width": WIDTH,
                "attention_window_size": WINDOW,
            },
        ),
        Family(
            "t5",
            "T5",
            "T5Config",
            "T5ForConditionalGeneration",
            {
                "vocab_size": VOCABULARY,
                "d_model": WIDTH,
                "d_ff": FEED_FORWARD,
                "num_layers": 2,
                "num_heads": HEADS,
                "d_kv": 16,
                "decoder_start_token_id": 2,
                **_ENDS,
            },
        ),
    )
}
