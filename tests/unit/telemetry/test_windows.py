"""Telemetry cut into generations: what belongs to a case and what does not, by hand and on real samplers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from fixtures.telemetry import Absent, CpuSampler, Windows
from fixtures.telemetry.readings import Cut, Reading, counter_total, mean
from tests.unit.telemetry.test_cpu import burn, domain

ROOT = Path(__file__).parents[3]
UUID = "GPU-bbbbbbbb-0000-4000-8000-000000000000"
TURNS = Cut([(1.0, 2.0), (4.0, 4.5), (7.0, 9.0)])
"""Three generations of one case, 3.5 s in all; others ran between them."""


def test_a_cut_has_an_axis_of_its_own_time() -> None:
    moments = {0.5: 0.0, 1.0: 0.0, 1.25: 0.25, 2.0: 1.0, 3.0: 1.0, 4.0: 1.0, 4.5: 1.5, 8.0: 2.5, 9.0: 3.5, 20.0: 3.5}
    assert {moment: TURNS.inside(moment) for moment in moments} == moments
    assert (TURNS.seconds, TURNS.end) == (3.5, 9.0)
    assert (Cut([]).seconds, Cut([]).end, Cut([]).inside(3.0)) == (0.0, 0.0, 0.0)


def test_a_reading_counts_by_the_overlap_of_its_time_with_the_generations() -> None:
    """What a driver buffers carries its own stamps, which know nothing of turns."""
    readings: list[Reading] = [(0.5, 9.0), (1.5, 10.0), (3.0, 20.0), (4.25, 40.0), (6.9, 90.0), (9.0, 60.0)]
    own = TURNS.averages(readings)
    assert own == [(0.5, 10.0), (1.0, 20.0), (1.25, 40.0), (1.5, 90.0), (3.5, 60.0)]
    assert mean(own) == pytest.approx((0.5 * 10 + 0.5 * 20 + 0.25 * 40 + 0.25 * 90 + 2 * 60) / 3.5)


def test_a_level_read_while_another_case_decodes_is_not_this_cases() -> None:
    readings: list[Reading] = [(1.0, 100.0), (1.5, 1.0), (3.0, 100.0), (4.5, 2.0), (7.0, 100.0), (9.0, 3.0)]
    assert TURNS.levels(readings) == [(0.5, 1.0), (1.5, 2.0), (3.5, 3.0)]


def test_a_counter_is_summed_over_the_generations_alone() -> None:
    readings: list[Reading] = [(1.0, 10), (1.5, 12), (2.0, 15), (3.0, 80), (4.0, 99), (4.5, 2), (7.0, 50), (9.0, 60)]
    spans = TURNS.counts(readings)
    assert not isinstance(spans, Absent)
    assert counter_total(spans, wraps=[100], max_rate=1000) == 5 + 3 + 10


@pytest.mark.parametrize("missing", [1.0, 2.0, 4.0, 9.0])
def test_a_counter_without_a_reading_at_an_end_has_no_total(missing: float) -> None:
    ends = [moment for span in TURNS.spans for moment in span if moment != missing]
    spans = TURNS.counts([(moment, moment) for moment in [1.5, *ends]])
    assert isinstance(spans, Absent)
    assert "not read at both ends" in spans.reason


def test_rates_are_over_stretches_of_half_a_period_and_lose_nothing() -> None:
    """A tick of 10 ms that falls between two readings 3 ms apart is 333% of a core, and means nothing."""
    readings = [(1.0, 0.0), (1.5, 0.4), (1.503, 0.41), (2.0, 0.9), (4.0, 7.0), (4.003, 7.01), (4.5, 7.5), (7.0, 7.5)]
    rates = TURNS.rates([*readings, (9.0, 9.5)], None, shortest=0.25)
    assert [moment for moment, _ in rates] == pytest.approx([0.5, 1.0, 1.5, 3.5])
    assert [rate for _, rate in rates] == pytest.approx([0.8, 1.0, 1.0, 1.0])
    assert mean(rates) * TURNS.seconds == pytest.approx(0.9 + 0.5 + 2.0)


def test_short_generations_are_joined_and_a_short_rest_goes_with_what_was_before() -> None:
    brief = Cut([(float(turn), turn + 0.1) for turn in range(7)])
    readings: list[Reading] = [
        (moment, 0.05 * turn + share) for turn in range(7) for moment, share in ((float(turn), 0.0), (turn + 0.1, 0.05))
    ]
    assert brief.rates(readings, None, shortest=0.25) == [
        pytest.approx((0.3, 0.5)),
        pytest.approx((0.7, 0.5)),
    ]
    assert brief.rates(readings, None, shortest=0.8) == [], "less than that in all"


def test_a_stretch_whose_begin_was_not_read_gives_no_rate() -> None:
    assert TURNS.rates([(0.0, 0.0), (2.0, 2.0), (4.0, 4.0), (4.5, 4.1)], None, shortest=0.25) == [
        pytest.approx((1.5, 0.1 / 0.5))
    ]


def test_each_case_has_the_energy_and_the_time_of_its_own_generations(tmp_path: Path) -> None:
    package = domain(tmp_path, "intel-rapl:0", "package-0", 0)
    used = 0

    def spend(microjoules: int) -> None:
        nonlocal used
        used += microjoules
        (package / "energy_uj").write_text(f"{used}\n")

    windows = Windows([CpuSampler(interval=0.05, powercap=tmp_path)])
    windows.start()
    assert windows.of("busy") == {}
    for turn in range(4):
        windows.begin("busy")
        burn(0.04)
        spend(1_000_000 + turn)
        windows.end()
        spend(50_000_000)  # between generations: nobody's
        windows.begin("idle")
        threading.Event().wait(0.04)
        spend(10)
        windows.end()
    windows.begin("idle")
    spend(70_000_000)  # a generation that failed: `end` is never called
    windows.begin("busy")
    windows.end()
    early = windows.of("idle")
    windows.stop()
    busy, idle = windows.of("busy")["cpu"], windows.of("idle")["cpu"]
    assert early == windows.of("idle"), "the same before and after the stop"
    assert json.loads(json.dumps(busy, allow_nan=False)) == busy
    assert idle["values"]["package_energy_joules"] == pytest.approx(40e-6)
    assert busy["values"]["package_energy_joules"] == pytest.approx(4.000006)
    assert busy["values"]["package_power_mean_watts"] == pytest.approx(4.000006 / busy["seconds"], rel=1e-3)
    names = ("process_utilization_mean_percent", "system_utilization_mean_percent", "rss_max_bytes")
    assert all(name in found["values"] for name in names for found in (busy, idle))
    assert busy["values"][names[0]] > idle["values"][names[0]]
    curve = busy["series"]["process_utilization_percent"]["seconds"]
    assert curve == sorted(curve) and curve[-1] == pytest.approx(busy["seconds"], abs=2e-3)
    assert busy["readings"] >= 4 and "interrupted" not in busy


def test_no_samplers_no_telemetry_and_no_complaint() -> None:
    windows = Windows([])
    windows.start()
    windows.end()
    windows.begin("a")
    windows.end()
    windows.stop()
    assert windows.of("a") == windows.of("b") == {}


@pytest.mark.parametrize("broken", ["Process", "cpu_times"])
def test_a_source_that_fails_costs_its_figures_and_not_the_measurement(
    broken: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*arguments: object) -> Any:
        raise PermissionError(13, "hidden here", "/proc")

    monkeypatch.setattr(psutil, broken, fail)
    windows = Windows([CpuSampler(interval=0.02, powercap=tmp_path)])
    windows.start()
    windows.begin("a")
    burn(0.05)
    windows.end()
    windows.stop()
    telemetry = windows.of("a")["cpu"]
    assert "hidden here" in telemetry["unavailable"]["system_utilization_mean_percent"]
    assert ("process_utilization_mean_percent" in telemetry["values"]) == (broken == "cpu_times")


def test_readings_that_cannot_be_used_cost_their_figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    windows = Windows([CpuSampler(powercap=tmp_path)])
    windows.start()
    windows.begin("a")
    windows.end()
    monkeypatch.setattr(CpuSampler, "_summary", lambda self, cut: 1 / 0)
    telemetry = windows.of("a")["cpu"]
    assert telemetry["values"] == {} and "ZeroDivisionError" in telemetry["interrupted"]
    monkeypatch.undo()
    windows.stop()


CHILD = """
import json, sys, time
import fixtures.telemetry.sampler as sampler
from fixtures.telemetry import Windows, for_device
options = json.loads(sys.argv[1])
sampler.MARK_SECONDS, sampler.JOIN_SECONDS = 0.2, 0.2
windows = Windows(for_device("cuda:0", options["uuid"], options["interval"])[:1])
windows.start()
began = time.perf_counter()
for number, case in enumerate(options["turns"]):
    windows.begin(case)
    time.sleep(max(0.0, began + (number + 1) * options["seconds"] - time.perf_counter()))
    windows.end()
windows.stop()
print(json.dumps({case: windows.of(case)["nvml"] for case in options["turns"]}))
"""


@pytest.fixture
def taking_turns(driver: Callable[..., Path]) -> Callable[..., Any]:
    """`taking_turns("abab", seconds, interval, **script)`: the GPU's telemetry by case, from a process of its own."""

    def run(turns: str, seconds: float = 0.2, interval: float = 0.05, **script: object) -> Any:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STUB_")}
        environment |= {f"STUB_{name.upper()}": str(value) for name, value in script.items()}
        environment |= {"LD_LIBRARY_PATH": str(driver())}
        options = json.dumps({"uuid": UUID, "turns": list(turns), "seconds": seconds, "interval": interval})
        command = [sys.executable, "-c", CHILD, options]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_the_drivers_samples_are_cut_by_their_stamps_and_its_counter_by_the_turns(taking_turns: Any) -> None:
    """The stub is busy for 200 ms and idle for 200 ms; the cases take turns at the same pace. A sampler of a window
    would say 50% of both."""
    curve = ",".join(["90"] * 20 + ["10"] * 20)
    cases = taking_turns("ababab", utilization=curve, period_us=10_000, interval=5.0)
    busy, idle = cases["a"]["values"], cases["b"]["values"]
    assert busy["utilization_mean_percent"] > 60 > 40 > idle["utilization_mean_percent"]
    for case in cases.values():
        assert case["values"]["energy_joules"] == pytest.approx(100 * case["seconds"], rel=0.05)
        assert case["values"]["power_mean_watts"] == pytest.approx(100)
        assert case["readings"] == 3, "an interval of 5 s: what was read, was read at the ends"
        assert case["series"]["utilization_percent"]["seconds"][-1] <= case["seconds"] + 0.001


def test_a_device_lost_midway_costs_the_cases_after_it(taking_turns: Any) -> None:
    cases = taking_turns("ab", seconds=0.3, lost_us=450_000)
    assert "interrupted" not in cases["a"] and "energy_joules" in cases["a"]["values"]
    assert "GPU is lost" in cases["b"]["unavailable"]["energy_joules"]
    assert cases["a"]["values"]["utilization_mean_percent"] == pytest.approx(40)


def test_a_driver_that_hangs_holds_nothing_up(taking_turns: Any) -> None:
    cases = taking_turns("aab", hang_us=30_000_000, seconds=0.1)
    assert cases["b"]["values"] == {}
    assert all("did not return" in reason for reason in cases["b"]["unavailable"].values())
    assert "did not return" in cases["a"]["unavailable"]["energy_joules"]
    assert "did not return" in cases["a"]["interrupted"]
