"""Names and reasons of a run file from elsewhere are shown, neither obeyed nor taken for markup, on any terminal."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from planted_runs import HEADER, assisted, case, plain

from reports.__main__ import main
from reports.record.run import Run

ROOT = Path(__file__).parents[3]
HOSTILE = "[/b][red]\x1b[2J\u202e模 \ud83d"


@pytest.fixture
def hostile(planted: Callable[..., Run], tmp_path: Path) -> list[str]:
    """Two runs of a study, machine, cases and reasons with such names."""
    study = {**HEADER["study"], "name": HOSTILE, "workload": {**HEADER["study"]["workload"], "prompts": HOSTILE}}
    hardware = {"cpu": HOSTILE, "cpu_cores": 2}
    point = {"strategy": "assisted", "assist_toks": 3, "do_sample": False, "cache": "dynamic"}
    base = case(f"p/{HOSTILE}", [plain(0, 1.0), plain(1, 1.0)], experiment="baseline", notes=(HOSTILE,))
    cases = (
        base,
        case(f"p/{HOSTILE}/k=3", [assisted(0, 0.5), assisted(1, 0.5)], point=point),
        dataclasses.replace(
            base, id="p/failed", status="failed", reason=HOSTILE, samples=(), point={"cache": "static"}
        ),
    )
    run = planted(*cases, study=study, environment={"hardware": hardware, "versions": {"torch": HOSTILE}})
    return [str(run.path), str(shutil.copy(run.path, tmp_path / "head.jsonl"))]


@pytest.mark.parametrize("command", ["show", "compare", "gate", "claims", "advise"])
def test_a_hostile_run_file_is_shown_as_it_is(
    hostile: list[str], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, *hostile[: 2 if command in ("compare", "gate") else 1]]) in (0, 1)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "\u202e" not in shown and "\ud83d" not in shown
    assert command == "claims" or "[/b][red]" in shown.replace("\n", "")


def test_an_ascii_terminal_shows_everything(hostile: list[str]) -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "reports", "show", hostile[0]],
        cwd=ROOT,
        env={**os.environ, **ascii_only},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii() and b"[/b][red]\\x1b[2J\\u202e\\u6a21" in done.stdout
