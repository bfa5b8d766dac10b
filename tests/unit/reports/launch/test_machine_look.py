"""`reports doctor`: this machine by a real look in a process of its own, what is printed, and a look that fails."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from reports.__main__ import main
from reports.commands import doctor as command
from reports.launch import machine_look
from reports.launch.machine_look import MachineLook, Observed, look_at_machine
from reports.record.run import RunFileError

TOPICS = {"frequency", "processor time", "other processes", "dtype", "quantization", "device", "memory", "disk"}


def test_this_machine_is_looked_at_without_torch_or_fixtures_in_reports(capsys: Any) -> None:
    assert main(["doctor", "--device", "cpu", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["title"].endswith("measuring on cpu") and "torch" in found["title"]
    assert {each["topic"] for each in found["observed"]} >= {*TOPICS, "compiler", "quantized cache", "sandbox"}
    assert {each["state"] for each in found["observed"]} <= command.STATES.keys()


def test_the_worst_comes_first_with_the_command_that_mends_it_and_nothing_reaches_the_terminal_raw(
    capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    observed = (
        Observed("sandbox", "good", "isolated", ""),
        Observed("busiest", "doubtful", "\x1b[31mevil (7) 1.0", "end it " + "and wait " * 20),
        Observed("compiler", "skipped", "no compiler", ""),
    )
    monkeypatch.setattr(command, "look_at_machine", lambda device: MachineLook("a machine", observed))
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines if line.isupper() or line[:5].isupper()] == [
        "DOUBTFUL",
        "SKIPPED",
        "GOOD",
    ]
    assert "\x1b" not in "".join(lines) and max(map(len, lines)) <= command.WIDTH
    assert lines[lines.index("DOUBTFUL: figures may not be trusted") + 2].startswith("  mend: end it and wait")
    assert lines[-1] == "1 doubtful, 1 skipped, 1 good"


def test_a_look_that_fails_is_one_line_and_exit_code_2(capsys: Any, monkeypatch: Any, tmp_path: Path) -> None:
    with pytest.raises(RunFileError, match=r"could not be looked at: .*No module named .*make setup"):
        look_at_machine("cpu", root=tmp_path)
    with pytest.raises(RunFileError, match="could not be started"):
        look_at_machine("cpu", python=str(tmp_path / "python"))
    monkeypatch.setattr(machine_look, "LONGEST_SECONDS", 0.01)
    with pytest.raises(RunFileError, match=r"did not end within 0\.01 s"):
        look_at_machine("cpu")
    monkeypatch.setattr(machine_look, "MODULE", "json.tool")
    monkeypatch.setattr(machine_look, "LONGEST_SECONDS", 60.0)
    assert main(["doctor", "--device", sys.executable]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 and told[0].startswith("reports: doctor: this machine could not be looked at")
