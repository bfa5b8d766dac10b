"""No hostile completion passes, hangs the run, or leaves anything behind. All run under the outer guard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import guard
import pytest
from hostile import Hostile
from hostile_programs import HOSTILE

from fixtures.sandbox.sandbox import isolation

SCRIPT = Path(__file__).with_name("run_hostile.py")


def _run(kind: str) -> dict[str, Any]:
    if reason := guard.missing():
        pytest.skip(f"hostile completions are not run without the outer guard: {reason}")
    ended = guard.run(SCRIPT, kind, seconds=240)
    assert ended.returncode == 0, ended.stderr
    report: dict[str, Any] = json.loads(ended.stdout)
    return report


@pytest.fixture(scope="module")
def sandboxed() -> dict[str, Any]:
    how = isolation()
    if how.kind == "none":
        pytest.skip(f"no sandbox to attack on this machine: {how.reason}")
    return _run(how.kind)


@pytest.fixture(scope="module")
def unsandboxed() -> dict[str, Any]:
    return _run("none")


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_verdict(sandboxed: dict[str, Any], hostile: Hostile) -> None:
    verdict = sandboxed["verdicts"][hostile.name]
    assert verdict["status"] in hostile.expected, verdict


def test_there_are_enough() -> None:
    assert len(HOSTILE) == len({hostile.name for hostile in HOSTILE}) >= 25
    assert not any("passed" in hostile.expected for hostile in HOSTILE)


@pytest.mark.parametrize("what", ["processes", "files", "sockets"])
def test_nothing_is_left(sandboxed: dict[str, Any], what: str) -> None:
    assert sandboxed["left"][what] == []


def test_nothing_outside_is_touched(sandboxed: dict[str, Any]) -> None:
    assert sandboxed["canaries"] == {"process": True, "file": True}


@pytest.mark.parametrize("hostile", [one for one in HOSTILE if one.succeeds_unsandboxed], ids=lambda one: one.name)
def test_attack_is_real(unsandboxed: dict[str, Any], hostile: Hostile) -> None:
    """The control: without namespaces the same attack reaches what it is after."""
    assert unsandboxed["verdicts"][hostile.name]["status"] == "passed"


def test_bubblewrap_holds_too() -> None:
    report = _run("bubblewrap")
    if "unavailable" in report:
        pytest.skip(f"bubblewrap does not work here: {report['unavailable']}")
    wrong = {one.name for one in HOSTILE if report["verdicts"][one.name]["status"] not in one.expected}
    assert not wrong
    assert not any(report["left"].values())
    assert all(report["canaries"].values())
