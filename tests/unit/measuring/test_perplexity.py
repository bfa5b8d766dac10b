"""Perplexity: windows predict each token once, and the value is that of a naive computation token by token."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from fixtures.engines.transformers.models import synthetic
from fixtures.engines.transformers.models.markov import build_sampling_pair
from fixtures.engines.transformers.models.shapes import SHAPES
from fixtures.measuring import perplexity as module
from fixtures.measuring.perplexity import Text, evaluation_text, fitting, perplexity, perplexity_facts, windows

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model() -> Any:
    """Distributions neither flat nor certain, that depend on all the context."""
    built = synthetic.build(SHAPES["tiny"], synthetic.cycle(512, 0))
    for name, weight in built.named_parameters():
        if name.endswith(synthetic.BRANCH_OUTPUTS):
            weight.data.mul_(300)
        elif name == "lm_head.weight":
            weight.data.mul_(0.2)
    return built


@pytest.mark.parametrize("length", [2, 3, 7, 8, 9, 12, 13, 16, 40, 41])
@pytest.mark.parametrize(("stride", "window"), [(4, 8), (1, 2), (3, 8), (7, 8)])
def test_windows_predict_every_token_but_the_first_once(length: int, stride: int, window: int) -> None:
    predicted: list[int] = []
    for number, (begin, first, end) in enumerate(windows(length, stride, window)):
        assert end - begin <= window
        assert begin < first, "no token is predicted without context"
        if number:
            assert first - begin >= min(window - stride, first)
        predicted += range(first, end)
    assert predicted == list(range(1, length))


@pytest.mark.parametrize(("stride", "window"), [(0, 8), (8, 8), (9, 8), (-1, 8)])
def test_a_stride_that_leaves_no_context_is_refused(stride: int, window: int) -> None:
    with pytest.raises(ValueError, match="below the window"):
        list(windows(20, stride, window))


@pytest.mark.parametrize("length", [2, 16, 17, 50, 61])
def test_the_value_is_that_of_a_forward_per_token(model: Any, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stride, window = 6, 16
    monkeypatch.setattr(module, "CHUNK", 5)
    ids = synthetic.prompts(512, 1, length, seed=4)[0]
    found = perplexity(model, ids, CPU, stride=stride, window=window)
    nll = 0.0
    for place in range(1, length):
        # The first window reaches `window` tokens; then each further `stride` tokens begin one stride later.
        number = max(0, math.ceil((place + 1 - window) / stride))
        context = torch.tensor([ids[number * stride : place]])
        with torch.inference_mode():
            logits = model(context).logits[0, -1].double()
        nll -= float(logits.log_softmax(-1)[ids[place]])
    assert found.tokens == length - 1
    assert found.nll_sum == pytest.approx(nll, rel=1e-5)
    assert found.value == pytest.approx(math.exp(nll / (length - 1)), rel=1e-5)


def test_context_matters_in_that_comparison(model: Any) -> None:
    ids = synthetic.prompts(512, 1, 60, seed=4)[0]
    assert perplexity(model, ids, CPU, 6, 16).nll_sum != pytest.approx(
        perplexity(model, ids, CPU, 1, 2).nll_sum, rel=1e-3
    )


def test_known_distributions_give_their_entropy() -> None:
    """A model whose every distribution is uniform over 48 tokens has perplexity 48."""
    rows = torch.full((48, 48), 1 / 48, dtype=torch.float64)
    uniform, _ = build_sampling_pair(rows, rows)
    assert perplexity(uniform, list(range(40)), CPU, 6, 16).value == pytest.approx(48.0, rel=1e-5)


def test_windows_are_no_longer_than_the_models_positions() -> None:
    shape = replace(SHAPES["tiny"], max_positions=16)
    short = synthetic.build(shape, synthetic.cycle(512, 0))
    longest = 0

    def watch(module: Any, arguments: Any, named: Any) -> None:
        nonlocal longest
        longest = max(longest, named["past_key_values"].get_seq_length() + named["input_ids"].shape[1])

    handle = short.register_forward_pre_hook(watch, with_kwargs=True)
    ids = synthetic.prompts(512, 1, 50, seed=4)[0]
    perplexity(short, ids, CPU, *fitting(short, stride=6))
    handle.remove()
    assert longest == 15, "a window of 16 feeds all but its last token"


@pytest.mark.parametrize(
    ("length", "expected"), [(2, (1, 2)), (64, (32, 64)), (512, (256, 512)), (513, (512, 513)), (8192, (512, 2048))]
)
def test_the_stride_leaves_context_whatever_the_models_length(length: int, expected: tuple[int, int]) -> None:
    shape = replace(SHAPES["tiny"], max_positions=length)
    short = synthetic.build(shape, synthetic.cycle(512, 0))
    assert fitting(short) == expected
    text = Text("numbers", " ".join(f"t{token}" for token in range(100)))
    facts = perplexity_facts(short, lambda content: synthetic.tokenizer(512)(content).input_ids, text, CPU, 90)
    assert (facts["perplexity_stride"], facts["perplexity_window"]) == expected
    assert facts["perplexity_tokens"] == 89


def test_what_cannot_be_measured_is_refused(model: Any) -> None:
    with pytest.raises(ValueError, match="at least 2 tokens"):
        perplexity(model, [1], CPU)
    broken = synthetic.build(SHAPES["tiny"], synthetic.cycle(512, 0))
    broken.get_parameter("model.norm.weight").data.fill_(math.nan)
    with pytest.raises(ValueError, match="not finite"):
        perplexity(broken, [1, 2, 3], CPU)


def test_facts_are_bounded_and_name_their_text(model: Any) -> None:
    text = Text("numbers", " ".join(f"t{token}" for token in range(100)))
    tokenizer = synthetic.tokenizer(512)
    facts = perplexity_facts(model, lambda content: tokenizer(content).input_ids, text, CPU, max_tokens=30)
    assert facts["perplexity_tokens"] == 29
    assert facts["perplexity_text"] == "numbers"
    assert facts["perplexity"] == perplexity(model, list(range(30)), CPU).value


def test_the_embedded_study_is_measured_on_prose_without_a_network() -> None:
    text = evaluation_text("embedded")
    assert text.source == "embedded prose"
    assert len(text.content) > 100_000


@pytest.mark.embedded
def test_nf4_costs_the_embedded_model_some_quality() -> None:
    from fixtures.engines.transformers.models.engine import load_engine
    from fixtures.study.pairs import find_pair
    from fixtures.study.study import EngineKey

    values = {}
    for quantization in ("none", "4bit"):
        engine = load_engine(EngineKey("embedded", quantization, None), find_pair("embedded"), CPU)

        def tokenize(content: str, tokenizer: Any = engine.tokenizer) -> list[int]:
            return list(tokenizer(content[:4000]).input_ids)

        facts = perplexity_facts(engine.target, tokenize, evaluation_text("embedded"), CPU, max_tokens=200)
        values[quantization] = facts["perplexity"]
    assert 3 < values["none"] < values["4bit"] < 100
