"""Strategies: greedy output equals plain decoding's, knobs take effect, and nothing leaks from case to case."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch

from fixtures.engines.transformers.decoding.measurement import timed_decoder
from fixtures.engines.transformers.decoding.strategies import generation_config
from fixtures.engines.transformers.models import synthetic
from fixtures.engines.transformers.models.engine import synthetic_maps
from fixtures.study.study import DecodingPoint, Workload

NEW_TOKENS = 16
WORKLOAD = Workload(gen_toks=NEW_TOKENS)
PLAIN = DecodingPoint()
ASSISTED = DecodingPoint("assisted", assist_toks=3, confidence_threshold=0.0, assist_schedule="constant")
EARLY_EXIT = replace(ASSISTED, strategy="early_exit", exit_layer=1)
STRATEGIES = [
    ASSISTED,
    replace(ASSISTED, confidence_threshold=0.9),
    replace(ASSISTED, assist_schedule="heuristic"),
    replace(ASSISTED, assist_schedule="heuristic_transient"),
    DecodingPoint("prompt_lookup", assist_toks=3, lookup_ngram=2),
    EARLY_EXIT,
    DecodingPoint(cache="none"),
    DecodingPoint(cache="static"),
]


def tokens(engine: Any, point: DecodingPoint, prompt: list[int]) -> tuple[int, ...]:
    with timed_decoder(engine, point, WORKLOAD) as decoder:
        return decoder.generate(0, prompt).tokens


@pytest.mark.parametrize("point", STRATEGIES, ids=lambda point: point.id)
def test_greedy_output_equals_plain_decoding_token_for_token(tiny_engine: Any, point: DecodingPoint) -> None:
    engine = tiny_engine()
    truth, _ = synthetic_maps(engine.pair, 0)
    for prompt in ([9, 8, 7], [5, *synthetic.continuation(truth, 5, 6), 5]):  # the second gives lookup its matches
        assert tokens(engine, point, prompt) == tokens(engine, PLAIN, prompt)


@pytest.mark.parametrize("seed", [0, 1])
def test_sampling_is_repeatable_per_seed_and_prompt(tiny_engine: Any, seed: int) -> None:
    engine = tiny_engine()
    sampled = DecodingPoint(do_sample=True, temperature=30.0, top_p=1.0)
    with timed_decoder(engine, sampled, replace(WORKLOAD, seed=seed)) as decoder:
        first, again, other = (decoder.generate(number, [1, 2]).tokens for number in (0, 0, 1))
    assert first == again
    assert first != other


def test_early_exit_drafts_with_the_target_itself(tiny_engine: Any) -> None:
    with timed_decoder(tiny_engine(), EARLY_EXIT, WORKLOAD) as decoder:
        sample = decoder.generate(0, [9, 8, 7]).sample()
    assert sample.draft_forwards == sample.drafted > 0
    assert sample.target_forwards == len(sample.steps)


def test_a_draft_stops_below_its_threshold(tiny_engine: Any) -> None:
    engine = tiny_engine("synthetic-tiny-same")
    proposed = {}
    head = engine.draft.lm_head.weight
    head.data *= 0.25  # still the same tokens, with a probability of about one half
    try:
        for threshold in (0.0, 0.9):
            with timed_decoder(engine, replace(ASSISTED, confidence_threshold=threshold), WORKLOAD) as decoder:
                proposed[threshold] = decoder.generate(0, [9, 8, 7]).sample().steps[0]
    finally:
        head.data *= 4
    assert proposed == {0.0: (3, 3), 0.9: (1, 1)}


def test_a_heuristic_schedule_grows_with_success_and_does_not_reach_the_next_case(tiny_engine: Any) -> None:
    engine = tiny_engine("synthetic-tiny-same")
    with timed_decoder(engine, replace(ASSISTED, assist_schedule="heuristic"), WORKLOAD) as decoder:
        growing = [proposed for proposed, _ in decoder.generate(0, [9, 8, 7]).sample().steps]
    with timed_decoder(engine, ASSISTED, WORKLOAD) as decoder:
        constant = [proposed for proposed, _ in decoder.generate(0, [9, 8, 7]).sample().steps]
    assert growing == [3, 5, 5]  # 4 + 6 tokens, then 6 are missing
    assert constant == [3, 3, 3, 3]


def test_the_threshold_is_held_fixed_where_transformers_would_move_it(tiny_engine: Any) -> None:
    engine = tiny_engine()
    original, made = engine.target._get_candidate_generator, []

    def moving(**arguments: Any) -> Any:
        """A generator that adapts its threshold after every step, as with scikit-learn installed."""
        generator = original(**arguments)
        made.append(generator)

        def update(ids: Any, scores: Any, matches: Any) -> None:
            generator.assistant_generation_config.assistant_confidence_threshold = 0.99
            generator.generation_config.assistant_confidence_threshold = 0.99

        generator.update_candidate_strategy = update
        return generator

    engine.target._get_candidate_generator = moving
    with timed_decoder(engine, replace(ASSISTED, confidence_threshold=0.25), WORKLOAD) as decoder:
        decoder.generate(0, [9, 8, 7])
    assert len(made) == 1
    assert made[0].generation_config.assistant_confidence_threshold == 0.25
    assert made[0].assistant_generation_config.assistant_confidence_threshold == 0.25


@pytest.mark.parametrize("point", [ASSISTED, replace(ASSISTED, assist_schedule="heuristic"), EARLY_EXIT])
@pytest.mark.parametrize("fails", [False, True])
def test_a_case_leaves_nothing_behind(tiny_engine: Any, point: DecodingPoint, fails: bool) -> None:
    engine = tiny_engine()
    models = (engine.target, engine.draft)
    before = [(model.generation_config, copy.deepcopy(model.generation_config.to_dict())) for model in models]
    hooks = [len(model._forward_pre_hooks) for model in models]
    drafting = {"assisted": engine.draft, "early_exit": engine.target}[point.strategy]

    def break_down(module: Any, arguments: Any) -> None:
        if fails and drafting.config.num_hidden_layers == 1:
            raise RuntimeError("out of order")

    hook = drafting.model.register_forward_pre_hook(break_down)
    ending = pytest.raises(RuntimeError, match="out of order") if fails else nullcontext()
    with ending, timed_decoder(engine, point, WORKLOAD) as decoder:
        decoder.generate(0, [9, 8, 7])
    hook.remove()

    for model, (same, content) in zip(models, before, strict=True):
        assert model.generation_config is same
        assert model.generation_config.to_dict() == content
        assert "_get_candidate_generator" not in vars(model)
    assert [len(model._forward_pre_hooks) for model in models] == hooks
    assert engine.target.config.num_hidden_layers == 2, "the target was left with the layers of its early exit"
    assert not torch.is_inference_mode_enabled()


def test_a_models_own_sampling_defaults_do_not_enter(tiny_engine: Any) -> None:
    engine = tiny_engine()
    sampled = generation_config(engine, DecodingPoint(do_sample=True, temperature=0.7, top_p=0.9), WORKLOAD)
    assert (sampled.temperature, sampled.top_p, sampled.top_k, sampled.repetition_penalty) == (0.7, 0.9, 0, 1.0)
    try:
        engine.target.generation_config.repetition_penalty = 5.0  # would turn the cycle's walk elsewhere
        truth, _ = synthetic_maps(engine.pair, 0)
        prompt = [5, *synthetic.continuation(truth, 5, 6), 5]
        assert list(tokens(engine, PLAIN, prompt)) == synthetic.continuation(truth, 5, NEW_TOKENS)
    finally:
        engine.target.generation_config.repetition_penalty = None
