"""The progress line takes any text, and no terminal, however poor or gone, costs a measurement."""

from __future__ import annotations

import contextlib
import io
import os
import pty
from pathlib import Path

import pytest
from rich.console import Console

from fixtures.suite.progress import ProgressLine, _Console, resuming


def _everything(line: ProgressLine, name: str, outcome: str) -> None:
    line.start()
    line.case(name)
    line.advance()
    line.case_done(name, outcome, 1, 1)
    line.more(1, 1, outcome)
    line.tell(outcome, style="bold red")
    line.stop()


def test_names_are_no_markup_and_escapes_are_shown() -> None:
    shown = io.StringIO()
    line = ProgressLine(2, 2, Console(file=shown, force_terminal=True, width=300, highlight=False, color_system=None))
    _everything(line, "p/[/b][red]x", "failed: \x1b[2J [/i] \ud83d")
    assert "[1/2] p/[/b][red]x  failed: \\x1b[2J [/i] \\ud83d" in shown.getvalue()
    assert "[1/2] p/[/b][red]x ━" in shown.getvalue(), "the live line"
    assert "\x1b[2J [/i]" not in shown.getvalue()


def test_an_ascii_terminal_shows_escapes() -> None:
    buffer = io.BytesIO()
    file = io.TextIOWrapper(buffer, encoding="ascii", line_buffering=True)
    _everything(
        ProgressLine(1, 1, _Console(file=file, highlight=False)), "模型", "ok"
    )  # cannot be drawn, costs nothing
    file.reconfigure(errors="backslashreplace")
    _everything(ProgressLine(1, 1, _Console(file=file, highlight=False)), "模型", "ok")
    assert b"[1/1] \\u6a21\\u578b  ok" in buffer.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_that_is_gone_costs_nothing(terminal: bool) -> None:
    if terminal:
        far, near = pty.openpty()
    else:
        far, near = os.pipe()
    file = os.fdopen(near, "w", buffering=1)
    line = ProgressLine(1, 1, _Console(file=file, force_terminal=terminal, highlight=False))
    line.start()
    os.close(far)
    _everything(line, "p/plain", "ok")
    with contextlib.suppress(OSError):
        file.close()


def test_the_bar_says_what_is_loaded_until_a_case_goes_on() -> None:
    shown = io.StringIO()
    line = ProgressLine(2, 2, Console(file=shown, force_terminal=True, width=200, highlight=False, color_system=None))
    line.start()
    line.doing("loading p/t=4bit\x1b[2J")
    line.case("p/t=4bit/plain")
    line.stop()
    assert "[0/2] loading p/t=4bit\\x1b[2J " in shown.getvalue() and "[1/2] p/t=4bit/plain " in shown.getvalue()
    quiet = io.StringIO()
    ProgressLine(2, 2, Console(file=quiet)).doing("loading p")
    assert not quiet.getvalue(), "a line for each load would say little in a log"


@pytest.mark.parametrize(
    "given",
    [
        ["--results", "old.jsonl"],
        ["--results=old.jsonl"],
        ["--resume", "run file.jsonl"],
        [],
    ],
)
def test_an_interrupted_run_is_resumed_by_the_command_that_is_printed(given: list[str]) -> None:
    arguments = ["perf_tests", *given, "--study", "a b.toml", "-k", "plain and not x", "--race"]
    assert resuming(arguments, Path("run file.jsonl")) == (
        "pytest perf_tests --study 'a b.toml' -k 'plain and not x' --race --resume 'run file.jsonl'"
    )
