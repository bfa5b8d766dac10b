"""The GPU sampler through the real NVML bindings, against a stub driver: what it reads, what it says if not."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

UTILIZATION = {"utilization_mean_percent", "utilization_p10_percent", "utilization_p90_percent"}
FIGURES = UTILIZATION | {
    "memory_max_bytes",
    "process_memory_max_bytes",
    "power_mean_watts",
    "energy_joules",
    "sm_clock_mean_mhz",
    "memory_clock_mean_mhz",
    "temperature_max_celsius",
    "throttle_reasons",
}
FIRST = "bbbbbbbb-0000-4000-8000-000000000000"
SECOND = "aaaaaaaa-1111-4111-8111-111111111111"
Sample = Callable[..., "Sampled"]  # noqa: F821  (the class is in conftest.py)


def test_every_figure_has_its_value_and_unit(sample: Sample) -> None:
    seen = sample(throttle="0x24")
    assert set(seen.values) == FIGURES
    assert seen.unavailable == {}
    assert seen.values["utilization_mean_percent"] == pytest.approx(40)
    assert seen.values["memory_max_bytes"] == 10 * 2**30
    assert seen.values["process_memory_max_bytes"] == 3 * 2**30
    assert seen.values["power_mean_watts"] == pytest.approx(100)
    # The stub draws 100 W, and its counter is read from the start to the stop.
    assert seen.values["energy_joules"] == pytest.approx(100 * seen.telemetry["seconds"], rel=0.05)
    assert seen.values["sm_clock_mean_mhz"] == pytest.approx(900)
    assert seen.values["memory_clock_mean_mhz"] == pytest.approx(1500)
    assert seen.values["temperature_max_celsius"] == 30
    assert seen.values["throttle_reasons"] == pytest.approx({"sw_power_cap": 1.0, "sw_thermal_slowdown": 1.0})
    assert "interrupted" not in seen.telemetry
    assert not seen.torch


def test_no_throttling_is_a_value(sample: Sample) -> None:
    assert sample(throttle=0).values["throttle_reasons"] == {}


def test_utilization_follows_the_drivers_buffer(sample: Sample) -> None:
    """A tenth of the samples at 10, a tenth at 90, the rest at 50: finer than the readings, which come every 100 ms."""
    curve = "50,50,50,90,50,50,50,50,10,50"
    seen = sample(utilization=curve, period_us=5000, window=0.5, interval=0.1)
    assert seen.values["utilization_mean_percent"] == pytest.approx(50, abs=1.5)
    assert seen.telemetry["readings"] <= 6
    series = seen.telemetry["series"]["utilization_percent"]
    assert 85 <= len(series["values"]) <= 105
    assert series["values"][:10] == [50, 50, 50, 90, 50, 50, 50, 50, 10, 50]
    gaps = [after - before for before, after in pairwise(series["seconds"])]
    assert min(gaps) >= 0
    assert sorted(gaps)[len(gaps) // 2] == pytest.approx(0.005, abs=0.0011)
    assert series["seconds"][-1] <= seen.telemetry["seconds"] + 0.001  # rounded


def test_percentiles_are_of_the_time_spent(sample: Sample) -> None:
    seen = sample(utilization="0,20,20,20,80,80,80,80,80,100", period_us=5000, window=0.5)
    assert seen.values["utilization_p10_percent"] in {0, 20}
    assert seen.values["utilization_p90_percent"] in {80, 100}
    assert seen.values["utilization_mean_percent"] == pytest.approx(56, abs=3)


def test_samples_from_before_the_window_do_not_count(sample: Sample) -> None:
    seen = sample(stale=100, utilization="40")
    assert set(seen.telemetry["series"]["utilization_percent"]["values"]) == {40}


def test_a_buffer_that_runs_dry_is_replaced_by_the_polled_average(sample: Sample) -> None:
    """A driver stops sampling while its GPU is idle; the busy part alone would overstate the window."""
    seen = sample(utilization="100", stops_us=300_000, window=1.9, interval=0.1)
    polled = seen.telemetry["series"]["utilization_percent"]["values"]
    assert 66 in polled
    assert 66 <= seen.values["utilization_mean_percent"] < 100, "the busy part is not the whole window"
    assert "polled while it was empty" in seen.telemetry["notes"]["utilization_percent"]


def test_an_empty_buffer_is_replaced_at_once(sample: Sample) -> None:
    seen = sample(stale=-1, stops_us=0)
    assert seen.values["utilization_mean_percent"] == pytest.approx(66)
    assert "polled while it was empty" in seen.telemetry["notes"]["utilization_percent"]


def test_an_empty_buffer_and_no_average_leave_utilization_out(sample: Sample) -> None:
    seen = sample(stale=-1, stops_us=0, fail="nvmlDeviceGetUtilizationRates=3")
    assert set(seen.unavailable) == UTILIZATION
    reason = seen.unavailable["utilization_mean_percent"]
    assert "buffer was empty" in reason
    assert "nvmlDeviceGetUtilizationRates: Not Supported" in reason


def test_readings_are_taken_off_the_main_thread_and_the_driver_is_let_go(sample: Sample) -> None:
    seen = sample(window=0.5, interval=0.1)
    assert seen.threads == 1
    assert (seen.times("init"), seen.times("shutdown")) == (1, 1)
    main_thread = next(thread for what, thread in seen.notes if what == "init")
    readers = {thread for what, thread in seen.notes if what == "power"}
    assert len(readers) == 1
    assert main_thread not in readers
    assert 4 <= seen.times("power") == seen.telemetry["readings"] <= 6


@pytest.mark.parametrize("prefix", ["GPU-", ""])
def test_the_device_is_found_by_uuid_not_by_number(sample: Sample, prefix: str) -> None:
    """The second device of the driver has the first UUID of the alphabet, as when CUDA orders them differently."""
    first, second = sample(uuid=prefix + FIRST), sample(uuid=prefix + SECOND)
    assert (first.values["memory_max_bytes"], second.values["memory_max_bytes"]) == (10 * 2**30, 20 * 2**30)
    assert (first.values["sm_clock_mean_mhz"], second.values["sm_clock_mean_mhz"]) == (900, 1800)
    assert second.values["utilization_mean_percent"] == pytest.approx(20)


@pytest.mark.parametrize(
    ("function", "missing"),
    [
        ("nvmlDeviceGetComputeRunningProcesses_v3", {"process_memory_max_bytes"}),
        ("nvmlDeviceGetTotalEnergyConsumption", {"energy_joules"}),
        ("nvmlDeviceGetClockInfo", {"sm_clock_mean_mhz", "memory_clock_mean_mhz"}),
    ],
)
def test_a_figure_that_is_not_supported_is_absent_with_the_drivers_words(
    sample: Sample, function: str, missing: set[str]
) -> None:
    seen = sample(fail=f"{function}=3", window=0.2)
    assert seen.unavailable == dict.fromkeys(missing, f"{function}: Not Supported")
    assert set(seen.values) == FIGURES - missing


@pytest.mark.parametrize(
    ("preferred", "fallback", "figure", "value"),
    [
        ("nvmlDeviceGetSamples", "nvmlDeviceGetUtilizationRates", "utilization_mean_percent", 66),
        ("nvmlDeviceGetFieldValues", "nvmlDeviceGetPowerUsage", "power_mean_watts", 90),
        ("nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetMemoryInfo", "memory_max_bytes", 10.25 * 2**30),
        ("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature", "temperature_max_celsius", 31),
        (
            "nvmlDeviceGetCurrentClocksEventReasons",
            "nvmlDeviceGetCurrentClocksThrottleReasons",
            "throttle_reasons",
            {"hw_slowdown": 1.0},
        ),
    ],
)
def test_a_second_source_stands_in_and_is_named(
    sample: Sample, preferred: str, fallback: str, figure: str, value: object
) -> None:
    seen = sample(fail=f"{preferred}=3", window=0.2, throttle=8)
    assert seen.values[figure] == pytest.approx(value)
    assert any(f"{preferred}: Not Supported" in note for note in seen.telemetry["notes"].values())
    neither = sample(fail=f"{preferred}=3,{fallback}=3", window=0.2)
    assert figure not in neither.values
    assert neither.unavailable[figure] == f"{preferred}: Not Supported; {fallback}: Not Supported"


def test_symbols_an_older_driver_lacks_are_absent_or_replaced(sample: Sample) -> None:
    gone = ("SAMPLES", "FIELDS", "ENERGY", "TEMPERATUREV", "EVENTREASONS", "MEMORY")
    seen = sample(*gone, throttle=4)
    assert set(seen.unavailable) == {"energy_joules", "memory_max_bytes", "process_memory_max_bytes"}
    assert seen.unavailable["energy_joules"] == "nvmlDeviceGetTotalEnergyConsumption: Function Not Found"
    assert seen.values["utilization_mean_percent"] == pytest.approx(66)
    assert seen.values["power_mean_watts"] == pytest.approx(90)
    assert seen.values["temperature_max_celsius"] == 31
    assert seen.values["throttle_reasons"] == pytest.approx({"sw_power_cap": 1.0})
    assert "polled (nvmlDeviceGetSamples: Function Not Found)" in seen.telemetry["notes"]["utilization_percent"]


def test_a_driver_without_any_of_the_symbols_gives_reasons_only(sample: Sample) -> None:
    gone = ("RATES", "POWER", "CLOCKS", "TEMPERATURE", "THROTTLEREASONS")
    seen = sample("SAMPLES", "FIELDS", "ENERGY", "TEMPERATUREV", "EVENTREASONS", "MEMORY", *gone)
    assert seen.values == {}
    assert set(seen.unavailable) == FIGURES
    assert all("Function Not Found" in reason for reason in seen.unavailable.values())


def test_a_field_value_that_is_unsupported_inside_is_not_taken_for_zero(sample: Sample) -> None:
    seen = sample(field_return=3, fail="nvmlDeviceGetPowerUsage=3", window=0.2)
    assert "power_mean_watts" not in seen.values
    assert "nvmlDeviceGetFieldValues: Not Supported" in seen.unavailable["power_mean_watts"]


def test_mig_says_why_there_is_no_utilization(sample: Sample) -> None:
    seen = sample(mig=1, fail="nvmlDeviceGetSamples=3,nvmlDeviceGetUtilizationRates=3", window=0.2)
    assert set(seen.unavailable) == UTILIZATION
    assert "MIG is enabled" in seen.unavailable["utilization_p90_percent"]


@pytest.mark.parametrize(("bits", "start"), [(32, 2**32 - 5_000), (64, 2**64 - 5_000)], ids=["32 bits", "64 bits"])
def test_energy_is_right_across_a_wrap_of_the_counter(sample: Sample, bits: int, start: int) -> None:
    """5 J before the counter's end at 100 W: it starts again after 50 ms."""
    seen = sample(energy=start, bits=bits)
    assert seen.values["energy_joules"] == pytest.approx(100 * seen.telemetry["seconds"], rel=0.05)


def test_a_counter_that_was_reset_has_no_total(sample: Sample) -> None:
    seen = sample(energy=10**9, drop_us=150_000)
    assert "energy_joules" not in seen.values
    assert "went backwards" in seen.unavailable["energy_joules"]


def test_a_device_lost_midway_keeps_what_was_sampled_and_says_when(sample: Sample) -> None:
    seen = sample(lost_us=250_000, window=0.6)
    assert "GPU is lost" in seen.telemetry["interrupted"]
    assert 2 <= seen.telemetry["readings"] <= 5
    assert seen.values["utilization_mean_percent"] == pytest.approx(40)
    assert seen.values["power_mean_watts"] == pytest.approx(100)
    assert set(seen.unavailable) == {"energy_joules"}  # a part of the window's energy is not the window's energy
    assert "GPU is lost" in seen.unavailable["energy_joules"]
    assert seen.telemetry["seconds"] >= 0.6
    assert (seen.threads, seen.times("shutdown")) == (1, 1)


def test_a_device_lost_at_once_has_reasons_only(sample: Sample) -> None:
    seen = sample(lost_us=0, window=0.1)
    assert seen.values == {}
    assert all("GPU is lost" in reason for reason in seen.unavailable.values())
    assert (seen.times("init"), seen.times("shutdown")) == (1, 1)


def test_a_passing_failure_does_not_end_a_figure(sample: Sample) -> None:
    seen = sample(fail="nvmlDeviceGetMemoryInfo_v2=10", window=0.2)
    assert seen.unavailable == {"memory_max_bytes": "nvmlDeviceGetMemoryInfo_v2: Timeout"}
    assert "interrupted" not in seen.telemetry


def test_a_driver_call_that_never_returns_does_not_hang_the_run(sample: Sample) -> None:
    seen = sample(hang_us=30_000_000, window=0.2, join_seconds=0.2)
    assert "did not return" in seen.telemetry["interrupted"]
    assert "power_mean_watts" in seen.unavailable
    assert seen.values["memory_max_bytes"] == 10 * 2**30
    assert seen.times("shutdown") == 0  # the driver is still in use by the call that hangs


def test_without_a_driver_every_figure_is_absent(sample: Sample, tmp_path: object) -> None:
    seen = sample(library=tmp_path, window=0.05)
    assert seen.values == {}
    assert set(seen.unavailable) == FIGURES
    assert set(seen.unavailable.values()) == {"NVML cannot be initialized: NVML Shared Library Not Found"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"fail": "nvmlInitWithFlags=9"}, "NVML cannot be initialized: Driver Not Loaded"),
        ({"uuid": "GPU-cccccccc-0000"}, "the driver knows no device GPU-cccccccc-0000"),
        ({"uuid": None}, "the device's UUID is not known, and NVML numbers devices differently"),
    ],
    ids=["driver not loaded", "unknown device", "no UUID"],
)
def test_a_device_that_cannot_be_opened_says_why(sample: Sample, changes: dict[str, object], reason: str) -> None:
    seen = sample(window=0.05, **changes)
    assert seen.values == {}
    assert set(seen.unavailable.values()) == {reason}
    assert seen.times("init") == seen.times("shutdown")
    assert seen.threads == 1
