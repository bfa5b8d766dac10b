"""Examination: parts fail alone, and say which they are and why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures.engines.transformers.decoding import caches, forward_costs, losslessness
from fixtures.engines.transformers.decoding.measurement import timed_decoder
from fixtures.engines.transformers.models.engine import Engine
from fixtures.measuring import limit, perplexity
from fixtures.measuring.examination import Examination, Examiner
from fixtures.measuring.limit import DeviceLimit
from fixtures.study.study import Case, DecodingPoint, Study, Sweep, Workload
from fixtures.study.workload import Prompts

RATES = {"limit": {"fp32": vars(DeviceLimit(1e10, 1e11, 0.0, "made up"))}}
IDS = ((7, 8, 9, 10), (11, 12, 13, 14))
PARTS: dict[str, tuple[Any, str, set[str]]] = {
    "forward costs": (forward_costs, "measure_forward_costs", {"forward_costs"}),
    "limit": (limit, "footprint", {"bytes_moved_per_step", "limit_bound"}),
    "losslessness": (losslessness, "judge", {"losslessness"}),
    "cache": (caches, "cache_facts", {"cache_bytes", "cache_tokens"}),
    "perplexity": (perplexity, "perplexity_facts", {"perplexity"}),
}


@pytest.fixture
def study(tiny_engine: Callable[..., Engine], tmp_path: Path) -> Study:
    """Plain decoding, prompt lookup and a static cache by the tiny pair, with a perplexity to be measured."""
    fp32 = {"dtype": ("fp32",)}
    return Study(
        "examined",
        "",
        (tiny_engine().pair,),
        (
            Sweep("baseline", fp32),
            Sweep("kv_cache", {**fp32, "cache": ("static",)}),
            Sweep("speculative_decoding", {**fp32, "strategy": ("prompt_lookup",), "assist_toks": (3,)}),
        ),
        Workload("embedded", 2, 4, 8),
        ppl_tokens=40,
    )


@pytest.fixture
def examine(tiny_engine: Callable[..., Engine], study: Study) -> Callable[[], dict[str, Examination]]:
    """Decode and examine every case of the study in its order; what was found by strategy and cache."""
    engine = tiny_engine()
    encode = engine.tokenizer

    class Reads:  # the tiny pair's tokenizer knows no words
        def __call__(self, text: str) -> Any:
            return type("Encoded", (), {"input_ids": [ord(letter) % 500 for letter in text[:200]]})()

        def __getattr__(self, name: str) -> Any:
            return getattr(encode, name)

    def run() -> dict[str, Examination]:
        import dataclasses

        reading = dataclasses.replace(engine, tokenizer=Reads())  # type: ignore[arg-type]
        examiner = Examiner(study, torch.device("cpu"))
        examiner.restore_limits(RATES)
        found = {}
        for case in study.cases():
            loaded = dataclasses.replace(reading, key=case.engine)
            with timed_decoder(loaded, case.point, case.workload) as decoder:
                samples = [decoder.generate(number, ids).sample() for number, ids in enumerate(IDS)]
            found[f"{case.point.strategy} {case.point.cache}"] = examiner.examine(
                case, loaded, Prompts("", IDS), samples
            )
        return found

    return run


def test_all_parts_are_examined_where_nothing_fails(examine: Callable[[], dict[str, Examination]]) -> None:
    found = examine()
    assert not any(examined.failures or examined.notes for examined in found.values())
    for part, (_, _, facts) in PARTS.items():
        assert any(facts <= set(examined.facts) for examined in found.values()), part
    assert found["prompt_lookup dynamic"].facts["losslessness"]["verdict"] == "equal"


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_fails_takes_no_other_with_it(
    part: str, examine: Callable[[], dict[str, Examination]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = examine()
    module, name, lost = PARTS[part]

    def fail(*arguments: Any, **named: Any) -> Any:
        raise AttributeError(f"no {name} here")

    monkeypatch.setattr(module, name, fail)
    found = examine()
    touched = {case for case, examined in whole.items() if lost & limit_facts(examined, part)}
    assert touched
    for case, examined in found.items():
        assert set(examined.facts) == set(whole[case].facts) - set(limit_facts(whole[case], part)), case
        assert {name: str(error) for name, error in examined.failures.items()} == (
            {part: f"no {name} here"} if case in touched else {}
        )
        assert all(error.__traceback__ is None for error in examined.failures.values()), "frames would keep the engine"


def limit_facts(examined: Examination, part: str) -> set[str]:
    """The facts of a part that a case has."""
    if part == "limit":
        return {name for name in examined.facts if "limit" in name or "byte" in name or "bandwidth" in name} - {
            "cache_bytes"
        }
    if part == "cache" and "cache_tokens" not in examined.facts:
        return set()  # worked out, not looked at
    return {name for name in examined.facts if name in PARTS[part][2] or name.startswith(f"{part}_")}


def test_the_memory_of_all_cases_compares_alike(examine: Callable[[], dict[str, Examination]]) -> None:
    """A case that looks prompts up has the cache that plain decoding has, which was looked at."""
    facts = {case: examined.facts for case, examined in examine().items()}
    assert all("cache_bytes" in found for found in facts.values())
    assert facts["prompt_lookup dynamic"]["cache_bytes"] == facts["plain dynamic"]["cache_bytes"] > 0
    assert "cache_tokens" not in facts["prompt_lookup dynamic"]


@pytest.mark.parametrize("cache", ["dynamic", "static", "none", "offloaded"])
def test_the_bytes_that_a_cache_needs_are_those_that_it_has(tiny_engine: Callable[..., Engine], cache: str) -> None:
    engine, workload = tiny_engine(), Workload("synthetic", gen_toks=8)
    if caches.unsupported(cache, "cpu"):
        pytest.skip(f"cache {cache} needs a GPU")
    point = DecodingPoint(cache=cache)
    measured = caches.cache_facts(engine, point, workload, IDS[0])["cache_bytes"]
    assert caches.needed_bytes(engine, point, len(IDS[0]) + 8) == measured
    drafted = DecodingPoint("assisted", assist_toks=3, cache=cache)
    both = caches.needed_bytes(engine, drafted, len(IDS[0]) + 8)
    assert both is not None and (both > measured) == (cache != "none"), "the draft has one of its own"
    assert caches.needed_bytes(engine, DecodingPoint(cache="quantized"), 20) is None


def test_the_largest_copy_counts_and_the_range_is_told(
    tiny_engine: Callable[..., Engine], study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = tiny_engine()
    plain = next(case for case in study.cases() if case.point.strategy == "plain")
    with timed_decoder(engine, plain.point, plain.workload) as decoder:
        samples = [decoder.generate(number, ids).sample() for number, ids in enumerate(IDS)]
    examiner = Examiner(study, torch.device("cpu"))
    examiner.measure_again()  # nothing was measured before: nothing is compared with it
    examiner.restore_limits(RATES)
    first = next(iter(RATES["limit"].values()))["copy_bytes_per_second"]
    copies = iter([first / 2, None, first * 4])
    monkeypatch.setattr(limit, "measure_copy", lambda device: next(copies))

    def facts() -> dict[str, Any]:
        return dict(examiner.examine(plain, engine, Prompts("", IDS), samples).facts)

    before = facts()
    assert before["copy_bandwidth"] == {"lowest": first, "highest": first}
    examiner.measure_again()
    examiner.measure_again()
    slow = facts()
    assert slow["copy_bandwidth"] == {"lowest": first / 2, "highest": first}
    assert slow["bandwidth_share"] == before["bandwidth_share"], "a slower copy changes no share"
    examiner.measure_again()
    assert facts()["bandwidth_share"] == pytest.approx(before["bandwidth_share"] / 4)


def test_a_case_without_a_plain_one_before_it_says_that_nobody_compared_it(
    tiny_engine: Callable[..., Engine], study: Study
) -> None:
    engine = tiny_engine()
    lookup = next(case for case in study.cases() if case.point.strategy == "prompt_lookup")
    examiner = Examiner(study, torch.device("cpu"))
    with timed_decoder(engine, lookup.point, lookup.workload) as decoder:
        samples = [decoder.generate(number, ids).sample() for number, ids in enumerate(IDS)]
    examined = examiner.examine(lookup, engine, Prompts("", IDS), samples)
    assert "losslessness" not in examined.facts
    assert [note.partition(":")[0] for note in examined.notes] == ["losslessness"]


def test_what_others_are_compared_with_comes_before_them() -> None:
    """In a sweep that asks for plain decoding with several caches at a length of its own."""
    from fixtures.study.pairs import find_pair

    axes = {"cache": ("none", "dynamic"), "gen_toks": (4,), "dtype": ("fp32",)}
    study = Study("s", "", (find_pair("synthetic-tiny"),), (Sweep("kv_cache", axes),), Workload("synthetic", 2, 4, 8))
    order: list[Case] = [case for case in study.cases() if case.workload.gen_toks == 4]
    assert [case.point for case in order] == [DecodingPoint(), DecodingPoint(cache="none")]
