"""Which case is compared with which, and by how much it is faster, with an interval. Pure; renders nothing."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from reports.numbers.formulas import NEW_TOKENS, SECONDS, Ratio
from reports.numbers.pairing import Pairs, compared
from reports.numbers.statistics import Interval, drift
from reports.record.repeats import on_common_prompts
from reports.record.run import CaseResult, Run, Sample

PER_TOKEN = Ratio(SECONDS, NEW_TOKENS)
PARTS, FEWEST_OF_A_PART = 5, 3  # parts of a run by rounds that drift is told between, and the rounds that one needs


@dataclass(frozen=True)
class Speedup:
    """Seconds per token of the baseline over those of the case, on the same prompts; above 1 the case is faster.

    pairs: which generations the interval pairs, see `reports.numbers.pairing`.
    """

    baseline: str
    interval: Interval
    pairs: Pairs = "prompts"


@dataclass(frozen=True)
class Drift:
    """The most that a baseline's seconds per token changed between two of its measurements that followed each other
    (1.0: not at all); a case between these two is compared with both. paired: it took turns with all cases, the two are
    parts of its rounds, and no speedup rests on the machine's being the same in both."""

    baseline: str
    ratio: float
    limit: float
    paired: bool = False

    @property
    def unstable(self) -> bool:
        """Whether speedups rest on a machine that changed by more than the limit."""
        return not self.paired and not (1 - self.limit <= self.ratio <= 1 + self.limit)

    @property
    def between(self) -> str:
        """Between what it changed, and whether that matters."""
        if self.paired:
            return "between two fifths of the run; cases took turns, so no speedup rests on it"
        return "between two of its measurements"


def speedup(case: CaseResult, run: Run, *, same_engine: bool = False) -> Speedup | None:
    """The case against its baseline: plain, dynamic cache, unquantized, uncompiled; None if that was not measured.

    same_engine: against plain decoding with the same target quantization, dtype and compile instead. A ratio of totals
    over the rounds that both have; where cases did not take turns, over prompts, and the baseline counts with the mean,
    per prompt, of its measurements before and after the case. It is not compared with itself.
    """
    measurements = baseline_measurements(case, run, same_engine=same_engine)
    if not case.measured or not measurements or run.is_own_baseline(case, same_engine=same_engine):
        return None
    found = compared(measurements, [case], run, PER_TOKEN)
    return None if found is None else Speedup(measurements[0].id, found.interval, found.pairs)


def baseline_measurements(case: CaseResult, run: Run, *, same_engine: bool = False) -> list[CaseResult]:
    """The baseline's measurement before the case and the next one after it, of those that ended well.

    Baselines are measured again and again through a run, because machines slow down and recover; these two stand
    nearest. All measurements where the case does not lie between two of them (it ran in another engine's block, and
    the last one alone would be a matter of luck), or is itself the baseline.

    A repeated measurement of fewer prompts than the first one had is completed, unless the case is itself the baseline;
    see `reports.record.repeats.completed`.
    """
    if run.is_own_baseline(case, same_engine=same_engine):
        return [other for _, other in run.baseline_measurements(case, same_engine=same_engine)]
    measured = run.baseline_measurements(case, same_engine=same_engine, completed=True)
    following = bisect(measured, run.places.get(id(case), len(run.cases)), key=lambda each: each[0])
    if 0 < following < len(measured):
        measured = measured[following - 1 : following + 1]
    return [other for _, other in measured]


def drifts(run: Run, latency: Callable[[CaseResult], float | None] | None = None) -> list[Drift]:
    """The drift of every baseline that was measured again.

    latency: a case's seconds per token, None if it has none; those of its samples, unless the run was read without.
    """
    limit = float(run.header.get("study", {}).get("drift_limit", 0.05))
    measured: dict[tuple[str, int], list[CaseResult]] = {}
    for case in run.cases:
        place = (case.id, case.session)
        if case.status == "ok" and (not case.again or place in measured):
            cases = measured.setdefault(place, [])
            if case.samples or (latency is not None and latency(case)):
                cases[:] = [*(cases if case.again else []), case]
    found = []
    for (name, _), cases in measured.items():
        parts = _parts(cases[-1]) if cases and run.is_own_baseline(cases[-1]) else []
        ratios = [_change(first, again, latency) for first, again in pairwise(cases)]
        ratios += [drift(first, again) for first, again in pairwise(parts)]
        if ratios:
            most = max(ratios, key=lambda ratio: abs(math.log(ratio)))
            found.append(Drift(name, most, limit, paired=bool(parts)))
    return found


def _parts(case: CaseResult) -> list[float]:
    """Seconds per token of a baseline in each fifth of its rounds, in time; empty where it has too few or no rounds."""
    generations = [sample for sample in (*case.samples, *case.repeats) if sample.round is not None]
    rounds = list(dict.fromkeys(sorted((sample.visit, sample.round or 0) for sample in generations)))
    if len(rounds) < PARTS * FEWEST_OF_A_PART:
        return []
    part_of = {place: number * PARTS // len(rounds) for number, place in enumerate(rounds)}
    parts: list[list[Sample]] = [[] for _ in range(PARTS)]
    for sample in generations:
        parts[part_of[sample.visit, sample.round or 0]].append(sample)
    return [_latency(part) for part in parts]


def _change(first: CaseResult, again: CaseResult, latency: Callable[[CaseResult], float | None] | None) -> float:
    """How much slower a baseline became; on the prompts that both measurements have, where their samples are known."""
    if latency is None:
        both = on_common_prompts(first, again) or (_latency(first.samples), _latency(again.samples))
    else:
        both = (latency(first) or 1.0, latency(again) or 1.0)
    return drift(*both)


def _latency(samples: Sequence[Sample]) -> float:
    return sum(sample.seconds for sample in samples) / sum(sample.new_tokens for sample in samples)
