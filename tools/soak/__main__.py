"""`make soak`: 300 cases of the tiny pair under faults, resumed until all are measured, against a run without faults.

Faults come while generations run (injected.py), from a killed supervisor to a full disk; between two processes the last
line is sometimes cut, as a loss of power leaves it. The last line tells the faults survived and the cases lost. Exits 1
where one is lost or measured twice, counts differ, or memory grows.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from reports.record.reader import read_run
from reports.record.run import Run

ROOT = Path(__file__).resolve().parents[2]
STUDY = """\
name = "soak"
pair = "synthetic-tiny"
warmup = 0
drift_limit = 1000.0
[workload]
prompts = "synthetic"
num_samples = {prompts}
max_prompt = 8
gen_toks = 8
[defaults]
dtype = "fp32"
[[sweep]]
experiment = "baseline"
[[sweep]]
experiment = "speculative_decoding"
strategy = "assisted"
assist_toks = {half}
confidence_threshold = [0.0, 0.2, 0.4, 0.6, 0.8]
[[sweep]]
experiment = "speculative_decoding"
strategy = "prompt_lookup"
assist_toks = {half}
lookup_ngram = [1, 2, 3, 4, 5]
"""
COUNTS = ("new_tokens", "target_forwards", "draft_forwards", "drafted", "accepted", "rejected", "rollbacks")
GROWTH = 64 * 2**20
"""Bytes that a process without faults may grow by, from its second look at its memory to the last."""
CASE_TIMEOUT = 5  # seconds, after which a hang is ended
RATE = 1 / 120
"""Faults per generation: one in two ends the process, so that a round of 300 cases seldom comes through."""


def main() -> int:
    """Measure both runs, compare them and tell what came out."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=8.0, help="with faults; then until all is done (%(default)s)")
    parser.add_argument("--cases", type=int, default=300, help="about so many, in tens (%(default)s)")
    parser.add_argument("--prompts", type=int, default=3, help="of each case (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the faults (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        return _soaked(Path(folder), options)


def _soaked(folder: Path, options: argparse.Namespace) -> int:
    study = folder / "soak.toml"
    study.write_text(STUDY.format(prompts=options.prompts, half=list(range(1, options.cases // 10 + 1))))
    quiet, troubled, log = folder / "quiet.jsonl", folder / "troubled.jsonl", folder / "faults.log"
    _measure(study, quiet, {"log": str(folder / "memory.log"), "seed": 0, "rate": 0.0})
    undisturbed = read_run(quiet)
    grown = _growth((folder / "memory.log").read_text(encoding="utf-8"))

    chance, began, cuts, processes = random.Random(options.seed), time.monotonic(), 0, 0
    while not _all_measured(troubled):
        rate = RATE if time.monotonic() - began < 60 * options.minutes else 0.0
        code = _measure(study, troubled, {"log": str(log), "seed": options.seed, "rate": rate})
        processes += 1
        print(f"{time.monotonic() - began:.0f} s: exit code {code}, {_progress(troubled)}", flush=True)
        if rate and chance.random() < 0.3:
            cuts += _cut_last_line(troubled, chance)
        if not rate and processes > 200:
            break
    faults = Counter(line.removeprefix("fault ") for line in _lines(log) if line.startswith("fault "))
    faults["cut line"] = cuts
    lost, twice, differing = _compared(undisturbed, read_run(troubled), options.prompts)
    kinds = ", ".join(f"{kind} {number}" for kind, number in sorted(faults.items()))
    print(f"faults: {kinds}; memory without them: {grown / 2**20:+.0f} MiB")
    for name in (*lost, *twice, *differing):
        print(f"lost, twice or different: {name}")
    print(
        f"{faults.total()} faults survived, {len(lost)} of {len(undisturbed.finished)} cases lost, "
        f"{len(twice)} measured twice, {len(differing)} with other counts, "
        f"memory {'flat' if grown <= GROWTH else 'GROWS'}"
    )
    return int(bool(lost or twice or differing or grown > GROWTH))


def _measure(study: Path, results: Path, soak: dict[str, Any]) -> int:
    """One supervised run, or what is left of it; returns its exit code."""
    how = "--resume" if results.exists() else "--results"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "perf_tests",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "tools.soak.injected",
    ]
    command += ["--study", str(study), "--isolate", "--case-timeout", str(CASE_TIMEOUT), how, str(results)]
    environment = {**os.environ, "SOAK": json.dumps({**soak, "run": str(results)}), "CUDA_VISIBLE_DEVICES": ""}
    with (results.parent / "output.log").open("ab") as output:
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=output, stderr=output, check=False)
    if not soak["rate"] and done.returncode:
        sys.stderr.write((results.parent / "output.log").read_text(errors="replace")[-3000:])
    return done.returncode


def _all_measured(results: Path) -> bool:
    if not results.exists():
        return False
    run = read_run(results)
    return run.complete and all(case.status == "ok" for case in run.finished.values())


def _progress(results: Path) -> str:
    states = Counter(case.status for case in read_run(results).finished.values()) if results.exists() else {}
    return ", ".join(f"{state} {number}" for state, number in sorted(states.items())) or "nothing yet"


def _cut_last_line(results: Path, chance: random.Random) -> int:
    """Take the end of the last line off, never of the first, which holds the study; returns how many were cut."""
    data = results.read_bytes() if results.exists() else b""
    start = data.rfind(b"\n", 0, -1) + 1
    if start == 0 or len(data) - start < 3:
        return 0
    results.write_bytes(data[: start + chance.randrange(1, len(data) - start - 1)])
    return 1


def _compared(undisturbed: Run, troubled: Run, prompts: int) -> tuple[list[str], list[str], list[str]]:
    """The cases that are not whole, that were measured more than once, and whose counts differ."""
    lost, twice, differing = [], [], []
    times = Counter(case.id for case in troubled.cases if case.measured and not case.again)
    for name, expected in undisturbed.finished.items():
        case = troubled.finished.get(name)
        if case is None or case.status != "ok" or {sample.prompt for sample in case.samples} != set(range(prompts)):
            lost.append(name)
        elif times[name] != 1 or len(case.samples) != prompts:
            twice.append(name)
        elif _counts(case) != _counts(expected):
            differing.append(name)
    return lost, twice, differing


def _counts(case: Any) -> dict[int, tuple[Any, ...]]:
    return {
        sample.prompt: (*(getattr(sample, name) for name in COUNTS), sample.output_sha256) for sample in case.samples
    }


def _growth(log: str) -> int:
    """Bytes from the second look at the memory to the last one."""
    looks = [int(line.split()[2]) for line in log.splitlines() if line.startswith("memory ")]
    return looks[-1] - looks[1] if len(looks) > 2 else 0


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


if __name__ == "__main__":
    sys.exit(main())
