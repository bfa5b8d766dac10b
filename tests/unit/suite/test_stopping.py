"""When a block is over before all its rounds: told by played rounds of known seconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fixtures.measuring.block import Played
from fixtures.study.study import Case, Study
from fixtures.suite.stopping import Stopping
from reports.record.run import Sample
from tests.unit.small_runs import BASELINE, LOOKUP, small_study

ROUNDS = 60


class Bought:
    """A budget in which ten minutes buy ninety rounds."""

    def rounds_within(self, seconds: float) -> int:
        return 90


def played(number: int, seconds: dict[str, float]) -> Played:
    samples = {name: [Sample(number, 8 * value, 8, 8, "", round=number)] for name, value in seconds.items()}
    return Played(number, list(seconds), samples)


def told(stopping: Stopping, rounds: int, slower: dict[str, float], noise: float = 0.02, first: int = 0) -> list[str]:
    """Play rounds; a case that was dropped does not decode. Returns those that were."""
    random = np.random.default_rng(0)
    dropped: list[str] = []
    for number in range(first, rounds):
        seconds = {name: (1 + by) * float(np.exp(random.normal(0, noise))) for name, by in slower.items()}
        running = {name: value for name, value in seconds.items() if name not in dropped}
        dropped += [each.case for each in stopping.add(played(number, running))]
        if stopping.reached:
            break
    return dropped


@pytest.fixture
def cases() -> dict[str, Case]:
    return dict(zip(("plain", "lookup", "more"), small_study(BASELINE, LOOKUP).cases(), strict=True))


def stopping_of(study: Study, cases: dict[str, Case]) -> Stopping:
    return Stopping(study, cases, dict.fromkeys(cases, "plain"), ROUNDS)


def test_a_race_ends_when_it_is_decided_or_nothing_more_would_be(cases: dict[str, Case]) -> None:
    race = replace(small_study(), race=True)
    decided = stopping_of(race, cases)
    assert told(decided, ROUNDS, {"plain": 0.5, "lookup": 0.0, "more": 0.3}) == ["more"]
    assert decided.reached
    (line, *_) = decided.closing_lines(Bought())  # type: ignore[arg-type]
    assert line.startswith("race: lookup leads after ")
    assert "1 were dropped" in line
    assert "not told apart" not in line
    equal = stopping_of(race, cases)
    assert told(equal, ROUNDS, {"plain": 0.5, "lookup": 0.0, "more": 0.0}) == []
    assert equal.reached, "more rounds would not tell them apart"
    assert "not told apart from it: " in equal.closing_lines(Bought())[0]  # type: ignore[arg-type]


def test_a_precision_ends_the_rounds_and_what_is_wider_is_told(cases: dict[str, Case]) -> None:
    precise = stopping_of(replace(small_study(), precision=0.05), cases)
    assert told(precise, ROUNDS, {"plain": 0.5, "lookup": 0.0, "more": 0.3}) == []
    assert precise.reached
    assert precise.closing_lines(Bought()) == []  # type: ignore[arg-type]
    failed = stopping_of(replace(small_study(), precision=0.05), cases)
    failed.add(played(0, {"plain": 1.5, "lookup": 1.0, "more": 1.3}))
    told(failed, ROUNDS, {"plain": 0.5, "lookup": 0.0}, first=1)
    assert failed.reached, "a case that failed keeps nobody waiting"
    wide = stopping_of(replace(small_study(), precision=0.001), cases)
    told(wide, 20, {"plain": 0.5, "lookup": 0.0, "more": 0.3})
    assert not wide.reached
    (line,) = wide.closing_lines(Bought())  # type: ignore[arg-type]
    assert line.startswith("intervals wider than +-0.1%: 2 of 2")
    assert "ten more minutes (90 more rounds)" in line
    never = stopping_of(small_study(), cases)
    told(never, 20, {"plain": 0.5, "lookup": 0.0, "more": 0.3})
    assert not never.reached
