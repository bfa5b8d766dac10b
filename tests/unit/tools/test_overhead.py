"""The overhead tool: pairs in turns, a planted cost is found, and its command runs on the tiny pair."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fixtures.study.study import Workload
from tools import overhead
from tools.overhead import Turns, _paired, measure_turns, summary

ORDER: list[str] = []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What the tool reads as the time: it passes where a test says so."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(overhead, "time", SimpleNamespace(perf_counter=lambda: now.seconds))
    return now


def taking(seconds: float, name: str, clock: SimpleNamespace) -> Callable[[int, tuple[int, ...]], Callable[[], None]]:
    """A side whose every run takes so long and leaves its name in ORDER."""

    def prepared(number: int, ids: tuple[int, ...]) -> Callable[[], None]:
        def run() -> None:
            ORDER.append(name)
            clock.seconds += seconds

        return run

    return prepared


def test_a_planted_cost_is_found_and_the_sides_take_turns_to_go_first(clock: SimpleNamespace) -> None:
    ORDER.clear()
    sides = taking(0.03, "suite", clock), taking(0.02, "bare", clock)
    found = summary(_paired(*sides, [(1,), (2,)], rounds=4))
    assert found.pairs == 8
    assert (found.low, found.median, found.high) == pytest.approx((1.5, 1.5, 1.5))
    pairs = list(zip(ORDER[2::2], ORDER[3::2], strict=True))  # the first two are the warm-up
    assert pairs.count(("suite", "bare")) == pairs.count(("bare", "suite")) == 4


def test_what_a_turn_of_others_costs_is_found_and_only_the_last_generation_is_timed(
    clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generation takes 20 ms, after one of another case 21."""
    decoded: list[tuple[str, int]] = []

    @contextmanager
    def decoder(engine: str, point: str, workload: Workload) -> Iterator[SimpleNamespace]:
        def decode(number: int) -> None:
            clock.seconds += 0.021 if decoded and decoded[-1][0] != engine else 0.020
            decoded.append((engine, number))

        yield SimpleNamespace(prepare=lambda number, ids: {"number": number}, decode=decode)

    monkeypatch.setattr(overhead, "timed_decoder", decoder)
    turns = Turns(Workload("synthetic", 2, 4, 4), [(1,), (2,), (3,)], rounds=2)
    others = [("other", "plain"), ("third", "plain")]
    found = summary(measure_turns("own", others, "plain", turns))  # type: ignore[arg-type]
    assert found.pairs == 6
    assert (found.low, found.median, found.high) == pytest.approx((1.05, 1.05, 1.05))
    halves = [decoded[place : place + 3] for place in range(0, len(decoded), 3)]
    in_turn, alone = halves[0::4] + halves[3::4], halves[1::4] + halves[2::4]
    assert all({name for name, _ in half[:2]} == {"other", "third"} and half[2][0] == "own" for half in in_turn)
    assert all([name for name, _ in half] == ["own"] * 3 for half in alone)
    assert all(len({number for _, number in half}) == 1 for half in in_turn), "a round is of one prompt"


def test_the_command_tells_what_turns_cost_and_keeps_every_ratio(tmp_path: Path) -> None:
    out = tmp_path / "turns.json"
    command = [sys.executable, "-m", "tools.overhead", "--pair", "synthetic-tiny", "--dtype", "fp32", "--turns"]
    done = subprocess.run(
        [*command, "--prompts", "2", "--rounds", "1", "--gen-toks", "4", "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode in (0, 1), done.stderr
    assert all("in turn / alone" in line for line in done.stdout.strip().splitlines())
    kept = json.loads(out.read_text())
    assert [len(ratios) for ratios in kept["ratios"].values()] == [2, 2, 2, 2]
    assert kept["overall"]["pairs"] == 8 and kept["cases"].keys() == kept["ratios"].keys()


def test_the_command_prints_a_ratio_for_every_strategy() -> None:
    command = [sys.executable, "-m", "tools.overhead", "--pair", "synthetic-tiny", "--dtype", "fp32"]
    done = subprocess.run([*command, "--prompts", "2", "--rounds", "1"], capture_output=True, text=True, timeout=300)
    lines = done.stdout.strip().splitlines()
    names = [line.split(":")[0].split(",")[0] for line in lines]
    assert names == ["plain", "assisted", "prompt_lookup", "all"], done.stderr
    assert all("suite / bare generate" in line for line in lines)
    assert done.returncode in (0, 1), "1 says that the bar was missed, which two pairs cannot tell"


def test_forbidding_end_tokens_is_measured_against_having_none(
    tiny_engine: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both sides decode to the full length, and only one of them carries the processor that is to be measured."""
    engine = tiny_engine()
    asked: list[tuple[Any, Any]] = []
    generate = engine.target.generate

    def spied(*arguments: Any, generation_config: Any, **more: Any) -> Any:
        output = generate(*arguments, generation_config=generation_config, **more)
        assert output.shape[1] == 2 + 6
        asked.append((generation_config.min_new_tokens, generation_config.eos_token_id))
        return output

    monkeypatch.setattr(engine.target, "generate", spied)
    point = overhead.POINTS[1]
    ratios = overhead.measure_forbidden_ends(engine, point, Workload("synthetic", 1, 2, 6), [(5, 7)], rounds=2)
    assert len(ratios) == 2 and all(ratio > 0 for ratio in ratios)
    assert asked.count((None, None)) == 3
    assert len(asked) == 6 and all(
        least == 6 and end is not None for least, end in asked if (least, end) != (None, None)
    )
