"""Synthetic pairs: the architectures are the published ones, and what they decode is what the maps say."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from scipy.stats import chisquare
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedModel

from fixtures.engines.transformers.models import synthetic
from fixtures.engines.transformers.models.markov import build_sampling_pair
from fixtures.engines.transformers.models.quantization import quantize_in_place, weight_bytes
from fixtures.engines.transformers.models.shapes import SHAPES, Shape
from tests.unit.synthetic_pairs import SyntheticPair, build_pair, parameter_count, save, transition_rows
from tools.walks import ExpectedCounts, expected_counts

VOCAB = SHAPES["tiny"].vocab
NEW_TOKENS = 40

# The parameter counts published with each model's checkpoint.
PUBLISHED = {
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.2-3b": 3_212_749_824,
    "llama-3.2-1b": 1_235_814_400,
    "mistral-7b": 7_241_732_096,
    "llama-2-7b": 6_738_415_616,
    "tinyllama-1.1b": 1_100_048_384,
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Models this small only wait for a second thread, for seconds on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items())
def test_a_shape_has_the_published_number_of_parameters(name: str, published: int) -> None:
    assert parameter_count(SHAPES[name]) == published


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_has_the_parameters_of_its_shape_and_one_table_where_that_has_one(tied: bool) -> None:
    shape = replace(SHAPES["tiny"], tied=tied)
    built: Any = synthetic.build(shape, synthetic.cycle(VOCAB, seed=0))
    assert built.num_parameters() == parameter_count(shape)
    assert (built.lm_head.weight is built.model.embed_tokens.weight) == tied
    assert built.config.tie_word_embeddings == tied


def test_the_cycle_visits_every_token_but_the_end_token_once() -> None:
    visited = synthetic.continuation(synthetic.cycle(VOCAB, seed=3), last_token=7, new_tokens=VOCAB - 1)
    assert visited[-1] == 7
    assert sorted(visited) == list(range(VOCAB - 1))


@pytest.mark.parametrize(
    ("agreement", "agreeing"), [(1.0, 511), (0.8, 409), (0.5, 255), (0.998, 508), (0.996, 508), (0.0, 0)]
)
def test_a_draft_agrees_on_exactly_the_planted_tokens(agreement: float, agreeing: int) -> None:
    target = synthetic.cycle(VOCAB, seed=0)
    draft = synthetic.disagreeing(target, agreement, seed=1)
    assert int((draft == target)[:-1].sum()) == agreeing
    assert sorted(synthetic.continuation(draft, 0, VOCAB - 1)) == list(range(VOCAB - 1)), "one cycle, as the target's"
    assert draft[-1] == target[-1] == VOCAB - 1


def test_a_map_of_several_cycles_has_no_tied_model_and_no_draft_of_known_agreement() -> None:
    several = synthetic.cycle(VOCAB, seed=0)
    several[[3, 141]] = several[[141, 3]]
    synthetic.build(SHAPES["tiny"], several)
    with pytest.raises(ValueError, match="one cycle through the first 511 tokens"):
        synthetic.build(SHAPES["tiny-draft-tied"], several)
    with pytest.raises(ValueError, match="one cycle through the first 511 tokens"):
        synthetic.disagreeing(several, 0.5, seed=1)


def test_two_tokens_cannot_disagree() -> None:
    with pytest.raises(ValueError, match="a cycle of 2 tokens has no other"):
        synthetic.disagreeing(torch.tensor([1, 0, 2]), 0.0, seed=1)


@pytest.mark.parametrize("agreement", [-0.1, 1.1, float("nan")])
def test_an_impossible_agreement_is_refused(agreement: float) -> None:
    with pytest.raises(ValueError, match="not between 0 and 1"):
        synthetic.disagreeing(synthetic.cycle(VOCAB, seed=0), agreement, seed=1)


def test_maps_depend_on_the_seed_alone() -> None:
    assert torch.equal(synthetic.cycle(VOCAB, seed=5), synthetic.cycle(VOCAB, seed=5))
    assert not torch.equal(synthetic.cycle(VOCAB, seed=5), synthetic.cycle(VOCAB, seed=6))


def test_a_map_that_is_no_permutation_is_refused() -> None:
    with pytest.raises(ValueError, match="permutation of the 512 tokens"):
        synthetic.build(SHAPES["tiny"], torch.zeros(VOCAB, dtype=torch.int64))


def test_vocabularies_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="512 and 256 tokens"):
        build_pair(SHAPES["tiny"], replace(SHAPES["tiny-draft"], vocab=256), 1.0)


@torch.no_grad()
def _next_token_logits(model: PreTrainedModel, tokens: torch.Tensor) -> torch.Tensor:
    return model(tokens[:, None]).logits[:, -1].float()


def _margin(logits: torch.Tensor, right: torch.Tensor) -> float:
    """The smallest lead of the right token over the best other one."""
    rows = torch.arange(len(right))
    lead = logits[rows, right].clone()
    logits[rows, right] = -torch.inf
    return float((lead - logits.max(dim=-1).values).min())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["tiny", "tiny-draft", "tiny-draft-tied"])
def test_every_token_is_followed_by_its_successor_with_room_to_spare(name: str, dtype: torch.dtype) -> None:
    follows = synthetic.cycle(VOCAB, seed=0)
    model = synthetic.build(SHAPES[name], follows, dtype=dtype)
    assert model.dtype == dtype
    assert _margin(_next_token_logits(model, torch.arange(VOCAB)), follows) > 4.0


@pytest.mark.parametrize("quantization", ["none", "8bit", "4bit"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_margin_is_wide_in_bf16_at_true_width(tied: bool, quantization: str) -> None:
    """Llama-3.2-1B's width, one of its layers narrowed in its middle, 1,024 tokens of its vocabulary."""
    shape = replace(SHAPES["llama-3.2-1b"], vocab=1024, layers=1, intermediate=2048, tied=tied)
    follows = synthetic.disagreeing(synthetic.cycle(shape.vocab, seed=0), 0.7, seed=1)
    model = synthetic.build(shape, follows, dtype=torch.bfloat16, finish=_quantizing(quantization))
    tokens = torch.arange(0, shape.vocab, 64)
    assert _margin(_next_token_logits(model, tokens), follows[tokens]) > 15.0


def _quantizing(quantization: str) -> Any:
    return lambda block: quantize_in_place(block, quantization)


class _Allocations(TorchDispatchMode):
    """Bytes alive of what was made since `begin`, and their peak; the memory is not there on the meta device."""

    def __init__(self) -> None:
        super().__init__()
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self._before: dict[int, tuple[StorageWeakRef, int]] = {}  # held, so that no address is used again
        self.peak = 0

    def begin(self) -> None:
        self._before, self._alive, self.peak = self._alive, {}, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in self._before:
                storage = tensor.untyped_storage()
                self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        if sum(size for _, size in self._alive.values()) > self.peak:
            self._alive = {key: kept for key, kept in self._alive.items() if not kept[0].expired()}
            self.peak = max(self.peak, sum(size for _, size in self._alive.values()))
        return result


def _peak_bytes(shape: Shape, quantization: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Most bytes alive while a bf16 model of this shape is built, and those that it stores; nothing is allocated."""
    allocations, make_skeleton = _Allocations(), synthetic.skeleton

    def skeleton(*arguments: Any) -> Any:
        model = make_skeleton(*arguments)
        allocations.begin()  # a skeleton is on the meta device always, and costs nothing
        return model

    monkeypatch.setattr(synthetic, "skeleton", skeleton)
    with allocations:
        model = synthetic.build(
            shape,
            synthetic.cycle(shape.vocab, seed=0),
            dtype=torch.bfloat16,
            device="meta",
            finish=_quantizing(quantization),
        )
    monkeypatch.undo()
    return allocations.peak, weight_bytes(model)


GIB = 2**30


def test_a_true_size_model_is_never_in_memory_unquantized_and_the_pair_fits_an_l4(monkeypatch: Any) -> None:
    """Beyond a model as stored at most one block in 16 bits, and what quantizing its largest layer takes. An L4 has
    22.03 GiB, of which the context, caches and activations take more than one."""
    shape = SHAPES["llama-3.1-8b"]
    attention = 2 * shape.hidden * (shape.hidden + shape.kv_heads * shape.head_dim)
    block, largest = 2 * (attention + 3 * shape.hidden * shape.intermediate), 2 * shape.hidden * shape.intermediate
    drafting, draft = _peak_bytes(SHAPES["llama-3.2-3b"], "none", monkeypatch)
    rotary = 4 * SHAPES["llama-3.2-3b"].head_dim
    assert draft == 2 * PUBLISHED["llama-3.2-3b"] + rotary, "one table"
    assert drafting < draft + 0.1 * GIB
    for quantization, low, high in (("8bit", 8.4, 8.5), ("4bit", 5.3, 5.4)):
        peak, stored = _peak_bytes(shape, quantization, monkeypatch)
        assert low * GIB < stored < high * GIB
        assert stored < peak <= stored + block + 3 * largest
        assert max(peak, stored + drafting) < 15 * GIB
    assert (2 * PUBLISHED["llama-3.1-8b"] + draft) / GIB == pytest.approx(20.94, abs=0.01), (
        "in 16 bits both, as the real"
    )


@pytest.mark.parametrize(
    ("config", "layer"),
    [
        (BitsAndBytesConfig(load_in_8bit=True), Linear8bitLt),
        (
            BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16),
            Linear4bit,
        ),
    ],
    ids=["8bit", "4bit"],
)
def test_a_saved_model_still_follows_its_map_when_quantized(
    config: BitsAndBytesConfig, layer: type[torch.nn.Module], tmp_path: Path
) -> None:
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    follows = synthetic.cycle(VOCAB, seed=0)
    save(synthetic.build(SHAPES["tiny"], follows, dtype=torch.bfloat16), tmp_path)
    model = AutoModelForCausalLM.from_pretrained(
        tmp_path, quantization_config=config, dtype=torch.bfloat16, device_map="cpu"
    )
    assert isinstance(model.model.layers[0].mlp.down_proj, layer)
    assert _margin(_next_token_logits(model, torch.arange(VOCAB)), follows) > 4.0


def test_a_saved_model_loads_as_it_was(tmp_path: Path) -> None:
    model = synthetic.build(SHAPES["tiny"], synthetic.cycle(VOCAB, seed=0))
    save(model, tmp_path)
    tokens = torch.tensor([[3, 1, 4, 1, 5]])
    with torch.no_grad():
        assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path)(tokens).logits, model(tokens).logits)
    assert AutoTokenizer.from_pretrained(tmp_path)("t3 t17").input_ids == [3, 17]


def test_the_tokenizer_reads_its_own_words_and_never_ends_a_prompt() -> None:
    tokenizer = synthetic.tokenizer(VOCAB)
    assert tokenizer.decode([5, 0, 510]) == "t5 t0 t510"
    assert tokenizer("t5 t0 t510").input_ids == [5, 0, 510]
    assert tokenizer("It was the best of times.").input_ids == [0] * 6
    assert tokenizer.eos_token_id == tokenizer.pad_token_id == SHAPES["tiny"].eos
    assert len(tokenizer) == VOCAB


def test_prompts_are_fixed_by_their_seed_and_never_hold_the_end_token() -> None:
    made = synthetic.prompts(8, count=50, length=12, seed=0)
    assert {len(prompt) for prompt in made} == {12}
    assert {token for prompt in made for token in prompt} == set(range(7))
    assert synthetic.prompts(8, count=3, length=12, seed=0) == made[:3]
    assert synthetic.prompts(8, count=3, length=12, seed=1) != made[:3]


@dataclass
class _Observed:
    """What stock `generate` did, seen at the candidate generator and at both models' forwards."""

    proposed: list[int] = field(default_factory=list)
    matched: list[int] = field(default_factory=list)
    target_forwards: int = 0
    draft_forwards: int = 0

    def counts(self, assist_toks: int) -> ExpectedCounts:
        steps = list(zip(self.proposed, self.matched, strict=True))
        return ExpectedCounts(
            steps=len(steps),
            drafted=sum(self.proposed),
            accepted=sum(self.matched),
            rejected=sum(p - m for p, m in steps),
            rollbacks=sum(p > m for p, m in steps),
            target_forwards=self.target_forwards,
            draft_forwards=self.draft_forwards,
            proposed_per_position=tuple(sum(p > i for p, _ in steps) for i in range(assist_toks)),
            accepted_per_position=tuple(sum(m > i for _, m in steps) for i in range(assist_toks)),
        )


def _generate(model: PreTrainedModel, prompt: list[int], new_tokens: int, **options: Any) -> list[int]:
    ids = torch.tensor([prompt])
    options = {"do_sample": False, "attention_mask": torch.ones_like(ids), "max_new_tokens": new_tokens, **options}
    return model.generate(ids, **options)[0, len(prompt) :].tolist()


def _observe_assisted(
    pair: SyntheticPair, prompt: list[int], new_tokens: int, assist_toks: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[int], ExpectedCounts]:
    """Run stock assisted generation and count."""
    observed = _Observed()
    make_generator = pair.target._get_candidate_generator

    def watched_generator(**arguments: Any) -> Any:
        generator = make_generator(**arguments)
        get_candidates, update = generator.get_candidates, generator.update_candidate_strategy

        def watched_candidates(input_ids: torch.Tensor, **kwargs: Any) -> Any:
            candidates = get_candidates(input_ids, **kwargs)
            observed.proposed.append(candidates[0].shape[1] - input_ids.shape[1])
            return candidates

        def watched_update(input_ids: torch.Tensor, scores: torch.Tensor, num_matches: int) -> None:
            observed.matched.append(int(num_matches))
            update(input_ids, scores, num_matches)

        generator.get_candidates, generator.update_candidate_strategy = watched_candidates, watched_update
        return generator

    def count_target(*_: Any) -> None:
        observed.target_forwards += 1

    def count_draft(*_: Any) -> None:
        observed.draft_forwards += 1

    hooks = [pair.target.register_forward_hook(count_target), pair.draft.register_forward_hook(count_draft)]
    monkeypatch.setattr(pair.target, "_get_candidate_generator", watched_generator, raising=False)
    settings = pair.draft.generation_config
    monkeypatch.setattr(settings, "num_assistant_tokens", assist_toks)
    monkeypatch.setattr(settings, "num_assistant_tokens_schedule", "constant")
    monkeypatch.setattr(settings, "assistant_confidence_threshold", 0.0)
    try:
        tokens = _generate(pair.target, prompt, new_tokens, assistant_model=pair.draft)
    finally:
        for hook in hooks:
            hook.remove()
    return tokens, observed.counts(assist_toks)


@pytest.fixture(
    scope="module",
    params=[("tiny-draft", 1.0), ("tiny-draft", 0.8), ("tiny-draft-tied", 0.5), ("tiny-draft-tied", 0.0)],
    ids="{0[0]}, agreement={0[1]}".format,
)
def pair(request: pytest.FixtureRequest) -> SyntheticPair:
    draft, agreement = request.param
    return build_pair(SHAPES["tiny"], SHAPES[draft], agreement)


@pytest.mark.parametrize("assist_toks", [1, 3, 5])
def test_stock_assisted_generation_counts_exactly_what_the_walk_predicts(
    pair: SyntheticPair, assist_toks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for prompt in synthetic.prompts(VOCAB, count=2, length=8, seed=assist_toks):
        tokens, counts = _observe_assisted(pair, prompt, NEW_TOKENS, assist_toks, monkeypatch)
        monkeypatch.undo()
        assert tokens == synthetic.continuation(pair.next_target, prompt[-1], NEW_TOKENS)
        assert tokens == _generate(pair.target, prompt, NEW_TOKENS)
        assert counts == expected_counts(pair.next_target, pair.next_draft, prompt[-1], NEW_TOKENS, assist_toks)
        assert counts.accepted + counts.steps == NEW_TOKENS


@pytest.mark.parametrize("new_tokens", [1, 2, 4, 5, 6])
def test_the_last_steps_draft_no_more_than_the_target_can_use(
    pair: SyntheticPair, new_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens, counts = _observe_assisted(pair, [4, 9], new_tokens, 4, monkeypatch)
    assert len(tokens) == new_tokens
    assert counts == expected_counts(pair.next_target, pair.next_draft, 9, new_tokens, 4)


def test_the_counts_hold_for_mistral_beyond_its_sliding_window(monkeypatch: pytest.MonkeyPatch) -> None:
    target, draft = (replace(SHAPES[name], kind="mistral", sliding_window=16) for name in ("tiny", "tiny-draft"))
    pair = build_pair(target, draft, 0.8)
    assert pair.target.config.model_type == "mistral"
    tokens, counts = _observe_assisted(pair, [4, 9], NEW_TOKENS, 3, monkeypatch)
    assert tokens == synthetic.continuation(pair.next_target, 9, NEW_TOKENS)
    assert counts == expected_counts(pair.next_target, pair.next_draft, 9, NEW_TOKENS, 3)


def test_expected_counts_by_hand() -> None:
    """Six tokens 0 > 1 > 2 > 3 > 4 > 5 > 0; the draft errs after 1 and 4. Seven new tokens after 0, drafts of three.

    Step 1 drafts 3 after 0: 1 holds, what follows 1 does not: two new tokens, 1 and 2.
    Step 2 drafts 3 after 2: 3 and 4 hold, what follows 4 does not: three new tokens, 3, 4 and 5.
    Step 3 drafts 1 after 5, for two are missing: 0 holds: two new tokens, 0 and 1.
    """
    target = torch.tensor([1, 2, 3, 4, 5, 0, 6])
    draft = torch.tensor([1, 5, 3, 4, 2, 0, 6])
    assert expected_counts(target, draft, 0, new_tokens=7, assist_toks=3) == ExpectedCounts(
        steps=3,
        drafted=7,
        accepted=4,
        rejected=3,
        rollbacks=2,
        target_forwards=3,
        draft_forwards=7,
        proposed_per_position=(3, 2, 2),
        accepted_per_position=(3, 1, 0),
    )


def test_acceptance_per_token_is_the_planted_agreement() -> None:
    """alpha = accepted / (accepted + rollbacks), Leviathan et al. 2023, over 20,000 tokens; standard error 0.003."""
    target = synthetic.cycle(128256, seed=0)
    draft = synthetic.disagreeing(target, 0.8, seed=1)
    counts = expected_counts(target, draft, 0, new_tokens=20_000, assist_toks=5)
    assert counts.accepted / (counts.accepted + counts.rollbacks) == pytest.approx(0.8, abs=0.01)
    assert counts.accepted / counts.drafted == pytest.approx(sum(0.8**i for i in range(1, 6)) / 5, abs=0.02)


def test_sampling_distributions_are_the_given_rows() -> None:
    target_rows, draft_rows = transition_rows(8, seed=0), transition_rows(8, seed=1)
    prefix = torch.tensor([[6, 1, 1]]).repeat(8, 1)
    inputs = torch.cat([prefix, torch.arange(8)[:, None]], dim=1)
    for model, rows in zip(build_sampling_pair(target_rows, draft_rows), (target_rows, draft_rows), strict=True):
        with torch.no_grad():
            probabilities = model(inputs).logits[:, -1].double().softmax(dim=-1)
        torch.testing.assert_close(probabilities, rows, atol=1e-5, rtol=0)
    assert not torch.allclose(target_rows, draft_rows, atol=0.05)


def test_sampled_tokens_follow_the_rows_at_a_temperature() -> None:
    rows = transition_rows(8, seed=0)
    target, _ = build_sampling_pair(rows, rows)
    prompt = torch.full((2000, 1), 2)
    torch.manual_seed(0)
    drawn = target.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=True, temperature=0.5, max_new_tokens=1
    )[:, 1]
    sharpened = rows[2] ** 2 / (rows[2] ** 2).sum()
    counts = torch.bincount(drawn, minlength=8).numpy()
    assert chisquare(counts, 2000 * sharpened.numpy()).pvalue > 0.001
    assert chisquare(counts, 2000 * rows[2].numpy()).pvalue < 1e-6


@pytest.mark.parametrize(
    "rows",
    [torch.full((4, 3), 0.25), torch.full((4, 4), 0.3), torch.eye(4), torch.full((65, 65), 1 / 65)],
    ids=["not square", "sums above 1", "zeros", "too many tokens"],
)
def test_rows_that_are_no_distributions_are_refused(rows: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="rows"):
        build_sampling_pair(rows, rows)
