"""What the driver says of a card at one moment, asked of the stub through the real bindings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures.telemetry.cards import card_facts, card_notes, driver, throttle_notes

ROOT = Path(__file__).parents[3]
FIRST_UUID = "bbbbbbbb-0000-4000-8000-000000000000"  # as torch gives it, without NVML's prefix
SECOND_UUID = "GPU-aaaaaaaa-1111-4111-8111-111111111111"
CHILD = """
import json, sys
from dataclasses import asdict
from fixtures.telemetry.cards import card_facts, card_notes, driver
found = driver()
answers = {uuid: [card_facts(uuid), card_notes(uuid)] for uuid in sys.argv[1:]}
print(json.dumps([asdict(found) if found else None, answers, "torch" in sys.modules]))
"""


@pytest.fixture
def asked(driver: Callable[..., Path]) -> Callable[..., Any]:
    """`asked(*without, **script)`: what the module says of both cards of the stub."""

    def ask(*without: str, **script: object) -> Any:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STUB_")}
        environment |= {f"STUB_{name.upper()}": str(value) for name, value in script.items()}
        environment |= {"LD_LIBRARY_PATH": str(driver(*without)), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", CHILD, FIRST_UUID, SECOND_UUID, "GPU-of-another-machine"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return ask


def test_a_card_that_this_process_has_alone_at_its_own_power_has_facts_and_no_notes(asked: Any) -> None:
    found, answers, imported_torch = asked(processes=1)
    assert found == {"version": "535.104.05", "cuda": "12.2", "cards": ["Stub card", "Stub card"]}
    facts, notes = answers[FIRST_UUID]
    assert facts == {
        "gpu_power_limit_watts": 300.0,
        "gpu_default_power_limit_watts": 300.0,
        "gpu_max_sm_clock_mhz": 1000,
        "gpu_max_memory_clock_mhz": 2000,
        "gpu_ecc": True,
    }
    assert notes == []
    assert answers[SECOND_UUID][0]["gpu_power_limit_watts"] == 600.0, "cards are told apart by their UUID"
    assert answers["GPU-of-another-machine"] == [{}, []]
    assert not imported_torch


def test_neighbours_and_a_power_cap_are_told(asked: Any) -> None:
    _, answers, _ = asked(processes=2, power_limit=200000)
    neighbour, cap = answers[FIRST_UUID][1]
    assert neighbour.startswith("another process uses this card and 5.0 GiB of its memory: ")
    assert cap == "the card's power is capped at 200 W of 300 W"


def test_what_a_driver_does_not_tell_is_left_out(asked: Any) -> None:
    found, answers, _ = asked("LIMITS", "MEMORY", fail="nvmlSystemGetCudaDriverVersion_v2=3")
    assert answers[FIRST_UUID] == [{}, []]
    assert found["cuda"] == ""


def test_without_a_driver_there_is_nothing() -> None:
    if driver() is not None:
        pytest.skip("this machine has an NVIDIA driver")
    assert card_facts(FIRST_UUID) == {} and card_notes(FIRST_UUID) == card_notes(None) == []


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        ({"sw_power_cap": 0.4, "hw_thermal_slowdown": 0.1}, "sw_power_cap 40%, hw_thermal_slowdown 10%"),
        ({"sw_power_cap": 0.01, "gpu_idle": 0.9, "applications_clocks_setting": 1.0}, None),
        ({}, None),
        (None, None),
    ],
)
def test_throttling_that_took_a_share_of_the_time_is_told(shares: dict[str, float] | None, told: str | None) -> None:
    notes = throttle_notes({"values": {"throttle_reasons": shares}})
    assert (notes == []) if told is None else (len(notes) == 1 and notes[0].endswith(told))
