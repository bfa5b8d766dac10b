"""Where a model's positions end, and whether it can go on beyond them, from its configuration alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from fixtures.engines.transformers.models.positions import ends, positions

SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
GPT = {"vocab_size": 64, "n_embd": 32, "n_layer": 1, "n_head": 4, "n_positions": 24}
WIDE = {"intermediate_size": 32, "max_position_embeddings": 24}


@pytest.mark.parametrize(
    ("config", "limit", "hard"),
    [
        (transformers.GPT2Config(**GPT), 24, True),
        (transformers.OPTConfig(**SMALL, ffn_dim=32, word_embed_proj_dim=32, max_position_embeddings=24), 24, True),
        (transformers.GPTJConfig(**GPT, rotary_dim=4), 24, True),  # rotary, by a table of sines
        (transformers.GPTBigCodeConfig(**GPT), 24, True),
        (transformers.LlamaConfig(**SMALL, **WIDE), 24, False),
        (transformers.GPTNeoXConfig(**SMALL, **WIDE), 24, False),
        (transformers.BloomConfig(vocab_size=64, hidden_size=32, n_layer=1, n_head=4), None, False),
        (transformers.FalconConfig(**SMALL, alibi=True, max_position_embeddings=24), None, False),
        (transformers.MptConfig(vocab_size=64, d_model=32, n_layers=1, n_heads=4, max_seq_len=24), None, False),
        (transformers.MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=1), None, False),
        (transformers.Gemma3Config(text_config={**SMALL, **WIDE}), 24, False),
        (transformers.NemotronHConfig(vocab_size=64, hidden_size=32, max_position_embeddings=24), 24, False),
    ],
    ids=lambda value: getattr(value, "model_type", str(value)),
)
def test_positions_and_whether_they_are_a_table(config: Any, limit: int | None, hard: bool) -> None:
    assert (positions(config), ends(config)) == (limit, hard)


@pytest.mark.parametrize("config", [transformers.GPT2Config(**GPT), transformers.LlamaConfig(**SMALL, **WIDE)])
def test_a_model_whose_positions_end_really_cannot_go_on(config: Any) -> None:
    model: Any = transformers.AutoModelForCausalLM.from_config(config)
    inputs = torch.ones(1, 25, dtype=torch.long)
    if ends(config):
        with pytest.raises(IndexError):
            model(inputs)
    else:
        assert model(inputs).logits.isfinite().all()
    assert model(inputs[:, :24]).logits.shape[1] == 24
