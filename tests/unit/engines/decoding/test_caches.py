"""Cache facts: bytes equal the formula, and the departure of a quantized cache is what its rounding does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import DynamicCache, QuantizedCache
from transformers.utils import is_optimum_quanto_available

from fixtures.engines.transformers.decoding import caches
from fixtures.engines.transformers.decoding.caches import cache_facts
from fixtures.engines.transformers.decoding.measurement import TimedDecoder
from fixtures.engines.transformers.models import synthetic
from fixtures.engines.transformers.models.engine import Engine, load_engine
from fixtures.engines.transformers.models.shapes import SHAPES
from fixtures.study.pairs import find_pair
from fixtures.study.rules import CACHE_RULES
from fixtures.study.study import DecodingPoint, EngineKey, Workload

NEW = 24
PROMPT = synthetic.prompts(512, 1, 20, seed=0)[0]
WORKLOAD = Workload(prompts="synthetic", gen_toks=NEW)
LAYERS, KV_HEADS, HEAD_DIM, FP32 = 2, 2, 16, 4

needs_quanto = pytest.mark.skipif(not is_optimum_quanto_available(), reason="optimum-quanto is not installed")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def engine() -> Engine:
    return load_engine(EngineKey("synthetic-tiny", dtype="fp32"), find_pair("synthetic-tiny"), torch.device("cpu"))


def attentive_model() -> Any:
    """A tiny model whose distributions are flat and depend on what the blocks add, and so on the cache."""
    model = synthetic.build(SHAPES["tiny"], synthetic.cycle(512, 0))
    for name, weight in model.named_parameters():
        if name.endswith(synthetic.BRANCH_OUTPUTS):
            weight.data.mul_(300)
        elif name == "lm_head.weight":
            weight.data.mul_(0.1)
    return model


def kv_bytes(tokens: int) -> int:
    return 2 * LAYERS * KV_HEADS * HEAD_DIM * FP32 * tokens


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_an_exact_cache_holds_keys_and_values_of_all_tokens_but_the_last(engine: Engine, cache: str) -> None:
    facts = caches.cache_facts(engine, DecodingPoint(cache=cache), WORKLOAD, PROMPT)
    tokens = len(PROMPT) + NEW - 1  # the last token is never fed back
    assert facts["cache_tokens"] == tokens
    allocated = len(PROMPT) + NEW if cache == "static" else tokens
    assert kv_bytes(tokens) <= facts["cache_bytes"] <= kv_bytes(allocated)
    if cache == "dynamic":
        assert facts["cache_bytes"] == kv_bytes(tokens)


def test_without_a_cache_nothing_is_held(engine: Engine) -> None:
    assert caches.cache_facts(engine, DecodingPoint(cache="none"), WORKLOAD, PROMPT) == {
        "cache_bytes": 0,
        "cache_tokens": 0,
    }


def test_assisted_decoding_tells_the_targets_cache(engine: Engine) -> None:
    point = DecodingPoint("assisted", assist_toks=3, confidence_threshold=0.0, assist_schedule="constant")
    facts = caches.cache_facts(engine, point, WORKLOAD, PROMPT)
    assert facts["cache_tokens"] == len(PROMPT) + NEW - 1
    assert facts["cache_bytes"] >= kv_bytes(len(PROMPT) + NEW - 1)


def test_bytes_of_a_view_are_those_of_the_tensor_it_keeps_alive() -> None:
    cache: Any = DynamicCache()
    cache.update(torch.zeros(1, 2, 10, 16), torch.zeros(1, 2, 10, 16), 0)
    before = caches.cache_bytes(cache)
    cache.crop(-4)
    assert caches.cache_bytes(cache) == before == 2 * 2 * 10 * 16 * 4


def test_the_same_cache_twice_departs_by_nothing(engine: Engine) -> None:
    assert caches.mean_kl(engine.target, (DynamicCache(), DynamicCache()), PROMPT, [1, 2, 3]) == 0.0


class Doubling(DynamicCache):
    """Hands out every value doubled."""

    def update(self, key_states: Any, value_states: Any, layer_idx: int, *more: Any, **named: Any) -> Any:
        keys, values = super().update(key_states, value_states, layer_idx, *more, **named)
        return keys, 2 * values


def test_kl_of_two_caches_token_by_token_equals_that_of_two_whole_forwards() -> None:
    model, forced = attentive_model(), [7, 9, 11]
    measured = caches.mean_kl(model, (DynamicCache(), Doubling()), PROMPT, forced)
    ids = torch.tensor([[*PROMPT, *forced[:-1]]])
    with torch.inference_mode():
        exact, moved = (
            model(ids, past_key_values=cache).logits[0, len(PROMPT) - 1 :].double().log_softmax(-1)
            for cache in (DynamicCache(), Doubling())
        )
    expected = float((exact.exp() * (exact - moved)).sum(-1).mean())
    assert expected > 1e-3
    assert measured == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("left", "right", "length"), [([1, 2, 3], [1, 2, 3], 3), ([1, 2, 3], [1, 9, 3], 1), ([1], [2], 0), ([1, 2], [1], 1)]
)
def test_matching_prefix(left: list[int], right: list[int], length: int) -> None:
    assert caches.matching_prefix(left, right) == length


def test_what_this_machine_cannot_run_is_told_with_a_remedy() -> None:
    for cache in ("none", "dynamic", "static"):
        assert caches.unsupported(cache, "cpu") is None
    assert "--cache dynamic" in (caches.unsupported("offloaded", "cpu") or "")
    assert caches.unsupported("offloaded", "cuda") is None
    assert (caches.unsupported("quantized", "cpu") is None) == is_optimum_quanto_available()


def test_without_a_compiler_a_quantized_cache_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "is_optimum_quanto_available", lambda: True)
    monkeypatch.setenv("CXX", "no-such-compiler")
    for device in ("cpu", "cuda"):
        assert "no C++ compiler" in (caches.unsupported("quantized", device) or "")


REFUSED = [
    (strategy, cache)
    for strategy, rules in CACHE_RULES.items()
    for cache, reason in rules.items()
    if reason is not None and caches.unsupported(cache, "cpu") is None
]


@pytest.mark.parametrize(("strategy", "cache"), REFUSED)
def test_what_the_table_of_caches_refuses_really_fails(engine: Engine, strategy: str, cache: str) -> None:
    drafting = {} if strategy == "prompt_lookup" else {"confidence_threshold": 0.0, "assist_schedule": "constant"}
    point = DecodingPoint(
        strategy,
        assist_toks=3,
        exit_layer=1 if strategy == "early_exit" else None,
        lookup_ngram=2,
        cache=cache,
        **drafting,
    )
    period = [1, 2, 3, 4, 5, 6, 7, 8]  # something to look up: every draft of it is rejected
    with pytest.raises((ValueError, RuntimeError)):
        caches.cache_facts(engine, point, WORKLOAD, period * 3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there")
def test_an_offloaded_cache_really_cannot_run_without_cuda(engine: Engine) -> None:
    with pytest.raises((AssertionError, RuntimeError)):
        caches.cache_facts(engine, DecodingPoint(cache="offloaded"), WORKLOAD, PROMPT)


@needs_quanto
def test_a_quantized_cache_holds_codes_scales_and_the_exact_rest(engine: Engine) -> None:
    facts = caches.cache_facts(engine, DecodingPoint(cache="quantized"), WORKLOAD, PROMPT)
    elements = 2 * LAYERS * KV_HEADS * HEAD_DIM * len(PROMPT)
    codes, scales_and_shifts = elements // 2, 2 * (elements // 64) * FP32
    assert facts["cache_bytes"] == codes + scales_and_shifts + kv_bytes(NEW - 1)
    assert facts["matching_prefix_tokens"] == NEW, "a synthetic model looks at its last token only"
    assert 0 <= facts["logit_kl_nats"] < 1e-3


@needs_quanto
def test_fewer_bits_depart_further(engine: Engine) -> None:
    config = engine.target.config
    model = attentive_model()
    two, four = (
        caches.mean_kl(model, (DynamicCache(), QuantizedCache("quanto", config, nbits=bits)), PROMPT, [1, 2, 3, 4])
        for bits in (2, 4)
    )
    assert 0 < four < two


def test_a_missing_cache_does_not_pass_as_one_that_holds_nothing(engine: Engine) -> None:
    generate = engine.target.generate

    def forgetful(*inputs: Any, **arguments: Any) -> Any:
        output = generate(*inputs, **arguments)
        output.past_key_values = None
        return output

    engine.target.generate = forgetful  # type: ignore[method-assign]
    try:
        with pytest.raises(RuntimeError, match="cache static was asked for"):
            caches.cache_facts(engine, DecodingPoint(cache="static"), WORKLOAD, PROMPT)
    finally:
        del engine.target.generate


def test_a_static_cache_is_as_long_as_its_own_case_needs(tiny_engine: Any) -> None:
    """transformers keeps the longest on the model: a case after a longer one would read and hold more."""
    engine, point = tiny_engine(), DecodingPoint(cache="static")
    short, long = Workload(gen_toks=4), Workload(gen_toks=40)
    own = cache_facts(engine, point, short, [1, 2, 3])["cache_bytes"]
    lengths: list[int] = []

    def look(module: Any, arguments: Any, inputs: Any, output: Any) -> None:
        lengths.append(inputs["past_key_values"].layers[0].keys.shape[-2])

    decoders = {workload: TimedDecoder(engine, point, workload) for workload in (short, long)}
    watch = engine.target.register_forward_hook(look, with_kwargs=True)
    seen = []
    for workload, prompt in ((long, [1, 2, 3]), (short, [1, 2, 3]), (short, [1, 2]), (long, [1]), (short, [1, 2])):
        with decoders[workload].in_turn():
            decoders[workload].generate(0, prompt)
        seen.append(set(lengths))
        lengths.clear()
        assert "_previous_max_cache_length" not in vars(engine.target), "nothing is left for the others"
    watch.remove()
    assert seen == [{3 + 40 - 1}, {3 + 4 - 1}, {3 + 4 - 1}, {3 + 40 - 1}, {3 + 4 - 1}], "as long as its own longest"
    cache_facts(engine, point, long, [1, 2, 3])
    assert cache_facts(engine, point, short, [1, 2, 3])["cache_bytes"] == own
