"""The step recorder against pairs whose every step is known beforehand, and against steps that were tampered with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from fixtures.engines.transformers.decoding.clock import HostClock
from fixtures.engines.transformers.decoding.measurement import Generation, timed_decoder
from fixtures.engines.transformers.decoding.speculation import (
    CountMismatch,
    Expected,
    Recording,
    SettingNotApplied,
    StepRecorder,
)
from fixtures.engines.transformers.decoding.strategies import settings_in_force
from fixtures.engines.transformers.models import synthetic
from fixtures.engines.transformers.models.engine import synthetic_maps
from fixtures.study.study import DecodingPoint, Workload
from tools.walks import expected_counts

ASSISTED = DecodingPoint("assisted", assist_toks=3, confidence_threshold=0.0, assist_schedule="constant")
LOOKUP = DecodingPoint("prompt_lookup", assist_toks=3, lookup_ngram=2)
NEW_TOKENS = 20
PROMPT = [3, 141, 59, 26]


def decode(engine: Any, point: DecodingPoint, new_tokens: int = NEW_TOKENS, prompt: list[int] = PROMPT) -> Generation:
    with timed_decoder(engine, point, Workload(gen_toks=new_tokens)) as decoder:
        return decoder.generate(0, prompt)


def step_counts(generation: Generation) -> list[tuple[int, int, int, int]]:
    return [(step.proposed, step.accepted, step.rejected, step.emitted) for step in generation.recording.steps]


@pytest.mark.parametrize("assist_toks", [1, 3, 5])
@pytest.mark.parametrize("pair", ["synthetic-tiny", "synthetic-tiny-same", "synthetic-tiny-wrong"])
def test_the_counts_are_those_that_the_construction_predicts(tiny_engine: Any, pair: str, assist_toks: int) -> None:
    engine = tiny_engine(pair)
    truth, guess = synthetic_maps(engine.pair, 0)
    expected = expected_counts(truth, guess, PROMPT[-1], NEW_TOKENS, assist_toks)
    generation = decode(engine, replace(ASSISTED, assist_toks=assist_toks))
    sample = generation.sample()

    assert list(generation.tokens) == synthetic.continuation(truth, PROMPT[-1], NEW_TOKENS)
    assert len(sample.steps) == expected.steps
    assert (sample.drafted, sample.accepted, sample.rejected) == (
        expected.drafted,
        expected.accepted,
        expected.rejected,
    )
    assert sample.rollbacks == expected.rollbacks
    assert sample.censored == 0
    assert (sample.target_forwards, sample.draft_forwards) == (expected.target_forwards, expected.draft_forwards)
    assert sample.proposed_at == expected.proposed_per_position
    assert sample.accepted_at == expected.accepted_per_position


def test_a_draft_equal_to_the_target_is_never_refused(tiny_engine: Any) -> None:
    sample = decode(tiny_engine("synthetic-tiny-same"), ASSISTED).sample()
    assert sample.drafted == sample.accepted == 15
    assert sample.rollbacks == 0


def test_every_step_of_an_always_wrong_draft_that_proposes_is_a_rollback(tiny_engine: Any) -> None:
    sample = decode(tiny_engine("synthetic-tiny-wrong"), ASSISTED).sample()
    assert sample.accepted == 0
    assert sample.rollbacks == sum(proposed > 0 for proposed, _ in sample.steps) == NEW_TOKENS - 1


def cyclic_prompt(engine: Any, length: int = 12) -> list[int]:
    """A prompt whose last token has been seen, with everything that will follow it."""
    truth, _ = synthetic_maps(engine.pair, 0)
    return [5, *synthetic.continuation(truth, 5, length), 5]


def test_prompt_lookup_over_the_length_limit_censors_what_was_cut_and_rejects_nothing(tiny_engine: Any) -> None:
    engine = tiny_engine()
    generation = decode(engine, replace(LOOKUP, assist_toks=10), 4, cyclic_prompt(engine))
    assert step_counts(generation) == [(10, 4, 0, 4)]
    sample = generation.sample()
    assert (sample.censored, sample.rollbacks) == (6, 0)
    assert sample.accepted_at == (1, 1, 1, 1, 0, 0, 0, 0, 0, 0)


def test_prompt_lookup_counts_a_refused_copy_as_rejected_to_its_end(tiny_engine: Any) -> None:
    engine = tiny_engine()
    prompt = cyclic_prompt(engine, 2)  # t, n(t), n(n(t)), t: the copy is right twice and then repeats the prompt
    generation = decode(engine, LOOKUP, 6, prompt)
    assert step_counts(generation)[0] == (3, 2, 1, 3)
    assert generation.recording.draft_forwards == 0


@pytest.fixture
def ending_at(tiny_engine: Any) -> Any:
    """`ending_at(n)`: the always-right pair with the n-th token it will generate as its end-of-text token."""
    engine = tiny_engine("synthetic-tiny-same")
    truth, _ = synthetic_maps(engine.pair, 0)
    before = engine.target.generation_config.eos_token_id

    def end_at(position: int) -> Any:
        engine.target.generation_config.eos_token_id = synthetic.continuation(truth, PROMPT[-1], position)[-1]
        return engine

    yield end_at
    engine.target.generation_config.eos_token_id = before


@pytest.mark.parametrize(
    ("position", "steps"),
    [
        (2, [(2, 2, 0, 2)]),  # inside the first draft: the last token emitted is an accepted one
        (3, [(3, 3, 0, 3)]),  # the draft's last token
        (4, [(3, 3, 0, 4)]),  # the target's own token after a whole draft
        (6, [(3, 3, 0, 4), (2, 2, 0, 2)]),
    ],
)
def test_an_end_token_inside_a_draft_is_counted_as_accepted(
    ending_at: Any, position: int, steps: list[tuple[int, int, int, int]]
) -> None:
    with timed_decoder(ending_at(position), ASSISTED, Workload(gen_toks=NEW_TOKENS, eos_stops=True)) as decoder:
        generation = decoder.generate(0, PROMPT)
    assert step_counts(generation) == steps
    assert generation.sample().rollbacks == 0


def test_an_end_token_does_not_stop_a_study_that_says_so(ending_at: Any) -> None:
    assert len(decode(ending_at(4), ASSISTED).tokens) == NEW_TOKENS


def recorded(engine: Any, *, more: Any = None) -> tuple[Recording, StepRecorder, list[int]]:
    """One assisted generation, recorded; `more` runs inside the recorder after it."""
    recorder = StepRecorder(engine.target, engine.draft, HostClock(), Expected())
    inputs = torch.tensor([PROMPT])
    with torch.inference_mode(), settings_in_force(engine, ASSISTED), recorder:
        output = engine.target.generate(
            inputs, attention_mask=torch.ones_like(inputs), assistant_model=engine.draft, max_new_tokens=10
        )
        if more is not None:
            more()
    tokens = output[0, len(PROMPT) :].tolist()
    return recorder.recording(tokens, len(PROMPT)), recorder, tokens


def test_an_output_that_the_steps_do_not_make_is_refused(tiny_engine: Any) -> None:
    engine = tiny_engine("synthetic-tiny-same")
    _, recorder, tokens = recorded(engine)
    with pytest.raises(CountMismatch, match="do not make the 9 tokens"):
        recorder.recording(tokens[:-1], len(PROMPT))
    with pytest.raises(CountMismatch, match=r"step 1 of 3 proposed"):
        recorder.recording([tokens[0] + 1, *tokens[1:]], len(PROMPT))


def test_a_forward_of_the_target_that_no_step_explains_is_refused(tiny_engine: Any) -> None:
    engine = tiny_engine("synthetic-tiny-same")
    with pytest.raises(CountMismatch, match="4 target forwards"):
        recorded(engine, more=lambda: engine.target(torch.tensor([PROMPT])))


def test_a_step_that_is_told_twice_is_refused(tiny_engine: Any) -> None:
    engine = tiny_engine()
    original, made = engine.target._get_candidate_generator, []

    def keeping(**arguments: Any) -> Any:
        made.append(original(**arguments))
        return made[0]

    engine.target._get_candidate_generator = keeping
    with pytest.raises(CountMismatch, match="do not make the 10 tokens"):
        recorded(engine, more=lambda: made[0].update_candidate_strategy(torch.tensor([PROMPT]), torch.zeros(1, 1), 0))


def test_settings_that_did_not_take_effect_end_the_generation(tiny_engine: Any) -> None:
    engine = tiny_engine()
    inputs = torch.tensor([PROMPT])
    recorder = StepRecorder(engine.target, engine.draft, HostClock(), Expected(assist_toks=5))
    refusal = pytest.raises(SettingNotApplied, match="assist_toks: asked for 5, transformers uses 2")
    with settings_in_force(engine, replace(ASSISTED, assist_toks=2)), refusal, recorder:
        engine.target.generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            assistant_model=engine.draft,
            max_new_tokens=4,
            num_assistant_tokens=5,  # where transformers ignores it
        )
    assert "_get_candidate_generator" not in vars(engine.target)
