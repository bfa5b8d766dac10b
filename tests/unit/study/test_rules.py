"""Which combinations are possible: every refusal names a remedy, and what is allowed is allowed."""

from __future__ import annotations

import dataclasses
import itertools
import re
from pathlib import Path

import pytest

from fixtures.study.pairs import PAIRS, find_pair
from fixtures.study.rules import CACHE_RULES, CACHES, STRATEGIES, renewed, why_impossible
from fixtures.study.study import DecodingPoint, EngineKey

ENGINE = EngineKey("synthetic-tiny")
ASSISTED = DecodingPoint("assisted", assist_toks=3, confidence_threshold=0.4, assist_schedule="constant")
PAIR = find_pair("synthetic-tiny")


@pytest.mark.parametrize(("strategy", "cache"), list(itertools.product(STRATEGIES, CACHES)))
def test_speculation_takes_a_dynamic_cache_and_prompt_lookup_an_offloaded_one_too(strategy: str, cache: str) -> None:
    point = DecodingPoint(strategy, assist_toks=3, exit_layer=1 if strategy == "early_exit" else None, cache=cache)
    refusal = why_impossible(ENGINE, point, PAIR)
    assert (refusal is None) == (
        strategy == "plain" or cache == "dynamic" or (strategy, cache) == ("prompt_lookup", "offloaded")
    )
    assert refusal is None or (refusal.startswith(f"cache {cache}") and refusal.endswith("use --cache dynamic"))


def test_a_draft_with_another_tokenizer_decodes_greedily_only() -> None:
    pair = dataclasses.replace(PAIR, tokenizers="different")
    sampled = dataclasses.replace(ASSISTED, do_sample=True, temperature=1.0, top_p=1.0)
    assert why_impossible(ENGINE, ASSISTED, pair) is None
    assert "decode greedily" in (why_impossible(ENGINE, sampled, pair) or "")
    assert why_impossible(ENGINE, sampled, PAIR) is None


def test_the_table_of_caches_knows_every_strategy_and_cache() -> None:
    assert set(CACHE_RULES) == set(STRATEGIES)
    assert all(set(rules) == set(CACHES) for rules in CACHE_RULES.values())


@pytest.mark.parametrize(
    ("engine", "point", "pair", "reason"),
    [
        (ENGINE, ASSISTED, "llama3-8b", "needs a draft .* add --aux-model"),
        (ENGINE, DecodingPoint("early_exit"), "synthetic-tiny", "add --exit-layer"),
        (ENGINE, DecodingPoint("early_exit", exit_layer=2), "synthetic-tiny", "not below the target's 2 layers"),
        (
            dataclasses.replace(ENGINE, dtype="fp32", target_quant="8bit"),
            DecodingPoint(),
            "synthetic-tiny",
            "--dtype bf16",
        ),
        (dataclasses.replace(ENGINE, dtype="fp32", draft_quant="8bit"), ASSISTED, "synthetic-tiny", "--dtype bf16"),
        (
            dataclasses.replace(ENGINE, compile=True),
            DecodingPoint(cache="offloaded"),
            "synthetic-tiny",
            "--cache static",
        ),
    ],
)
def test_a_combination_is_refused_with_its_remedy(
    engine: EngineKey, point: DecodingPoint, pair: str, reason: str
) -> None:
    refusal = why_impossible(engine, point, find_pair(pair))
    assert refusal is not None
    assert re.search(reason, refusal), refusal


@pytest.mark.parametrize(
    ("engine", "point"),
    [
        (dataclasses.replace(ENGINE, dtype="fp32", target_quant="4bit"), ASSISTED),
        (dataclasses.replace(ENGINE, dtype="fp32", draft_quant="8bit"), DecodingPoint()),  # the draft is not used
        (dataclasses.replace(ENGINE, target_quant="8bit", draft_quant="4bit"), ASSISTED),
        (ENGINE, DecodingPoint("early_exit", exit_layer=1)),
    ],
)
def test_what_can_run_is_allowed(engine: EngineKey, point: DecodingPoint) -> None:
    assert why_impossible(engine, point, PAIR) is None


def test_every_registered_pair_can_decode_plainly() -> None:
    for pair in PAIRS.values():
        assert why_impossible(EngineKey(pair.name), DecodingPoint(), pair) is None


def test_the_docs_show_the_table_that_validation_uses() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "studies.md").read_text(encoding="utf-8")
    assert renewed(text) == text, "run `make readme`"
    [early] = [line for line in text.splitlines() if line.startswith("| early_exit |")]
    assert [cell.strip() for cell in early.split("|")[2:-1]] == ["no (1)", "yes", "no (2)", "no (3)", "no (3)"]
    for rules in CACHE_RULES.values():
        assert all(reason in text for reason in rules.values() if reason)
