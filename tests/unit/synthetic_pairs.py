"""Synthetic pairs as the tests want them: both models with their maps, on disk, and how large a shape is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from fixtures.engines.transformers.models.shapes import Shape
from fixtures.engines.transformers.models.synthetic import build, cycle, disagreeing, tokenizer


def parameter_count(shape: Shape) -> int:
    """Number of parameters of the published architecture, shared ones counted once; no weight is made."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(shape.config())
    return sum(parameter.numel() for parameter in model.parameters())


@dataclass(frozen=True)
class SyntheticPair:
    """A target and a draft with the maps they follow."""

    target: PreTrainedModel
    draft: PreTrainedModel
    next_target: torch.Tensor
    next_draft: torch.Tensor


def build_pair(
    target: Shape,
    draft: Shape,
    agreement: float,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> SyntheticPair:
    """A target, and a draft that predicts the target's next token for a share `agreement` of the tokens."""
    if target.vocab != draft.vocab:
        raise ValueError(f"target and draft differ in vocabulary: {target.vocab} and {draft.vocab} tokens")
    next_target = cycle(target.vocab, seed)
    next_draft = disagreeing(next_target, agreement, seed + 1)
    return SyntheticPair(
        target=build(target, next_target, dtype=dtype, device=device, seed=seed),
        draft=build(draft, next_draft, dtype=dtype, device=device, seed=seed + 1),
        next_target=next_target,
        next_draft=next_draft,
    )


def save(model: PreTrainedModel, folder: Path) -> None:
    """Write the model and its tokenizer as a checkpoint that `from_pretrained` loads, quantized or not."""
    model.save_pretrained(folder)
    tokenizer(model.config.vocab_size).save_pretrained(folder)


def transition_rows(vocab: int, seed: int) -> torch.Tensor:
    """Random next-token distributions, float64, shape (vocab, vocab): row t follows token t, all above 0.2 / vocab."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(vocab, vocab, generator=generator, dtype=torch.float64) + 0.3
    return weights / weights.sum(dim=1, keepdim=True)
