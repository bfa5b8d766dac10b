"""`pytest perf_tests --baseline RUN --gate --confirm` as a user runs it, with a slowdown that is known."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest

from reports.gate.baselines import promote
from reports.gate.calibration import Noise, write_noise
from reports.gate.evidence import CONFIRMING
from reports.gate.thresholds import GateRules
from reports.record.matching import hardware_key, versions_key
from reports.record.reader import read_run

HERE = Path(__file__).resolve().parent
POWER = HERE.parents[1] / "tools" / "power"  # where the plugin is that slows down
Bench = Callable[..., "subprocess.CompletedProcess[str]"]
STUDY = """\
name = "gated"
pair = "synthetic-tiny"
warmup = 1
drift_limit = 1000.0
[workload]
prompts = "synthetic"
num_samples = 8
max_prompt = 8
gen_toks = 4
[[sweep]]
experiment = "baseline"
dtype = "fp32"
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gate") / "gated.toml"
    path.write_text(STUDY, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def base(run_bench: Bench, study: Path) -> Path:
    path = study.parent / "base.jsonl"
    done = run_bench("--study", study, "--results", path)
    assert done.returncode == 0, done.stdout + done.stderr
    return path


@pytest.fixture(scope="module")
def calibration(base: Path) -> Path:
    """A machine on which the same code may well take twice as long, as it does beside other programs."""
    path = base.parent / "noise.json"
    run = read_run(base)
    write_noise(Noise(hardware_key(run), versions_key(run), "gated", 12, {"latency_tok": 0.8}), path)
    return path


def test_a_slower_run_is_measured_again_and_fails(run_bench: Bench, study: Path, base: Path, calibration: Path) -> None:
    head = study.parent / "head-slow.jsonl"
    arguments = ("-p", "slowdown", "--study", study, "--results", head, "--baseline", base, "--gate", "--confirm")
    arguments += ("--calibration", calibration)
    done = run_bench(*arguments, PYTHONPATH=str(POWER), SLOWDOWN="head-=40")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "gate: REGRESSED" in done.stdout
    assert "[2/2]" in done.stdout and "gate: measuring 1 cases again" in done.stdout
    assert "confirmed when measured again" in " ".join(done.stdout.replace("│", " ").split())
    run = read_run(head)
    assert run.complete
    assert [(case.again, CONFIRMING in case.notes) for case in run.cases] == [(False, False), (True, True)]
    assert str(base) not in head.read_text(encoding="utf-8"), "a run file tells no paths"


def test_a_rolling_base_is_taken_from_the_history_of_a_folder(run_bench: Bench, study: Path, base: Path) -> None:
    """Two baselines of a thousand times the seconds, and one as measured: the median is far above what head takes."""
    folder, head = study.parent / "baselines", study.parent / "rolled.jsonl"
    slow = base.with_name("slow.jsonl")
    lines = [json.loads(line) for line in base.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        measured = line.get("samples", [])  # a round has them by case
        for sample in chain(*measured.values()) if line["kind"] == "round" else measured:
            sample["seconds"] *= 1000.0
    slow.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    for run in (slow, slow, base):
        promote(read_run(run), GateRules(), folder=folder)
    arguments = ("--study", study, "--results", head, "--baseline", folder, "--gate")
    done = run_bench(*arguments, "--rolling", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    told = " ".join(done.stdout.replace("│", " ").split())
    assert re.search(r"latency_tok inconclusive .*-9\d\.\d%", told), (
        "far faster than the median, and nothing is calibrated"
    )


def test_a_failed_case_that_may_be_missing_leaves_the_exit_code_to_the_verdict(
    run_bench: Bench, tmp_path: Path
) -> None:
    both = tmp_path / "both.toml"
    both.write_text(f"{STUDY}do_sample = [false, true]\n", encoding="utf-8")
    head, base = tmp_path / "head.jsonl", tmp_path / "base.jsonl"
    assert run_bench("--study", both, "--results", base).returncode == 0
    arguments = ("-p", "failing", "--study", both, "--results", head, "--baseline", base, "--gate")
    done = run_bench(*arguments, "--allow-missing", "*sampled*", PYTHONPATH=str(HERE))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "allowed: failed" in done.stdout
    assert "1 failed" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--confirm",), "--confirm: says how to gate"),
        (("--gate", "--baseline", "absent.jsonl"), "--gate: absent.jsonl: no such file"),
        (("--rolling", "3"), "--rolling: says how to gate"),
        (("--gate", "--baseline", "one.jsonl", "--rolling", "3"), "--rolling 3: one.jsonl is one run; give auto or"),
        (("--gate", "--rolling", "0"), "--rolling 0: at least 1 baseline is needed"),
    ],
)
def test_what_cannot_be_gated_is_refused_before_anything_runs(
    run_bench: Bench, study: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = run_bench("--study", study, *arguments)
    assert done.returncode == 4
    assert said in done.stderr
