"""The order of a run: a baseline comes again after every few cases that are compared with it, and only then."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from fixtures.study.pairs import find_pair
from fixtures.study.study import Study, Sweep, Workload
from fixtures.suite.session import BenchSession

WORKLOAD = Workload(prompts="synthetic", num_samples=2, max_prompt=8, gen_toks=8)
STUDY = """
name = "ordered"
pair = "synthetic-tiny"
[workload]
prompts = "synthetic"
num_samples = 2
max_prompt = 8
gen_toks = 8
[[sweep]]
experiment = "speculative_decoding"
strategy = "assisted"
assist_toks = [1, 2, 3, 4, 5]
[[sweep]]
experiment = "kv_cache"
cache = "static"
"""


def test_a_baseline_is_measured_again_after_at_most_four_cases(tmp_path: Path) -> None:
    sweep = Sweep("speculative_decoding", {"strategy": ("assisted",), "assist_toks": tuple(range(1, 10))})
    study = Study("unit", "", (find_pair("synthetic-tiny"),), (sweep,), WORKLOAD)
    session = BenchSession(study, tmp_path / "run.jsonl", resume=False, argv=[])
    repetitions = session.repetitions()
    assert [repetition.number for repetition in repetitions] == [1, 2, 3]
    assert {repetition.baseline.id for repetition in repetitions} == {session.cases[0].id}
    places = [session.cases.index(repetition.after) for repetition in repetitions]
    assert places == [3, 6, 9], "nine cases in three parts, the last one at the end"


def test_a_baseline_is_measured_again_among_the_cases_of_all_its_drafts(tmp_path: Path) -> None:
    axes = {"strategy": ("assisted",), "draft_quant": ("none", "4bit"), "assist_toks": (1, 2, 3)}
    study = Study("unit", "", (find_pair("synthetic-tiny"),), (Sweep("speculative_decoding", axes),), WORKLOAD)
    session = BenchSession(study, tmp_path / "run.jsonl", resume=False, argv=[])
    assert [session.cases.index(repetition.after) for repetition in session.repetitions()] == [3, 6]


def test_repetitions_stand_where_there_is_something_to_compare(
    tmp_path: Path, run_bench: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    study = tmp_path / "ordered.toml"
    study.write_text(STUDY)

    def listed(*options: str) -> list[str]:
        done = run_bench("--study", study, "--collect-only", "-q", *options)
        names = [line.partition("[")[2][:-1] for line in done.stdout.splitlines() if "::test_" in line]
        return [name.partition("/")[2].partition("/")[2] or name for name in names]

    plain, drafted = "plain,greedy,dynamic", "assisted,k={},p=0.4,greedy,dynamic"
    assert listed() == [
        plain,
        "plain,greedy,static",
        *(drafted.format(k) for k in (1, 2)),
        f"{plain}#1",
        *(drafted.format(k) for k in (3, 4, 5)),
        f"{plain}#2",
    ]
    assert listed("-m", "kv_cache") == [plain, "plain,greedy,static", f"{plain}#1"]
