"""When a round counts as disturbed, and by what: counters written for the test, a process that is really stopped, and
the driver's stub."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures.telemetry import CpuSampler, Windows, foreign
from fixtures.telemetry.foreign import RoundWatch, why_taken
from fixtures.telemetry.host import usable_cores
from tests.unit.telemetry.test_host import tree

ROOT = Path(__file__).parents[3]
UUID = "GPU-bbbbbbbb-0000-4000-8000-000000000000"
CORE = usable_cores()[0]


@pytest.mark.parametrize(
    ("others", "stolen", "cores", "threads", "reasons"),
    [
        (0.0, 0.0, 2, 2, []),
        (0.19, 0.0, 2, 2, []),
        (1.26, 0.0, 2, 2, ["other processes kept 1.3 of 2 cores busy"]),
        (3.9, 0.0, 8, 4, []),  # four cores are left for four threads
        (4.5, 0.0, 8, 4, ["other processes kept 4.5 of 8 cores busy"]),
        (60.0, 0.0, 64, 1, []),  # a run on a GPU needs one core of its host
        (63.5, 0.0, 64, 1, ["other processes kept 63.5 of 64 cores busy"]),
        (0.0, 0.3, 2, 2, ["the hypervisor kept 0.3 of 2 cores for other machines"]),
        (0.15, 0.1, 2, 2, ["other processes kept 0.1 of 2 cores busy"]),
    ],
)
def test_others_disturb_by_what_they_take_from_this_runs_threads(
    others: float, stolen: float, cores: int, threads: int, reasons: list[str]
) -> None:
    assert why_taken(others, stolen, cores, threads) == reasons


def watched(monkeypatch: pytest.MonkeyPatch, root: Path) -> RoundWatch:
    """A watch over a machine whose counters are files, on rounds as short as a test's."""
    monkeypatch.setattr(foreign, "SHORTEST_SECONDS", 0.0)
    monkeypatch.setattr(foreign.host, "usable_cores", lambda: (CORE,))
    return RoundWatch(Windows([]), threads=1, root=root)


def busy(root: Path, ticks: int, stolen: int = 0) -> None:
    tree(root, proc__stat=f"cpu 0 0\ncpu{CORE} {ticks} 0 0 0 0 0 0 {stolen}\n")


def test_a_round_beside_a_load_is_disturbed_and_the_next_one_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    busy(tmp_path, 1000)
    watch = watched(monkeypatch, tmp_path)
    watch.begin_round()
    time.sleep(0.02)
    busy(tmp_path, 1000 + 500)
    beside = watch.end_round()
    assert "other processes kept" in beside.disturbed and "busy" in beside.disturbed
    assert beside.facts["foreign_cores"] > 1 and beside.facts["stolen_cores"] == 0
    watch.begin_round()
    alone = watch.end_round()
    assert alone.disturbed == "" and alone.facts["foreign_cores"] == 0
    assert json.loads(json.dumps(alone.facts)) == alone.facts
    watch.begin_round()
    busy(tmp_path, 1500, stolen=300)
    assert "hypervisor" in watch.end_round().disturbed


def test_this_runs_own_work_is_no_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the real counters: what this process used is taken off what the cores did."""
    watch = RoundWatch(Windows([]))
    watch.begin_round()
    used = time.process_time()
    while time.process_time() - used < 0.2:
        pass
    facts = watch.end_round().facts
    assert facts["own_cores"] * facts["seconds"] == pytest.approx(0.2, abs=0.05)


def test_a_used_up_quota_and_heat_disturb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def counters(quota: int, hot: int) -> None:
        tree(tmp_path, proc__self__cgroup="0::/\n", sys__fs__cgroup__cpu_dot_stat=f"throttled_usec {quota}")
        name = f"sys__devices__system__cpu__cpu{CORE}__thermal_throttle__package_throttle_total_time_ms"
        tree(tmp_path, **{name: str(hot)})

    counters(5_000_000, 100)
    watch = watched(monkeypatch, tmp_path)
    watch.begin_round()
    time.sleep(0.01)
    counters(9_000_000, 2_100)
    round_ = watch.end_round()
    assert "quota was used up" in round_.disturbed and "for heat" in round_.disturbed
    assert (round_.facts["quota_seconds"], round_.facts["hot_seconds"]) == (4.0, 2.0)


def test_a_generation_that_stalls_is_told_by_what_is_usual_for_its_case(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = RoundWatch(Windows([]))
    monkeypatch.setattr(foreign, "SHORTEST_SECONDS", 1e9)  # the counters of this machine are not asked
    told = []
    for seconds in (1.0, 1.1, 0.9, 9.0, 1.0):
        watch.begin_round()
        told.append(watch.end_round([("slow", 10 * seconds / 9, 64), ("base", seconds, 64), ("long", 9.0, 600)]))
    assert [bool(round_.disturbed) for round_ in told] == [False, False, False, True, False]
    assert "base took 9.0 s where 1.0 s are usual" in told[3].disturbed
    watch.begin_round()
    assert watch.end_round([("long", 18.0, 1200)]).disturbed == "", "more tokens take longer"


def test_a_short_round_is_not_judged_by_counters_that_count_in_steps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    busy(tmp_path, 1000)
    watch = watched(monkeypatch, tmp_path)
    monkeypatch.undo()
    watch.begin_round()
    busy(tmp_path, 1001)
    round_ = watch.end_round()
    assert round_.disturbed == "" and round_.facts["seconds"] < foreign.SHORTEST_SECONDS


def test_a_watch_that_cannot_look_costs_no_round(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    watch = watched(monkeypatch, tmp_path)
    assert watch.end_round().disturbed == "", "nothing was begun"
    watch.begin_round()
    monkeypatch.setattr(foreign.host, "throttled_seconds", lambda root: 1 / 0)
    round_ = watch.end_round()
    assert round_.disturbed == "" and "ZeroDivisionError" in round_.facts["not_watched"][0]
    watch.begin_round()
    assert watch.end_round().facts == {}


STOPPED = """
import json, sys
from fixtures.telemetry import CpuSampler, Windows
from fixtures.telemetry.foreign import RoundWatch
windows = Windows([CpuSampler(interval=0.05)])
windows.start()
watch = RoundWatch(windows)
for _ in range(2):
    watch.begin_round()
    windows.begin("a")
    print("decoding", flush=True)
    sys.stdin.readline()
    windows.end()
    round_ = watch.end_round()
    print(json.dumps([round_.disturbed, dict(round_.facts)]), flush=True)
"""


def test_a_process_that_stood_still_is_told() -> None:
    command = [sys.executable, "-c", STOPPED]
    with subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin and child.stdout
        assert child.stdout.readline() == "decoding\n"
        os.kill(child.pid, signal.SIGSTOP)
        time.sleep(1.3)
        os.kill(child.pid, signal.SIGCONT)
        child.stdin.write("go on\n")
        child.stdin.flush()
        disturbed, facts = json.loads(child.stdout.readline())
        assert "this process stood still for 1." in disturbed and facts["still_seconds"] >= 1
        child.communicate("go on\n")


ON_A_CARD = """
import json, os, sys
from fixtures.telemetry import Windows, for_device
from fixtures.telemetry.foreign import RoundWatch
uuid, rounds = sys.argv[1], json.loads(sys.argv[2])
windows = Windows(for_device("cuda:0", uuid)[:1])
windows.start()
watch = RoundWatch(windows, uuid, threads=1)
for script in rounds:
    os.environ.update({f"STUB_{name.upper()}": str(value) for name, value in script.items()})
    watch.begin_round()
    windows.begin("a")
    windows.end()
    round_ = watch.end_round()
    print(json.dumps([round_.disturbed, dict(round_.facts)]))
"""


@pytest.fixture
def rounds_on_a_card(driver: Callable[..., Path]) -> Callable[..., list[Any]]:
    """`rounds_on_a_card(script, script, ...)`: what is said of rounds, each with the stub's script changed by that."""

    def run(*scripts: dict[str, object], without: tuple[str, ...] = ()) -> list[Any]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STUB_")}
        environment |= {"LD_LIBRARY_PATH": str(driver(*without)), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", ON_A_CARD, UUID, json.dumps(scripts)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def test_neighbours_clocks_and_throttling_of_a_card_disturb(rounds_on_a_card: Any) -> None:
    rounds = rounds_on_a_card(
        {"throttle": "0x1"},  # idle: no throttling
        {"sm_clock": 890},
        {"sm_clock": 600},
        {"sm_clock": 900, "throttle": "0x40"},
        {"throttle": "0x0", "neighbour": 35},
        {"neighbour": 0},
        {"own_pid": 77},  # a container, where the driver lists this process by another number
        {"processes": 1},
    )
    told = [disturbed for disturbed, _ in rounds]
    assert told == [
        "",
        "",
        "the GPU's clock was 600 MHz after 895 MHz in the rounds before",
        "the GPU's clocks were held down (hw_thermal_slowdown, 100% of the time)",
        "another process computed on the GPU",
        "",
        "",
        "",
    ]
    facts = [facts for _, facts in rounds]
    assert [entry.get("gpu_neighbours") for entry in facts] == [1, 1, 1, 1, 1, 1, 1, None]
    assert facts[3]["throttled"] == {"hw_thermal_slowdown": 1.0} and facts[2]["sm_clock_mhz"] == 600


def test_where_nobody_says_who_computes_whoever_has_the_card_open_disturbs(rounds_on_a_card: Any) -> None:
    (beside, _), (alone, _) = rounds_on_a_card({}, {"processes": 1}, without=("PROCESSUTILIZATION",))
    assert (beside, alone) == ("another process computed on the GPU", "")


def test_a_machine_whose_counters_cannot_be_read_says_nothing_of_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tree(tmp_path, proc__stat=f"cpu{CORE} not a number\n")
    watch = watched(monkeypatch, tmp_path)
    watch.begin_round()
    facts = watch.end_round().facts
    assert list(facts) == ["seconds"], "not told, which is not 0"


def test_a_sampler_that_reads_late_is_not_a_process_that_stands_still() -> None:
    windows = Windows([CpuSampler(interval=0.05)])
    windows.start()
    place = windows.place()
    time.sleep(0.15)
    assert windows.longest_silence(place) < foreign.STILL_SECONDS
    windows.stop()
