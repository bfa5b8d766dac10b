"""The processor's sampler on the real machine, and on a powercap folder written for the test."""

from __future__ import annotations

import json
import mmap
import threading
import time
from pathlib import Path

import psutil
import pytest

from fixtures.telemetry import Absent, CpuSampler, CpuTelemetry, for_device
from fixtures.telemetry.cpu import POWERCAP


def burn(seconds: float) -> float:
    """Use this much processor time; returns the wall seconds that took."""
    began, used = time.perf_counter(), time.process_time()
    while time.process_time() - used < seconds:
        pass
    return time.perf_counter() - began


def domain(root: Path, name: str, label: str, microjoules: int, wraps_at: int = 262_143_328_850) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(label + "\n")
    (folder / "max_energy_range_uj").write_text(f"{wraps_at}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    return folder


def sampled(powercap: Path, *advances: tuple[Path, int]) -> CpuTelemetry:
    """A window read only at its two ends, in which the counters are set to new values."""
    with CpuSampler(interval=60, powercap=powercap) as sampler:
        time.sleep(0.05)
        for folder, microjoules in advances:
            (folder / "energy_uj").write_text(f"{microjoules}\n")
    assert isinstance(sampler.telemetry, CpuTelemetry)
    return sampler.telemetry


def test_utilization_is_the_processor_time_used() -> None:
    """Busy for half of the window: the mean is their ratio, no first reading of 0 in it."""
    used = 0.5
    with CpuSampler(interval=0.1) as sampler:
        time.sleep(burn(used))
    seen = sampler.telemetry
    assert isinstance(seen, CpuTelemetry)
    assert seen.process_utilization_mean_percent == pytest.approx(100 * used / seen.seconds, rel=0.1)
    assert isinstance(seen.process_utilization_p90_percent, float)
    assert isinstance(seen.process_utilization_p10_percent, float)
    assert seen.process_utilization_p10_percent < seen.process_utilization_mean_percent
    assert seen.process_utilization_mean_percent < seen.process_utilization_p90_percent
    busy = next(series for series in seen.series if series.name == "process_utilization_percent")
    assert busy.values[0] > 0
    # The system is all cores: this process alone used half of one for the window.
    least = 100 * used / seen.seconds / (psutil.cpu_count() or 1)
    assert isinstance(seen.system_utilization_mean_percent, float)
    assert 0.8 * least < seen.system_utilization_mean_percent <= 100


def test_resident_memory_is_its_highest_while_sampled() -> None:
    with CpuSampler(interval=0.02) as sampler:
        before = psutil.Process().memory_info().rss
        block = mmap.mmap(-1, 64 * 2**20)
        block.write(b"x" * len(block))
        time.sleep(0.1)
        block.close()
        time.sleep(0.1)
        after = psutil.Process().memory_info().rss
    seen = sampler.telemetry
    assert isinstance(seen, CpuTelemetry)
    assert isinstance(seen.rss_max_bytes, float | int)
    assert seen.rss_max_bytes > max(before, after) + 48 * 2**20


def test_a_window_too_short_for_the_kernels_counters_has_no_system_utilization_of_zero(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = psutil.cpu_times()
    monkeypatch.setattr(psutil, "cpu_times", lambda: now)
    with CpuSampler(interval=0.04) as sampler:
        time.sleep(0.05)
    seen = sampler.telemetry
    assert isinstance(seen, CpuTelemetry)
    assert isinstance(seen.process_utilization_mean_percent, float)
    assert isinstance(seen.system_utilization_mean_percent, Absent)
    assert seen.system_utilization_mean_percent.reason == "the kernel's counters had not advanced"


def test_a_window_shorter_than_half_an_interval_has_no_utilization() -> None:
    with CpuSampler(interval=60) as sampler:
        burn(0.02)
    seen = sampler.telemetry
    assert isinstance(seen, CpuTelemetry)
    assert isinstance(seen.process_utilization_mean_percent, Absent)
    assert "as long as 30 s" in seen.process_utilization_mean_percent.reason
    assert seen.process_utilization_mean_percent == seen.system_utilization_mean_percent
    assert {series.name for series in seen.series} == {"rss_bytes"}


def test_the_thread_ends_with_the_window() -> None:
    threads = threading.active_count()
    sampler = CpuSampler(interval=60)
    sampler.start()
    assert threading.active_count() == threads + 1
    began = time.perf_counter()
    seen = sampler.stop()
    assert time.perf_counter() - began < 60, "the interval is not waited for"
    assert threading.active_count() == threads
    assert sampler.stop() is seen is sampler.telemetry


def test_an_error_in_the_window_passes_and_leaves_the_telemetry() -> None:
    with pytest.raises(ZeroDivisionError), CpuSampler(interval=0.02) as sampler:
        raise ZeroDivisionError
    assert sampler.telemetry.readings == 1


def test_a_sampler_is_for_one_window() -> None:
    sampler = CpuSampler()
    with pytest.raises(RuntimeError, match="not started"):
        sampler.stop()
    with pytest.raises(RuntimeError, match="not been stopped"):
        _ = sampler.telemetry
    with sampler:
        pass
    with pytest.raises(RuntimeError, match="one window"):
        sampler.start()


def test_package_energy_is_the_sum_over_packages_and_not_over_their_parts(tmp_path: Path) -> None:
    first = domain(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    second = domain(tmp_path, "intel-rapl:1", "package-1", 2_000_000)
    core = domain(tmp_path, "intel-rapl:0:0", "core", 0)
    board = domain(tmp_path, "intel-rapl:2", "psys", 0)
    seen = sampled(tmp_path, (first, 4_000_000), (second, 3_500_000), (core, 9_000_000), (board, 9_000_000))
    assert seen.package_energy_joules == pytest.approx(4.5)
    assert seen.package_power_mean_watts == pytest.approx(4.5 / seen.seconds)


def test_package_energy_is_right_across_a_wrap(tmp_path: Path) -> None:
    package = domain(tmp_path, "intel-rapl:0", "package-0", 9_000_000, wraps_at=10_000_000)
    assert sampled(tmp_path, (package, 500_000)).package_energy_joules == pytest.approx(1.5)


def test_a_package_counter_that_stands_still_is_not_an_energy_of_zero(tmp_path: Path) -> None:
    domain(tmp_path, "intel-rapl:0", "package-0", 9_000_000)
    energy = sampled(tmp_path).package_energy_joules
    assert isinstance(energy, Absent)
    assert "intel-rapl:0: the counter did not advance" in energy.reason


@pytest.mark.parametrize("case", ["no folder", "no package", "no counter"])
def test_energy_that_cannot_be_read_is_absent_with_the_reason(tmp_path: Path, case: str) -> None:
    powercap = tmp_path / "powercap"
    if case != "no folder":
        folder = domain(powercap, "intel-rapl:0", "psys" if case == "no package" else "package-0", 1)
        if case == "no counter":
            (folder / "energy_uj").unlink()
    seen = sampled(powercap)
    reason = {"no folder": "does not exist here", "no package": "no processor package", "no counter": "No such file"}
    assert isinstance(seen.package_energy_joules, Absent)
    assert reason[case] in seen.package_energy_joules.reason
    assert seen.package_power_mean_watts == seen.package_energy_joules
    assert isinstance(seen.rss_max_bytes, float | int)


def test_a_real_machines_energy_is_a_value_or_has_a_reason() -> None:
    with CpuSampler(interval=0.1) as sampler:
        burn(0.3)
    seen = sampler.telemetry
    assert isinstance(seen, CpuTelemetry)
    if isinstance(seen.package_energy_joules, Absent):
        assert seen.package_energy_joules.reason
    else:
        assert POWERCAP.is_dir()
        assert 0 < seen.package_energy_joules / seen.seconds < 2000


def test_the_json_is_plain_and_says_everything_once() -> None:
    with CpuSampler(interval=0.02) as sampler:
        burn(0.1)
    document = json.loads(json.dumps(sampler.telemetry.to_json(), allow_nan=False))
    values, unavailable = set(document["values"]), set(document["unavailable"])
    assert not values & unavailable
    assert values | unavailable == {
        "process_utilization_mean_percent",
        "process_utilization_p10_percent",
        "process_utilization_p90_percent",
        "system_utilization_mean_percent",
        "rss_max_bytes",
        "package_energy_joules",
        "package_power_mean_watts",
    }
    assert document["sampler"] == document["device"] == "cpu"
    for series in document["series"].values():
        assert len(series["seconds"]) == len(series["values"]) > 0


@pytest.mark.parametrize(
    ("device", "samplers"),
    [("cpu", ["cpu"]), ("cuda", ["cuda", "cpu"]), ("cuda:1", ["cuda:1", "cpu"]), ("mps", ["cpu"])],
)
def test_samplers_for_a_torch_device(device: str, samplers: list[str]) -> None:
    assert [sampler.device for sampler in for_device(device)] == samplers
