"""What is said of a machine before it measures: systems written for the test, this one, and the driver's stub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures.measuring.quiet import QUIET_LOOKS, wait_until_quiet
from fixtures.telemetry import conditions, host
from fixtures.telemetry.conditions import Conditions, Observation, load_beside, look
from tests.unit.telemetry.test_host import tree

ROOT = Path(__file__).parents[3]
UUID = "GPU-bbbbbbbb-0000-4000-8000-000000000000"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Conditions]:
    """`machine(threads, cores, **files)`: what is said of a system of so many cores with these files."""

    def of(threads: int, cores: int = 4, **files: str) -> Conditions:
        monkeypatch.setattr(host, "usable_cores", lambda: tuple(range(cores)))
        monkeypatch.setattr(host, "default_threads", lambda usable: usable)
        monkeypatch.setattr(conditions.os, "cpu_count", lambda: 8)
        return look(threads, seconds=0.0, root=tree(tmp_path, proc__stat="cpu 0\ncpu0 1 1 1 1 1 1 1 1\n", **files))

    return of


def state(found: Conditions, topic: str) -> str:
    return next(each.state for each in found.observations if each.topic == topic)


def test_a_governor_that_follows_the_load_is_told_with_the_command_that_mends_it(machine: Any) -> None:
    folder = "sys__devices__system__cpu__cpu0__cpufreq__scaling_"
    clocks = {f"{folder}cur_freq": "1200000", f"{folder}max_freq": "3600000"}
    found = machine(1, 1, **{f"{folder}governor": "schedutil"}, **clocks)
    assert state(found, "frequency") == "doubtful"
    (warning,) = found.warnings
    assert "the governor is schedutil" in warning and "cpupower frequency-set" in warning
    assert found.facts["governor"] == "schedutil"
    assert (found.facts["cpu_mhz"], found.facts["cpu_max_mhz"]) == (1200, 3600)
    assert machine(1, 1, **{f"{folder}governor": "performance"}).warnings == []


def test_a_virtual_machine_does_not_tell_its_governor_which_is_no_fault(machine: Any) -> None:
    found = machine(4)
    assert state(found, "frequency") == "unknown" and found.warnings == []
    assert "governor" not in found.facts


@pytest.mark.parametrize(
    ("threads", "quota", "verdict", "mend"),
    [
        (4, None, "good", ""),
        (4, "max 100000", "good", ""),
        (4, "400000 100000", "good", ""),
        (4, "150000 100000", "doubtful", "OMP_NUM_THREADS=1, or docker run --cpus 4"),
        (6, None, "doubtful", "OMP_NUM_THREADS=4"),
        (2, None, "slow", "unset OMP_NUM_THREADS"),
        (2, "200000 100000", "good", ""),  # fewer threads because of the quota
        (1, None, "good", ""),  # a run on a GPU computes with one
    ],
)
def test_threads_are_held_against_cores_and_quota(
    machine: Any, threads: int, quota: str | None, verdict: str, mend: str
) -> None:
    files = {"proc__self__cgroup": "0::/\n", "sys__fs__cgroup__cpu_dot_max": quota} if quota else {}
    found = machine(threads, **files)
    (about,) = [each for each in found.observations if each.topic == "processor time"]
    assert (about.state, about.mend) == (verdict, mend)
    assert (found.facts["usable_cores"], found.facts["threads"]) == (4, threads)


def test_a_busy_machine_is_told_with_the_option_that_waits(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "load_beside", lambda seconds, root: conditions.LoadBeside(1.6, 0.0, 2))
    found = machine(2, 2)
    assert found.warnings == [
        "other processes kept 1.6 of 2 cores busy: wait with --quiet-wait 5m, or end them",
    ]
    assert found.passing == ["other processes kept 1.6 of 2 cores busy"]
    assert (found.facts["foreign_cores"], found.facts["stolen_cores"]) == (1.6, 0.0)
    monkeypatch.setattr(conditions, "load_beside", lambda seconds, root: conditions.LoadBeside(0.0, 0.9, 2))
    assert "a machine with cores of its own" in machine(2, 2).warnings[0]


def test_a_part_that_cannot_be_looked_at_is_unknown_and_stops_nothing(machine: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(host, "governors", lambda cores, root: 1 / 0)
    found = machine(4)
    assert state(found, "frequency") == "unknown" and state(found, "processor time") == "good"


def test_this_machine_can_be_looked_at() -> None:
    assert load_beside(0.02) is not None
    found = look(1, seconds=0.02)
    assert {each.topic for each in found.observations} == {"frequency", "processor time", "other processes"}
    assert json.loads(json.dumps(found.facts)) == found.facts


CHILD = """
import json, sys
from dataclasses import asdict
from fixtures.telemetry.conditions import look
found = look(1, sys.argv[1], seconds=0.0)
print(json.dumps([found.facts, [asdict(each) for each in found.observations if each.topic == "GPU"]]))
"""


@pytest.mark.parametrize(
    ("script", "states", "words"),
    [
        ({"processes": 0}, ["good"], "nobody else uses the card"),
        ({}, ["doubtful"], "2 other processes use"),  # the stub lists the asking process too, under another number
        ({"processes": 0, "power_limit": 200000}, ["slow"], "nvidia-smi --power-limit=300"),
        ({"processes": 0, "throttle": "0x40"}, ["doubtful"], "hw_thermal_slowdown"),
        ({"processes": 0, "throttle": "0x1"}, ["good"], "nothing holds its clocks down"),
        ({"processes": 0, "mig": 1}, ["slow"], "MIG is on"),
    ],
)
def test_a_card_is_looked_at_before_this_process_uses_it(
    driver: Callable[..., Path], script: dict[str, object], states: list[str], words: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STUB_")}
    environment |= {f"STUB_{name.upper()}": str(value) for name, value in script.items()} | {"STUB_OWN_PID": "77"}
    environment |= {"LD_LIBRARY_PATH": str(driver()), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CHILD, UUID]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    facts, observations = json.loads(done.stdout)
    assert [each["state"] for each in observations] == states
    assert words in f"{observations[0]['says']}: {observations[0]['mend']}"
    assert (facts["gpu_sm_clock_mhz"], facts["gpu_memory_clock_mhz"]) == (900, 1500)
    assert facts["gpu_mig"] is (script.get("mig") == 1)


def waited(*reasons: str, limit: float = 1e9) -> tuple[str, list[str], int]:
    """Wait on a machine whose looks find these reasons one after the other ("": quiet), the last one for ever."""
    looks = 0

    def looking() -> Conditions:
        nonlocal looks
        reason = reasons[min(looks, len(reasons) - 1)]
        looks += 1
        steady = Observation("frequency", "doubtful", "a governor that waiting does not change")
        passing = [Observation("other processes", "doubtful", reason)] if reason else []
        return Conditions({}, (steady, *passing))

    told: list[str] = []
    return wait_until_quiet(limit, 2, None, told.append, looking), told, looks


def test_a_quiet_machine_is_not_waited_for() -> None:
    assert waited("") == ("", [], QUIET_LOOKS)


def test_a_machine_is_quiet_once_several_looks_in_a_row_say_so() -> None:
    reason, told, looks = waited("a build", "", "", "a build", "")
    assert (reason, looks) == ("", 4 + QUIET_LOOKS)
    assert told[0].startswith("waiting for a quiet machine, 0 of at most") and told[0].endswith(": a build")
    assert "has become quiet" in told[-1]


def test_a_machine_that_does_not_become_quiet_is_measured_all_the_same_and_that_is_told() -> None:
    reason, told, _ = waited("a build", limit=0.0)
    assert reason == "a build"
    assert "not quiet after 0 s (a build); measuring begins all the same" in told[-1]
