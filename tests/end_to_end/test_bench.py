"""`pytest perf_tests` as a user runs it: table, run file, benchmark JSON, models loaded once and freed, refusals."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reports.record.reader import read_run
from reports.record.run import Run

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
Bench = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class Spied:
    """A run with two engines (fp32 and bf16), and what the spy saw of it."""

    done: subprocess.CompletedProcess[str]
    run: Run
    benchmarks: list[dict[str, Any]]
    seen: dict[str, Any]


@pytest.fixture(scope="module")
def spied(run_bench: Bench, tiny_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Spied]:
    """`spied(failing)`: such a run, in which the tests whose id contains `failing` fail at their end."""
    runs: dict[str, Spied] = {}

    def run(failing: str = "") -> Spied:
        if failing not in runs:
            folder = tmp_path_factory.mktemp("run")
            results, benchmark, seen = (folder / name for name in ("run.jsonl", "benchmark.json", "seen.json"))
            done = run_bench(
                *("--study", tiny_study, "--dtype", "fp32,bf16", "-p", "spy"),
                *("--results", results, "--benchmark-json", benchmark),
                PYTHONPATH=str(HERE),
                SPY_OUTPUT=str(seen),
                SPY_FAIL=failing,
            )
            benchmarks = json.loads(benchmark.read_text())["benchmarks"]
            runs[failing] = Spied(done, read_run(results), benchmarks, json.loads(seen.read_text()))
        return runs[failing]

    return run


def test_a_run_ends_with_the_table_and_a_complete_file(spied: Callable[..., Spied]) -> None:
    found = spied()
    assert found.done.returncode == 0, found.done.stdout + found.done.stderr
    assert "speedup [95%]" in found.done.stdout
    for case in found.run.cases:
        assert case.id in found.done.stdout
        assert case.status == "ok"
        assert [sample.prompt for sample in case.samples] == [0, 1]
        assert all(sample.new_tokens == 8 for sample in case.samples)
    assert len(found.run.cases) == 8
    assert [done.round for done in found.run.rounds] == [0, 1], "all of them in one block"
    assert {*found.run.rounds[0].order} == {*found.run.rounds[1].order} == {case.id for case in found.run.cases}
    assert found.run.complete
    assert found.run.end["seconds"]["total"] > 0
    assert len({case.workload.prompts_sha256 for case in found.run.cases}) == 1
    assert found.run.header["environment"]["versions"]["torch"]


def test_every_strategy_writes_what_plain_decoding_writes_in_fp32(spied: Callable[..., Spied]) -> None:
    cases = [case for case in spied().run.cases if case.engine.dtype == "fp32"]
    assert len({tuple(sample.output_tokens for sample in case.samples) for case in cases}) == 1


def test_the_benchmark_json_is_valid_and_carries_the_metrics(spied: Callable[..., Spied]) -> None:
    found = spied()
    by_id = {(case.id, case.again): case for case in found.run.cases}
    assert len(found.benchmarks) == 8
    for benchmark in found.benchmarks:
        extra = dict(benchmark["extra_info"])
        case = by_id[extra.pop("case"), extra.pop("again")]
        assert {name: extra[name] for name in case.metrics} == dict(case.metrics)
        assert benchmark["stats"]["rounds"] == len(case.samples)
        timed = sum(sample.seconds for sample in case.samples)
        assert benchmark["stats"]["total"] == pytest.approx(timed), "its rounds are those that were measured in turn"


@pytest.mark.parametrize("failing", ["", "assisted,k=3"], ids=["all pass", "one fails of each dtype"])
def test_every_model_is_loaded_once_and_none_is_left(spied: Callable[..., Spied], failing: str) -> None:
    found = spied(failing)
    assert found.done.returncode == (1 if failing else 0)
    assert found.seen["loads"] == ["target fp32", "draft fp32", "target bf16", "draft bf16"]
    assert found.seen["alive_at_load"] == [0, 1, 2, 3], "what takes turns is in memory together"
    assert found.seen["alive_at_end"] == 0
    assert len(found.run.cases) == 8


def test_collecting_lists_readable_cases_by_engine_and_imports_no_torch(tiny_study: Path) -> None:
    code = (
        "import sys, pytest\n"
        "status = pytest.main(sys.argv[1:])\n"
        "assert status == 0 and not {'torch', 'transformers', 'scipy', 'altair'} & set(sys.modules)"
    )
    listing = ["perf_tests", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-c", code, *listing, "--study", str(tiny_study), "--dtype", "fp32,bf16"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ids = [line.partition("[")[2].rstrip("]") for line in done.stdout.splitlines() if "[synthetic-tiny/" in line]
    assert ids[:3] == [
        "synthetic-tiny/t=none,fp32/plain,greedy,dynamic",
        "synthetic-tiny/t=none,fp32/prompt_lookup,k=3,greedy,dynamic",
        "synthetic-tiny/t=none,d=none,fp32/assisted,k=1,p=0,greedy,dynamic",
    ]
    assert ["fp32" in case for case in ids] == [True] * 4 + [False] * 4


@pytest.mark.parametrize(("marker", "baselines"), [("speculative", 1), ("baseline", 1), ("humaneval", 0)])
def test_a_marker_selects_its_cases_with_the_baseline_they_need(
    run_bench: Bench, tiny_study: Path, marker: str, baselines: int
) -> None:
    done = run_bench("--study", tiny_study, "--collect-only", "-q", "-m", marker)
    found = re.findall(r"/plain,greedy,dynamic\]", done.stdout)
    assert len(found) == baselines
    assert done.stdout.count("/assisted,") == (2 if marker == "speculative" else 0)


def test_models_that_cannot_be_had_are_refused_in_one_line_before_anything_loads(
    run_bench: Bench, tiny_study: Path, tmp_path: Path
) -> None:
    results = tmp_path / "run.jsonl"
    done = run_bench(
        *("--study", tiny_study, "--model", "owner/big", "--aux-model", "owner/small", "--prompts", "embedded"),
        *("--results", results),
        HF_HUB_OFFLINE="1",
        HF_HOME=str(tmp_path),
    )
    assert done.returncode == 4
    output = done.stdout + done.stderr
    assert "Traceback" not in output
    assert "ERROR: owner/big is not in the local cache and the hub cannot be reached: connect once" in output
    assert not results.exists()


def test_an_estimate_is_told_without_loading_anything(run_bench: Bench) -> None:
    listing = ("--study", "synthetic", "--collect-only", "-q", "--estimate", "--device-profile", "t4")
    done = run_bench(*listing, "-k", "plain")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    (told,) = [line for line in lines if line.startswith("NVIDIA T4 16 GB: ")]
    assert re.search(r"\d+ cases in \d+ blocks?, \d+ loads; about \d+", told)
    (beyond,) = [line for line in lines if line.startswith("  synthetic-llama3-8b-1b/t=none,fp16 ")]
    assert "BEYOND the 14.56 GiB" in beyond, "8B in 16 bits, and fp16 is what this card computes natively"
    assert any("t=4bit,fp16" in line and line.endswith(" GiB") for line in lines)


@pytest.mark.embedded
def test_the_embedded_pair_in_brief(run_bench: Bench, tmp_path: Path) -> None:
    results = tmp_path / "run.jsonl"
    brief = ("--num-samples", 1, "--max-prompt", 32, "--gen-toks", 8, "--dtype", "fp32")
    done = run_bench("--study", "smoke", *brief, "--results", results)
    run = read_run(results)
    assert {case.status for case in run.cases} == {"ok"}, done.stdout
    assert done.returncode == 0
    assert {case.point.strategy for case in run.cases} >= {"plain", "assisted", "prompt_lookup"}
    assert len({case.samples[0].output_sha256 for case in run.cases}) == 1, "the same answer by every strategy"
    assisted = next(case for case in run.cases if case.point.strategy == "assisted")
    assert assisted.metrics["accepted"] > 0
