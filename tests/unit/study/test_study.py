"""From a study to its cases: axes multiply only where they matter, baselines are there, engines come in blocks."""

from __future__ import annotations

import dataclasses
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from fixtures.study.pairs import find_pair
from fixtures.study.study import (
    Case,
    DecodingPoint,
    DtypeChoice,
    EngineKey,
    Study,
    Sweep,
    Workload,
    baseline_of,
    same_engine_baseline_of,
)
from fixtures.study.study_file import load_study

WORKLOAD = Workload(prompts="synthetic", num_samples=2, max_prompt=8, gen_toks=8)


def study(*sweeps: Sweep, pair: str = "synthetic-tiny") -> Study:
    return Study("unit", "", (find_pair(pair),), sweeps, WORKLOAD)


def speculative(**axes: Any) -> Sweep:
    return Sweep("speculative_decoding", {name: tuple(values) for name, values in axes.items()})


def ids(cases: list[Case]) -> list[str]:
    return [case.id.partition("/")[2] for case in cases]


def test_a_sweep_is_the_product_of_its_axes() -> None:
    cases = study(
        speculative(strategy=["assisted"], assist_toks=[1, 3], confidence_threshold=[0.0, 0.4], do_sample=[False])
    ).cases()
    assert ids(cases) == [
        "t=none,bf16/plain,greedy,dynamic",
        "t=none,d=none,bf16/assisted,k=1,p=0,greedy,dynamic",
        "t=none,d=none,bf16/assisted,k=1,p=0.4,greedy,dynamic",
        "t=none,d=none,bf16/assisted,k=3,p=0,greedy,dynamic",
        "t=none,d=none,bf16/assisted,k=3,p=0.4,greedy,dynamic",
    ]


def test_axes_that_a_strategy_does_not_use_do_not_multiply_it() -> None:
    cases = study(
        speculative(
            strategy=["plain", "prompt_lookup"],
            assist_toks=[2, 4],
            confidence_threshold=[0.0, 0.4],
            assist_schedule=["constant", "heuristic"],
            draft_quant=["none", "4bit"],
            temperature=[0.5, 1.0],
        )
    ).cases()
    assert [case.point.id for case in cases] == [
        "plain,greedy,dynamic",
        "prompt_lookup,k=2,greedy,dynamic",
        "prompt_lookup,k=4,greedy,dynamic",
    ]
    assert len({case.engine for case in cases}) == 1


def test_an_id_names_everything_that_differs_from_the_usual() -> None:
    engine = EngineKey("llama3-8b-1b", "none", "4bit", "bf16")
    point = DecodingPoint("assisted", assist_toks=3, confidence_threshold=0.2, assist_schedule="constant")
    case = Case(engine, point, WORKLOAD, "speculative_decoding", WORKLOAD.gen_toks)
    assert case.id == "llama3-8b-1b/t=none,d=4bit,bf16/assisted,k=3,p=0.2,greedy,dynamic"
    unusual = dataclasses.replace(
        case,
        engine=dataclasses.replace(engine, draft_quant=None, compile=True),
        point=DecodingPoint("prompt_lookup", 5, lookup_ngram=3, do_sample=True, temperature=0.7, top_p=0.95),
        workload=dataclasses.replace(WORKLOAD, gen_toks=64),
    )
    assert unusual.id == (
        "llama3-8b-1b/t=none,bf16,compile/prompt_lookup,k=5,ngram=3,sampled,T=0.7,top_p=0.95,dynamic,n=64"
    )


def test_ids_of_a_large_matrix_are_all_different() -> None:
    cases = study(
        speculative(
            strategy=["plain", "assisted", "prompt_lookup", "early_exit"],
            exit_layer=[1],
            assist_toks=[1, 5],
            confidence_threshold=[0.0, 0.25],
            assist_schedule=["constant", "heuristic", "heuristic_transient"],
            do_sample=[False, True],
            temperature=[0.5, 1.0],
            dtype=["bf16", "fp32"],
            target_quant=["none", "4bit"],
            draft_quant=["none", "4bit"],
            gen_toks=[8, 16],
        )
    ).cases()
    assert len({case.id for case in cases}) == len(cases) > 500


def test_every_case_finds_its_baselines_in_the_study() -> None:
    cases = study(
        speculative(
            strategy=["assisted"],
            target_quant=["4bit"],
            draft_quant=["4bit"],
            do_sample=[False, True],
            gen_toks=[8, 16],
        )
    ).cases()
    identities = {(case.engine.target_quant, case.point, case.workload) for case in cases}
    for case in cases:
        assert ("none", baseline_of(case).point, case.workload) in identities
        assert ("4bit", same_engine_baseline_of(case).point, case.workload) in identities
    assert sum(case.experiment == "baseline" for case in cases) == 8


def test_one_baseline_serves_all_drafts() -> None:
    cases = study(Sweep("baseline"), speculative(strategy=["assisted"], draft_quant=["4bit", "8bit"])).cases()
    plain = [case for case in cases if case.point.strategy == "plain"]
    assert ids(plain) == ["t=none,bf16/plain,greedy,dynamic"]


def test_the_baseline_of_a_compiled_case_is_eager_and_its_own_engines_is_static() -> None:
    case = Case(
        EngineKey("synthetic-tiny", "4bit", "none", "fp16", compile=True),
        DecodingPoint(cache="static", do_sample=True, temperature=0.5, top_p=0.9),
        WORKLOAD,
        "compile",
    )
    base, own = baseline_of(case), same_engine_baseline_of(case)
    assert (base.engine.target_quant, base.engine.compile, base.engine.dtype) == ("none", False, "fp16")
    assert (base.point.cache, own.point.cache) == ("dynamic", "static")
    assert own.engine == dataclasses.replace(case.engine, draft_quant=None)
    assert (base.point.temperature, base.point.top_p) == (0.5, 0.9)


def test_cases_come_in_blocks_of_one_target_with_the_baseline_first_and_then_draft_by_draft() -> None:
    cases = study(
        speculative(strategy=["assisted", "prompt_lookup"], target_quant=["none", "4bit"], dtype=["bf16", "fp16"]),
        Sweep("baseline", {"dtype": ("bf16", "fp16")}),
    ).cases()
    blocks: list[tuple[str, str, str | None]] = []
    for number, case in enumerate(cases):
        if number == 0 or cases[number - 1].engine != case.engine:
            blocks.append((case.engine.target_quant, case.engine.dtype, case.engine.draft_quant))
            assert case.point.strategy == ("plain" if case.engine.draft_quant is None else "assisted")
    assert blocks == [
        (quantization, dtype, draft)
        for quantization in ("none", "4bit")
        for dtype in ("bf16", "fp16")
        for draft in (None, "none")
    ]


def test_cases_without_a_draft_are_shared_by_the_pairs_of_one_target() -> None:
    sweep = speculative(strategy=["plain", "prompt_lookup", "assisted"], target_quant=["none", "4bit"])
    pairs = tuple(map(find_pair, ("synthetic-tiny", "synthetic-tiny-wrong", "synthetic-llama3-8b-1b")))
    several = Study("unit", "", pairs, (sweep,), WORKLOAD)
    shared = [case for case in several.cases() if case.engine.draft_quant is None]
    assert Counter(case.engine.pair for case in shared) == {"synthetic-tiny": 4, "synthetic-llama3-8b-1b": 4}
    drafted = [case for case in several.cases() if case.engine.draft_quant is not None]
    assert Counter(case.engine.pair for case in drafted) == dict.fromkeys((pair.name for pair in pairs), 2)
    measured = {case.id for case in several.cases()}
    for case in drafted:
        assert several.baseline_of(case).id in measured
        assert several.baseline_of(case).engine.pair != "synthetic-tiny-wrong"


@pytest.mark.parametrize("pairs", ["llama3-8b-1b", "llama3-8b-1b,llama3-8b-3b", "llama3-8b-3b,mistral-7b,llama3-8b-1b"])
def test_the_original_study_loads_each_target_once_in_each_quantization(pairs: str) -> None:
    llama3 = load_study("llama3", {"pair": pairs, "dtype": "bf16"})
    loads = [llama3.target_load(case.engine) for case in llama3.cases()]
    assert sum(before != now for before, now in pairwise([None, *loads])) == len(set(loads))
    assert len(set(loads)) == (6 if "mistral" in pairs else 3)
    drafts = [case.engine for case in llama3.cases() if case.engine.draft_quant is not None]
    assert sum(before != now for before, now in pairwise([None, *drafts])) == 9 * pairs.count("llama3-8b-")
    assert sum(case.point.do_sample and case.point.speculative for case in llama3.cases()) == pairs.count("llama3-8b-")


def test_what_cannot_run_is_set_apart_with_its_reason() -> None:
    cases, impossible = study(Sweep("kv_cache", {"strategy": ("plain", "assisted"), "cache": ("static",)})).expansion()
    assert [refused.case.point.strategy for refused in impossible] == ["assisted"]
    assert "32946" in impossible[0].reason
    assert all(case.point.strategy == "plain" for case in cases)


def test_a_pair_without_a_draft_loads_none() -> None:
    cases = study(Sweep("baseline"), pair="llama3-8b").cases()
    assert [case.id for case in cases] == ["llama3-8b/t=none,bf16/plain,greedy,dynamic"]
    assert cases[0].engine.draft_quant is None


def test_the_embedded_study_has_no_case_twice_where_auto_is_fp32() -> None:
    """As on a processor without bf16: what is decoded in fp32 anyway coincides, and 8bit is told as skipped."""
    study = load_study("embedded", {}, lambda device: DtypeChoice("fp32", "no instructions for bf16"))
    cases, impossible = study.expansion()
    ids = [case.id for case in cases]
    assert len(set(ids)) == len(ids)
    assert {case.engine.dtype for case in cases} == {"fp32"}
    refused = {refused.case.id for refused in impossible}
    assert "embedded/t=8bit,fp32/plain,greedy,dynamic" in refused
    assert all("8bit" in refusal.reason and "fp32" in refusal.reason for refusal in impossible)
    assert {case.point.strategy for case in cases} == {"plain", "assisted", "prompt_lookup"}
    assert any(case.engine.target_quant == "4bit" for case in cases)
