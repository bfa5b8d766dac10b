"""What the target says: its continuations of the passages, with its final hidden state at every position.

One shard is one batch, written atomically and seeded by its own number, so an interrupted run goes on
where it stopped and a longer run only adds shards. The hidden states are kept (bf16) because training
then needs no forward of the target: its logits are its hidden states times the shared embeddings.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import track
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, StaticCache

from tools.distill.corpus import Passage, passages

SEQUENCE = 256  # positions per row, prompt included
ROWS = 96
TEMPERATURE, TOP_P, CANDIDATES = 0.8, 0.95, 256


@dataclass(frozen=True)
class Recipe:
    """How one shard is made. sampled: at TEMPERATURE and TOP_P, else greedy; raw: no continuation, text only."""

    kind: str
    sampled: bool = False
    raw: bool = False


RECIPES = (
    Recipe("docs"),
    Recipe("chat", sampled=True),
    Recipe("docs", sampled=True),
    Recipe("opening"),
    Recipe("source"),
    Recipe("chat"),
    Recipe("docs", raw=True),
    Recipe("opening", sampled=True),
)
HELD_OUT_RECIPES = (Recipe("docs"), Recipe("chat"), Recipe("opening"), Recipe("source"), Recipe("docs", raw=True))


@dataclass(frozen=True)
class Shard:
    """tokens [rows, positions] int32; hidden [rows, positions, width] bf16, after the final norm;
    start [rows]: where the continuation begins; length [rows]: positions that count."""

    tokens: torch.Tensor
    hidden: torch.Tensor
    start: torch.Tensor
    length: torch.Tensor

    @classmethod
    def load(cls, path: Path) -> Shard:
        return cls(**load_file(str(path)))

    def save(self, path: Path) -> None:
        partial = path.with_suffix(".partial")
        save_file({name: tensor.contiguous() for name, tensor in vars(self).items()}, str(partial))
        os.replace(partial, path)


def make_shards(
    target: Path, folder: Path, count: int, *, rows: int = ROWS, seed: int = 0, device: str = "cpu"
) -> None:
    """Write `count` training shards and one held-out shard per kind into `folder`, skipping those that exist."""
    folder.mkdir(parents=True, exist_ok=True)
    plan = [(f"held-out-{i}", recipe, True) for i, recipe in enumerate(HELD_OUT_RECIPES)]
    plan += [(f"train-{i:04d}", RECIPES[i % len(RECIPES)], False) for i in range(count)]
    todo = [step for step in plan if not (folder / f"{step[0]}.safetensors").exists()]
    if not todo:
        return
    model = (
        AutoModelForCausalLM.from_pretrained(target, dtype=torch.bfloat16, trust_remote_code=False).eval().to(device)
    )
    tokenizer = AutoTokenizer.from_pretrained(target, trust_remote_code=False)
    pool: dict[tuple[str, bool], list[Passage]] = {}
    for passage in passages():
        pool.setdefault((passage.kind, passage.held_out), []).append(passage)
    for name, recipe, held_out in track(todo, description="target's continuations"):
        rng = random.Random(f"{seed}/{name}")
        prompts = _prompts(recipe, pool[recipe.kind, held_out], tokenizer, rng, rows)
        shard = _continue(model, prompts, recipe, torch.Generator(device).manual_seed(rng.randrange(2**31)))
        shard.save(folder / f"{name}.safetensors")


def _prompts(
    recipe: Recipe, pool: list[Passage], tokenizer: PreTrainedTokenizerBase, rng: random.Random, rows: int
) -> list[list[int]]:
    """Token ids of `rows` prompts: a random window of a passage, or a whole chat request in the chat template."""
    size = SEQUENCE if recipe.raw or recipe.kind == "source" else rng.choice((32, 64, 96, 128))
    prompts: list[list[int]] = []
    while len(prompts) < rows:
        text = rng.choice(pool).text
        if recipe.kind == "chat":
            message = [{"role": "user", "content": text}]
            text = str(tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True))
            if rng.random() < 0.5:  # a little noise makes repeated requests differ in their continuations
                text += rng.choice(("Sure! ", "Of course. ", "Here is ", "In short, ", "Let us begin. ", "First, "))
        elif recipe.kind == "docs" and rng.random() < 0.5:
            text = " ".join(text.split())
        ids = tokenizer(text).input_ids
        if recipe.kind in ("docs", "source"):
            if len(ids) < min(size, 64):
                continue
            first = rng.randrange(max(1, len(ids) - size + 1))
            ids = ids[first : first + size]
        prompts.append(ids[:SEQUENCE])
    return prompts


@torch.inference_mode()
def _continue(model: PreTrainedModel, prompts: list[list[int]], recipe: Recipe, generator: torch.Generator) -> Shard:
    """Prefill left-padded, then decode to SEQUENCE positions; rows are shifted left again before they are stored."""
    device, rows, width = model.device, len(prompts), max(map(len, prompts))
    pad = torch.tensor([width - len(prompt) for prompt in prompts], device=device)
    tokens = torch.zeros(rows, SEQUENCE, dtype=torch.long, device=device)
    for row, prompt in enumerate(prompts):
        tokens[row, width - len(prompt) : width] = torch.tensor(prompt, device=device)
    mask = (torch.arange(SEQUENCE, device=device) >= pad[:, None]).long()
    positions = (torch.arange(SEQUENCE, device=device) - pad[:, None]).clamp(min=0)
    hidden = torch.zeros(rows, SEQUENCE, model.config.hidden_size, dtype=torch.bfloat16, device=device)
    length = torch.full((rows,), SEQUENCE, device=device)
    cache = StaticCache(config=model.config, max_cache_len=SEQUENCE)
    done, first = 0, width
    while True:
        out = model.model(
            tokens[:, done:first],
            attention_mask=mask[:, :first],
            position_ids=positions[:, done:first],
            past_key_values=cache,
            use_cache=True,
        )
        hidden[:, done:first] = out.last_hidden_state
        if first == SEQUENCE or recipe.raw or recipe.kind == "source":
            break
        tokens[:, first] = _pick(model.lm_head(out.last_hidden_state[:, -1]).float(), recipe, model, generator)
        ended = (tokens[:, first] == model.config.eos_token_id) & (length == SEQUENCE)
        length[ended] = first + 1
        done, first = first, first + 1
        if bool((length < SEQUENCE).all()):
            break
    length = length.clamp(max=first)
    index = (torch.arange(SEQUENCE, device=device) + pad[:, None]).clamp(max=SEQUENCE - 1)
    return Shard(
        tokens=tokens.gather(1, index).int().cpu(),
        hidden=hidden.gather(1, index[..., None].expand_as(hidden)).cpu(),
        start=torch.tensor([len(prompt) for prompt in prompts], dtype=torch.int32),
        length=(length - pad).int().cpu(),
    )


def _pick(logits: torch.Tensor, recipe: Recipe, model: PreTrainedModel, generator: torch.Generator) -> torch.Tensor:
    """Next token of every row. Only chats may end: the benchmark, too, decodes past an end of text."""
    if recipe.kind != "chat":
        logits[:, model.config.eos_token_id] = -torch.inf
    if not recipe.sampled:
        return logits.argmax(-1)
    ordered, order = (logits / TEMPERATURE).softmax(-1).topk(CANDIDATES)  # sorting all 49,152 costs half the step
    ordered[ordered.cumsum(-1) - ordered > TOP_P] = 0
    return order.gather(-1, torch.multinomial(ordered, 1, generator=generator)).squeeze(-1)
