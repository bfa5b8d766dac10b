"""A recorded long run raced again and again, its rounds in shuffled order: who wins, and with how many generations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from reports.numbers.pairing import compared
from reports.numbers.racing import Objective, Race
from reports.numbers.speedups import PER_TOKEN
from reports.record.run import CaseResult, Run
from tools.simulate.recorded_machine import Array

LEAST_ROUNDS = 60


@dataclass(frozen=True)
class Recorded:
    """The rounds of a run that all its cases have. baseline: the one that most cases are compared with; seconds: per
    token, (rounds, cases); why_not: case -> why it cannot win."""

    cases: tuple[CaseResult, ...]
    baseline: str
    why_not: dict[str, str]
    seconds: Array


def recorded_rounds(run: Run) -> Recorded:
    """Raises ValueError where the run has fewer than LEAST_ROUNDS rounds that all its cases share."""
    gen_toks = run.header.get("study", {}).get("workload", {}).get("gen_toks")
    cases = [
        case
        for case in run.cases
        if case.kind == "decode" and case.status == "ok" and case.block is not None and not case.again
        if gen_toks is None or case.workload.gen_toks == gen_toks
    ]
    by_round = [_by_round(case) for case in cases]
    shared = sorted(set.intersection(*(set(rounds) for rounds in by_round))) if by_round else []
    if len(shared) < LEAST_ROUNDS:
        raise ValueError(f"{run.path}: {len(shared)} rounds are shared by all cases; {LEAST_ROUNDS} are needed")
    against = {case.id: run.baseline_measurements(case) for case in cases}
    names = [measured[0][1].id for measured in against.values() if measured]
    baseline = max(dict.fromkeys(names), key=names.count)
    why_not = {}
    for case in cases:
        why = Objective().why_no_candidate(case.engine, case.point)
        if not against[case.id] or against[case.id][0][1].id != baseline:
            why = "no candidate: it is compared with another baseline"
        if why:
            why_not[case.id] = why
    seconds = np.array([[rounds[place] for rounds in by_round] for place in shared])
    return Recorded(tuple(cases), baseline, why_not, seconds)


def replayed(run: Run, replays: int, random: np.random.Generator) -> dict[str, Any]:
    """Race the rounds of the run in shuffled order, each time until it is over.

    The best of the full run is the fastest candidate by totals. A winner is right if it is that one or not told apart
    from it: the 95% interval of their ratio over the full run contains 1.
    """
    recorded = recorded_rounds(run)
    names = [case.id for case in recorded.cases]
    candidates = [name for name in names if name not in recorded.why_not]
    totals = dict(zip(names, recorded.seconds.mean(axis=0), strict=True))
    best = min(candidates, key=totals.__getitem__)
    by_name = {case.id: case for case in recorded.cases}
    equal = {name for name in candidates if name == best or _equal(by_name[best], by_name[name], run)}
    right, generations, rounds = 0, [], []
    for _ in range(replays):
        race = Race(candidates, baselines=[recorded.baseline], excluded=recorded.why_not)
        decoded = 0
        running = set(names)
        number = -1
        for number, place in enumerate(random.permutation(len(recorded.seconds))):
            row = dict(zip(names, recorded.seconds[place].tolist(), strict=True))
            race.add(number, {name: row[name] for name in names if name in running})
            decoded += len(running)
            running -= {drop.case for drop in race.dropped}
            if race.over(len(recorded.seconds)):
                break
        right += race.leader in equal
        generations.append(decoded / recorded.seconds.size)
        rounds.append(number + 1)
    return {
        "run": run.path.name,
        "cases": len(names),
        "candidates": len(candidates),
        "rounds": len(recorded.seconds),
        "replays": replays,
        "best_of_the_full_run": best,
        "not_told_apart_from_it": sorted(equal - {best}),
        "winner_is_one_of_these": right / replays,
        "generations_of_the_full_run": float(np.mean(generations)),
        "rounds_of_a_race": float(np.mean(rounds)),
    }


def _by_round(case: CaseResult) -> dict[tuple[int, int], float]:
    """(visit, round) -> seconds per token over the case's generations of that round."""
    totals: dict[tuple[int, int], list[float]] = {}
    for sample in (*case.samples, *case.repeats):
        if sample.round is not None:
            total = totals.setdefault((sample.visit, sample.round), [0.0, 0.0])
            total[0] += sample.seconds
            total[1] += sample.new_tokens
    return {place: seconds / tokens for place, (seconds, tokens) in totals.items()}


def _equal(best: CaseResult, other: CaseResult, run: Run) -> bool:
    ratio = compared([other], [best], run, PER_TOKEN)
    return ratio is not None and not ratio.interval.excludes(1.0)
