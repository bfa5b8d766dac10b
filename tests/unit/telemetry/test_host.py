"""What the system's files say of the processor: a tree of them written for each case, and this machine's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.telemetry import host


def tree(root: Path, **files: str) -> Path:
    """Files below a root; `__` stands for a slash, `_dot_` for a dot."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_time_is_that_of_the_cores_that_may_be_used(tmp_path: Path) -> None:
    stat = "cpu  1 1 1 1 1 1 1 1 1 1\ncpu0 100 20 30 999 999 4 6 50 70 0\ncpu1 9 9 9 9 9 9 9 9\ncpu3 40 0 0 0\nintr 5\n"
    times = host.core_times((0, 3), tree(tmp_path, proc__stat=stat))
    assert times == host.CoreTimes(busy=pytest.approx(2.0), stolen=pytest.approx(0.5)), "guests are in the users' time"


def test_this_machine_tells_its_cores_and_its_time() -> None:
    cores = host.usable_cores()
    assert cores and 1 <= host.default_threads(len(cores)) <= len(cores)
    assert host.core_times(cores).busy > 0


@pytest.mark.parametrize(
    ("files", "quota", "stopped"),
    [
        ({}, None, None),
        ({"proc__self__cgroup": "0::/\n", "sys__fs__cgroup__cpu_dot_max": "max 100000"}, None, None),
        (
            {
                "proc__self__cgroup": "0::/pods/mine\n",
                "sys__fs__cgroup__pods__mine__cpu_dot_max": "350000 100000",
                "sys__fs__cgroup__pods__cpu_dot_max": "150000 100000",
                "sys__fs__cgroup__pods__mine__cpu_dot_stat": "usage_usec 9\nthrottled_usec 2500000",
            },
            1.5,
            2.5,
        ),
        (  # in a container of the old version: the path is the host's, the mount shows the container's own
            {
                "proc__self__cgroup": "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/\n",
                "sys__fs__cgroup__cpu,cpuacct__cpu_dot_cfs_quota_us": "200000",
                "sys__fs__cgroup__cpu,cpuacct__cpu_dot_cfs_period_us": "100000",
                "sys__fs__cgroup__cpu,cpuacct__cpu_dot_stat": "nr_throttled 3\nthrottled_time 1500000000",
            },
            2.0,
            1.5,
        ),
        (
            {
                "proc__self__cgroup": "1:cpu:/\n",
                "sys__fs__cgroup__cpu__cpu_dot_cfs_quota_us": "-1",
                "sys__fs__cgroup__cpu__cpu_dot_cfs_period_us": "100000",
            },
            None,
            None,
        ),
        ({"proc__self__cgroup": "0::/../../other\n", "sys__fs__cgroup__cpu_dot_max": "50000 100000"}, 0.5, None),
    ],
)
def test_the_quota_is_the_narrowest_on_the_way_up(
    tmp_path: Path, files: dict[str, str], quota: float | None, stopped: float | None
) -> None:
    root = tree(tmp_path, **files)
    assert (host.quota_cores(root), host.throttled_seconds(root)) == (quota, stopped)


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        ({"proc__self__cgroup": "0::/\n", "sys__fs__cgroup__memory_dot_max": "max"}, None),
        (
            {
                "proc__self__cgroup": "0::/pods/mine\n",
                "sys__fs__cgroup__pods__mine__memory_dot_max": str(8 << 30),
                "sys__fs__cgroup__pods__memory_dot_max": str(4 << 30),
            },
            4 << 30,
        ),
        (
            {
                "proc__self__cgroup": "4:memory:/docker/abc\n",
                "sys__fs__cgroup__memory__memory_dot_limit_in_bytes": "9223372036854771712",
            },
            None,
        ),
    ],
)
def test_memory_may_be_bounded_by_the_container(tmp_path: Path, files: dict[str, str], limit: int | None) -> None:
    assert host.memory_limit(tree(tmp_path, **files)) == limit


def test_governor_frequency_and_heat_are_told_where_the_system_tells_them(tmp_path: Path) -> None:
    assert host.governors((0,), tmp_path) == ()
    assert host.frequency_mhz((0,), tmp_path) is host.hot_seconds((0,), tmp_path) is None
    folder = "sys__devices__system__cpu__cpu"
    for number, (governor, now) in enumerate((("powersave", "800000"), ("performance", "2800000"), ("powersave", "1"))):
        tree(tmp_path, **{f"{folder}{number}__cpufreq__scaling_governor": governor + "\n"})
        tree(tmp_path, **{f"{folder}{number}__cpufreq__scaling_cur_freq": now})
        tree(tmp_path, **{f"{folder}{number}__cpufreq__scaling_max_freq": "3000000"})
    tree(tmp_path, **{f"{folder}0__thermal_throttle__package_throttle_total_time_ms": "1250"})
    assert host.governors((0, 1, 2), tmp_path) == ("performance", "powersave")
    assert host.governors((1,), tmp_path) == ("performance",)
    assert host.frequency_mhz((0, 1), tmp_path) == (1800.0, 3000.0)
    assert host.hot_seconds((0, 1), tmp_path) == 1.25
