"""Which case is which in another run, and which runs can be compared at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from planted_runs import ENGINE, WORKLOAD, case, plain

from reports.record.matching import (
    Difference,
    environment_differences,
    hardware_key,
    identity,
    match,
    refuse_other_workloads,
    repeats,
    versions_key,
)
from reports.record.reader import read_run
from reports.record.run import CaseResult, Run, RunFileError

Plant = Callable[..., Run]
PUBLISHED = Path(__file__).parents[4] / "reports" / "published"
SAMPLES = [plain(0, 1.0), plain(1, 1.0)]
POINT = {"strategy": "plain", "do_sample": False, "cache": "dynamic"}
ASSISTED = {"strategy": "assisted", "assist_toks": 3, "do_sample": False, "cache": "dynamic"}
PLAIN_ID = "p/t=none,bf16/plain,greedy,dynamic"


def one(**changes: object) -> CaseResult:
    return case(PLAIN_ID, **{"samples": SAMPLES, "point": POINT} | changes)


@pytest.mark.parametrize(
    "other",
    [
        one(experiment="kv_cache"),
        one(workload={**WORKLOAD, "num_samples": 500}),
        one(point={**POINT, "assist_toks": None, "exit_layer": None}),
        one(samples=()),
        one(again=True),
        case("p/t=none,bf16/plain,greedy,dynamic", [], point=POINT, engine={**ENGINE, "draft_quant": None}),
        case(f"{PLAIN_ID},n=10", [], point=POINT),
    ],
)
def test_identity_does_not_depend_on_what_else_was_run(other: CaseResult) -> None:
    assert identity(other) == identity(one())


@pytest.mark.parametrize(
    "other",
    [
        one(engine={**ENGINE, "target_quant": "4bit"}),
        one(engine={**ENGINE, "dtype": "fp32"}),
        case(PLAIN_ID, [], point={**POINT, "lookup_ngram": 3}),
        one(workload={**WORKLOAD, "gen_toks": 20}),
        one(workload={**WORKLOAD, "seed": 1}),
        one(workload={**WORKLOAD, "prompts_sha256": "def"}),
        one(kind="humaneval"),
        case("p/other", SAMPLES, point=POINT),
    ],
)
def test_identity_tells_settings_apart(other: CaseResult) -> None:
    assert identity(other) != identity(one())


def test_the_drafts_quantization_is_part_of_an_assisted_case() -> None:
    first = case("p/t=none,d=none,bf16/assisted,k=3", [], point=ASSISTED)
    second = case("p/t=none,d=4bit,bf16/assisted,k=3", [], point=ASSISTED, engine={**ENGINE, "draft_quant": "4bit"})
    assert identity(first) != identity(second)


def test_a_threshold_of_zero_is_itself_and_not_false() -> None:
    whole = case("p/a", [], point={**ASSISTED, "confidence_threshold": 0})
    real = case("p/a", [], point={**ASSISTED, "confidence_threshold": 0.0})
    assert identity(whole) == identity(real)
    assert identity(case("p/a", [], point={"do_sample": False})) != identity(case("p/a", [], point={"do_sample": 0}))


@pytest.mark.parametrize("name", ["embedded", "compile"])
def test_identities_within_a_published_run_are_distinct(name: str) -> None:
    run = read_run(PUBLISHED / f"{name}.jsonl")
    cases = [each for each in run.cases if not each.again]
    assert len({identity(each) for each in cases}) == len(cases)


def test_cases_are_matched_wherever_they_stand(planted: Plant) -> None:
    first, second = case("p/a", SAMPLES), case("p/b", SAMPLES)
    base = planted(first, second, case("p/only-base", SAMPLES, point={"strategy": "x"}), name="base.jsonl")
    extra = case("p/only-head", SAMPLES, point={"strategy": "y"})
    head = planted(extra, second, first, dataclasses.replace(first, again=True), name="head.jsonl")
    found = match(base, head)
    assert [(a.id, b.id) for a, b in found.pairs] == [("p/a", "p/a"), ("p/b", "p/b")]
    assert [each.id for each in found.new] == ["p/only-head"]
    assert [each.id for each in found.gone] == ["p/only-base"]
    assert found.renamed == ()
    assert [each.again for each in repeats(found.pairs[0][1], head)] == [True]
    assert repeats(found.pairs[1][1], head) == ()


def test_equal_settings_under_another_id_are_renamed(planted: Plant) -> None:
    base = planted(case("p/a", SAMPLES, point=ASSISTED), name="base.jsonl")
    head = planted(case("p/b", SAMPLES, point=ASSISTED), name="head.jsonl")
    found = match(base, head)
    assert [(a.id, b.id) for a, b in found.renamed] == [("p/a", "p/b")]
    assert not found.pairs and not found.new and not found.gone


def test_a_case_measured_anew_counts_with_its_last_result(planted: Plant) -> None:
    base = planted(case("p/a", SAMPLES), name="base.jsonl")
    head = planted(case("p/a", [], status="failed", reason="r"), case("p/a", SAMPLES), name="head.jsonl")
    assert [(a.status, b.status) for a, b in match(base, head).pairs] == [("ok", "ok")]


def test_a_case_that_failed_before_its_prompts_were_read_is_still_the_same(planted: Plant) -> None:
    without = {key: value for key, value in WORKLOAD.items() if key != "prompts_sha256"}
    base = planted(case("p/a", SAMPLES), case("p/b", SAMPLES), name="base.jsonl")
    head = planted(case("p/a", [], status="oom", workload=without), case("p/b", SAMPLES), name="head.jsonl")
    assert [(a.id, b.status) for a, b in match(base, head).pairs] == [("p/a", "oom"), ("p/b", "ok")]


def test_a_run_matches_itself_whole() -> None:
    run = read_run(PUBLISHED / "embedded.jsonl")
    found = match(run, run)
    assert all(a is b for a, b in found.pairs) and len(found.pairs) == len(run.finished)
    assert not found.new and not found.gone and not found.renamed
    refuse_other_workloads(run, run)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"prompts_sha256": "27264e4ab57bc4acc2d14e38f7880f42678dda22"}, "prompts_sha256 abc != 27264e4ab57b..."),
        ({"gen_toks": 20}, "gen_toks 10 != 20"),
        ({"max_prompt": 32, "num_samples": 3}, "num_samples 2 != 3, max_prompt 64 != 32"),
    ],
)
def test_other_workloads_are_refused_by_key(planted: Plant, changes: dict[str, object], told: str) -> None:
    base = planted(case("p/a", SAMPLES), name="base.jsonl")
    head = planted(case("p/a", SAMPLES, workload={**WORKLOAD, **changes}), name="head.jsonl")
    with pytest.raises(RunFileError) as refusal:
        refuse_other_workloads(base, head)
    assert told in str(refusal.value) and "head.jsonl" in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_sweep_over_lengths_and_a_part_of_it_are_comparable(planted: Plant) -> None:
    longer = {**WORKLOAD, "gen_toks": 20}
    base = planted(case("p/a", SAMPLES), case("p/a,n=20", SAMPLES, workload=longer), name="base.jsonl")
    head = planted(case("p/a", SAMPLES, workload=longer), name="head.jsonl")
    refuse_other_workloads(base, head)
    found = match(base, head)
    assert [(a.id, b.id) for a, b in found.pairs] == [("p/a,n=20", "p/a")]
    assert [each.id for each in found.gone] == ["p/a"]


def test_each_pair_of_models_has_its_own_prompt_hash(planted: Plant) -> None:
    other = {"engine": {**ENGINE, "pair": "q"}, "workload": {**WORKLOAD, "prompts_sha256": "of another tokenizer"}}
    refuse_other_workloads(
        planted(case("p/a", SAMPLES), name="base.jsonl"), planted(case("q/a", SAMPLES, **other), name="head.jsonl")
    )


def test_keys_and_differences_of_the_environment(planted: Plant) -> None:
    gpu = {"device": "cuda", "cpu": "A processor", "cpu_cores": 2, "gpu": "NVIDIA H100 80GB HBM3", "driver": "580"}
    base = planted(name="base.jsonl")
    head = planted(
        name="head.jsonl",
        environment={"hardware": gpu, "versions": {"torch": "2.14.0"}, "python": "3.12.1", "git_commit": "abc"},
    )
    assert hardware_key(base) == "cpu-a-processor-2c"
    assert hardware_key(head) == "gpu-nvidia-h100-80gb-hbm3-on-a-processor"
    assert versions_key(base) == "python=unknown,torch=2.13.0"
    assert versions_key(head) == "python=3.12.1,torch=2.14.0"
    assert environment_differences(base, head) == (
        Difference("torch", "2.13.0", "2.14.0"),
        Difference("device", "", "cuda"),
        Difference("gpu", "", "NVIDIA H100 80GB HBM3"),
        Difference("driver", "", "580"),
        Difference("python", "", "3.12.1"),
        Difference("git_commit", "", "abc"),
    )
    assert environment_differences(base, base) == ()


def test_fewer_threads_are_another_machine_and_other_weights_are_told(planted: Plant) -> None:
    hardware = {"device": "cpu", "cpu": "AMD EPYC", "cpu_cores": 4, "cpu_threads_used": 1}
    threads = planted(name="threads.jsonl", environment={"hardware": hardware})
    assert hardware_key(threads) == "cpu-amd-epyc-4c-1t"
    vectors = planted(name="vectors.jsonl", environment={"hardware": {**hardware, "cpu_capability": "AVX512"}})
    assert hardware_key(vectors) == "cpu-amd-epyc-4c-1t-avx512"
    assert hardware_key(planted(name="empty.jsonl", environment={})) == "cpu-unknown"
    base = planted(case("p/a", SAMPLES, facts={"revisions": {"target": "r1"}}), name="base.jsonl")
    head = planted(case("p/a", SAMPLES, facts={"revisions": {"target": "r2"}}), name="head.jsonl")
    assert environment_differences(base, head) == (Difference("target of p", "r1", "r2"),)


def test_a_run_by_turns_differs_from_one_that_ran_alone(planted: Plant) -> None:
    alone, turning = planted(name="alone.jsonl"), planted(name="turning.jsonl", by_turns=True)
    assert environment_differences(alone, turning) == (Difference("by_turns", "", "true"),)
    assert environment_differences(turning, turning) == ()


def test_an_engine_of_a_run_from_before_has_the_usual_attention_and_mode(planted: Callable[..., Run]) -> None:
    def run(name: str, **more: str) -> Run:
        return planted(case("p/a", SAMPLES, engine={**ENGINE, **more}), name=f"{name}.jsonl")

    base = run("base")
    assert len(match(base, run("head", attention="sdpa", compile_mode="default")).pairs) == 1
    assert not match(base, run("eager", attention="eager")).pairs
    assert not match(base, run("stock", compile_mode="stock")).pairs


def test_a_gpu_is_another_machine_on_another_host_at_another_power_limit_and_without_ecc(planted: Plant) -> None:
    card = {"device": "cuda", "gpu": "NVIDIA L4", "gpu_power_limit_watts": 72.0, "gpu_ecc": True, "cpu": "AMD EPYC"}

    def key(**more: object) -> str:
        return hardware_key(planted(name=f"{more}.jsonl", environment={"hardware": {**card, **more}}))

    assert key() == "gpu-nvidia-l4-72w-on-amd-epyc"
    assert key(gpu_power_limit_watts=40.0) == "gpu-nvidia-l4-40w-on-amd-epyc"
    assert key(gpu_ecc=False) == "gpu-nvidia-l4-72w-no-ecc-on-amd-epyc"
    assert key(cpu="Intel Xeon") == "gpu-nvidia-l4-72w-on-intel-xeon"
    told = planted(name="told.jsonl", environment={"hardware": {**card, "gpu_max_sm_clock_mhz": 2040}})
    assert Difference("gpu_max_sm_clock_mhz", "", "2040") in environment_differences(
        planted(name="base.jsonl", environment={"hardware": card}), told
    )


def test_the_serial_in_a_file_from_before_is_not_read(planted: Plant) -> None:
    hardware = {"device": "cuda", "gpu": "NVIDIA L4", "gpu_uuid": "GPU-aaaaaaaa-1111"}
    assert "aaaaaaaa" not in str(planted(environment={"hardware": hardware}).header)
