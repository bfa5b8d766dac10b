"""A draft whose tables are padded to another length than its target's: the pair decodes, and rightly.

The pairs are made here: Qwen2 models with one tokenizer of 60 tokens. Their random heads give every row a chance, so
that targets do emit ids of padding, as a trained model hardly ever does: what is right for these is right for those.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from fixtures.engines.transformers.decoding.distribution import DRAFT_ROWS, TARGET_ROWS, chain_check
from fixtures.engines.transformers.decoding.measurement import timed_decoder
from fixtures.engines.transformers.models import hub
from fixtures.engines.transformers.models.engine import Engine, load_engine
from fixtures.engines.transformers.models.markov import build_sampling_pair
from fixtures.engines.transformers.models.synthetic import tokenizer
from fixtures.engines.transformers.models.vocabulary import TokenizerMismatch, fit_draft, rows_of
from fixtures.measuring.examination import Examiner
from fixtures.measuring.first_look import FirstLook
from fixtures.study.pairs import Pair
from fixtures.study.study import Case, DecodingPoint, EngineKey, Study, StudyError, Sweep, Workload
from fixtures.suite.session import BenchSession
from reports.advice.transformers_lines import transformers_lines
from reports.record.run import CaseResult, Run
from reports.record.settings import WorkloadDone

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
TOKENS = 60
WORKLOAD = Workload("synthetic", num_samples=1, max_prompt=4, gen_toks=24)
ASSISTED = DecodingPoint("assisted", assist_toks=3, confidence_threshold=0.0, assist_schedule="constant")
PROMPTS = [[3, 14, 15, 9], [26, 5, 35, 8], [9, 7, 9, 3]]


def padded(rows: int, *, tied: bool, family: str = "Qwen2") -> Any:
    """A random model of so many rows; the first rows and the blocks are the same whatever the number."""
    config = getattr(transformers, f"{family}Config")(
        vocab_size=rows,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        eos_token_id=TOKENS - 1,
        bos_token_id=0,
        tie_word_embeddings=tied,
    )
    model = getattr(transformers, f"{family}ForCausalLM")(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "embed_tokens" in name or "lm_head" in name:
                table = torch.empty(200, 64).normal_(std=0.3 if "lm_head" in name else 1.0, generator=generator)
                weight.copy_(table[:rows])
            elif weight.ndim == 2:
                weight.normal_(std=0.2, generator=generator)
    return model.eval()


@pytest.fixture
def pair_of(tmp_path: Path) -> Callable[..., Pair]:
    """`pair_of(target=, draft=rows, tied=..., tokens=of the draft's tokenizer, family=...)`: a pair of two folders."""

    def make(target: int, draft: int, *, tied: bool = True, tokens: int = TOKENS, family: str = "Qwen2") -> Pair:
        for name, model, words in (
            ("target", padded(target, tied=tied, family=family), TOKENS),
            ("draft", padded(draft, tied=tied, family=family), tokens),
        ):
            model.save_pretrained(tmp_path / name)
            tokenizer(words).save_pretrained(tmp_path / name)
        return Pair.from_hub(str(tmp_path / "target"), str(tmp_path / "draft"))

    return make


def decoded(engine: Engine, point: DecodingPoint) -> list[Any]:
    with timed_decoder(engine, point, WORKLOAD) as decoder:
        return [decoder.generate(number, prompt).sample() for number, prompt in enumerate(PROMPTS)]


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize(
    ("target", "draft", "quantization"),
    [(96, 64, "none"), (96, 64, "8bit"), (96, 64, "4bit"), (64, 96, "none"), (64, 128, "4bit")],
)
def test_greedy_outputs_are_plain_decodings(
    pair_of: Callable[..., Pair], target: int, draft: int, quantization: str, tied: bool
) -> None:
    pair = pair_of(target, draft, tied=tied)
    engine = load_engine(EngineKey(pair.name, "none", quantization, "fp32"), pair, CPU)
    plain, assisted = decoded(engine, DecodingPoint()), decoded(engine, ASSISTED)
    assert [sample.output_tokens for sample in assisted] == [sample.output_tokens for sample in plain]
    assert sum(sample.accepted for sample in assisted) > 0, "the draft is the target's like, and is of use"
    if target > draft:
        assert any(token >= draft for sample in plain for token in sample.output_tokens), "rows of padding are emitted"
    assert engine.draft_rows == draft and rows_of(engine.draft) == rows_of(engine.target) == target


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("quantization", ["none", "8bit", "4bit"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_a_row_that_was_added_is_never_drafted(
    pair_of: Callable[..., Pair], tied: bool, quantization: str, dtype: str
) -> None:
    pair = pair_of(96, 64, tied=tied)
    engine = load_engine(EngineKey(pair.name, "none", quantization, dtype), pair, CPU)
    draft: Any = engine.draft
    with torch.inference_mode():
        logits = draft(torch.tensor([[70, 95, 3], [1, 2, 3]])).logits.float()
    assert logits.shape[-1] == 96 and bool(logits.isfinite().all()), "a look for overflow finds none"
    assert bool((logits[..., 64:] < logits[..., :64].min(dim=-1, keepdim=True).values).all())
    for temperature in (0.2, 1.0, 2.0):
        assert bool(((logits / temperature).softmax(dim=-1)[..., 64:] == 0).all())
    head, table = draft.get_output_embeddings(), draft.get_input_embeddings()
    assert (head.weight.data_ptr() == table.weight.data_ptr()) == tied
    assert engine.weight_bytes["draft"] >= 96 * 64 * head.weight.element_size() * (1 if tied else 2)


def test_what_the_draft_knows_is_left_as_it_was(pair_of: Callable[..., Pair]) -> None:
    for rows in (96, 62):
        draft = padded(64, tied=False)
        before = draft(torch.tensor([PROMPTS[0]])).logits
        assert fit_draft(draft, rows, tokenizer(TOKENS).get_vocab()) == 64
        after = draft(torch.tensor([PROMPTS[0]])).logits
        assert torch.equal(after[..., : min(rows, 64)], before[..., : min(rows, 64)])
    assert fit_draft(draft, 62, {}) == 62, "nothing is left to do"


def test_no_token_is_cut(pair_of: Callable[..., Pair]) -> None:
    with pytest.raises(TokenizerMismatch, match=r"tokens up to 59 and the target's table 40 rows; give a target"):
        fit_draft(padded(64, tied=True), 40, tokenizer(TOKENS).get_vocab())


@pytest.mark.parametrize("longer", ["target", "draft"])
def test_sampled_outputs_are_distributed_as_the_targets(longer: str) -> None:
    """The longer one has a fourth token; of the target's it is emitted, of the draft's it is cut."""
    rows = torch.tensor([[0.5, 0.2, 0.1, 0.2], [0.1, 0.2, 0.6, 0.1], [0.3, 0.3, 0.2, 0.2], [0.4, 0.3, 0.2, 0.1]])
    three, four = torch.tensor(TARGET_ROWS, dtype=torch.float64), rows.double()
    target, _ = build_sampling_pair(*((four, four) if longer == "target" else (three, three)))
    few = torch.tensor(DRAFT_ROWS, dtype=torch.float64)
    _, draft = build_sampling_pair(*((few, few) if longer == "target" else (four, four)))
    assert fit_draft(draft, rows_of(target), {}) != rows_of(target)
    settings: Any = draft.generation_config
    settings.num_assistant_tokens, settings.assistant_confidence_threshold = 3, 0.0
    settings.num_assistant_tokens_schedule = "constant"
    config = transformers.GenerationConfig(do_sample=True, top_k=0, max_new_tokens=50, disable_compile=True)
    generate: Any = target.generate
    drawn = []
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        for number in range(12):
            prompt = torch.tensor([[number % rows_of(target)]])
            mask = torch.ones_like(prompt)
            output = generate(prompt, attention_mask=mask, generation_config=config, assistant_model=draft)
            drawn.append(output[0].tolist())
    chain = (four if longer == "target" else three).tolist()
    assert set(itertools.chain(*drawn)) == set(range(len(chain)))
    assert chain_check(drawn, chain).holds
    shifted = [[*row[1:], row[0]] for row in chain]
    assert not chain_check(drawn, shifted).holds, "another distribution would be seen"


def test_it_is_told_once(pair_of: Callable[..., Pair]) -> None:
    pair = pair_of(96, 64)
    engine = load_engine(EngineKey(pair.name, dtype="fp32"), pair, CPU)
    case = Case(engine.key, ASSISTED, WORKLOAD, "speculative_decoding", WORKLOAD.gen_toks)
    look = FirstLook()
    first, second = look.at(case, engine, PROMPTS), look.at(case, engine, PROMPTS)
    told = (
        "./draft has a vocabulary of 64 rows and ./target one of 96, padding included, with the same tokenizer: "
        "32 rows of padding were added, which are never drafted",
    )
    assert first.news == first.notes == told
    assert not first.failure and second.news == second.notes == ()
    assert {name: second.facts[name] for name in ("draft_rows", "target_rows")} == {"draft_rows": 64, "target_rows": 96}
    plain = replace(case, point=DecodingPoint())
    assert "draft_rows" not in look.at(plain, engine, PROMPTS).facts


def test_tokenizers_that_differ_are_refused_before_weights_are_read(
    pair_of: Callable[..., Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = pair_of(96, 96, tokens=50)
    monkeypatch.setattr(hub, "load_model", lambda *_, **__: pytest.fail("weights were read"))
    monkeypatch.setattr(Examiner, "measure_limits", lambda *_: pytest.fail("something was measured"))
    axes = {"strategy": ("assisted",), "dtype": ("fp32",)}
    study = Study("unit", "", (pair,), (Sweep("speculative_decoding", axes),), WORKLOAD)
    bench = BenchSession(study, tmp_path / "run.jsonl", resume=False, argv=[])
    with pytest.raises(StudyError) as refusal:
        bench.begin(bench.cases)
    assert re.fullmatch(
        r"pair target--draft: the tokenizers of ./target and ./draft differ \(\d+ and \d+ tokens\); choose a draft of "
        "the same family, or ask for transformers' slower path with --tokenizers different",
        str(refusal.value),
    )
    assert not bench.path.exists()


def test_the_lines_of_advice_fit_the_draft_too(pair_of: Callable[..., Pair]) -> None:
    pair = pair_of(96, 64, tied=False, family="Llama")  # whose tokenizer reads the lines' prose, word by word
    key = EngineKey(pair.name, dtype="fp32")
    engine = load_engine(key, pair, CPU)
    inputs = tokenizer(TOKENS)("The quick brown fox jumps over the lazy dog. The quick brown fox").input_ids
    with timed_decoder(engine, ASSISTED, replace(WORKLOAD, eos_stops=True)) as decoder:
        expected = decoder.generate(0, inputs).tokens
    done = WorkloadDone(gen_toks=WORKLOAD.gen_toks)
    facts = {"draft_rows": 64, "target_rows": 96}
    case = CaseResult("p/case", "ok", engine=key, point=ASSISTED, workload=done, facts=facts)
    entry = {"name": pair.name, "source": "hub", "target": pair.target, "draft": pair.draft}
    run = Run(Path("run.jsonl"), {"study": {"pairs": [entry]}}, (case,), True)
    names: dict[str, Any] = {}
    exec(compile("\n".join(transformers_lines(case, run)), "advice", "exec"), names)
    length = names["inputs"]["input_ids"].shape[1]
    assert names["output"][0, length:].tolist() == list(expected)
    assert torch.equal(names["assistant"](names["output"]).logits, engine.draft(names["output"]).logits)
