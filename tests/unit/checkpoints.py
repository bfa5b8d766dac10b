"""Tiny random checkpoints on disk, made by the tests that need them: a model, its tokenizer and its settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from fixtures.engines.transformers.models.synthetic import tokenizer

VOCAB = 64
LLAMA = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "eos_token_id": VOCAB - 1,
    "bos_token_id": 1,
}


def llama(layers: int = 2, seed: int = 0, **settings: Any) -> Any:
    """A random Llama whose tokens depend on all the context."""
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(**{**LLAMA, "num_hidden_layers": layers, **settings})
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2:
                weight.normal_(std=0.4 if "lm_head" in name else 0.2)
    return model.eval()


def save(
    folder: Path, model: Any, *, generation: Mapping[str, Any] | None = None, chat_template: str | None = None
) -> Path:
    """Write the model with a WordLevel tokenizer; generation: the whole content of its generation_config.json."""
    model.save_pretrained(folder)
    words = tokenizer(model.config.get_text_config().vocab_size)
    words.chat_template = chat_template
    words.save_pretrained(folder)
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation), encoding="utf-8")
    return folder
