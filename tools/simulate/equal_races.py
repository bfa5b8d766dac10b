"""How often a race drops the better of two settings, and how often the better one wins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from reports.numbers.racing import RACE_ALPHA, Race
from tools.simulate.recorded_machine import Array, RecordedMachine

ROUNDS = 60


@dataclass(frozen=True)
class Raced:
    """A race after its last round. dropped: of the setting that is best; generations: all that were decoded."""

    leader: str
    dropped: bool
    generations: int


def raced(seconds: Array, best: str, baselines: list[str]) -> Raced:
    """A race over these seconds per token, (rounds, cases), looked at after every round; cases are named 0, 1, ..."""
    names = [str(place) for place in range(seconds.shape[1])]
    race = Race(names, baselines=baselines)
    generations = 0
    for number, row in enumerate(seconds.tolist()):
        running = race.running
        generations += len(running)
        race.add(number, {name: row[int(name)] for name in running})
    return Raced(race.leader or "", best not in race.running, generations)


def equal_races(
    machine: RecordedMachine, setting: str, races: int, random: np.random.Generator, *, better: float = 0.0
) -> dict[str, Any]:
    """Races of a setting under two names beside plain decoding; the first is faster by the share `better`."""
    plain = next(iter(machine.prompts))
    outcomes = []
    for _ in range(races):
        seconds = machine.by_rounds([setting, setting, plain], ROUNDS, random)
        seconds[:, 0] *= 1 - better
        outcomes.append(raced(seconds, "0", ["2"]))
    lost = sum(outcome.dropped for outcome in outcomes)
    return {
        "races": races,
        "rounds": ROUNDS,
        "better_by": better,
        "alpha": RACE_ALPHA,
        "better_one_dropped": lost / races,
        "error_of_that": math.sqrt(lost / races * (1 - lost / races) / races),
        "better_one_leads": sum(outcome.leader == "0" for outcome in outcomes) / races,
        "generations_of_a_full_run": float(np.mean([outcome.generations for outcome in outcomes])) / ROUNDS / 3,
    }
