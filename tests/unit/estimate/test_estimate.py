"""An estimate before a run: how far it is from published figures, what it says of an L4, and what it refuses."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import pytest

from fixtures.estimate.asked import check_estimate, estimate_lines
from fixtures.estimate.costs import Costs
from fixtures.estimate.devices import PROFILES, measured, native_dtype, profile, profile_names
from fixtures.estimate.of_study import Estimate, duration, estimate, lines
from fixtures.study.study import Case, DecodingPoint, EngineKey, Study, StudyError, Workload
from fixtures.study.study_file import load_study
from reports.record.run import CaseResult, Sample
from reports.record.settings import WorkloadDone
from reports.record.writer import RunWriter

GIB = 2**30
SEED = Path(__file__).resolve().parents[3] / "reports" / "published" / "seed_study_l4.csv"
WORKLOAD = Workload(num_samples=500, max_prompt=128, gen_toks=128)
# The L4's host factor comes from plain 8bit decoding. A draft in NF4 took the original study longer in every layer than
# the whole target in NF4 did, which no part of this model explains.
CALIBRATED = ("8bit", "")
UNEXPLAINED = ("none", "4bit")


def seed_cases() -> list[tuple[tuple[str, str], Case, float]]:
    """The original study's cases: quantizations, the case, published milliseconds per token on an L4."""
    rows = csv.DictReader(line for line in SEED.read_text().splitlines() if not line.startswith("#"))
    found = []
    for row in rows:
        pair = "llama3-8b-3b" if row["draft"].endswith("3B") else "llama3-8b-1b"
        point = DecodingPoint()
        if row["draft"]:
            sampled = row["do_sample"] == "true"
            threshold = float(row["confidence_threshold"])
            point = DecodingPoint("assisted", int(row["assist_toks"]), threshold, "constant", do_sample=sampled)
        engine = EngineKey(pair, row["target_quant"], row["draft_quant"] or None)
        case = Case(engine, point, WORKLOAD, "speculative_decoding" if row["draft"] else "baseline", 128)
        found.append(((row["target_quant"], row["draft_quant"]), case, float(row["latency_ms_tok"])))
    return found


def of_study(card: str, name: str, **options: str) -> tuple[Study, list[Case]]:
    study = load_study(name, options, lambda _: native_dtype(card))
    return study, study.cases()


def on(card: str, name: str, **options: str) -> Estimate:
    study, cases = of_study(card, name, **options)
    return estimate(Costs(study, profile(card)), cases)


def test_an_estimate_is_near_what_the_original_study_measured_on_an_l4() -> None:
    costs = Costs(of_study("l4", "llama3", pair="llama3-8b-1b,llama3-8b-3b")[0], profile("l4"))
    ratios = {}
    for kind, case, published in seed_cases():
        seconds = costs.generation_seconds(case)
        assert seconds is not None
        ratios.setdefault(kind, []).append(1000 * seconds / 128 / published)
    assert all(0.85 < ratio < 1.15 for ratio in ratios["none", ""]), "plain decoding in bf16"
    assert all(0.85 < ratio < 1.15 for ratio in ratios["4bit", ""]), "plain decoding in NF4"
    rest = [ratio for kind, several in ratios.items() if kind not in (CALIBRATED, UNEXPLAINED) for ratio in several]
    assert len(rest) == 17
    assert all(1 / 1.5 < ratio < 1.5 for ratio in rest)
    assert all(0.6 < ratio < 1 / 1.5 for ratio in ratios[UNEXPLAINED]), "within 1.5 now? then say so above"


def test_eager_decoding_is_not_promised_at_what_memory_allows() -> None:
    study, _ = of_study("l4", "llama3", pair="llama3-8b-1b")
    case = Case(EngineKey("llama3-8b-1b"), DecodingPoint(), WORKLOAD, "baseline", 128)
    for name in ("h100", "a100-80"):
        seconds = Costs(study, profile(name)).generation_seconds(case)
        assert seconds is not None
        assert 0.022 < seconds / 128 < 0.027, "launches bind: about 25 ms a token on such hosts"


@pytest.mark.parametrize("name", ["llama3", "synthetic"])
def test_on_an_l4_nothing_is_beyond_its_memory_and_the_run_is_within_its_budget(name: str) -> None:
    found = on("l4", name)
    assert found.memory_bytes == int(22.03 * GIB)
    for engine in found.engines:
        assert engine.fits and engine.peak_bytes is not None and engine.peak_bytes < found.memory_bytes, engine.key.id
    assert found.budget is not None and found.seconds <= found.budget
    assert found.prompts >= 20
    assert not found.unknown


def test_a_repetition_counts_with_the_few_prompts_that_it_decodes() -> None:
    study, cases = of_study("l4", "llama3", num_samples="100")
    few = dataclasses.replace(cases[0], workload=dataclasses.replace(cases[0].workload, num_samples=20))
    costs = Costs(study, profile("l4"))
    seconds = [estimate(costs, [case]).asked_seconds for case in (cases[0], few)]
    generation = costs.generation_seconds(cases[0])
    assert generation is not None
    assert seconds[0] - seconds[1] == pytest.approx(80 * generation)


def test_whoever_names_the_prompts_gets_them_unless_a_budget_is_named_too() -> None:
    assert load_study("llama3").time_budget == 9000.0
    assert load_study("llama3", {"num_samples": "500"}).time_budget is None
    assert load_study("llama3", {"num_samples": "500", "time_budget": "90m"}).time_budget == 5400.0
    assert load_study("smoke", {"time_budget": "45"}).time_budget == 45.0


def test_what_exceeds_the_memory_is_told_per_engine_and_takes_no_time() -> None:
    found = on("t4", "llama3", pair="llama3-8b-1b")
    assert {engine.key.dtype for engine in found.engines} == {"fp16"}, "what is native there, whatever this machine is"
    beyond = [engine for engine in found.engines if not engine.fits]
    assert {engine.key.target_quant for engine in beyond} == {"none"}, "8B in 16 bits is 14.96 GiB of 14.56"
    told = [line for line in lines(found) if "BEYOND the 14.56 GiB" in line]
    assert len(told) == len(beyond)
    without = on("t4", "llama3", pair="llama3-8b-1b", target_quant="8bit,4bit")
    assert found.seconds < 2 * without.seconds


def test_the_draft_and_the_caches_are_in_the_peak() -> None:
    study, _ = of_study("l4", "llama3", pair="llama3-8b-3b")
    costs = Costs(study, profile("l4"))
    assisted = DecodingPoint("assisted", 3, 0.2, "constant")
    together = EngineKey("llama3-8b-3b")
    peak = costs.peak_bytes(together, [Case(together, assisted, WORKLOAD, "speculative_decoding", 128)])
    alone = costs.peak_bytes(
        dataclasses.replace(together, draft_quant=None),
        [Case(dataclasses.replace(together, draft_quant=None), DecodingPoint(), WORKLOAD, "baseline", 128)],
    )
    assert peak is not None and alone is not None
    weights = 20.94 * GIB
    assert weights + GIB / 2 < peak < weights + GIB
    assert 5.9 * GIB < peak - alone < 6.1 * GIB


def test_a_model_of_unknown_size_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    study, cases = of_study("l4", "smoke", model="nobody/such-a-model", aux_model="nobody/no-draft", prompts="wikitext")
    found = estimate(Costs(study, profile("l4")), cases)
    assert found.unknown == (study.pairs[0].name,)
    assert any("no configuration of its models can be had here" in line for line in lines(found))


def test_published_profiles_name_their_sources() -> None:
    assert profile_names() == ("l4", "a10g", "a100-40", "a100-80", "h100", "t4")
    for name in profile_names():
        card = profile(name)
        assert 1e11 < card.bytes_per_second < 4e12
        assert "bf16" in card.operations or name == "t4"
    assert PROFILES.read_text().count("sources = [") == 6


def test_a_run_of_the_same_card_sets_the_speed(tmp_path: Path) -> None:
    study, cases = of_study("l4", "llama3", pair="llama3-8b-1b")
    baseline = next(case for case in cases if case.point == DecodingPoint() and case.engine.target_quant == "none")
    samples = tuple(
        Sample(prompt=number, seconds=2 * 128 / 15.5, new_tokens=128, target_forwards=128, output_sha256="")
        for number in range(3)
    )
    writer = RunWriter(tmp_path / "run.jsonl")
    writer.run({"study": study.describe(), "environment": {"hardware": {"gpu": "NVIDIA L4", "gpu_memory_gib": 22.0}}})
    writer.case(
        CaseResult(
            baseline.id,
            "ok",
            engine=baseline.engine,
            point=baseline.point,
            workload=WorkloadDone.of(baseline.workload),
            samples=samples,
        )
    )
    writer.close()
    given = {"estimate": "true", "device_profile": "l4"}
    assert check_estimate(given | {"estimate_from": str(tmp_path / "run.jsonl")}, collect_only=True)
    (first, *_) = estimate_lines(study, [baseline], given)
    (slower, *_) = estimate_lines(study, [baseline], given | {"estimate_from": str(tmp_path / "run.jsonl")})
    assert first != slower
    plain = 500 * 128 / 15.5 if study.workload.num_samples == 500 else study.workload.num_samples * 128 / 15.5
    assert f"about {duration(2 * plain)}"[:7] in slower or "time budget" in slower


@pytest.mark.parametrize(
    ("given", "collect_only", "said"),
    [
        ({"estimate": "true"}, False, "--estimate: .* add --collect-only"),
        ({"device_profile": "l4"}, True, "--device-profile 'l4': .* add --estimate"),
        ({"estimate": "true", "device_profile": "b200"}, True, "--device-profile 'b200': choose from l4, a10g"),
        ({"estimate": "true", "estimate_from": "missing.jsonl"}, True, "--estimate-from missing.jsonl: no such file"),
    ],
)
def test_what_cannot_be_estimated_is_refused(given: dict[str, str], collect_only: bool, said: str) -> None:
    with pytest.raises(StudyError, match=said):
        check_estimate(given, collect_only=collect_only)


def test_the_device_of_a_run_is_what_its_header_says() -> None:
    limits = {"fp32": {"copy_bytes_per_second": 2e10, "matrix_operations_per_second": 1e11}}
    device = measured(limits, {"device": "cpu", "cpu": "AMD EPYC", "memory_gib": 16})
    assert (device.name, device.is_gpu, device.memory_bytes) == ("AMD EPYC", False, 16 * GIB)
    assert device.operations == {"fp32": 1e11}


def test_times_are_told_in_the_unit_that_a_person_would_use() -> None:
    assert [duration(seconds) for seconds in (45, 480, 9000, 259200)] == ["45 s", "8 min", "2.5 h", "72.0 h"]
