"""A run that is stopped, gently or not, keeps every finished case; going on measures only what is missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from reports.record.reader import read_run
from reports.record.writer import RunWriter

ROOT = Path(__file__).resolve().parents[2]
REPEAT_PROMPTS = 20


def stopped(arguments: list[str], results: Path, cases: int, kind: signal.Signals) -> subprocess.Popen[str]:
    """Start a run and stop it by a signal as soon as its file holds `cases` finished cases."""
    command = [sys.executable, "-m", "pytest", "perf_tests", "-p", "no:cacheprovider", *arguments]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a test run in the background ignores it
    )
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        if results.exists() and results.read_bytes().count(b'"kind":"case"') >= cases:
            break
        time.sleep(0.02)
    assert process.poll() is None, "the run ended before it could be stopped"
    process.send_signal(kind)
    return process


def test_a_run_is_interrupted_then_killed_and_then_finished(
    tiny_study: Path, tmp_path: Path, run_bench: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    results = tmp_path / "run.jsonl"
    study = ["--study", str(tiny_study), "--num-samples", "25"]

    interrupted = stopped([*study, "--results", str(results)], results, 1, signal.SIGINT)
    output, _ = interrupted.communicate(timeout=120)
    assert interrupted.returncode in (1, 2), output
    first = read_run(results)
    assert not first.complete
    assert 1 <= len(first.cases) <= 5
    assert [case.reason for case in first.cases if case.status != "ok"] in ([], ["interrupted (KeyboardInterrupt)"])
    if interrupted.returncode == 2:  # on Python 3.11 pytest can stumble over a traceback without a line number
        assert first.cases[0].id in output, "the table of what was measured is shown"
        assert "continue it with --resume" in output

    killed = stopped([*study, "--resume", str(results)], results, len(first.cases) + 1, signal.SIGKILL)
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    second = read_run(results)
    assert second.cases[: len(first.cases)] == first.cases
    assert not second.complete

    with results.open("ab") as file:
        file.write(b'{"kind":"case","id":"synth')  # as if the kill had come in the middle of a line
    done = run_bench(*study, "--resume", results)
    assert done.returncode == 0, done.stdout
    last = read_run(results)
    assert last.complete
    assert last.warnings == ()
    assert last.cases[: len(second.cases)] == second.cases, "what was measured is not measured again"
    measured = [case for case in last.cases if case.status == "ok"]
    counts = Counter((case.id, case.again) for case in measured)
    assert len(counts) == 5
    assert set(counts.values()) == {1}
    assert all(len(case.samples) == (REPEAT_PROMPTS if case.again else 25) for case in measured)
    drafting = [case for case in measured if case.point.speculative]
    assert [case.facts["losslessness"]["verdict"] for case in drafting] == ["equal"] * 3, "the baseline is remembered"

    whole = results.read_bytes()
    without_end = whole[: whole.rindex(b'{"kind":"end"')]
    results.write_bytes(without_end)
    first_writer = RunWriter(results)
    second_writer = run_bench(*study, "--resume", results)
    first_writer.close()
    assert second_writer.returncode == 4 and results.read_bytes() == without_end
    assert f"run.jsonl: process {os.getpid()} writes it; wait for its end or write another file" in second_writer.stderr
    ended = run_bench(*study, "--resume", results)
    assert ended.returncode == 0 and "Nothing was left to measure" in ended.stdout, ended.stdout
    assert read_run(results).complete and read_run(results).cases == last.cases

    other = run_bench("--study", tiny_study, "--num-samples", 3, "--resume", results)
    assert other.returncode == 4
    assert "its study differs from this run's; start a new run file" in other.stdout + other.stderr


def test_a_full_disk_ends_the_run_at_once_and_what_is_there_stays_whole(
    tiny_study: Path, tmp_path: Path, run_bench: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    results = tmp_path / "run.jsonl"
    arguments = ("--study", tiny_study, "--num-samples", 2, "--results", results, "-p", "full_disk")
    full = run_bench(*arguments, PYTHONPATH=str(Path(__file__).parent))
    output = full.stdout + full.stderr
    assert full.returncode == 2, output
    told = [line for line in output.splitlines() if "cannot be written" in line]
    assert len(told) == 1 and f"make room and go on with --resume {results}" in told[0], output
    assert "Traceback" not in output and "FAILED" not in output
    run = read_run(results)
    assert len(run.cases) == 1 and not run.warnings and not run.complete
    assert run.cases[0].id in output, "the table of what was measured is shown"
