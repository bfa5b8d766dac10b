"""Turns between real processes: one computes at a time, in order, and nobody waits for one that is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from fixtures.measuring.turns import TurnTaker
from reports.launch.turn_giver import VARIABLE, Turns

ROOT = Path(__file__).resolve().parents[3]
MEMBER = """\
import os, sys, time
from fixtures.measuring.turns import turns_asked_for

name, rounds, log, fate = sys.argv[1], int(sys.argv[2]), open(sys.argv[3], "a", buffering=1), sys.argv[4]
turns = turns_asked_for() if fate != "alone" else None
for number in range(rounds):
    if turns is not None:
        turns.wait()
    log.write(f"{name}{number} begins\\n")
    time.sleep(0.01)
    if fate == "dies":
        os._exit(1)
    if fate == "leaves":
        if os.fork():
            os._exit(1)
        time.sleep(60)
    log.write(f"{name}{number} ends\\n")
"""

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture(autouse=True)
def _not_for_ever() -> Iterator[None]:
    """Whoever waits for a turn that never comes is to fail, not to hang."""
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def start(log: Path) -> Iterator[Start]:
    """`start(turns, name, rounds, fate)`: a process that writes when it works, and is gone at the end of the test."""
    started = []

    def process(turns: Turns, name: str, rounds: int, fate: str = "lives") -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", MEMBER, name, str(rounds), str(log), fate]
        environment = {**os.environ, VARIABLE: turns.name}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, start_new_session=True)
        started.append(process)
        turns.until_waiting(process)
        return process

    yield process
    for each in started:
        with suppress(ProcessLookupError):
            os.killpg(each.pid, signal.SIGKILL)
        each.communicate()


def worked(log: Path) -> list[str]:
    """Who worked, in order; fails if one began before the one before it had ended."""
    lines = log.read_text().split("\n")[:-1]
    assert [line.split()[1] for line in lines] == ["begins", "ends"] * (len(lines) // 2)
    assert [line.split()[0] for line in lines[::2]] == [line.split()[0] for line in lines[1::2]]
    return [line.split()[0] for line in lines[::2]]


def test_one_works_at_a_time_and_back_and_forth_until_the_last_has_ended(start: Start, log: Path) -> None:
    with Turns() as turns:
        processes = [start(turns, "a", 3), start(turns, "b", 2), start(turns, "c", 4)]
        assert not log.exists() or not log.read_text(), "nobody works before all are there"
        turns.until_ended()
        assert [process.poll() for process in processes] == [0, 0, 0]
    assert worked(log) == ["a0", "b0", "c0", "c1", "b1", "a1", "a2", "c2", "c3"]


def test_one_that_asks_for_no_turns_runs_to_its_end_before_the_next_one_starts(start: Start, log: Path) -> None:
    with Turns() as turns:
        start(turns, "a", 2)
        start(turns, "old", 3, "alone")
        start(turns, "c", 2)
        turns.until_ended()
    assert worked(log) == ["old0", "old1", "old2", "a0", "c0", "c1", "a1"]


def test_one_that_dies_in_its_turn_or_while_it_waits_holds_nobody_up(start: Start, log: Path) -> None:
    with Turns() as turns:
        processes = [start(turns, "a", 2), start(turns, "b", 2, "dies"), start(turns, "c", 2)]
        processes[2].kill()
        processes[2].wait()
        turns.until_ended()
        assert [process.poll() for process in processes] == [0, 1, -9]
    lines = log.read_text().split("\n")[:-1]
    assert lines == ["a0 begins", "a0 ends", "b0 begins", "a1 begins", "a1 ends"]


def test_one_that_leaves_a_child_with_its_socket_behind_holds_nobody_up(start: Start, log: Path) -> None:
    with Turns() as turns:
        start(turns, "a", 1, "leaves")
        start(turns, "b", 2)
        began = time.monotonic()
        turns.until_ended()
        assert time.monotonic() - began < 30, "not as long as the child lives"
    assert log.read_text().split("\n")[:-1] == ["a0 begins", "b0 begins", "b0 ends", "b1 begins", "b1 ends"]


def test_without_somebody_who_gives_turns_waiting_is_an_error(start: Start, log: Path) -> None:
    with Turns() as turns:
        name = turns.name
        process = start(turns, "a", 1)
    _, said = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT, "as an interrupted program ends"
    assert b"KeyboardInterrupt: whoever gave the turns has ended" in said
    with pytest.raises(KeyboardInterrupt):
        TurnTaker(name).wait()
