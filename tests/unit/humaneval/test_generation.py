"""Batches yield what single rows yield, rows end when their answer does, and sampling depends on the row alone."""

import contextlib
import dataclasses
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from fixtures.engines.transformers.models import synthetic
from fixtures.engines.transformers.models.shapes import SHAPES
from fixtures.humaneval import generation
from fixtures.humaneval.generation import (
    MAX_ROWS,
    Request,
    batch_rows,
    generate,
    request_seed,
    row_bytes,
)
from fixtures.humaneval.prompting import prompt_ids
from fixtures.humaneval.rows import SeededSampling, StopAtEnd
from fixtures.humaneval.scoring import read_problems
from fixtures.study.study import DecodingPoint, EngineKey, Workload
from reports.numbers.shares import chi_square_gof

PLAIN = DecodingPoint()
SAMPLED = DecodingPoint(do_sample=True, temperature=1.5, top_p=0.95)
LENGTHS = (3, 11, 7, 4, 9)


@pytest.fixture(params=[generation.SPAN, 3], ids=["long spans", "short spans"])
def span(request, monkeypatch):
    """Batches let go of ended rows after few tokens as after many; nothing else may change."""
    monkeypatch.setattr(generation, "SPAN", request.param)
    return request.param


def workload(tokens):
    return Workload("humaneval", 1, gen_toks=tokens, eos_stops=True)


def requests(vocab=512):
    return [
        Request(f"T/{i}", 0, "", tuple(ids), request_seed(0, f"T/{i}", 0))
        for i, ids in enumerate(synthetic.prompts(vocab, 1, length, length)[0] for length in LENGTHS)
    ]


def texts(engine, point, asked, rows, tokens=16):
    found = [one for batch in generate(engine, point, workload(tokens), asked, rows=rows) for one in batch]
    return {one.request.task_id: (one.text, one.tokens) for one in found}


@pytest.fixture(scope="module")
def contextual(tiny_engine):
    """The tiny engine with weights so large that every token depends on all before it and on their positions."""
    engine = tiny_engine()
    target = synthetic.build(SHAPES["tiny"], synthetic.cycle(512, 0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in target.parameters():
            if weight.ndim > 1:
                weight.normal_(std=0.3, generator=generator)
    return dataclasses.replace(engine, target=target)


@pytest.mark.usefixtures("span")
def test_batches_equal_single_rows_in_fp32(contextual):
    asked = requests()
    single = texts(contextual, PLAIN, asked, 1)
    assert len({text for text, _ in single.values()}) == len(asked)
    same_end = [dataclasses.replace(one, ids=(*one.ids[:-1], 7)) for one in asked]
    assert len(set(texts(contextual, PLAIN, same_end, 1).values())) == len(asked), "the last token decides everything"
    for rows in (2, 4, 12, None):
        assert texts(contextual, PLAIN, asked, rows) == single


@pytest.mark.usefixtures("span")
def test_samples_do_not_depend_on_the_rows_beside_them(contextual):
    asked = requests()
    single = texts(contextual, SAMPLED, asked, 1)
    assert texts(contextual, SAMPLED, asked, None) == single
    assert texts(contextual, SAMPLED, asked[3:], 2) == {one.task_id: single[one.task_id] for one in asked[3:]}
    reseeded = [dataclasses.replace(one, seed=one.seed + 1) for one in asked]
    assert texts(contextual, SAMPLED, reseeded, None) != single


def test_seeded_sampling_draws_from_the_warped_distribution():
    logits = torch.tensor([2.0, 1.0, 0.5, 0.0, -3.0])
    draws = 4000
    sampler = SeededSampling(
        [request_seed(0, "x", i) for i in range(draws)], [3] * draws, 2, temperature=0.8, top_p=0.9
    )
    drawn = sampler(torch.zeros(draws, 4, dtype=torch.long), logits.repeat(draws, 1)).argmax(dim=-1)
    chances = (logits / 0.8).softmax(-1).double()
    chances[3:] = 0.0  # the first three make up 0.92
    _, _, p = chi_square_gof(torch.bincount(drawn, minlength=5).tolist(), (chances / chances.sum()).tolist())
    assert p > 0.001


def test_drafted_tokens_change_no_completion(tiny_engine):
    engine = tiny_engine()
    assisted = DecodingPoint("assisted", assist_toks=3, confidence_threshold=0.0, assist_schedule="constant")
    assert texts(engine, assisted, requests(), None) == texts(engine, PLAIN, requests(), 1)


WORDS = ["<s>", "</s>", "\n", "    return", " 1", "def", " other", "(", "pass", "x"]


@pytest.fixture(scope="module")
def coder(tiny_engine):
    """An engine that writes `\\n    return 1 \\n def other (`, and after x nothing but other tokens."""
    shape = SHAPES["tiny"]
    vocab = {word: number for number, word in enumerate(WORDS)} | {f"~{i}": i for i in range(len(WORDS), shape.vocab)}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="x"))
    backend.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", pad_token="</s>")
    # x -> the filler tokens -> back to x; pass -> return -> 1 -> \n -> def -> other -> ( -> pass
    following = torch.arange(shape.vocab)
    walk = [vocab[word] for word in ("pass", "    return", " 1", "\n", "def", " other", "(")]
    following[walk] = torch.tensor([*walk[1:], walk[0]])
    filler = [vocab["x"], *range(len(WORDS), shape.vocab)]
    following[filler] = torch.tensor([*filler[1:], filler[0]])
    target = synthetic.build(shape, following)
    target.generation_config.eos_token_id = vocab["</s>"]
    return dataclasses.replace(tiny_engine(), target=target, tokenizer=tokenizer), vocab


def coder_request(vocab, number, *words):
    return Request(f"T/{number}", 0, "def f():\n", tuple(vocab[word] for word in words), number)


@pytest.mark.usefixtures("span")
def test_rows_end_at_a_stop_sequence_and_the_batch_when_all_have_ended(coder):
    engine, vocab = coder
    forwards = []
    hook = engine.target.register_forward_pre_hook(lambda module, arguments: forwards.append(1))
    asked = [coder_request(vocab, 0, "x", "x", "pass"), coder_request(vocab, 1, "\n", "x", "    return")]
    found = texts(engine, PLAIN, asked, None, tokens=40)
    hook.remove()
    assert found["T/0"] == ("    return 1", 6), "return, 1, line break, def, other, ("
    assert found["T/1"] == (" 1", 5)
    assert len(forwards) == 6, "the batch ended with its longest row"


@pytest.mark.usefixtures("span")
def test_a_row_that_goes_on_keeps_none_of_its_neighbours(coder):
    engine, vocab = coder
    asked = [coder_request(vocab, 0, "pass"), coder_request(vocab, 1, "x")]
    found = texts(engine, PLAIN, asked, None, tokens=40)
    assert found["T/0"] == ("    return 1", 6)
    assert found["T/1"][1] == 40


def test_ended_rows_leave_the_batch(coder, span):
    engine, vocab = coder
    widths = []
    hook = engine.target.register_forward_pre_hook(
        lambda module, arguments, inputs: widths.append(len(inputs["input_ids"])), with_kwargs=True
    )
    try:
        asked = [coder_request(vocab, 0, "x", "pass"), coder_request(vocab, 1, "pass", "x")]
        texts(engine, PLAIN, asked, None, tokens=40)
    finally:
        hook.remove()
    assert widths[0] == 2
    assert widths[-1] == 1, "the row that ended is gone, the one that goes on is alone"


def test_a_stop_sequence_inside_the_prompt_does_not_count(coder):
    engine, vocab = coder
    asked = [coder_request(vocab, 0, "    return", "\n", "def", " other", "(", "x")]
    assert texts(engine, PLAIN, asked, None, tokens=9)["T/0"][1] == 9


def test_a_stop_sequence_among_several_tokens_that_arrive_at_once_is_found(coder):
    engine, vocab = coder
    new = [vocab[word] for word in ("    return", " 1", "\n", "def", " other", "(", *["x"] * 200)]
    stop = StopAtEnd(engine.tokenizer, ["def f():\n"], [1], step=201)
    assert stop(torch.tensor([[9, *new]]), None).tolist() == [True]


@contextlib.contextmanager
def memory_for(engine, rows, error="CUDA out of memory"):
    """The engine's device runs out of memory when more rows than these are fed at once."""
    fed = []

    def feed(module, arguments, inputs):
        fed.append(len(inputs["input_ids"]))
        if fed[-1] > rows:
            raise torch.OutOfMemoryError(error) if "memory" in error else RuntimeError(error) if error else MemoryError

    hook = engine.target.register_forward_pre_hook(feed, with_kwargs=True)
    try:
        yield fed
    finally:
        hook.remove()


@pytest.mark.parametrize(
    ("rows", "fit", "error"),
    [
        (2, 1, "CUDA out of memory"),
        (8, 3, "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        (16, 1, ""),
    ],
)
def test_out_of_memory_halves_the_rows_and_loses_nothing(contextual, monkeypatch, rows, fit, error):
    monkeypatch.setattr(generation, "SPAN", 3)
    asked = requests()
    single = texts(contextual, PLAIN, asked, 1)
    with memory_for(contextual, fit, error) as fed:
        assert texts(contextual, PLAIN, asked, rows) == single
    assert max(fed) > fit, "more rows than fit were tried"


def test_memory_that_runs_out_while_rows_join_loses_and_doubles_nothing(coder, monkeypatch):
    monkeypatch.setattr(generation, "SPAN", 4)
    join, failed = generation._Pool.join, []

    def full_once(pool, other):
        if not failed:
            failed.append([row.ended for row in (*pool.rows, *other.rows)])
            raise torch.OutOfMemoryError("CUDA out of memory")
        join(pool, other)

    monkeypatch.setattr(generation._Pool, "join", full_once)
    engine, vocab = coder
    words = ("x", "    return", "x", "pass", "    return", "x", "pass")
    asked = [coder_request(vocab, number, word) for number, word in enumerate(words)]
    found = [one for batch in generate(engine, PLAIN, workload(20), asked, rows=8) for one in batch]
    assert failed
    assert sorted(one.request.task_id for one in found) == [request.task_id for request in asked]
    single = texts(engine, PLAIN, asked, 1, tokens=20)
    assert {one.request.task_id: (one.text, one.tokens) for one in found} == single
    assert min(one.allowed for one in found) in (1, 2, 4), "what was left of 8 rows is a power of two again"


def test_a_single_row_that_does_not_fit_and_other_errors_are_raised(contextual):
    with memory_for(contextual, 0), pytest.raises(torch.OutOfMemoryError):
        texts(contextual, PLAIN, requests(), 4)
    with memory_for(contextual, 0, "shapes do not match"), pytest.raises(RuntimeError, match="shapes"):
        texts(contextual, PLAIN, requests(), 4)


@pytest.mark.parametrize(
    ("rows_that_fit", "rows"), [(0.5, 1), (1.5, 1), (3.9, 2), (31, 16), (33, 32), (63.9, 32), (64, 64), (1000, 64)]
)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_batch_size_does_not_follow_what_else_is_in_memory(tiny_engine, monkeypatch, device, rows_that_fit, rows):
    """A little more or less free memory must not change completions: 33 to 63 rows that fit are 32."""
    engine = dataclasses.replace(tiny_engine(), device=torch.device(device))
    free = int(rows_that_fit * row_bytes(engine, 64) / generation.MEMORY_SHARE[device]) + 64
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free - 4096, 2 * free))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 8192)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 4096)
    monkeypatch.setattr(generation.psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
    assert batch_rows(engine, 64) == rows


def test_batch_size_follows_memory(tiny_engine):
    engine = tiny_engine()
    assert batch_rows(engine, 64) == MAX_ROWS, "a tiny model is held back by the cap alone"
    assert row_bytes(engine, 2000) > 10 * row_bytes(engine, 100)
    cache = 2 * 2 * 2 * 16 * 100 * 4  # keys and values, layers, key/value heads, head size, tokens, bytes
    assert row_bytes(engine, 100) > cache
    assert batch_rows(engine, 10_000_000) == 1, "never less than one row"


@pytest.fixture(scope="module")
def embedded_engine():
    from fixtures.engines.transformers.models.engine import load_engine
    from fixtures.study.pairs import find_pair

    key = EngineKey("embedded", draft_quant="none", dtype="fp32")
    return load_engine(key, find_pair("embedded"), torch.device("cpu"))


@pytest.mark.embedded
def test_real_completions_are_the_same_in_batches_one_by_one_and_with_drafts(embedded_engine):
    problems = [read_problems()[f"HumanEval/{number}"] for number in (23, 28, 53)]
    asked = [
        Request(p["task_id"], 0, p["prompt"], prompt_ids(p["prompt"], "instruct", embedded_engine.tokenizer), 0)
        for p in problems
    ]
    single = texts(embedded_engine, PLAIN, asked, 1, tokens=24)
    assert any("return" in text for text, _ in single.values()), single
    assert texts(embedded_engine, PLAIN, asked, None, tokens=24) == single
    assisted = DecodingPoint("assisted", assist_toks=3, confidence_threshold=0.0, assist_schedule="constant")
    drafted = texts(embedded_engine, assisted, asked, None, tokens=24)
    assert {task: text for task, (text, _) in drafted.items()} == {task: text for task, (text, _) in single.items()}
