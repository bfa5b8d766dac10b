"""Names and reasons of a run file from elsewhere are shown, neither obeyed nor taken for markup, on any terminal."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from planted_runs import HEADER, assisted, case, plain

from reports.__main__ import main
from reports.record.run import Run
from reports.record.settings import VALUE_TYPES

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


ACTING = ("\x1b", "\x9b", "\u202e", "\x07", "\x00", "\r", "\ud83d")
POISON = "\x1b[31m\x9b2J\x07\x00\r\n" + HOSTILE + "<img src=x onerror=alert(1)></script>|"
KEPT = {"kind", "status", "case_kind", "experiment", "prompts_sha256", "output_sha256"} | VALUE_TYPES.keys()
NAMES = {"samples", "engine", "point", "workload", "steps", ""}
FORMATS = {
    "show": ("terminal", "markdown", "json", "csv"),
    "compare": ("terminal", "markdown", "json", "csv"),
    "gate": ("terminal", "markdown", "junit", "sarif", "github"),
    "claims": ("terminal", "markdown", "json"),
    "advise": ("terminal", "markdown", "json"),
    "export": ("bencher", "csv", "pytest-benchmark", "markdown"),
}


def poisoned(value: Any, key: str = "") -> Any:
    """The content of a line with every free text, and names beside those that must be there, turned hostile."""
    if isinstance(value, dict):
        further = {} if key in NAMES or not all(isinstance(one, str) for one in value.values()) else {POISON: "x"}
        return {name: poisoned(one, name) for name, one in value.items()} | further
    if isinstance(value, list):
        return [poisoned(one, key) for one in value]
    return value + POISON if isinstance(value, str) and key not in KEPT else value


@pytest.fixture
def poisoned_runs(hostile: list[str]) -> list[str]:
    path = Path(hostile[0])
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("\n".join(json.dumps(poisoned(line)) for line in lines) + "\n", encoding="utf-8")
    shutil.copy(path, hostile[1])
    return hostile


@pytest.mark.parametrize(("command", "form"), [(command, form) for command, forms in FORMATS.items() for form in forms])
def test_a_hostile_run_file_is_shown_as_it_is(
    poisoned_runs: list[str], command: str, form: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    runs = poisoned_runs[: 2 if command in ("compare", "gate") else 1]
    assert main([command, *runs, "--format", form]) in (0, 1)
    shown = "".join(part.decode("utf-8") for part in capfdbinary.readouterr()).replace("\r\n", "\n")
    assert not [acting for acting in ACTING if acting in shown]
    if form == "markdown":
        prose = re.sub("^```.*?^```", "", shown, flags=re.MULTILINE | re.DOTALL)
        assert not re.search(r"<(?!/?(details|summary|br)>)[a-z/!?]", prose, re.IGNORECASE)
    if form == "junit":
        ElementTree.fromstring(shown)
    if form in ("json", "sarif", "bencher", "pytest-benchmark"):
        json.loads(shown)


def test_a_page_of_a_hostile_run_file_is_made_and_holds_no_markup_of_it(
    poisoned_runs: list[str], tmp_path: Path
) -> None:
    """An escape in a chart's label once ended the whole process."""
    assert main(["page", poisoned_runs[0], "-o", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "onerror=alert(1)" in page and "<img src=x" not in page and page.count("</script>") <= 1
    assert not [acting for acting in ACTING if acting in page]


def test_an_endless_reason_is_cut_wherever_it_is_shown(
    planted: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    endless = "out of order\n" * 150_000
    run = planted(
        case("p/plain", [plain(0, 1.0), plain(1, 1.0)], experiment="baseline", notes=(endless,)),
        case("p/failed", [], status="failed", reason=endless, point={"strategy": "prompt_lookup"}),
    )
    for command in ("show", "gate", "compare"):
        main([command, *[str(run.path)] * (1 if command == "show" else 2)])
        assert len(capsys.readouterr().out) < 20_000, command
    assert main(["show", "\x1b[2J" + "x" * 5_000]) == 2
    shown = capsys.readouterr().err
    assert len(shown) < 1_100 and "\x1b" not in shown and shown.count("\n") == 1


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
