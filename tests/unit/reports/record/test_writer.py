"""Writing run files where it goes wrong: a full disk costs what follows and nothing before, and one process writes."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from planted_runs import HEADER, case, plain

from reports.record.reader import read_run
from reports.record.run import Completion, RunFileError, RunWriteError
from reports.record.writer import RunWriter, as_told

ROOT = Path(__file__).parents[4]
FIRST, SECOND = (case(name, [plain(0, 1.0), plain(1, 1.0)]) for name in ("p/first", "p/second"))
HOLDER = """
import os, sys, time
from pathlib import Path
from reports.record.writer import RunWriter
writer = RunWriter(Path(sys.argv[1]))
if not (sys.argv[2:] and os.fork()):
    print(os.getpid(), flush=True)
time.sleep(60)
"""


@contextmanager
def no_room_beyond(size: int) -> Iterator[None]:
    """No file grows beyond so many bytes: part of a line is written, and then the system refuses the rest."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0, 1, 100, 640], ids=lambda room: f"{room} bytes left")
def test_a_line_that_finds_no_room_is_cut_off_and_nothing_follows_it(tmp_path: Path, room: int) -> None:
    path = tmp_path / "run.jsonl"
    writer = RunWriter(path)
    writer.run(dict(HEADER))
    writer.case(FIRST)
    whole = path.read_bytes()
    with no_room_beyond(len(whole) + room), pytest.raises(RunWriteError) as refusal:
        writer.case(SECOND)
    assert path.read_bytes() == whole, "no half line is left to which the next would be appended"
    assert str(refusal.value) == (
        f"{path}: cannot be written: File too large; the lines before are kept: make room and go on with "
        f"--resume {path}"
    )
    with pytest.raises(RunWriteError, match="cannot be written: File too large"):  # the disk has room again by now
        writer.end({})
    writer.close()
    assert path.read_bytes() == whole
    again = RunWriter(path)
    again.case(SECOND)
    again.end({})
    run = read_run(path)
    assert [one.id for one in run.cases] == [FIRST.id, SECOND.id] and run.complete and not run.warnings


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for path in (tmp_path / "file" / "run.jsonl", tmp_path):
        with pytest.raises(RunWriteError) as refusal:
            RunWriter(path)
        assert re.fullmatch(
            rf"{re.escape(str(path))}: cannot be written: [\w ]+; name another file", str(refusal.value)
        )


@contextmanager
def held(path: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that writes the file; `more` makes it fork a child that lives on."""
    command = [sys.executable, "-c", HOLDER, str(path), *more]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            yield process
        finally:
            process.kill()
            if more:
                os.kill(child, signal.SIGKILL)


def test_a_second_process_is_refused_by_the_first_one_s_number_until_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with held(path, "with a child") as process:
        for _ in range(2):
            with pytest.raises(RunFileError) as refusal:
                RunWriter(path)
            assert str(refusal.value) == (
                f"{path}: process {process.pid} writes it; wait for its end or write another file"
            )
        process.kill()
        process.wait()
        RunWriter(path).run(dict(HEADER))  # although a child that it forked lives on
    assert read_run(path).cases == ()


def test_a_file_is_free_when_its_writer_is_closed_and_is_read_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    writer = RunWriter(path)
    writer.run(dict(HEADER))
    with pytest.raises(RunWriteError, match=f"process {os.getpid()} writes it"):
        RunWriter(path)
    writer.case(FIRST)
    assert len(read_run(path).cases) == 1
    writer.close()
    RunWriter(path).close()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("--model=https://me:secret@hub.example/llama", "--model=https://hub.example/llama"),
        ("https://secret-token@hub.example:8080/a/b?x=1", "https://hub.example:8080/a/b?x=1"),
        ("401 for hf_abcdefghijklmnopqrstuvwx in a header", "401 for hf_... in a header"),
        ("OSError: no file /home/me/models/llama/config.json", "OSError: no file config.json"),
        ("not in '/root/.cache/hub', (/srv/data/x) or /opt/y/", "not in 'hub', (x) or folder"),
        ("~/models/llama", "llama"),
        ("file:///home/me/llama", "file:llama"),
        ('File "/usr/lib/python3.11/site.py", line 3: /a/b.py:7', 'File "site.py", line 3: b.py:7'),
    ],
)
def test_passwords_tokens_and_places_do_not_reach_a_run_file(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    writer = RunWriter(path)
    writer.run({**HEADER, "argv": ["--x", text]})
    nested = {"revisions": {"target": text}, "list": [{"deep": (text,)}]}
    ended = replace(FIRST, status="failed", reason=text, notes=(text,), facts=nested)
    writer.case(ended)
    writer.session({"environment": {"versions": {"x": text}}})
    writer.end({"why": text})
    run = read_run(path)
    assert run.header["argv"] == ["--x", told] and run.later_sessions[0]["environment"]["versions"] == {"x": told}
    assert (run.cases[0].reason, run.cases[0].notes, run.end["why"]) == (told, (told,), told)
    assert run.cases[0].facts == {"revisions": {"target": told}, "list": [{"deep": [told]}]}
    assert run.cases[0].samples == FIRST.samples


def test_what_a_model_said_and_what_is_no_place_stay_to_the_letter(tmp_path: Path) -> None:
    said = "    open('/home/me/x')  # https://me:secret@hub.example"
    writer = RunWriter(tmp_path / "run.jsonl")
    writer.run(dict(HEADER))
    writer.completion(Completion("p/t=none,bf16/plain", "HumanEval/0", 0, said, 1, 0.5))
    assert read_run(tmp_path / "run.jsonl").completions[0].completion == said
    kept = (
        "p/t=none,d=none,bf16/assisted,k=3,greedy",
        "12 GB/s",
        "9/20",
        "/sys/class/powercap is not readable",
        "*/plain",
    )
    assert as_told(kept) == [*kept]
    for path in sorted((ROOT / "reports").rglob("*.jsonl")):
        if "runs" not in path.parts:
            for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
                assert as_told(line) == line, path
