"""How two cases of one run compare: which of their generations belong together, and what the interval must carry.

- Cases that took turns in one block: a pair is a round, so that prompt and time are both in the interval's units. The
  baseline's seconds of a round are those of all its generations in it. Where the block was visited more than once, the
  variation between visits is in the interval.
- Cases that took turns in different blocks: a pair is a prompt of one visit, and the ratios of the visits vary as the
  machine does.
- Cases that were measured one after the other: a pair is a prompt, and what the machine does meanwhile is told by how
  much the same baseline changed between its measurements. Of a run that never measured one again, nothing tells it.

Pure: from a run to numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from reports.numbers.anytime import anytime_reach
from reports.numbers.formulas import Ratio
from reports.numbers.influence import Vector, correlation_length, log_and_influence
from reports.numbers.statistics import Interval, Numbers, interval_of_log, paired_ratio_of_totals, t_quantile
from reports.record.columns import SampleColumns
from reports.record.repeats import on_common_prompts
from reports.record.run import CaseResult, Run, Sample

ASSUMED_DEVIATION, ASSUMED_DEGREES = 0.05, 2.0
"""Standard deviation of the log ratio of two measurements of the same thing at different times, and what that guess is
worth beside measured ones: as much as two of them."""

POWERS = np.array([1.0, -1.0, -1.0, 1.0])
Pairs = Literal["rounds", "visits", "prompts"]
Terms = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Compared:
    """A ratio of two cases' ratios of totals, with its interval; pairs: what it rests on, `units` of them."""

    interval: Interval
    units: int
    pairs: Pairs


@dataclass(frozen=True, slots=True)
class Wandering:
    """The standard deviation of the log ratio of two measurements of the same thing at different times of a run.

    measured: how many changes of a baseline it was seen in; 0: it is assumed alone.
    """

    deviation: float
    measured: int

    @property
    def degrees(self) -> float:
        return self.measured + ASSUMED_DEGREES


def may_stop(run: Run) -> bool:
    """Whether the figures decided when the run stopped, or which cases went on: then intervals have to allow that."""
    return run.header.get("stopping") in ("precision", "race")


def meaning(run: Run) -> str:
    """What the intervals of this run's speedups pair and carry, in one sentence for a reader."""
    if run.order == "rounds":
        told = "95% intervals pair generations of the same round"
        if may_stop(run):
            told += f", and hold however often one looks: {_STOPPED[str(run.header['stopping'])]}"
        return told
    measured = max((wandering(run, session).measured for session in range(len(run.sessions))), default=0)
    if measured:
        return f"95% intervals are over prompts, and carry the {measured} changes between measurements of a baseline"
    return "95% intervals are over prompts alone: no baseline was measured again, so the machine is not in them"


_STOPPED = {
    "precision": "the run ended when they were narrow enough",
    "race": "cases left the race by them",
}


def compared(
    first: Sequence[CaseResult], second: Sequence[CaseResult], run: Run, formula: Ratio, *, confidence: float = 0.95
) -> Compared | None:
    """Return first over second by `formula`, a ratio of totals of each, over what both have; None if that is nothing.

    first, second: the measurements of either case that count; several, where a baseline was measured again.
    """
    if columns_of_rounds := _by_round(first, second, formula):
        return _of_rounds(columns_of_rounds, may_stop(run), confidence)
    visits = _by_visit(first, second, formula)
    if len(visits) > 1 or (visits and run.order == "rounds"):
        return _of_visits(visits, wandering(run, second[0].session), may_stop(run), confidence)
    return _of_prompts(first, second, run, formula, confidence)


def wandering(run: Run, session: int, latency: Callable[[CaseResult], float | None] | None = None) -> Wandering:
    """How much the machine changed between measurements of the same baseline, as far as a session tells it.

    Each two measurements that followed each other, on the prompts that both have, are one change (von Neumann 1941).
    With few of them the guess in their place has its weight, so that one lucky repetition does not make a run certain.
    latency: a case's seconds per token, for a run that was read without samples.
    """
    changes = []
    for measured in run.plain_measurements.values():
        cases = [case for _, case in measured if case.session == session and (latency or case.samples)]
        for one, other in pairwise(cases):
            both = on_common_prompts(one, other) if latency is None else (latency(one), latency(other))
            if both and both[0] and both[1]:
                changes.append(math.log(both[1] / both[0]))
    return Wandering(_pooled(changes, 0.0), len(changes))


def _pooled(changes: Sequence[float], mean: float) -> float:
    squares = sum((change - mean) ** 2 for change in changes)
    return math.sqrt((squares + ASSUMED_DEGREES * ASSUMED_DEVIATION**2) / (len(changes) + ASSUMED_DEGREES))


def _of_rounds(columns_of_visits: Mapping[int, Vector], stopping: bool, confidence: float) -> Compared | None:
    """columns_of_visits: visit -> (terms, rounds)."""
    columns = np.concatenate(list(columns_of_visits.values()), axis=1)
    if (columns.sum(axis=1) <= 0).any():
        return None
    log, influence = log_and_influence(columns, POWERS)
    parts = [_mean_error(influence)]
    several = [each for each in columns_of_visits.values() if each.shape[1] > 1 and (each.sum(axis=1) > 0).all()]
    if len(several) > 1:
        ratios, within = zip(*(_visit(each) for each in several), strict=True)
        between = float(np.var(ratios, ddof=1)) - float(np.mean(within))
        parts.append((max(0.0, between) / len(several), len(several) - 1.0))
    return Compared(_interval(log, influence, parts, stopping, confidence), influence.size, "rounds")


def _of_visits(
    columns_of_visits: Mapping[int, Vector], machine: Wandering, stopping: bool, confidence: float
) -> Compared | None:
    """Each visit has the machine of two times, so that its ratio varies by what the machine wanders."""
    columns = np.concatenate(list(columns_of_visits.values()), axis=1)
    if (columns.sum(axis=1) <= 0).any():
        return None
    log, influence = log_and_influence(columns, POWERS)
    each_visit = [each for each in columns_of_visits.values() if (each.sum(axis=1) > 0).all()]
    ratios = [_visit(each)[0] for each in each_visit]
    changes = [ratio - float(np.mean(ratios)) for ratio in ratios] if len(ratios) > 1 else []
    degrees = max(0, len(changes) - 1)
    squares = sum(change**2 for change in changes) + machine.degrees * machine.deviation**2
    variance = squares / (degrees + machine.degrees) / max(1, len(ratios))
    parts = [_mean_error(influence), (variance, degrees + machine.degrees)]
    return Compared(_interval(log, influence, parts, stopping, confidence), influence.size, "visits")


def _of_prompts(
    first: Sequence[CaseResult], second: Sequence[CaseResult], run: Run, formula: Ratio, confidence: float
) -> Compared | None:
    """One after the other: the spread over prompts, and what the machine wandered between the two."""
    bases, heads = _by_prompt(first, formula), _by_prompt(second, formula)
    prompts = [prompt for prompt in bases if prompt in heads]
    columns: list[Numbers] = [[side[prompt][term] for prompt in prompts] for side in (heads, bases) for term in (0, 1)]
    if not prompts or any(not np.sum(column) > 0 for column in columns):
        return None
    interval = paired_ratio_of_totals(*columns, confidence=confidence)
    machine = wandering(run, second[0].session)
    if machine.measured or run.order == "rounds":
        interval = with_machine(interval, len(prompts), machine, share=(1 / len(first) + 1 / len(second)) / 2)
    return Compared(interval, len(prompts), "prompts")


def with_machine(interval: Interval, units: int, machine: Wandering, share: float = 1.0) -> Interval:
    """The interval of a ratio over `units` prompts, with what the machine wandered between the two sides in it.

    share: of the variance, 1 for one measurement of either side.
    """
    if not math.isfinite(interval.high) or interval.estimate <= 0 or units < 2:
        return interval
    error = math.log(interval.high / interval.estimate) / t_quantile(units - 1.0, interval.confidence)
    parts = [(error**2, units - 1.0), (machine.deviation**2 * share, machine.degrees)]
    return interval_of_log(math.log(interval.estimate), parts, interval.confidence)


def _interval(log: float, influence: Vector, parts: Sequence[Terms], stopping: bool, confidence: float) -> Interval:
    """The interval for one look, or for all looks where the run's figures decided when it stopped."""
    usual = interval_of_log(log, parts, confidence)
    if not stopping:
        return usual
    rounds = influence.size / correlation_length(influence)
    reach = anytime_reach(rounds, 1 - confidence)
    if math.isinf(reach):
        return Interval(math.exp(log), 0.0, math.inf, confidence, "anytime", usual.degrees)
    others = sum(part for part, _ in parts[1:])
    machine = math.log(interval_of_log(0.0, parts[1:], confidence).high) if others > 0 else 0.0
    together = min(math.hypot(reach * float(influence.std()), machine), 700.0)
    low, high = math.exp(log - together), math.exp(log + together)
    return Interval(math.exp(log), low, high, confidence, "anytime", usual.degrees)


def _mean_error(influence: Vector) -> Terms:
    """Variance of the mean influence and its degrees of freedom; rounds that go together count as one."""
    if influence.size < 2:
        return math.inf, 1.0
    rounds = influence.size / correlation_length(influence)
    return float(influence.var(ddof=1)) / rounds, max(1.0, rounds - 1.0)


def _visit(columns: Vector) -> Terms:
    """The log ratio of one visit and its variance within the visit."""
    log, influence = log_and_influence(columns, POWERS)
    return log, _mean_error(influence)[0]


def _by_round(first: Sequence[CaseResult], second: Sequence[CaseResult], formula: Ratio) -> dict[int, Vector]:
    """Visit -> the terms of both sides, (terms, rounds), of the two measurements that share most rounds of a block."""
    shared: dict[tuple[int, int], tuple[float, ...]] = {}
    for one in first:
        for other in second:
            # A resumed run goes on with a block's rounds; what it measures again has other rounds of the same numbers.
            together = one.session == other.session or not (one.again or other.again)
            if together and one.block is not None and one.block == other.block:
                mine, theirs = _rounds(one, formula), _rounds(other, formula)
                both = sorted(mine.keys() & theirs.keys())
                if len(both) > len(shared):
                    shared = {place: (*mine[place], *theirs[place]) for place in both}
    return _of_each_visit(shared)


def _of_each_visit(terms: Mapping[tuple[int, int], tuple[float, ...]]) -> dict[int, Vector]:
    """(visit, round or prompt) -> terms, to visit -> (terms, rounds)."""
    visits: dict[int, list[tuple[float, ...]]] = {}
    for (visit, _), values in terms.items():
        visits.setdefault(visit, []).append(values)
    return {visit: np.array(values).T for visit, values in visits.items()}


def _rounds(case: CaseResult, formula: Ratio) -> dict[tuple[int, int], Terms]:
    """(visit, round) -> the terms of a case, means over its generations of that round."""
    generations: dict[tuple[int, int], list[Terms]] = {}
    for sample, terms in _terms((*case.samples, *case.repeats), formula):
        if sample.round is not None:
            generations.setdefault((sample.visit, sample.round), []).append(terms)
    return {place: _mean(several) for place, several in generations.items()}


def _by_visit(first: Sequence[CaseResult], second: Sequence[CaseResult], formula: Ratio) -> dict[int, Vector]:
    """Visit -> the terms of both sides over the prompts that both decoded in that visit, by turns in other blocks."""
    sides: list[dict[tuple[int, int], list[Terms]]] = []
    for measurements in (first, second):
        generations: dict[tuple[int, int], list[Terms]] = {}
        for case in measurements:
            for sample, terms in _terms((*case.samples, *case.repeats), formula):
                if sample.round is not None:
                    generations.setdefault((sample.visit, sample.prompt), []).append(terms)
        sides.append(generations)
    both = sorted(sides[0].keys() & sides[1].keys())
    return _of_each_visit({place: (*_mean(sides[0][place]), *_mean(sides[1][place])) for place in both})


def _by_prompt(measurements: Sequence[CaseResult], formula: Ratio) -> dict[int, Terms]:
    """Prompt -> the terms, means over the measurements that have it."""
    found: dict[int, list[Terms]] = {}
    for case in measurements:
        for sample, terms in _terms(case.samples, formula):
            found.setdefault(sample.prompt, []).append(terms)
    return {prompt: _mean(several) for prompt, several in found.items()}


def _terms(samples: Sequence[Sample], formula: Ratio) -> list[tuple[Sample, Terms]]:
    tops, bottoms = (column.tolist() for column in formula.terms(SampleColumns(samples)))
    return [
        (sample, (top, bottom))
        for sample, top, bottom in zip(samples, tops, bottoms, strict=True)
        if not math.isnan(top)
    ]


def _mean(several: Sequence[Terms]) -> Terms:
    return sum(top for top, _ in several) / len(several), sum(bottom for _, bottom in several) / len(several)
