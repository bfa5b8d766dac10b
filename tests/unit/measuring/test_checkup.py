"""What the look at a machine says of states that are made for the test; the whole of it runs in the test of doctor."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from fixtures.measuring import checkup, memory
from fixtures.sandbox import sandbox
from fixtures.telemetry import conditions
from fixtures.telemetry.conditions import Observation

CPU = torch.device("cpu")


def test_who_keeps_the_machine_busy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = conditions.Conditions({}, (Observation("other processes", "doubtful", "busy"),))
    used = iter([{(7, "make"): 1.0, (9, "sshd"): 5.0}, {(7, "make"): 1e6, (9, "sshd"): 5.0, (11, "new"): 3.0}])
    monkeypatch.setattr(checkup, "look", lambda *_, **__: busy)
    monkeypatch.setattr(checkup, "_spent", lambda: next(used))
    _, busiest = checkup._timing(CPU)
    assert "make (7) " in busiest.says and "sshd" not in busiest.says and "new" not in busiest.says


def test_a_battery_holds_clocks_down(monkeypatch: pytest.MonkeyPatch) -> None:
    Battery = namedtuple("Battery", "power_plugged")
    for plugged, count in ((True, 0), (None, 0), (False, 1)):
        monkeypatch.setattr(psutil, "sensors_battery", lambda plugged=plugged: Battery(plugged), raising=False)
        assert len(checkup._battery()) == count
    monkeypatch.setattr(psutil, "sensors_battery", lambda: None, raising=False)
    assert checkup._battery() == []


def test_a_dtype_that_is_emulated_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    (observation,) = checkup._dtype("cpu")
    assert observation.state == "slow" and "--dtype auto is fp32 here" in observation.says


def test_quantization_needs_its_package_and_on_a_processor_avx512(monkeypatch: pytest.MonkeyPatch) -> None:
    for capability, state in (("AVX2", "slow"), ("AVX512", "good")):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda capability=capability: capability)
        assert [each.state for each in checkup._quantization("cpu")] == [state]
    monkeypatch.setattr(checkup.importlib.util, "find_spec", lambda name: None)
    assert [each.state for each in checkup._quantization("cpu")] == ["skipped"]


def test_memory_is_what_the_container_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    Swap = namedtuple("Swap", "used")
    monkeypatch.setattr(memory, "free_memory", lambda device: (20 << 30, 24 << 30))
    monkeypatch.setattr(psutil, "swap_memory", lambda: Swap(0))
    monkeypatch.setattr(checkup, "memory_limit", lambda: None)
    assert [each.state for each in checkup._memory(CPU)] == ["good"]
    monkeypatch.setattr(checkup, "memory_limit", lambda: 2 << 30)
    monkeypatch.setattr(psutil, "swap_memory", lambda: Swap(3 << 30))
    small, swapped = checkup._memory(CPU)
    assert small.state == "skipped" and "this container may hold 2.0" in small.says
    assert swapped.state == "doubtful" and swapped.says.startswith("3.0 GiB are swapped out")


def test_full_and_read_only_disks_are_told_for_what_they_are_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Usage = namedtuple("Usage", "free")
    monkeypatch.setattr(checkup, "RUNS", tmp_path / "not" / "made" / "yet")
    monkeypatch.setattr(checkup.shutil, "disk_usage", lambda place: Usage(1 << 30))
    runs, hub, temporary = checkup._disk()
    assert (runs.state, temporary.state) == ("good", "good")
    assert hub.state == "skipped" and "1.0 GiB are free for the hub's models, 30.0 are wanted" in hub.says
    monkeypatch.setattr(checkup.os, "access", lambda place, mode: place != tmp_path)
    runs = checkup._disk()[0]
    assert runs.state == "skipped" and "folder for run files is not writable" in runs.says


def test_what_cannot_run_is_skipped_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    for part in (checkup._compiler, checkup._quantized_cache):
        (observation,) = part("cpu")
        assert observation.state == "skipped" and "no-such-compiler" in observation.says
    monkeypatch.setattr(sandbox, "isolation", lambda: sandbox.Isolation("none", "namespaces: refused"))
    (observation,) = checkup._sandbox()
    assert observation.state == "skipped" and "namespaces: refused" in observation.says and observation.mend


def test_a_part_that_fails_is_unknown_and_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise OSError("no such sensor")

    for name in ("_timing", "_battery", "_quantization", "_memory", "_disk", "_compiler", "_quantized_cache"):
        monkeypatch.setattr(checkup, name, fail)
    found = {each["topic"]: each for each in checkup.check_up("cpu")["observations"]}
    assert found["timing"]["state"] == found["disk"]["state"] == "unknown"
    assert "no such sensor" in found["memory"]["says"]
    assert found["dtype"]["state"] in ("good", "slow") and found["device"]["state"] == "skipped"


def test_a_device_that_cannot_be_used_is_told_and_the_processor_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    monkeypatch.setattr(checkup, "_timing", lambda device: [])
    found = checkup.check_up("cuda:3")
    (device,) = [each for each in found["observations"] if each["topic"] == "device"]
    assert device["state"] == "skipped" and "--device" in device["says"]
    assert found["title"].endswith("measuring on cpu")
