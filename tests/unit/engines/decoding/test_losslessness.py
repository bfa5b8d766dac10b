"""The verdict on a case's output: equal, near ties, wrong; and that bugs planted into transformers come out as wrong.

The synthetic pairs' next token depends on the last token alone, so they cannot show a bug of position or cache. The
pair here has blocks that matter: every token depends on all tokens before it and on where they stand.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from fixtures.engines.transformers.decoding.losslessness import EXAMINED, Losslessness, judge
from fixtures.engines.transformers.decoding.measurement import timed_decoder, tokens_sha256
from fixtures.engines.transformers.models import synthetic
from fixtures.engines.transformers.models.engine import Engine, load_engine
from fixtures.study.pairs import find_pair
from fixtures.study.study import DecodingPoint, EngineKey, Workload
from reports.record.run import Sample
from tests.unit.engines.decoding.mutation import plant

WORKLOAD = Workload(prompts="synthetic", num_samples=8, max_prompt=12, gen_toks=24)
PROMPTS = synthetic.prompts(512, 8, 12, seed=3)
PLAIN = DecodingPoint()
ASSISTED = DecodingPoint("assisted", 3, 0.0, "constant")
LOOKUP = DecodingPoint("prompt_lookup", 3, lookup_ngram=2)
EARLY = DecodingPoint("early_exit", 3, 0.0, "constant", exit_layer=1)
STRATEGIES = (
    DecodingPoint("assisted", 1, 0.0, "constant"),
    ASSISTED,
    DecodingPoint("assisted", 8, 0.0, "constant"),
    DecodingPoint("assisted", 5, 0.4, "constant"),
    DecodingPoint("assisted", 5, 0.02, "heuristic"),
    DecodingPoint("assisted", 5, 0.0, "heuristic_transient"),
    LOOKUP,
    DecodingPoint("prompt_lookup", 10, lookup_ngram=3),
    EARLY,
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def attentive_engine(dtype: str = "fp32") -> Engine:
    """A tiny pair whose blocks matter; the draft is the target with other noise, and is right now and then."""
    engine = load_engine(EngineKey("synthetic-tiny", dtype=dtype), find_pair("synthetic-tiny"), torch.device("cpu"))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in engine.target.parameters():
            if weight.ndim > 1:
                weight.copy_(torch.randn(weight.shape, generator=generator) * (1.0 if len(weight) == 512 else 0.2))
        engine.draft = copy.deepcopy(engine.target)
        for weight in engine.draft.parameters():
            if weight.ndim > 1:
                weight.add_(torch.randn(weight.shape, generator=generator).to(weight.dtype) * 0.02)
    return engine


@pytest.fixture(scope="module")
def attentive() -> Engine:
    torch.set_num_threads(1)
    return attentive_engine()


@pytest.fixture(scope="module")
def plain(attentive: Engine) -> list[Sample]:
    torch.set_num_threads(1)
    return decoded(attentive, PLAIN)


def decoded(engine: Engine, point: DecodingPoint, prompts: Sequence[Sequence[int]] = PROMPTS) -> list[Sample]:
    with timed_decoder(engine, point, WORKLOAD) as decoder:
        return [decoder.generate(number, ids).sample() for number, ids in enumerate(prompts)]


def changed(sample: Sample, position: int, token: int) -> Sample:
    """The sample with another token at a position, as if the case had chosen it."""
    tokens = (*sample.output_tokens[:position], token, *sample.output_tokens[position + 1 :])
    return dataclasses.replace(sample, output_tokens=tokens, output_sha256=tokens_sha256(tokens))


@contextmanager
def counted_forwards(engine: Engine) -> Iterator[list[int]]:
    lengths: list[int] = []
    target: Any = engine.target
    hook = target.register_forward_pre_hook(
        lambda module, args, kwargs: lengths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    try:
        yield lengths
    finally:
        hook.remove()


# --- what transformers does is lossless --------------------------------------------------------------


def test_the_pair_of_these_tests_depends_on_positions_and_is_drafted_for_with_mixed_success(
    attentive: Engine, plain: list[Sample]
) -> None:
    assisted = decoded(attentive, ASSISTED)
    accepted, drafted = sum(s.accepted for s in assisted), sum(s.drafted for s in assisted)
    assert 0.2 < accepted / drafted < 0.9
    target: Any = attentive.target
    ids = torch.tensor([PROMPTS[0]])
    with torch.inference_mode():
        here = target(ids).logits[0, -1].argmax()
        there = target(torch.cat([ids[:, 1:-1], ids[:, :1], ids[:, -1:]], dim=1)).logits[0, -1].argmax()
    assert here != there, "the same tokens in another order give another next token"


@pytest.mark.parametrize("point", STRATEGIES, ids=lambda point: point.id)
def test_fp32_output_of_every_strategy_equals_plain_decoding(
    attentive: Engine, plain: list[Sample], point: DecodingPoint
) -> None:
    found = judge(attentive, point, WORKLOAD, PROMPTS, decoded(attentive, point), plain)
    assert found == Losslessness("equal", compared=8)


@pytest.mark.parametrize("point", [ASSISTED, LOOKUP, EARLY], ids=lambda point: point.strategy)
def test_fp32_output_of_the_synthetic_pair_equals_plain_decoding(point: DecodingPoint) -> None:
    engine = load_engine(EngineKey("synthetic-tiny", dtype="fp32"), find_pair("synthetic-tiny"), torch.device("cpu"))
    found = judge(engine, point, WORKLOAD, PROMPTS, decoded(engine, point), decoded(engine, PLAIN))
    assert found.verdict == "equal"


@pytest.mark.parametrize("cache", ["none", "static", "offloaded"])
def test_fp32_output_with_every_exact_cache_equals_the_dynamic_one(
    attentive: Engine, plain: list[Sample], cache: str
) -> None:
    if cache == "offloaded" and not torch.cuda.is_available():
        pytest.skip("an offloaded cache needs a CUDA device")
    point = DecodingPoint(cache=cache)
    assert judge(attentive, point, WORKLOAD, PROMPTS, decoded(attentive, point), plain).verdict == "equal"


def test_equal_outputs_cost_no_forward(attentive: Engine, plain: list[Sample]) -> None:
    with counted_forwards(attentive) as lengths:
        judge(attentive, PLAIN, WORKLOAD, PROMPTS, plain, plain)
    assert lengths == []


# --- planted bugs --------------------------------------------------------------------------------------

LOGITS = "new_logits = outputs.logits[:, -candidate_length - 1 :].to("
SELECTED = "candidate_new_tokens = candidate_input_ids[:, cur_len:]"
BUGS = {
    "accept always": {
        SELECTED: f"{SELECTED}; selected_tokens = torch.cat((candidate_new_tokens, selected_tokens[:, -1:]), dim=-1)"
    },
    "verified one position off": {LOGITS: LOGITS.replace(".to(", ".roll(1, 1).to(")},
    "placed one position off": {
        "new_length = candidate_length + position_ids.shape[-1]": "new_length = candidate_length + position_ids.shape"
        "[-1]; candidate_kwargs['position_ids'] = position_ids + int(not is_first_iteration)"
    },
    "a rejected token stays in the cache": {
        "outputs.past_key_values.crop(-number_of_tokens_to_crop)": "outputs.past_key_values.crop("
        "-max(number_of_tokens_to_crop - 1, 0))"
    },
}


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_wrong(bug: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = attentive_engine(dtype)
    baseline = decoded(engine, PLAIN)
    plant(monkeypatch, "_assisted_decoding", BUGS[bug])
    samples = decoded(engine, ASSISTED)
    found = judge(engine, ASSISTED, WORKLOAD, PROMPTS, samples, baseline)
    assert found.verdict == "wrong", found
    assert found.first is not None and not found.first.near_tie
    compiled = judge(engine, ASSISTED, WORKLOAD, PROMPTS, samples, baseline, compiled=True)
    assert compiled.verdict == "wrong", "no rounding of compiled kernels explains it either"


def test_forwards_that_compute_several_positions_otherwise_are_wrong_not_rounded() -> None:
    """The bug is in the model here, so the forwards that examine a divergence have it too."""
    engine = attentive_engine("bf16")
    baseline = decoded(engine, PLAIN)
    target: Any = engine.target

    def shift(module: Any, arguments: Any, output: Any) -> None:
        if output.logits.shape[1] > 1:
            output.logits = output.logits.roll(1, 1)

    hook = target.register_forward_hook(shift)
    try:
        samples = decoded(engine, ASSISTED)
        found = judge(engine, ASSISTED, WORKLOAD, PROMPTS, samples, baseline)
    finally:
        hook.remove()
    assert found.verdict == "wrong"


# --- near ties -----------------------------------------------------------------------------------------


def round_several_otherwise(target: Any) -> None:
    """Have forwards of several positions add up the head's products in another order than forwards of one.

    Kernels do this on many processors, but not on all: these tests bring their own rounding.
    """

    def in_halves(head: Any, arguments: Any, output: torch.Tensor) -> torch.Tensor:
        (hidden,) = arguments
        if hidden.shape[1] == 1:
            return output
        half = hidden.shape[-1] // 2
        return hidden[..., :half] @ head.weight[:, :half].T + hidden[..., half:] @ head.weight[:, half:].T

    target.lm_head.register_forward_hook(in_halves)


def tied(engine: Engine, sample: Sample, position: int, gap: float) -> tuple[Engine, int]:
    """The engine with a token whose logit is `gap` below that of the sample's token at this position.

    Both tokens share a row of the head, and what differs is a multiple of the hidden state there.
    """
    target: Any = copy.deepcopy(engine.target)
    token = sample.output_tokens[position]
    unused = next(t for t in range(511) if t not in {*sample.output_tokens, *PROMPTS[sample.prompt]} and t > token)
    ids = torch.tensor([[*PROMPTS[sample.prompt], *sample.output_tokens[:position]]])
    with torch.inference_mode():
        hidden = target.model(ids).last_hidden_state[0, -1]
        head = target.lm_head.weight
        head[unused] = head[token] - gap * hidden / (hidden @ hidden)
    round_several_otherwise(target)
    return dataclasses.replace(engine, target=target), unused


@pytest.mark.parametrize(
    ("gap", "verdict"), [(0.0, "near_ties"), (1e-7, "near_ties"), (1e-3, "wrong"), (0.5, "wrong")], ids=str
)
@pytest.mark.parametrize("position", [0, 1, 9])
def test_a_tie_is_near_if_rounding_could_turn_it(
    attentive: Engine, plain: list[Sample], gap: float, verdict: str, position: int
) -> None:
    engine, rival = tied(attentive, plain[2], position, gap)
    baseline = decoded(engine, PLAIN)
    assert baseline[2].output_tokens == plain[2].output_tokens
    samples = decoded(engine, ASSISTED)
    found = judge(engine, ASSISTED, WORKLOAD, PROMPTS, [changed(samples[2], position, rival)], baseline)
    assert found.verdict == verdict, found
    first = found.first
    assert first is not None and first.margin is not None and first.rounding is not None
    assert (first.prompt, first.position, first.found) == (2, position, rival)
    assert first.expected == plain[2].output_tokens[position]
    assert first.margin == pytest.approx(gap, abs=1e-5)
    assert 0 < first.rounding < 1e-3
    assert (found.near_ties, found.wrong) == ((1, 0) if verdict == "near_ties" else (0, 1))


def test_bf16_divergences_of_real_decoding_are_near_ties() -> None:
    """Forwards of another shape do turn near-ties around here; none of them may count as wrong."""
    engine = attentive_engine("bf16")
    round_several_otherwise(engine.target)
    prompts = synthetic.prompts(512, 24, 12, seed=4)
    samples, baseline = decoded(engine, ASSISTED, prompts), decoded(engine, PLAIN, prompts)
    found = judge(engine, ASSISTED, WORKLOAD, prompts, samples, baseline, examine=24)
    assert (found.verdict, found.wrong, found.unexamined) == ("near_ties", 0, 0), found
    assert found.near_ties == found.diverged > 0


# --- counts, costs, what cannot be compared ------------------------------------------------------------


@pytest.fixture
def spoiled(attentive: Engine) -> Callable[[Sequence[int]], list[Sample]]:
    """Assisted samples whose prompt i differs at positions[i], by the token that the target likes least."""

    def make(positions: Sequence[int]) -> list[Sample]:
        samples = decoded(attentive, ASSISTED)
        target: Any = attentive.target
        for number, position in enumerate(positions):
            ids = torch.tensor([[*PROMPTS[number], *samples[number].output_tokens[:position]]])
            with torch.inference_mode():
                worst = int(target(ids).logits[0, -1].argmin())
            samples[number] = changed(samples[number], position, worst)
        return samples

    return make


def test_the_earliest_divergences_are_examined_and_the_others_counted(
    attentive: Engine, plain: list[Sample], spoiled: Callable[[Sequence[int]], list[Sample]]
) -> None:
    samples = spoiled([20, 21, 9, 8, 7, 22])
    with counted_forwards(attentive) as lengths:
        found = judge(attentive, ASSISTED, WORKLOAD, PROMPTS, samples, plain)
    assert (found.verdict, found.compared, found.diverged) == ("wrong", 8, 6)
    assert (found.wrong, found.near_ties, found.unexamined) == (EXAMINED, 0, 2)
    assert found.first is not None and (found.first.prompt, found.first.position) == (0, 20)
    quick, exact = 4, sum(position + 1 for position in (20, 9, 8, 7)) + 4 * 21
    assert 0 < len(lengths) <= 4 * quick + exact
    fewer = judge(attentive, ASSISTED, WORKLOAD, PROMPTS, samples, plain, examine=2)
    assert (fewer.wrong, fewer.unexamined) == (2, 4)
    every = judge(attentive, ASSISTED, WORKLOAD, PROMPTS, samples, plain, further=float("inf"))
    assert (every.wrong, every.unexamined) == (EXAMINED + 2, 0), "all of them where the time is there"
    assert fewer.first is not None and fewer.first.prompt == 3


def test_one_wrong_divergence_outweighs_near_ties(
    attentive: Engine, plain: list[Sample], spoiled: Callable[[Sequence[int]], list[Sample]]
) -> None:
    engine, rival = tied(attentive, plain[0], 5, 0.0)
    samples = spoiled([5, 6])
    samples[0] = changed(samples[0], 5, rival)
    found = judge(engine, ASSISTED, WORKLOAD, PROMPTS, samples[:2], plain)
    assert (found.verdict, found.near_ties, found.wrong) == ("wrong", 1, 1)
    assert found.first is not None and found.first.prompt == 1


@pytest.mark.parametrize("longer", ["case", "baseline"])
def test_an_output_of_another_length_is_wrong(attentive: Engine, plain: list[Sample], longer: str) -> None:
    tokens = plain[1].output_tokens[:-1]
    short = dataclasses.replace(plain[1], output_tokens=tokens, output_sha256=tokens_sha256(tokens), new_tokens=23)
    ours, theirs = (plain[1], short) if longer == "case" else (short, plain[1])
    found = judge(attentive, PLAIN, WORKLOAD, PROMPTS, [ours], [theirs])
    assert found.verdict == "wrong" and found.first is not None
    last = plain[1].output_tokens[-1]
    assert (found.first.position, found.first.expected, found.first.found) == (
        (23, None, last) if longer == "case" else (23, last, None)
    )


@pytest.mark.parametrize(
    ("point", "reason"),
    [
        (dataclasses.replace(ASSISTED, do_sample=True, temperature=1.0, top_p=1.0), "distribution"),
        (DecodingPoint(cache="quantized"), "quantized cache"),
    ],
    ids=["sampled", "quantized cache"],
)
def test_what_may_differ_is_not_compared(
    attentive: Engine, plain: list[Sample], point: DecodingPoint, reason: str
) -> None:
    found = judge(attentive, point, WORKLOAD, PROMPTS, [changed(plain[0], 0, 7)], plain)
    assert found.verdict == "not comparable" and reason in found.reason


def test_outputs_without_tokens_are_compared_by_their_hash(attentive: Engine, plain: list[Sample]) -> None:
    bare = [dataclasses.replace(sample, output_tokens=()) for sample in plain]
    assert judge(attentive, PLAIN, WORKLOAD, PROMPTS, bare, bare).verdict == "equal"
    found = judge(attentive, PLAIN, WORKLOAD, PROMPTS, [dataclasses.replace(bare[0], output_sha256="x")], bare)
    assert (found.verdict, found.diverged) == ("not comparable", 1)
    assert "their tokens were not kept" in found.reason
    assert judge(attentive, PLAIN, WORKLOAD, PROMPTS, [], plain).verdict == "not comparable"


def test_what_is_known_of_outputs_is_examined_where_other_tokens_were_not_kept(
    attentive: Engine, plain: list[Sample], spoiled: Callable[[Sequence[int]], list[Sample]]
) -> None:
    engine, rival = tied(attentive, plain[0], 5, 0.0)
    tie = changed(decoded(attentive, ASSISTED)[0], 5, rival)
    wrong = spoiled([9, 6])[1]
    bare = [plain[0], *(dataclasses.replace(sample, output_tokens=()) for sample in plain[1:])]
    found = judge(engine, ASSISTED, WORKLOAD, PROMPTS, [tie, wrong], bare)
    assert (found.verdict, found.diverged, found.near_ties, found.unexamined) == ("near_ties", 2, 1, 1)
    found = judge(engine, ASSISTED, WORKLOAD, PROMPTS, [wrong], bare)
    assert (found.verdict, found.wrong) == ("not comparable", 0), "never wrong by a hash alone"


def test_a_verdict_is_plain_json(
    attentive: Engine, plain: list[Sample], spoiled: Callable[[Sequence[int]], list[Sample]]
) -> None:
    facts = judge(attentive, ASSISTED, WORKLOAD, PROMPTS, spoiled([4]), plain).facts()
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert (facts["verdict"], facts["diverged"], facts["first"]["position"]) == ("wrong", 1, 4)
    assert facts["first"]["margin"] > facts["first"]["rounding"] >= 0


@pytest.mark.embedded
def test_near_ties_of_the_embedded_target_are_told_from_wrong_tokens() -> None:
    """On the real model in bf16: its second choice at a clear position is wrong, plain and assisted agree or nearly."""
    key = EngineKey("embedded", draft_quant=None, dtype="bf16")
    engine = load_engine(key, find_pair("embedded"), torch.device("cpu"))
    workload = Workload(prompts="embedded", num_samples=1, max_prompt=16, gen_toks=12)
    text = "The list method sort() takes a key function. The list method sort() takes"
    prompts = [list(engine.tokenizer(text).input_ids)]
    runs = {}
    for point in (PLAIN, LOOKUP):
        with timed_decoder(engine, point, workload) as decoder:
            runs[point] = [decoder.generate(0, prompts[0]).sample()]
    assert judge(engine, LOOKUP, workload, prompts, runs[LOOKUP], runs[PLAIN]).verdict in ("equal", "near_ties")
    begins = itertools.accumulate((accepted + 1 for _, accepted in runs[LOOKUP][0].steps), initial=0)
    drafted = [at for at, (proposed, _) in zip(begins, runs[LOOKUP][0].steps, strict=False) if at and proposed]
    unlikely = changed(runs[LOOKUP][0], drafted[0], 0)
    found = judge(engine, LOOKUP, workload, prompts, [unlikely], runs[PLAIN])
    assert found.verdict == "wrong" and found.first is not None and found.first.rounding is not None
    assert 0 <= found.first.rounding < found.first.margin, "kernels may round several positions as they round one"
