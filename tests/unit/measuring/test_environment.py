"""What a run tells of its machine: what decides speed, no serial number; and when another machine may go on with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fixtures.measuring import quiet
from fixtures.measuring.case import Measured
from fixtures.measuring.environment import card_mark, cpu_model, environment, hardware
from fixtures.measuring.examination import Examiner
from fixtures.study.pairs import find_pair
from fixtures.study.study import Study, StudyError, Sweep, Workload
from fixtures.suite.process_lines import write_session
from fixtures.suite.session import BenchSession
from fixtures.telemetry import cards
from fixtures.telemetry.conditions import Conditions, Observation
from reports.record.writer import RunWriter

CUDA = torch.device("cuda:0")
SERIAL = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`card(uuid, **facts)`: the machine's GPU has this serial, and its driver tells these facts."""

    def of(uuid: str, **facts: Any) -> None:
        properties = SimpleNamespace(name="NVIDIA L4", total_memory=22 << 30, major=8, minor=9, uuid=uuid)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (20 << 30, 22 << 30))
        monkeypatch.setattr(cards, "card_facts", lambda asked: facts if asked == uuid else {})

    return of


def test_a_gpu_runs_hardware_has_its_limits_and_its_host_and_no_serial(card: Callable[..., None]) -> None:
    card(SERIAL, gpu_power_limit_watts=72.0, gpu_max_sm_clock_mhz=2040, gpu_ecc=True)
    facts = hardware(CUDA)
    assert facts["gpu"] == "NVIDIA L4" and facts["cpu"]
    assert (facts["gpu_power_limit_watts"], facts["gpu_max_sm_clock_mhz"], facts["gpu_ecc"]) == (72.0, 2040, True)
    assert SERIAL not in json.dumps(environment(CUDA))


def test_the_processor_s_name_is_linux_own_and_else_what_py_cpuinfo_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = tmp_path / "cpuinfo"
    known.write_text("processor : 0\nmodel name\t: AMD EPYC 9R14\nflags : bf16\n")
    assert cpu_model(known) == "AMD EPYC 9R14"
    arm = tmp_path / "arm"
    arm.write_text("processor : 0\nCPU implementer : 0x41\nCPU part : 0xd4f\n")
    monkeypatch.setattr("cpuinfo.get_cpu_info", lambda: {"brand_raw": "Neoverse-V2"})
    assert cpu_model(arm) == cpu_model(tmp_path / "nothing") == "Neoverse-V2"
    monkeypatch.setattr("cpuinfo.get_cpu_info", dict)
    assert cpu_model(arm), "the architecture is better than nothing"


def test_a_run_begins_with_what_is_doubtful_of_the_threads_that_compute(
    card: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    card(SERIAL)
    monkeypatch.setattr(quiet, "LOOK_SECONDS", 0.0)
    looked: list[tuple[int, Any]] = []

    def look(threads: int, uuid: Any, **_: Any) -> Conditions:
        looked.append((threads, uuid))
        busy = [] if len(looked) > 1 else [Observation("other processes", "doubtful", "a build", "end it")]
        governor = Observation("frequency", "doubtful", "the governor is powersave", "sudo cpupower")
        return Conditions({"foreign_cores": 0.5}, (governor, *busy))

    monkeypatch.setattr(quiet, "look", look)
    told: list[str] = []
    found = quiet.ready_machine(torch.device("cpu"), 0.0, told.append)
    assert (told, found.facts) == (
        ["the governor is powersave: sudo cpupower", "a build: end it"],
        {"foreign_cores": 0.5},
    )
    found = quiet.ready_machine(CUDA, 60.0, told.append)
    assert told[2:] == ["the governor is powersave: sudo cpupower"], "by then it was quiet"
    assert looked == [(torch.get_num_threads(), None), *[(1, SERIAL)] * (quiet.QUIET_LOOKS + 1)]
    assert found.facts.keys() == {"foreign_cores", "waited_seconds"}


def test_a_mark_tells_cards_apart_within_a_run_only(card: Callable[..., None]) -> None:
    card(SERIAL)
    mark = card_mark(CUDA, "2026-01-01")
    assert mark == card_mark(CUDA, "2026-01-01") != card_mark(CUDA, "2026-01-02")
    card(SERIAL.replace("1", "9"))
    assert card_mark(CUDA, "2026-01-01") != mark
    assert card_mark(torch.device("cpu"), "2026-01-01") == ""


def test_another_card_of_the_model_goes_on_with_a_run_and_that_is_noted(
    card: Callable[..., None], tmp_path: Path
) -> None:
    card(SERIAL, gpu_power_limit_watts=72.0)
    began = {"environment": environment(CUDA), "card": card_mark(CUDA, "then"), "started_at": "then"}
    study = Study("unit", "", (find_pair("synthetic-tiny"),), (Sweep("baseline"),), Workload("synthetic"))

    def notes(header: dict[str, Any]) -> tuple[str, ...]:
        path = tmp_path / "run.jsonl"
        path.unlink(missing_ok=True)
        writer = RunWriter(path)
        writer.run({"study": study.describe(), "order": study.order, "environment": environment(CUDA)} | header)
        writer.close()
        session = BenchSession(study, path, resume=True, argv=[])
        session._device, session._environment = CUDA, environment(CUDA)
        session._writer, session._examiner = RunWriter(path), Examiner(study, CUDA)
        try:
            session._other_card = write_session(session, session._environment, {}, [])
        finally:
            session._writer.close()
        return session.result(session.cases[0], "ok", Measured()).notes

    assert notes(began) == ()
    card(SERIAL.replace("1", "9"), gpu_power_limit_watts=72.0)
    assert notes(began) == ("measured on another card of this model than the run began on",)
    older = {name: value for name, value in began["environment"]["hardware"].items() if "power" not in name}
    assert notes({"environment": {**began["environment"], "hardware": older}}) == (), "it did not know of limits"
    card(SERIAL, gpu_power_limit_watts=40.0)
    with pytest.raises(StudyError, match="its hardware differs"):
        notes(began)
