"""Training the draft on the target's hidden states, and measuring how often it would say the same.

The draft shares the target's frozen embeddings, so only its layers and final norm are trained. The loss is the
divergence from the target's next-token distribution over the most frequent tokens (the whole vocabulary would
cost ten times as much and gain nothing measurable) plus a pull of the final hidden state towards the target's.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from fixtures.engines.transformers.models.embedded import draft_config
from tools.distill.teacher import HELD_OUT_RECIPES, Shard

SHORTLIST = 8192
HIDDEN_WEIGHT = 0.5
POSITIONS_PER_STEP = 0.5


@dataclass(frozen=True)
class Settings:
    """How long and how fast to train. rows: sequences per step; the rate falls linearly to 3% of its start."""

    steps: int
    rows: int = 12
    learning_rate: float = 1e-3
    warm_up: int = 50
    weight_decay: float = 0.05
    clip: float = 1.0
    save_every: int = 200
    seed: int = 0


@dataclass(frozen=True)
class Agreement:
    """Share of positions where draft and target name the same next token; kind: of the held-out text."""

    kind: str
    all_positions: float
    generated: float | None


def new_draft(target: Path, init: Path | None) -> LlamaForCausalLM:
    """A draft in fp32: from the target's first and last but one layer, or from the layers in `init`."""
    config = json.loads((target / "config.json").read_text())
    model: LlamaForCausalLM = LlamaForCausalLM(LlamaConfig.from_dict(draft_config(config)))
    whole = load_file(str(target / "model.safetensors"))
    layers = {name: tensor for name, tensor in whole.items() if not name.startswith("model.layers.")}
    if init is None:
        for own, source in ((0, 0), (1, config["num_hidden_layers"] - 2)):
            prefix = f"model.layers.{source}."
            layers |= {
                f"model.layers.{own}.{name.removeprefix(prefix)}": tensor
                for name, tensor in whole.items()
                if name.startswith(prefix)
            }
    else:
        layers |= load_file(str(init))
    missing, unexpected = model.load_state_dict({k: v.float() for k, v in layers.items()}, strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise ValueError(f"{init or target}: not a draft's layers (missing {missing}, unexpected {unexpected})")
    model.tie_weights()
    _embeddings(model).requires_grad_(False)
    return model


def train(model: LlamaForCausalLM, shards: Path, checkpoint: Path, settings: Settings, device: str = "cpu") -> None:
    """Train in place, resuming from `checkpoint` (a .pt file) if it is there."""
    _place(model, device).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.95)
    )
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(state["model"], strict=False)
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    data = [Shard.load(path) for path in sorted(shards.glob("train-*.safetensors"))]
    embeddings = _embeddings(model).detach()
    shortlist = _most_frequent(data, embeddings.shape[0]).to(device)
    head = embeddings[shortlist].to(torch.bfloat16)
    batches = _batches(data, settings, first)
    for step in track(range(first, settings.steps), description="training"):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _rate(step, settings)
        tokens, hidden, valid = (tensor.to(device) for tensor in next(batches))
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            student = model.model(input_ids=tokens).last_hidden_state
            loss = _loss(student, hidden, valid, head, torch.Generator(device).manual_seed(settings.seed + step))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, settings.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (step + 1) % settings.save_every == 0 or step + 1 == settings.steps:
            print(f"step {step + 1}/{settings.steps} loss {loss.item():.3f}", flush=True)
            _save_checkpoint(checkpoint, model, optimizer, step + 1)


@torch.inference_mode()
def evaluate(model: LlamaForCausalLM, shards: Path, device: str = "cpu") -> list[Agreement]:
    """Agreement of the greedy token over the whole vocabulary, per kind of held-out text and over all of it."""
    _place(model, device).eval()
    head = _embeddings(model).to(torch.bfloat16)
    found, sums = [], torch.zeros(4, dtype=torch.long)
    for number, recipe in enumerate(HELD_OUT_RECIPES):
        shard = Shard.load(shards / f"held-out-{number}.safetensors")
        counts = torch.zeros(4, dtype=torch.long)  # agreeing and all, at every and at generated positions
        for row in range(0, len(shard.tokens), 8):
            part = slice(row, row + 8)
            with torch.autocast(torch.device(device).type, torch.bfloat16):
                student = model.model(shard.tokens[part].long().to(device)).last_hidden_state.to(torch.bfloat16)
            same = ((student @ head.T).argmax(-1) == (shard.hidden[part].to(device) @ head.T).argmax(-1)).cpu()
            index = torch.arange(same.shape[1])
            valid = index < shard.length[part, None]
            generated = valid & (index >= shard.start[part, None] - 1)
            counts += torch.stack([(same & valid).sum(), valid.sum(), (same & generated).sum(), generated.sum()])
        continued = not recipe.raw and recipe.kind != "source"
        kind = f"{recipe.kind}, {'continued' if continued else 'raw'}"
        found.append(_agreement(kind, counts, continued))
        sums += counts if continued else counts * torch.tensor([1, 1, 0, 0])
    return [*found, _agreement("all", sums, True)]


def export(model: LlamaForCausalLM, path: Path, metadata: dict[str, str]) -> None:
    """Write the trained layers alone (bf16 safetensors, about 14 MB), atomically."""
    layers = {
        name: tensor.detach().cpu().to(torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
        if name.startswith("model.layers.") or name == "model.norm.weight"
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(layers, str(partial), metadata={"format": "pt", **metadata})
    os.replace(partial, path)


def _place(model: LlamaForCausalLM, device: str) -> torch.nn.Module:
    module: torch.nn.Module = model
    return module.to(device)


def _embeddings(model: LlamaForCausalLM) -> torch.Tensor:
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, torch.Tensor)
    return weight


def _agreement(kind: str, counts: torch.Tensor, continued: bool) -> Agreement:
    same, total, same_generated, total_generated = (int(count) for count in counts)
    return Agreement(kind, same / total, same_generated / total_generated if continued else None)


def _loss(
    student: torch.Tensor, teacher: torch.Tensor, valid: torch.Tensor, head: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Mean over half of the valid positions; student, teacher [rows, positions, width], head [tokens, width]."""
    chosen = valid & (torch.rand(valid.shape, generator=generator, device=valid.device) < POSITIONS_PER_STEP)
    ours, theirs = student[chosen], teacher[chosen]
    target = (theirs @ head.T).float().softmax(-1)
    divergence = functional.kl_div((ours @ head.T).float().log_softmax(-1), target, reduction="batchmean")
    scale = theirs.float().pow(2).mean().sqrt()
    pull = functional.smooth_l1_loss(ours.float() / scale, theirs.float() / scale)
    return divergence + HIDDEN_WEIGHT * pull


def _most_frequent(data: Sequence[Shard], vocabulary: int) -> torch.Tensor:
    counts = sum(torch.bincount(shard.tokens.flatten(), minlength=vocabulary) for shard in data)
    assert isinstance(counts, torch.Tensor)
    return counts.topk(min(SHORTLIST, vocabulary)).indices.sort().values


def _batches(
    data: Sequence[Shard], settings: Settings, skip: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Endless batches, every row once per pass in a seeded order; `skip` batches are passed over (resuming)."""
    rows = [(number, row) for number, shard in enumerate(data) for row in range(len(shard.tokens))]
    passed = 0
    for epoch in range(1_000_000):
        random.Random(f"{settings.seed}/{epoch}").shuffle(rows)
        for start in range(0, len(rows) - settings.rows + 1, settings.rows):
            passed += 1
            if passed <= skip:
                continue
            chosen = rows[start : start + settings.rows]
            tokens = torch.stack([data[number].tokens[row] for number, row in chosen]).long()
            hidden = torch.stack([data[number].hidden[row] for number, row in chosen])
            length = torch.stack([data[number].length[row] for number, row in chosen])
            yield tokens, hidden, torch.arange(tokens.shape[1]) < length[:, None]


def _rate(step: int, settings: Settings) -> float:
    if step < settings.warm_up:
        return (step + 1) / settings.warm_up
    return 1 - 0.97 * (step - settings.warm_up) / max(1, settings.steps - settings.warm_up)


def _save_checkpoint(path: Path, model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, step: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    layers = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if "embed_tokens" not in name and "lm_head" not in name
    }
    torch.save({"model": layers, "optimizer": optimizer.state_dict(), "step": step}, partial)
    os.replace(partial, path)
