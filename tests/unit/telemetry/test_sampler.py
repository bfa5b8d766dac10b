"""Readings into figures, against values worked out by hand."""

from __future__ import annotations

import pytest

from fixtures.telemetry import Absent
from fixtures.telemetry.readings import (
    MAX_POINTS,
    Cut,
    Gauge,
    NoReading,
    Reading,
    Series,
    counter_total,
    highest,
    mean,
    percentile,
)
from fixtures.telemetry.sampler import Sampler, Telemetry


class Faulty(Sampler):
    """A sampler whose reader has a fault."""

    name = "faulty"

    def _open(self) -> None: ...
    def _prime(self) -> None: ...
    def _close(self) -> None: ...

    def _count(self, now: float) -> None: ...

    def _read(self, now: float) -> None:
        raise KeyError("clock")

    def _summary(self, cut: Cut) -> Telemetry:
        return Telemetry("faulty", self.device, cut.seconds, 0, self._interrupted_in(cut), {}, ())


def test_a_reading_stands_for_the_time_since_the_one_before() -> None:
    """Half a second at 100 in ten readings, then half a second at 0 in one."""
    readings: list[Reading] = [(0.05 * i, 100.0) for i in range(1, 11)] + [(1.0, 0.0)]
    assert mean(readings) == pytest.approx(50)
    assert highest(readings) == 100
    assert [percentile(readings, share) for share in (0.1, 0.4, 0.6, 0.9)] == [0, 0, 100, 100]


def test_readings_of_one_moment_weigh_the_same() -> None:
    assert mean([(0.0, 1.0), (0.0, 3.0)]) == 2


@pytest.mark.parametrize(
    ("values", "total"),
    [
        ([5, 7, 12], 7),
        ([250, 3, 9], 15),  # 250 -> 256 + 3 is 9, then 6
        ([65_530, 2], 8),  # too high for the counter of 8 bits: it must be the one of 16
        ([2**64 - 2, 3], 5),  # exact where a float is not
    ],
)
def test_a_counters_total(values: list[int], total: int) -> None:
    readings = [(0.1 * i, value) for i, value in enumerate(values)]
    assert counter_total([readings], wraps=(2**8, 2**16, 2**64), max_rate=100) == total


@pytest.mark.parametrize(
    ("values", "reason"),
    [([5], "fewer than two"), ([5, 5, 5], "did not advance"), ([9_000, 3], "went backwards")],
)
def test_a_counter_without_a_total_says_why(values: list[int], reason: str) -> None:
    total = counter_total([[(0.1 * i, value) for i, value in enumerate(values)]], wraps=(2**16,), max_rate=100)
    assert isinstance(total, Absent)
    assert reason in total.reason


@pytest.mark.parametrize("count", [1, MAX_POINTS, MAX_POINTS + 1, 10 * MAX_POINTS + 7])
def test_a_series_is_capped_and_keeps_its_mean(count: int) -> None:
    series = Series.of("watts", [(float(i), float(i % 17)) for i in range(count)])
    assert len(series.seconds) == len(series.values) == min(len(series.values), MAX_POINTS, count)
    assert len(series.values) >= min(count, MAX_POINTS / 2)
    assert list(series.seconds) == sorted(series.seconds)
    assert sum(series.values) / len(series.values) == pytest.approx(sum(i % 17 for i in range(count)) / count, rel=0.05)


def test_what_was_missed_is_counted() -> None:
    def sometimes(now: float) -> list[Reading]:
        if now < 2:
            raise NoReading("not yet")
        return [(now, 7.0)]

    gauge = Gauge("degrees", [("sensor", sometimes)])
    for now in range(4):
        gauge.read(float(now))
    assert gauge.readings == [(2.0, 7.0), (3.0, 7.0)]
    assert gauge.note == "2 times nothing was read: not yet"


def test_a_fault_in_a_reader_ends_the_sampling_and_not_the_run() -> None:
    with Faulty("none", interval=0.01) as sampler:
        pass
    assert "KeyError: 'clock'" in (sampler.telemetry.interrupted or "")
    assert "interrupted" in sampler.telemetry.to_json()
