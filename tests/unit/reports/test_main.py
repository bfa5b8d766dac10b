"""`python -m reports` as a user types it: answers, exit codes, and how long it takes to say them."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from planted_runs import case, plain

from reports.record.reader import read_run
from reports.record.run import Run

ROOT = Path(__file__).resolve().parents[3]


def test_show_prints_the_table_and_ends_with_0(planted: Callable[..., Run], run_reports: Callable[..., object]) -> None:
    path = planted(ended=False).path
    done = run_reports("show", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "p/assisted *" in done.stdout
    assert "2.00 [2.00, 2.00]" in done.stdout
    assert "incomplete: the run was interrupted" in done.stdout
    markdown = run_reports("show", path, "--format", "markdown").stdout
    assert "| `p/plain` | 10.0 | 100.0 |" in markdown


def test_what_cannot_be_shown_ends_with_2_and_one_line(tmp_path: Path, run_reports: Callable[..., object]) -> None:
    (tmp_path / "future.jsonl").write_text('{"kind":"run","schema":99}\n')
    for name, why in (("none.jsonl", "no such file"), ("future.jsonl", "schema 99 is newer than 2")):
        done = run_reports("show", tmp_path / name)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"reports: {tmp_path / name}: {why}")
        assert done.stderr.count("\n") == 1


def test_outside_its_environment_it_tells_how_to_activate_that() -> None:
    command = [sys.executable, "-S", "-m", "reports", "show", "last"]  # -S: without any installed package
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("reports: msgspec is not installed for ") and "activate" in line


def test_merge_writes_one_file_of_all_cases(
    planted: Callable[..., Run], tmp_path: Path, run_reports: Callable[..., object]
) -> None:
    first, second = planted(name="one.jsonl"), planted(name="two.jsonl")
    done = run_reports("merge", first.path, second.path, "-o", tmp_path / "both.jsonl")
    assert done.returncode == 0
    assert len(read_run(tmp_path / "both.jsonl").cases) == 6


def test_a_reader_that_stops_early_gets_no_traceback(planted: Callable[..., Run]) -> None:
    command = f"{sys.executable} -m reports show {planted().path} | head -n 1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize(("output", "code"), [("hash0", 0), ("another", 1)])
@pytest.mark.parametrize("form", ["terminal", "markdown", "junit"])
def test_a_verdict_that_nobody_reads_still_decides_the_exit_code(
    planted: Callable[..., Run], output: str, code: int, form: str
) -> None:
    sample = plain(0, 1.0)
    base = planted(case("p/plain", [sample, plain(1, 1.0)]), name="base.jsonl")
    head = planted(case("p/plain", [replace(sample, output_sha256=output), plain(1, 1.0)]), name="head.jsonl")
    command = f"{sys.executable} -m reports gate {base.path} {head.path} --format {form}"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command.split(), cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (code, "")


@pytest.mark.parametrize("arguments", [["show", "RUN"], ["--help"], ["show", "--help"]], ids=" ".join)
def test_an_answer_takes_less_than_a_second_and_no_torch(planted: Callable[..., Run], arguments: list[str]) -> None:
    path = str(planted().path)
    code = (
        "import sys\nfrom reports.__main__ import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'fixtures', 'scipy.stats'} & set(sys.modules)\nassert not heavy, heavy"
    )
    given = [path if argument == "RUN" else argument for argument in arguments]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", code, *given], cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert used < 1.0, f"{used:.2f} s of processor time (wall time depends on what else the machine does)"
