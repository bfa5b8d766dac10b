"""The order of a round: drawn anew, the same for whoever asks, the baseline again and again; who is visited when."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from fixtures.measuring.rounds import BASELINE_WITHIN, leading_baseline, mirrored, order_of_round

ROOT = Path(__file__).resolve().parents[3]


def compared(count: int) -> tuple[list[str], dict[str, str]]:
    """So many cases, and what each is compared with: all with the first."""
    cases = [f"case {number}" for number in range(count)]
    return cases, dict.fromkeys(cases, cases[0])


@pytest.mark.parametrize("count", range(1, 61))
def test_the_baseline_is_among_every_eight_generations_and_every_other_case_comes_once(count: int) -> None:
    cases, baselines = compared(count)
    for number in range(20):
        order = order_of_round(cases, baselines, 7, number)
        turns = Counter(order)
        assert turns.keys() == set(cases)
        assert all(turns[case] == 1 for case in cases[1:])
        windows = [order[begin : begin + BASELINE_WITHIN] for begin in range(max(1, len(order) - BASELINE_WITHIN + 1))]
        assert all(cases[0] in window for window in windows), order
        assert turns[cases[0]] <= 1 + count // (BASELINE_WITHIN - 1), "no more often than it takes"


def test_the_order_is_drawn_anew_for_every_round_and_every_seed() -> None:
    cases, baselines = compared(6)
    by_round = {tuple(order_of_round(cases, baselines, 0, number)) for number in range(50)}
    by_seed = {tuple(order_of_round(cases, baselines, seed, 0)) for seed in range(50)}
    assert len(by_round) > 40 and len(by_seed) > 40
    for place in range(6):
        assert {order[place] for order in by_round | by_seed} == set(cases), "every case has every place"


def test_every_case_is_as_often_early_as_late() -> None:
    """Over 3000 rounds of four cases each is in each place 750 times, within five standard deviations."""
    cases, baselines = compared(4)
    places = Counter(
        (case, place)
        for number in range(3000)
        for place, case in enumerate(order_of_round(cases, baselines, 11, number))
    )
    assert len(places) == 16
    assert all(abs(count - 750) < 5 * (3000 * 0.25 * 0.75) ** 0.5 for count in places.values())


def test_whoever_asks_gets_the_same_order() -> None:
    """Another process, other hashes, another order of the cases, another random state."""
    cases, baselines = compared(12)
    order = order_of_round(cases, baselines, 3, 5)
    shuffled = cases[:]
    random.Random(1).shuffle(shuffled)
    random.seed(99)
    assert order_of_round(shuffled, baselines, 3, 5) == order
    program = (
        "from fixtures.measuring.rounds import order_of_round\n"
        "cases = [f'case {number}' for number in range(12)]\n"
        "print(*order_of_round(cases, dict.fromkeys(cases, cases[0]), 3, 5), sep=',')"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "123"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().split(",") == order


def test_the_leading_baseline_is_the_one_that_most_cases_are_compared_with() -> None:
    baselines = {"a": "a", "b": "a", "c": "c", "d": "c", "e": "c"}
    assert leading_baseline(list(baselines), baselines) == "c"
    assert leading_baseline(["a", "b", "c"], baselines) == "a"
    assert leading_baseline(["d", "e"], baselines) is None, "it is not there"
    order = order_of_round(["d", "e"], baselines, 0, 0)
    assert sorted(order) == ["d", "e"]
    assert Counter(order_of_round(list("abcde"), baselines, 0, 0)) == dict.fromkeys("abcde", 1)


def test_blocks_are_visited_forth_and_back() -> None:
    assert mirrored(1) == [(0, 0)]
    assert mirrored(3) == [(0, 0), (1, 0), (2, 0), (2, 1), (1, 1), (0, 1)]
