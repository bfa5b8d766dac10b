"""Families whose caches are no plain keys and values: replays past a window, and rows of HumanEval side by side."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures.engines.transformers.decoding.losslessness import judge
from fixtures.engines.transformers.decoding.measurement import timed_decoder, tokens_sha256
from fixtures.engines.transformers.models.engine import Engine, load_engine
from fixtures.humaneval.generation import SPAN, Request, generate
from fixtures.study.pairs import Pair
from fixtures.study.study import DecodingPoint, EngineKey, Workload
from tools.tiny_families import FAMILIES, VOCABULARY, WINDOW

CPU = torch.device("cpu")
PLAIN = DecodingPoint()
DRAWN = torch.Generator().manual_seed(3)


def loaded(family: str, folder: Path, *, noise: float | None = None) -> Engine:
    target = FAMILIES[family].save(folder / "target")
    draft = None if noise is None else str(FAMILIES[family].save(folder / "draft", noise=noise))
    pair = Pair.from_hub(str(target), draft)
    return load_engine(EngineKey(pair.name, draft_quant=draft and "none", dtype="fp32"), pair, CPU)


def prompt(length: int) -> tuple[int, ...]:
    return tuple(torch.randint(3, VOCABULARY, (length,), generator=DRAWN).tolist())


@pytest.mark.parametrize("family", ["mistral", "gemma3", "lfm2"])
def test_a_divergence_past_a_window_is_replayed_as_it_was_drafted(
    family: str, tmp_path: Path, one_thread: None
) -> None:
    """Half of what is drafted is rejected, so that the replay has to crop a window, or states, as decoding did."""
    engine = loaded(family, tmp_path, noise=0.1)
    assisted = DecodingPoint("assisted", assist_toks=3, confidence_threshold=0.0, assist_schedule="constant")
    workload, prompts = Workload("embedded", 1, 20, 40), [prompt(20)]
    found = {}
    for point in (PLAIN, assisted):
        with timed_decoder(engine, point, workload) as decoder:
            found[point] = [decoder.generate(0, prompts[0]).sample()]
    plain, drafted = found[PLAIN][0], found[assisted][0]
    assert drafted.rejected and drafted.accepted
    assert plain.output_tokens == drafted.output_tokens, "the strategy is lossless"
    place = 2 * WINDOW
    tokens = (
        *plain.output_tokens[:place],
        (plain.output_tokens[place] + 1) % VOCABULARY,
        *plain.output_tokens[place + 1 :],
    )
    planted = dataclasses.replace(plain, output_tokens=tokens, output_sha256=tokens_sha256(tokens))
    verdict = judge(engine, assisted, workload, prompts, [drafted], [planted])
    assert verdict.verdict == "wrong" and verdict.first is not None and verdict.first.position == place
    assert verdict.first.rounding is not None and verdict.first.rounding < 0.01, "both replays see the same context"


@pytest.mark.parametrize("family", ["mamba", "jamba", "gemma3", "recurrent_gemma", "gpt_neox"])
def test_rows_side_by_side_yield_what_each_yields_alone(family: str, tmp_path: Path, one_thread: None) -> None:
    """Past a span of new tokens and past a window; of prompts of other lengths, which are padded."""
    engine = loaded(family, tmp_path)
    workload = Workload("humaneval", 1, gen_toks=SPAN + 8, eos_stops=True)
    requests = [Request(f"T/{length}", 0, "", prompt(length), 0) for length in (5, 31, 18)]

    def completed(rows: int) -> dict[str, Any]:
        batches = list(generate(engine, PLAIN, workload, requests, rows=rows))
        return {done.request.task_id: (done.text, done.tokens, done.rows) for batch in batches for done in batch}

    alone, together = completed(1), completed(12)
    assert {name: done[:2] for name, done in alone.items()} == {name: done[:2] for name, done in together.items()}
    assert len({text for text, _, _ in alone.values()}) == 3
    padded = family != "recurrent_gemma"
    assert (max(rows for _, _, rows in together.values()) > 1) == padded, "states outside the cache see the padding"
