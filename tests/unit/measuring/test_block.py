"""Cases that take turns decode as each does alone, on shared models; one that fails leaves, and the others go on."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch

from fixtures.engines.transformers.models import compiling
from fixtures.engines.transformers.models.compiling import compiled_code
from fixtures.engines.transformers.models.engine import Engine
from fixtures.measuring.allowance import Allowance
from fixtures.measuring.block import BlockInPlay, Played
from fixtures.measuring.case import CaseFailed, CaseUnderWay, Measured
from fixtures.measuring.rounds import order_of_round
from fixtures.study.study import Case, DecodingPoint, EngineKey, Workload
from fixtures.study.workload import load_prompts
from reports.record.run import Sample
from tests.unit.small_runs import before_each, make_quick, measured_alone, small_study

PROMPTS = 6
WORKLOAD = Workload("synthetic", num_samples=PROMPTS, max_prompt=6, gen_toks=12)
TOKENIZED = load_prompts(WORKLOAD, list, vocab_size=512)
KEY = EngineKey("synthetic-tiny", draft_quant="none", dtype="fp32")
SEED = 5

pytestmark = pytest.mark.usefixtures("one_thread")
Load = Callable[..., Engine]


def case_of(point: DecodingPoint, key: EngineKey = KEY, **workload: Any) -> Case:
    return Case(key, point, dataclasses.replace(WORKLOAD, **workload), "baseline", WORKLOAD.gen_toks)


def drafting(tokens: int, schedule: str = "constant", threshold: float = 0.0) -> Case:
    point = DecodingPoint("assisted", assist_toks=tokens, confidence_threshold=threshold, assist_schedule=schedule)
    return case_of(point)


PLAIN = case_of(DecodingPoint())
LOOKUP = case_of(DecodingPoint("prompt_lookup", assist_toks=3))
STATIC = case_of(DecodingPoint(cache="static"))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


@pytest.fixture
def engine_of(tiny_engine: Load) -> Callable[[Case], Engine]:
    """Cases of one key share its models."""
    return lambda case: dataclasses.replace(tiny_engine(draft_quant="none"), key=case.engine)


def under_way(case: Case, engine: Engine, measured: Measured | None = None, warmup: int = 1) -> CaseUnderWay:
    study = small_study(workload=case.workload, warmup=warmup)
    started = CaseUnderWay(case, engine, TOKENIZED, study, measured or Measured())
    list(started.warm_up())
    return started


class Taking:
    """A block of these cases, warm and in it."""

    def __init__(self, cases: Iterable[Case], engine_of: Callable[[Case], Engine], seconds: float = 600.0) -> None:
        self.cases = list(cases)
        baselines = {case.id: self.cases[0].id for case in self.cases}
        self.block = BlockInPlay(baselines, SEED, lambda case: Allowance(PROMPTS, seconds, "as asked"), None)
        self.measured: dict[str, Measured] = {case.id: Measured() for case in self.cases}
        for case in self.cases:
            self.block.join(under_way(case, engine_of(case), self.measured[case.id]))

    def play(self, numbers: Iterable[int] = range(PROMPTS)) -> list[Played]:
        return [self.block.play(number, 0, lambda _: None, lambda _: None) for number in numbers]

    def samples(self, case: Case) -> list[Sample]:
        return self.measured[case.id].samples


def counts(samples: Iterable[Sample]) -> list[dict[str, Any]]:
    """All of a sample that no clock has a part in."""
    timed = {"seconds", "ttft_seconds", "draft_seconds", "verify_seconds", "other_seconds", "started"}
    place = {"round", "turn", "visit"}
    return [
        {name: value for name, value in dataclasses.asdict(sample).items() if name not in timed | place}
        for sample in samples
    ]


def alone(case: Case, engine: Engine) -> list[dict[str, Any]]:
    """The counts of the case decoding by itself."""
    return counts(measured_alone(case, engine, TOKENIZED, small_study(workload=case.workload, warmup=1), Measured()))


def test_every_case_has_every_round_in_the_order_that_is_drawn(engine_of: Any) -> None:
    cases = [PLAIN, LOOKUP, STATIC, *(drafting(tokens) for tokens in range(1, 8))]
    block = Taking(cases, engine_of)
    baselines = {case.id: PLAIN.id for case in cases}
    orders = {number: order_of_round(list(baselines), baselines, SEED, number) for number in range(PROMPTS)}
    twice = next(number for number, order in orders.items() if order.count(PLAIN.id) == 2)
    numbers = sorted({twice, next(number for number, order in orders.items() if order.count(PLAIN.id) == 1)})
    told: list[str] = []
    for number in numbers:
        played = block.block.play(number, 1, told.append, lambda _: None)
        assert played.order == orders[number]
        assert {name: len(samples) for name, samples in played.samples.items()} == {
            case.id: orders[number].count(case.id) for case in cases
        }
        by_turn = {sample.turn: name for name, samples in played.samples.items() for sample in samples}
        assert [by_turn[turn] for turn in range(len(played.order))] == played.order
        assert {sample.round for samples in played.samples.values() for sample in samples} == {number}
        assert {sample.visit for samples in played.samples.values() for sample in samples} == {1}
    assert sorted(told) == sorted(2 * [case.id for case in cases]), "a repeat is no further sample"
    for case in cases:
        assert [sample.prompt for sample in block.samples(case)] == numbers
    assert [sample.prompt for sample in block.measured[PLAIN.id].repeats] == [twice]


def test_cases_that_take_turns_decode_as_each_does_alone(engine_of: Any) -> None:
    """Adaptive schedules keep their state, thresholds and caches are their own, whoever decoded before."""
    cases = [
        PLAIN,
        STATIC,
        LOOKUP,
        drafting(3),
        drafting(2, "heuristic"),
        drafting(5, "heuristic"),
        drafting(4, "heuristic_transient"),
        drafting(4, threshold=0.4),
        case_of(DecodingPoint("assisted", do_sample=True, temperature=1.0, assist_toks=3, confidence_threshold=0.0)),
    ]
    block = Taking(cases, engine_of)
    played = block.play()
    assert len({tuple(each.order) for each in played}) > 1
    for case in cases:
        assert counts(block.samples(case)) == alone(case, engine_of(case)), case.id
    two, five = (block.samples(case) for case in cases[4:6])
    assert [sample.next_assist_toks for sample in two] != [sample.next_assist_toks for sample in five]
    assert len({sample.next_assist_toks for sample in two}) > 1, "it adapts"


def test_a_round_that_is_played_again_finds_adaptive_schedules_as_they_were(engine_of: Any) -> None:
    """As a disturbed round is: its counts are those that it had, and so are those of the rounds after it."""
    heuristic = drafting(2, "heuristic")
    block = Taking([PLAIN, heuristic], engine_of)
    block.play(range(4))
    before = counts(block.samples(heuristic))
    measured = block.measured[heuristic.id]
    for number in (1, 3):
        measured.samples[:] = [sample for sample in measured.samples if sample.prompt != number]
        block.play([number])
        measured.samples.sort(key=lambda sample: sample.prompt)
    assert counts(block.samples(heuristic)) == before
    block.play([4, 5])
    assert counts(block.samples(heuristic)) == alone(heuristic, engine_of(heuristic))


def test_a_static_cache_has_the_length_of_its_own_case(engine_of: Any) -> None:
    short = dataclasses.replace(STATIC, workload=dataclasses.replace(WORKLOAD, gen_toks=3))
    engine = engine_of(STATIC)
    lengths: dict[int, set[int]] = {3: set(), 12: set()}
    current: list[int] = []

    def look(module: Any, arguments: Any, inputs: Any, output: Any) -> None:
        cache = inputs["past_key_values"]
        lengths[current[-1]].add(cache.layers[0].keys.shape[-2])

    watch = engine.target.register_forward_hook(look, with_kwargs=True)
    try:
        started = {}
        for case in (STATIC, short):
            current.append(case.workload.gen_toks)
            started[case.workload.gen_toks] = under_way(case, engine)
        for number in range(3):
            for tokens in (12, 3) if number % 2 else (3, 12):
                current.append(tokens)
                started[tokens].decode(number)
    finally:
        watch.remove()
    longest = max(len(ids) for ids in TOKENIZED.ids)
    assert max(lengths[3]) <= longest + 3 < min(lengths[12])
    assert max(lengths[12]) <= longest + 12


def test_attention_is_that_of_the_case_whose_turn_it_is(tiny_engine: Load) -> None:
    """Engines of one target that differ in attention: each decodes with its own."""
    shared = tiny_engine(draft_quant="none")
    chosen = {}
    for name in ("eager", "sdpa"):
        key = dataclasses.replace(KEY, attention=name)
        chosen[name] = dataclasses.replace(shared, key=key)
    cases = {name: case_of(DecodingPoint(), engine.key) for name, engine in chosen.items()}
    seen: list[tuple[str, str]] = []
    started = {name: under_way(cases[name], chosen[name]) for name in chosen}
    current: list[str] = []
    watch = shared.target.register_forward_pre_hook(
        lambda module, arguments: seen.append((current[-1], module.config._attn_implementation))
    )
    try:
        for number in range(2):
            for name in chosen:
                current.append(name)
                started[name].decode(number)
    finally:
        watch.remove()
        shared.apply_attention()
    assert set(seen) == {("eager", "eager"), ("sdpa", "sdpa")}


def failing(case: Case, number: int, error: Exception) -> Callable[[CaseUnderWay, int], None]:
    def fail(under_way: CaseUnderWay, prompt: int) -> None:
        if under_way.case is case and prompt == number:
            raise error

    return fail


@pytest.mark.parametrize(
    "error", [CaseFailed("wrong"), torch.OutOfMemoryError("CUDA out of memory")], ids=["fails", "out of memory"]
)
def test_a_case_that_fails_leaves_the_round_and_the_others_go_on_as_before(
    engine_of: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    cases = [PLAIN, drafting(3), LOOKUP, drafting(2, "heuristic")]
    before_each(monkeypatch, failing(cases[1], 2, error))
    block = Taking(cases, engine_of)
    rounds = block.play(range(4))
    assert [list(played.failed.items()) for played in rounds] == [[], [], [(cases[1].id, error)], []]
    assert cases[1].id not in block.block.running
    assert len(block.samples(cases[1])) == 2, "what it had stays"
    monkeypatch.undo()
    for case in (PLAIN, LOOKUP, cases[3]):
        assert counts(block.samples(case)) == alone(case, engine_of(case))[:4]
        assert [sample.round for sample in block.samples(case)] == [0, 1, 2, 3]


def test_a_case_that_gives_too_few_tokens_leaves_with_its_reason(
    engine_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = Taking([PLAIN, LOOKUP], engine_of)
    lookup = block.block.running[LOOKUP.id]
    generate = lookup._decoder._generate
    monkeypatch.setattr(
        lookup._decoder, "_generate", lambda inputs, **settings: generate(inputs, **settings)[:, : inputs.shape[1] + 5]
    )
    (played,) = block.play([0])
    assert list(played.failed) == [LOOKUP.id]
    assert PLAIN.id in played.samples


def test_what_comes_from_outside_ends_the_round_for_all(engine_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before_each(monkeypatch, failing(LOOKUP, 1, KeyboardInterrupt()))  # type: ignore[arg-type]
    block = Taking([PLAIN, LOOKUP], engine_of)
    with pytest.raises(KeyboardInterrupt):
        block.play()
    assert set(block.block.running) == {PLAIN.id, LOOKUP.id}
    assert len(block.samples(LOOKUP)) == 1


def test_a_case_over_its_time_leaves_with_what_it_has(engine_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = drafting(3)
    cases = [PLAIN, slow]
    block = Taking(cases, engine_of, seconds=30.0)
    decoder = block.block.running[slow.id]._decoder
    monkeypatch.setattr(decoder, "decode", functools.partial(_slower, decoder))
    rounds = block.play(range(4))
    over = "over its time limit of 30 s (as asked)"
    assert [str(played.failed.get(slow.id, "")) for played in rounds] == [
        "",
        "",
        f"{over} after 2 samples; raise it by --case-timeout",
        "",
    ]
    assert len(block.samples(slow)) == 2 and len(block.samples(PLAIN)) == 4


def _slower(decoder: Any, prompt: int, *arguments: Any, **inputs: Any) -> Any:
    *decoded, seconds = type(decoder).decode(decoder, prompt, *arguments, **inputs)
    return (*decoded, seconds + 20.0)


def test_seconds_per_token_of_a_round_are_over_its_repeats_as_well() -> None:
    first = Sample(prompt=0, seconds=1.0, new_tokens=10, target_forwards=10, output_sha256="")
    played = Played(0, samples={"a": [first, dataclasses.replace(first, seconds=2.0)]})
    assert played.seconds_per_token("a") == pytest.approx(3.0 / 20)
    assert played.seconds_per_token("b") is None
    assert math.isclose(played.seconds, 3.0)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs are traced and guarded as ever, then run as they are: inductor would take a minute."""
    monkeypatch.setattr(compiling, "CompiledForwards", functools.partial(compiling.CompiledForwards, backend="eager"))


@pytest.mark.usefixtures("eager")
def test_compiled_cases_keep_their_graphs_while_others_have_their_turns(engine_of: Any) -> None:
    """Two compiled cases and two others on one model: after the warm-up nothing is compiled any more."""
    compiled = dataclasses.replace(KEY, compile=True)
    cases = [
        PLAIN,
        case_of(DecodingPoint(cache="static"), compiled),
        case_of(DecodingPoint("prompt_lookup", assist_toks=3), compiled),
        STATIC,
    ]
    with compiled_code():
        block = Taking(cases, engine_of)
        graphs = {case.id: block.block.running[case.id]._compiled for case in cases}
        block.play()
        for case in cases:
            block.block.running[case.id].close()
    for case in cases:
        facts, samples = block.measured[case.id].facts, block.samples(case)
        assert counts(samples) == alone(dataclasses.replace(case, engine=KEY), engine_of(PLAIN)), case.id
        if not case.engine.compile:
            assert graphs[case.id] is None and "recompiles" not in facts
            continue
        assert facts["recompiles"] == 0 and facts["timed_compile_seconds"] == 0.0
        assert facts["compiled_graphs"] >= 1
        forwards = sum(sample.target_forwards + sample.draft_forwards for sample in samples)
        assert facts["compiled_calls"] >= forwards, "every forward of it ran compiled"
        assert block.measured[case.id].notes == []
    assert "forward" not in vars(engine_of(PLAIN).target)


@pytest.mark.usefixtures("eager")
def test_of_a_second_visit_what_was_compiled_is_held_against_its_own_forwards(engine_of: Any) -> None:
    case = case_of(DecodingPoint(cache="static"), dataclasses.replace(KEY, compile=True))
    measured = Measured()
    for numbers in ((0, 1, 2), (3, 4, 5)):
        with compiled_code():
            visit = under_way(case, engine_of(case), measured)
            for number in numbers:
                visit.decode(number)
            visit.close()
        assert measured.notes == []
        assert measured.facts.get("prompts_left_out", 0) == PROMPTS - len(measured.samples)
