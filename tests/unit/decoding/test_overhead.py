"""The overhead tool: pairs in turns, a planted cost is found, and its command runs on the tiny pair."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

from fixtures.decoding.overhead import _paired, summary

ORDER: list[str] = []


def taking(seconds: float, name: str) -> Callable[[int, tuple[int, ...]], Callable[[], None]]:
    """A side whose every run takes so long and leaves its name in ORDER."""

    def prepared(number: int, ids: tuple[int, ...]) -> Callable[[], None]:
        def run() -> None:
            ORDER.append(name)
            time.sleep(seconds)

        return run

    return prepared


def test_a_planted_cost_is_found_and_the_sides_take_turns_to_go_first() -> None:
    ORDER.clear()
    found = summary(_paired(taking(0.03, "suite"), taking(0.02, "bare"), [(1,), (2,)], rounds=4))
    assert found.pairs == 8
    assert 1.3 < found.median < 1.6
    assert found.low <= found.median <= found.high
    pairs = list(zip(ORDER[2::2], ORDER[3::2], strict=True))  # the first two are the warm-up
    assert pairs.count(("suite", "bare")) == pairs.count(("bare", "suite")) == 4


def test_the_command_prints_a_ratio_for_every_strategy() -> None:
    command = [sys.executable, "-m", "fixtures.decoding.overhead", "--pair", "synthetic-tiny", "--dtype", "fp32"]
    done = subprocess.run([*command, "--prompts", "2", "--rounds", "1"], capture_output=True, text=True, timeout=300)
    lines = done.stdout.strip().splitlines()
    names = [line.split(":")[0].split(",")[0] for line in lines]
    assert names == ["plain", "assisted", "prompt_lookup", "all"], done.stderr
    assert all("suite / bare generate" in line for line in lines)
    assert done.returncode in (0, 1), "1 says that the bar was missed, which two pairs cannot tell"
