"""The workflows for users: valid, and what their steps run exists and does what they say."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from reports.__main__ import COMMANDS, _parser
from reports.numbers.metrics import derive
from reports.record.run import CaseResult, Sample
from reports.record.settings import EngineKey, WorkloadDone
from reports.record.writer import RunWriter

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = ROOT / ".github" / "workflows"
ACTIONLINT = Path(sys.executable).with_name("actionlint")


def lint(*files: Path) -> subprocess.CompletedProcess[str]:
    command = [str(ACTIONLINT), "-no-color", *map(str, files)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def steps(name: str) -> Iterator[dict[str, str]]:
    for job in yaml.safe_load((WORKFLOWS / name).read_text())["jobs"].values():
        yield from job["steps"]


def script(workflow: str, step: str) -> str:
    return next(one["run"] for one in steps(workflow) if one.get("name") == step)


def test_actionlint_finds_nothing() -> None:
    found = lint()
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("timeout-minutes: 30", "timeout-minute: 30", 'unexpected key "timeout-minute"'),
        ("github.ref }}", "github.reff }}", 'property "reff" is not defined'),
        ("actions/checkout@v6", "actions/checkout", "specifying action"),
        ("contents: read", "contents: reed", '"reed" is invalid'),
    ],
)
def test_actionlint_fails_on_a_broken_workflow(tmp_path: Path, right: str, wrong: str, said: str) -> None:
    broken = tmp_path / "gate.yml"
    text = (WORKFLOWS / "gate.yml").read_text()
    assert right in text
    broken.write_text(text.replace(right, wrong))
    found = lint(broken)
    assert found.returncode == 1
    assert said in found.stdout


@pytest.mark.parametrize("workflow", sorted(path.name for path in WORKFLOWS.glob("*.yml")))
def test_a_workflow_may_only_read_unless_a_job_says_so_and_stops_in_time(workflow: str) -> None:
    read = yaml.safe_load((WORKFLOWS / workflow).read_text())
    assert read["permissions"] == {"contents": "read"}
    assert "concurrency" in read
    for job in read["jobs"].values():
        assert job["timeout-minutes"] <= 360
        assert job.get("permissions", {"contents": "write"}) == {"contents": "write"}
        assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"]) for step in job["steps"] if "uses" in step)


def test_the_study_of_every_night_takes_minutes_and_its_calibration_an_hour_on_an_l4(tmp_path: Path) -> None:
    from fixtures.estimate.costs import Costs
    from fixtures.estimate.devices import native_dtype, profile
    from fixtures.estimate.of_study import estimate
    from fixtures.study.study_file import load_study

    workflow = yaml.safe_load((WORKFLOWS / "nightly.yml").read_text())
    name = workflow[True]["workflow_dispatch"]["inputs"]["study"]["default"]  # `on` is a truth value to YAML 1.1
    assert workflow["env"]["STUDY"] == f"${{{{ inputs.study || '{name}' }}}}"
    study = load_study(name, {}, lambda _: native_dtype("l4"))
    cases = study.cases()
    told = estimate(Costs(study, profile("l4")), cases)
    assert (name, len(cases), study.workload.num_samples) == ("gpu-smoke", 4, 20)
    assert told.seconds < 300
    pairs = _parser().parse_args(["calibrate"]).pairs
    assert 2 * pairs * told.seconds < 4200
    assert workflow["jobs"]["gpu"]["timeout-minutes"] * 60 > 4 * told.seconds

    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script("nightly.yml", "Gate")]
    judged = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "STUDY": name}, capture_output=True, text=True, check=False
    )
    assert judged.returncode == 0, judged.stdout + judged.stderr
    assert f"make calibrate STUDY={name}" in judged.stdout, "nothing is gated before there is a baseline"


def test_every_command_in_a_workflow_is_one_that_reports_takes() -> None:
    lines = []
    for path in sorted(WORKFLOWS.glob("*.yml")):
        for step in steps(path.name):
            text = re.sub(r"\$\{\w+:\+(.*?)\}", r"\1", step.get("run", "").replace("\\\n", " "))
            lines += re.findall(r"-m reports (?!RUN\b)(.*)", text)
    used = set()
    for line in lines:
        if line.startswith("promote RUN"):
            continue  # told to people, in an error message
        words = shlex.split(re.split(r"\s(?:>|>>|\|\||2>|;)|; \}", line)[0].replace('"$@"', ""))
        options = _parser().parse_args(words)  # exits with a usage error for what it does not know
        used.add(words[0])
        assert callable(options.run)
    assert used == {"gate", "ab", "promote", "show", "page"}
    assert used <= set(COMMANDS)


@pytest.mark.parametrize(("forwards", "code"), [(10, 0), (11, 1)])
def test_the_gate_step_judges_counts_by_another_machines_baseline(tmp_path: Path, forwards: int, code: int) -> None:
    """The steps' own shell, run in a folder with one baseline, of another processor."""
    left_out = shutil.ignore_patterns("runs", "published", "baselines", "__pycache__")
    shutil.copytree(ROOT / "reports", tmp_path / "reports", ignore=left_out)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    (tmp_path / ".venv" / "bin" / "python").chmod(0o755)
    plant(tmp_path / "reports" / "baselines" / "smoke" / "cpu-other-4c.jsonl", "Other", 10)
    plant(tmp_path / "reports" / "runs" / "head.jsonl", "This", forwards)
    variables, summary = tmp_path / "variables", tmp_path / "summary.md"

    def step(name: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script("gate.yml", name)]
        environment |= {"GITHUB_ENV": str(variables), "GITHUB_STEP_SUMMARY": str(summary)}
        return subprocess.run(
            command, cwd=tmp_path, env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )

    found = step("Find the baseline")
    assert found.returncode == 0, found.stdout + found.stderr
    assert variables.read_text() == "BASE=reports/baselines/smoke/cpu-other-4c.jsonl\n"
    judged = step("Gate", BASE=variables.read_text().strip().removeprefix("BASE="), MEASURED="0")
    assert judged.returncode == code, judged.stdout + judged.stderr
    assert ("::error" in judged.stdout) == bool(code)
    assert step("Gate", BASE=variables.read_text().strip().removeprefix("BASE="), MEASURED="1").returncode == 1
    assert "### Gate" in summary.read_text()
    assert "<testsuite" in (tmp_path / "reports" / "runs" / "gate.xml").read_text()


def test_the_gate_step_misses_no_bf16_where_the_runner_emulates_it(tmp_path: Path) -> None:
    """The baseline has a case in bf16, which such a runner decodes in fp32: `--dtype auto`."""
    runs = tmp_path / "reports" / "runs"
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    (tmp_path / ".venv" / "bin" / "python").chmod(0o755)
    plant(tmp_path / "base.jsonl", "Other", 10, bf16=True)
    plant(runs / "measured.jsonl", "This", 10, dtype_auto={"dtype": "fp32", "reason": "emulated"})
    variables = tmp_path / "variables"
    measure = script("gate.yml", "Measure the smoke study").replace(
        ".venv/bin/python -m pytest perf_tests --study smoke --results", "cp reports/runs/measured.jsonl"
    )

    def run(text: str, **environment: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "GITHUB_ENV": str(variables), **environment}
        environment["GITHUB_STEP_SUMMARY"] = str(tmp_path / "summary.md")
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", text]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert run(measure).returncode == 0
    known = dict(line.split("=", 1) for line in variables.read_text().splitlines())
    assert known == {"MEASURED": "0", "EMULATED": "1"}
    assert run(script("gate.yml", "Gate"), BASE="base.jsonl", **known).returncode == 0
    del known["EMULATED"]
    assert run(script("gate.yml", "Gate"), BASE="base.jsonl", **known).returncode == 1, "elsewhere it is missing"


def plant(path: Path, processor: str, forwards: int, *, bf16: bool = False, **header: Any) -> None:
    samples = (Sample(0, 1.0, 10, forwards, "hash"), Sample(1, 1.0, 10, 10, "hash"))
    writer = RunWriter(path)
    hardware = {"cpu": processor, "cpu_cores": 4}
    environment = {"hardware": hardware, "versions": {"torch": "2.13.0"}}
    writer.run({"study": {"name": "smoke"}, "environment": environment, **header})
    for dtype in ("fp32", *(["bf16"] if bf16 else [])):
        key = EngineKey("p", draft_quant=None, dtype=dtype)
        writer.case(
            CaseResult(
                f"{key.id}/plain,greedy,dynamic",
                "ok",
                experiment="baseline",
                engine=key,
                workload=WorkloadDone("embedded", num_samples=2, prompts_sha256="abc"),
                samples=samples,
                metrics=derive(samples, speculative=False),
            )
        )
    writer.end({})
    writer.close()
