"""Studies divided for several machines: whole engines, balanced, the same wherever it is done, without torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest

from fixtures.estimate.dividing import case_seconds, cases_of, divided
from fixtures.study.pairs import Pair
from fixtures.study.shard import Shard
from fixtures.study.study import Case, Study, StudyError, Sweep, Workload
from fixtures.study.study_file import load_study
from fixtures.study.study_toml import study_names

ROOT = Path(__file__).resolve().parents[3]
SPECULATION = Sweep("speculative_decoding", {"dtype": ("bf16",), "strategy": ("assisted",), "assist_toks": (1, 3, 5)})


def study_of(*models: str) -> Study:
    pairs = tuple(Pair(f"p{number}", "hub", f"owner/{model}", "owner/1B") for number, model in enumerate(models))
    return Study("many", "", pairs, (SPECULATION,), Workload("synthetic", num_samples=50, gen_toks=128))


@pytest.mark.parametrize("name", study_names())
def test_every_committed_study_is_divided_whole(name: str) -> None:
    study = load_study(name)
    cases = study.cases()
    for count in (1, 2, 3, 4):
        with suppress(StudyError) if count > 1 else nullcontext():
            _check_parts(study, cases, count)


def _check_parts(study: Study, cases: Sequence[Case], count: int) -> None:
    parts = divided(study, cases, count)
    assert len(parts) == count and all(parts)
    assert frozenset().union(*parts) == {case.id for case in cases}
    for case in cases:
        having = [part for part in parts if case.id in part]
        assert len(having) == 1 or case.point.strategy == "plain"
        if case.experiment != "humaneval":
            assert all(study.baseline_of(case).id in part for part in having)


def test_more_machines_than_engines_are_refused_with_the_most_there_can_be() -> None:
    study = study_of("Llama-8B", "Llama-3B")
    assert len(divided(study, study.cases(), 2)) == 2
    with pytest.raises(StudyError, match=r"--shard 1/3: more parts .*; use n up to 2$"):
        cases_of(study, study.cases(), Shard(1, 3))


def test_machines_have_about_as_much_to_do_each() -> None:
    study = study_of("Llama-8B", *(f"{size}-model-{size}B" for size in (1, 2, 3, 7, 8, 13, 32, 70)))
    cases = study.cases()
    seconds = {case.id: case_seconds(study, case) for case in cases}
    loads = [sum(seconds[case_id] for case_id in part) for part in divided(study, cases, 3)]
    assert max(loads) / min(loads) < 1.25
    assert seconds["p8/t=none,bf16/plain,greedy,dynamic"] > 3 * seconds["p1/t=none,bf16/plain,greedy,dynamic"]


def test_a_thousand_engines_are_divided_and_every_one_is_there() -> None:
    study = study_of(*(f"m{number}-7B" for number in range(1000)))
    cases = study.cases()
    parts = divided(study, cases, 64)
    assert sum(map(len, parts)) == len(cases) and frozenset().union(*parts) == {case.id for case in cases}
    assert {len(part) // 4 for part in parts} == {15, 16}


def test_dividing_needs_no_torch_and_does_not_depend_on_the_process() -> None:
    code = (
        "import sys\nfrom fixtures.estimate.dividing import divided\nfrom fixtures.study.study_file import load_study\n"
        "study = load_study('llama3')\nprint([sorted(part) for part in divided(study, study.cases(), 3)])\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1
