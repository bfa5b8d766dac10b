"""What a run tells of its machine: what decides speed, no serial number; and when another machine may go on with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fixtures.measuring.case import Measured
from fixtures.measuring.environment import card_mark, environment, hardware
from fixtures.study.pairs import find_pair
from fixtures.study.study import Study, StudyError, Sweep, Workload
from fixtures.suite.session import BenchSession
from fixtures.telemetry import cards

CUDA = torch.device("cuda:0")
SERIAL = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`card(uuid, **facts)`: the machine's GPU has this serial, and its driver tells these facts."""

    def of(uuid: str, **facts: Any) -> None:
        properties = SimpleNamespace(name="NVIDIA L4", total_memory=22 << 30, major=8, minor=9, uuid=uuid)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
        monkeypatch.setattr(cards, "card_facts", lambda asked: facts if asked == uuid else {})

    return of


def test_a_gpu_runs_hardware_has_its_limits_and_its_host_and_no_serial(card: Callable[..., None]) -> None:
    card(SERIAL, gpu_power_limit_watts=72.0, gpu_max_sm_clock_mhz=2040, gpu_ecc=True)
    facts = hardware(CUDA)
    assert facts["gpu"] == "NVIDIA L4" and facts["cpu"]
    assert (facts["gpu_power_limit_watts"], facts["gpu_max_sm_clock_mhz"], facts["gpu_ecc"]) == (72.0, 2040, True)
    assert SERIAL not in json.dumps(environment(CUDA))


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
        session = BenchSession(study, tmp_path / "run.jsonl", resume=False, argv=[])
        session._device, session._environment = CUDA, environment(CUDA)
        session._check_same_run(header)
        return session._result(session.cases[0], "ok", Measured()).notes

    assert notes(began) == ()
    card(SERIAL.replace("1", "9"), gpu_power_limit_watts=72.0)
    assert notes(began) == ("measured on another card of this model than the run began on",)
    older = {name: value for name, value in began["environment"]["hardware"].items() if "power" not in name}
    assert notes({"environment": {**began["environment"], "hardware": older}}) == (), "it did not know of limits"
    card(SERIAL, gpu_power_limit_watts=40.0)
    with pytest.raises(StudyError, match="its hardware differs"):
        notes(began)
