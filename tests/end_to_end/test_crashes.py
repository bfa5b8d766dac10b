"""`--isolate`: a crash costs one case, whatever has come before it stays, and what is left is measured."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from reports.record.reader import read_run
from reports.record.run import Run

ROOT = Path(__file__).resolve().parents[2]
STUDY = """\
name = "isolated"
pair = "synthetic-tiny"
warmup = 0
drift_limit = 1000.0
[workload]
prompts = "synthetic"
num_samples = 4
max_prompt = 8
gen_toks = 8
[defaults]
dtype = "fp32"
[[sweep]]
experiment = "baseline"
[[sweep]]
experiment = "speculative_decoding"
strategy = "prompt_lookup"
assist_toks = [2, 3, 4]
"""
PREFIX = "synthetic-tiny/t=none,fp32"

Bench = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "isolated.toml"
    path.write_text(STUDY)
    return path


@pytest.fixture(scope="module")
def faulty(study: Path, run_bench: Bench) -> tuple[subprocess.CompletedProcess[str], Path]:
    """A run in which a case dies in its third round and another one asks Python to exit in its second."""
    results = study.parent / "run.jsonl"
    done = run_bench(
        *("--study", study, "--isolate", "--results", results, "-p", "faulty"),
        FAULTS="prompt_lookup,2@2=segfault prompt_lookup,3@1=exit",
        PYTHONPATH=str(Path(__file__).parent),
    )
    return done, results


def test_a_crash_and_an_exit_cost_their_own_cases_only(
    faulty: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    done, results = faulty
    run = read_run(results)
    assert done.returncode == 1, done.stdout + done.stderr
    assert run.complete and not run.warnings
    status = {(case.point.strategy, case.point.assist_toks): (case.status, len(case.samples)) for case in run.cases}
    assert status == {
        ("plain", None): ("ok", 4),
        ("prompt_lookup", 2): ("crashed", 2),
        ("prompt_lookup", 3): ("crashed", 1),
        ("prompt_lookup", 4): ("ok", 4),
    }
    crashed, asked_to_exit = (run.finished[f"{PREFIX}/prompt_lookup,k={k},greedy,dynamic"] for k in (2, 3))
    assert crashed.reason == "its process ended by SIGSEGV while decoding"
    assert asked_to_exit.reason == "SystemExit: asked Python to exit (the model has had enough)"
    assert f"{crashed.id}: {crashed.reason}; it is set aside, and the rest goes on" in done.stdout
    assert "prompt lookup k=4" in done.stdout, "the last process shows the table of all"


def test_the_rounds_before_the_crash_are_not_decoded_again(
    faulty: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    run = read_run(faulty[1])
    assert [len(run.sessions), len({session["isolated_by"] for session in run.sessions})] == [2, 1]
    assert [(done.session, done.round) for done in run.rounds] == [(0, 0), (0, 1), (1, 2), (1, 3)]
    crashed = run.finished[f"{PREFIX}/prompt_lookup,k=2,greedy,dynamic"]
    assert crashed.session == 0 and [sample.prompt for sample in crashed.samples] == [0, 1]


def test_what_was_set_aside_is_tried_again_by_hand_and_counts_as_in_a_run_without_faults(
    faulty: tuple[subprocess.CompletedProcess[str], Path], study: Path, run_bench: Bench
) -> None:
    before = read_run(faulty[1])
    resumed = run_bench("--study", study, "--resume", faulty[1])
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    run = read_run(faulty[1])
    assert {case.status for case in run.finished.values()} == {"ok"} and run.complete
    assert _counts(run).keys() == _counts(before).keys()
    for name, samples in _counts(before).items():
        assert _counts(run)[name][: len(samples)] == samples, "what was measured stays"
    plain = [output for _, _, _, output in _counts(run)[f"{PREFIX}/plain,greedy,dynamic"]]
    assert len(plain) == 4
    for samples in _counts(run).values():
        assert [output for _, _, _, output in samples] == plain, "greedy speculation decodes what plain decoding does"


def _counts(run: Run) -> dict[str, list[tuple[int, int, int, str]]]:
    return {
        name: [(one.prompt, one.new_tokens, one.target_forwards, one.output_sha256) for one in case.samples]
        for name, case in run.finished.items()
    }
