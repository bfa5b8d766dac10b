"""A time budget over rounds: every block has as many in the end, never fewer than three, and the end is within it."""

from __future__ import annotations

import re

import pytest

from fixtures.estimate.costs import Costs
from fixtures.estimate.devices import native_dtype, profile
from fixtures.estimate.round_budget import RoundBudget
from fixtures.estimate.sharing import SharedBlock
from fixtures.measuring.allowance import ENOUGH_SAMPLES
from fixtures.measuring.rounds import mirrored
from fixtures.study.study_file import load_study

ASKED = 500


def budget_of(blocks: int, seconds: float | None, asked: int = ASKED) -> RoundBudget:
    """Over the smoke study's cases, divided among so many blocks."""
    study = load_study("smoke", {"num_samples": str(asked)}, lambda _: native_dtype("l4"))
    cases = study.cases()
    shared = [SharedBlock(cases[number::blocks]) for number in range(blocks)]
    return RoundBudget(Costs(study, profile("l4")), shared, seconds, asked, 1 if blocks == 1 else 2)


class Simulated:
    """A run whose rounds take these seconds, by block: visited as a run visits them, with nothing beside the rounds."""

    def __init__(self, budget: RoundBudget, seconds: list[float], loading: float = 0.0) -> None:
        self.budget, self.seconds, self.loading = budget, seconds, loading
        self.clock, self.done = 0.0, [0] * len(seconds)

    def run(self) -> None:
        first = whole = None
        steps = mirrored(len(self.seconds))
        for place, (block, visit) in enumerate(steps):
            if not place or steps[place - 1][0] != block:
                self.clock += self.loading
            self.budget.opened(block, self.loading, [])
            last_visit = visit == len(steps) // len(self.seconds) - 1
            while True:
                last = self.done[block] + self.budget.rounds_left(self.clock, self.done[block])
                if not last_visit:
                    last = -(-last // 2) if first is None else first
                elif whole is not None:
                    last = whole
                if self.done[block] >= last:
                    break
                self.clock += self.seconds[block]
                self.done[block] += 1
                self.budget.played(block, self.seconds[block], {})
            first = self.done[block] if first is None else first
            whole = self.done[block] if last_visit and whole is None else whole
            self.budget.left(block)
            if last_visit:
                self.budget.examined(block, 0.0)


@pytest.mark.parametrize("seconds", [[2.0], [2.0, 2.0], [1.0, 4.0], [4.0, 1.0, 0.5]], ids=str)
@pytest.mark.parametrize("mistake", [0.6, 1.0, 1.6])
def test_the_run_ends_within_its_budget_and_all_blocks_have_the_same_rounds(
    monkeypatch: pytest.MonkeyPatch, seconds: list[float], mistake: float
) -> None:
    """What is known of a block that is still to come is wrong by a factor. Loading and examining take nothing here."""
    monkeypatch.setattr(RoundBudget, "_aside_seconds", lambda self: 0.0)
    run = Simulated(budget_of(len(seconds), 200.0), seconds)
    measured = RoundBudget._round_seconds

    def round_seconds(budget: RoundBudget, block: int) -> float:
        return measured(budget, block) if run.done[block] else mistake * seconds[block]

    monkeypatch.setattr(RoundBudget, "_round_seconds", round_seconds)
    run.run()
    assert len(set(run.done)) == 1, "the same rounds for every case"
    assert 200.0 - 2 * sum(seconds) <= run.clock <= 200.0, "no round more fits"


def test_without_a_budget_all_rounds_are_played_and_with_enough_time_too() -> None:
    for seconds in (None, 1e9):
        run = Simulated(budget_of(2, seconds, asked=7), [1.0, 2.0])
        run.run()
        assert run.done == [7, 7]


@pytest.mark.parametrize("asked", [2, 3, 50])
def test_rounds_are_never_fewer_than_three(asked: int) -> None:
    run = Simulated(budget_of(2, 0.01, asked), [1.0, 2.0])
    run.run()
    assert run.done == [min(asked, ENOUGH_SAMPLES)] * 2


def test_a_block_that_is_ahead_leaves_time_for_the_others_to_catch_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RoundBudget, "_aside_seconds", lambda self: 0.0)
    budget = budget_of(2, 100.0)
    for block in range(2):
        budget.opened(block, 0.0, [])
        budget.played(block, 1.0, {})
    assert budget.rounds_left(0.0, 0) == 50
    budget.opened(1, 0.0, [])
    assert budget.rounds_left(30.0, 30) == 20, "70 s: thirty rounds of the other block, then twenty of both"
    assert budget.seconds_left(20) == 70.0


def test_a_machine_that_slows_down_gets_fewer_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RoundBudget, "_aside_seconds", lambda self: 0.0)
    budget = budget_of(1, 100.0)
    budget.opened(0, 0.0, [])
    budget.played(0, 1.0, {})
    assert budget.rounds_left(1.0, 1) == 99
    for _ in range(3):
        budget.played(0, 4.0, {})
    assert budget.rounds_left(13.0, 4) == 21, "by its last three rounds"


def test_what_loading_and_examining_will_take_is_set_aside() -> None:
    budget = budget_of(2, 1000.0)
    before = budget.rounds_left(0.0, 0)
    budget.opened(0, 300.0, [])
    budget.played(0, 1.0, {})
    dear = budget.rounds_left(300.0, 1)
    cheap = budget_of(2, 1000.0)
    cheap.opened(0, 1.0, [])
    cheap.played(0, 1.0, {})
    assert dear < cheap.rounds_left(300.0, 1), "its models are loaded once more for the second visit"
    assert before > 0
    for known, examining in ((budget, 200.0), (cheap, 1.0)):
        known.examined(0, examining)
        known.opened(1, 0.0, [])
        known.played(1, 1.0, {})
    assert budget.rounds_left(500.0, 1) < cheap.rounds_left(500.0, 1), "the other block is examined as long"


def test_what_is_to_go_is_told_and_what_a_budget_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RoundBudget, "_aside_seconds", lambda self: 0.0)
    budget = budget_of(1, 100.0, asked=20)
    budget.opened(0, 0.0, [])
    budget.played(0, 10.0, {})
    more = budget.rounds_left(10.0, 1)
    assert more == 9
    told = budget.told(1 + more)
    assert re.search(r"to go: \d+ cases in 1 block; the time budget of .* leaves about 10 of 20 rounds$", told), told
    assert "budget" not in budget_of(1, None).told(ASKED)


def test_how_many_rounds_further_minutes_buy() -> None:
    budget = budget_of(2, None)
    for block, seconds in enumerate((2.0, 3.0)):
        budget.opened(block, 0.0, [])
        budget.played(block, seconds, {})
    assert budget.rounds_within(600.0) == 120


def test_time_that_is_over_is_spent_on_disturbed_rounds_only_where_all_others_have_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(RoundBudget, "_aside_seconds", lambda self: 0.0)
    budget = budget_of(2, 100.0)
    for block in range(2):
        budget.opened(block, 0.0, [])
        budget.played(block, 1.0, {})
    assert budget.spare_rounds(0, 90.0) == 10 - ENOUGH_SAMPLES
    budget.left(1)
    budget.left(1)
    assert budget.spare_rounds(0, 90.0) == 10
    assert budget.spare_rounds(0, 100.5) == 0
