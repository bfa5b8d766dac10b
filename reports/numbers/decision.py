"""Which setting to use: the one rule that table, page, advice, claims and exports answer by. Pure; renders nothing.

A setting competes if it was measured to the end at the length of the study, has plain decoding of its dtype and
sampling to be compared with, and decodes the same model (see `answers`). It is recommended if its speedup's interval
lies above 1 and no other such setting has a larger ratio. Where none lies above 1 plain decoding is recommended. All
settings that are not told apart from the recommended one are its tie. The ratio is the one that is printed, so that
order, star and headline cannot disagree with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from reports.numbers.answers import is_lossless, is_same_model, is_wrong, keeps_answers
from reports.numbers.cases import memory_of, of_full_length, seconds_per_token
from reports.numbers.pairing import compared
from reports.numbers.speedups import PER_TOKEN, Speedup, speedup
from reports.numbers.statistics import Interval
from reports.record.run import CaseResult, Run

STRATEGIES = ("plain", "prompt_lookup", "early_exit", "assisted")
"""From the simplest to the one that needs a second model."""


@dataclass(frozen=True)
class Contender:
    """A setting with the ratio that it is ordered by."""

    case: CaseResult
    speedup: Speedup

    @property
    def ratio(self) -> float:
        return self.speedup.interval.estimate

    @property
    def proven(self) -> bool:
        """Whether the interval lies above 1."""
        return self.speedup.interval.low > 1


@dataclass(frozen=True)
class Separation:
    """The best against another case: seconds per token of the other over the best's, on common prompts.

    prompts_needed: how many would shrink the interval so far that it excludes 1, if the estimate stays; None where
    it is separated, or no number of prompts would do.
    """

    other: str
    ratio: Interval
    prompts: int
    prompts_needed: int | None

    @property
    def separated(self) -> bool:
        return self.ratio.excludes(1.0)


@dataclass(frozen=True)
class Decision:
    """What to use for one target, by the rule at the top of this module.

    recommended: a setting, or plain decoding (then `speedup` is None); None: nothing was measured that plain decoding
    can be compared with. plain: the baseline. standings: all that compete, largest ratio first. tie: settings that are
    not told apart from the recommended one, by ratio. reference: whether plain decoding meets what was asked for; where
    it does not, the largest ratio is recommended, above 1 or not.
    """

    target: str
    recommended: CaseResult | None
    speedup: Speedup | None
    plain: CaseResult | None
    standings: tuple[Contender, ...]
    tie: tuple[CaseResult, ...]
    reference: bool = True

    @property
    def faster_unproven(self) -> Contender | None:
        """The setting of the largest ratio, where that is above the recommended one's and its interval contains 1."""
        limit = self.speedup.interval.estimate if self.speedup else 1.0
        first = self.standings[0] if self.standings else None
        return first if first is not None and not first.proven and first.ratio > limit else None

    @property
    def simplest(self) -> CaseResult | None:
        """Of the recommended setting and its tie: no second model, no compiling, little drafted."""
        return min(self._tied, key=_complexity, default=None)

    @property
    def smallest(self) -> CaseResult | None:
        """Of the recommended setting and its tie the one that needs the least memory; None where it is not known."""
        sizes = [(memory.bytes, _complexity(case), case) for case in self._tied if (memory := memory_of(case))]
        return min(sizes, key=lambda each: each[:2])[2] if sizes else None

    @property
    def _tied(self) -> tuple[CaseResult, ...]:
        return (*((self.recommended,) if self.recommended else ()), *self.tie)


def decisions(
    run: Run, *, sampled: bool | None = None, fits: Callable[[CaseResult], bool] = is_same_model
) -> list[Decision]:
    """The decision for every target of the run, in its order.

    sampled: on sampled or on greedy decoding; None: on greedy decoding where any was measured. fits: what a case must
    meet to be recommended.
    """
    cases = [case for case in of_full_length(run) if case.status == "ok" and case.samples and not is_wrong(case)]
    if sampled is None:
        sampled = bool(cases) and all(case.point.do_sample for case in cases)
    place = {case.id: number for number, case in enumerate(run.cases)}
    by_target: dict[str, list[CaseResult]] = {}
    for case in sorted(cases, key=lambda each: place[each.id]):
        if case.point.do_sample == sampled:
            by_target.setdefault(run.target_of(case), []).append(case)
    return [_decision(target, group, run, fits) for target, group in by_target.items()]


def decision(run: Run) -> Decision | None:
    """The decision for the run's target; of several, for the one whose recommended setting is fastest. None: no case
    was measured."""
    return min(decisions(run), key=_latency_of, default=None)


def by_ratio(cases: Iterable[CaseResult], run: Run) -> list[CaseResult]:
    """The cases in the order of the ratio that is printed for them, largest first; plain decoding has 1.

    Those without a ratio come last, fastest first.
    """
    keyed = []
    for number, case in enumerate(cases):
        ratio = 1.0 if run.is_own_baseline(case) else None
        found = speedup(case, run) if case.samples and ratio is None else None
        ratio = found.interval.estimate if found else ratio
        keyed.append(((ratio is None, -(ratio or 0.0), seconds_per_token(case) or math.inf, number), case))
    return [case for _, case in sorted(keyed, key=lambda each: each[0])]


def quantized_faster(found: Decision, run: Run) -> Contender | None:
    """The quantized setting of the largest ratio, where it is shown faster than plain decoding and its ratio is above
    that of the recommended one."""
    limit = found.speedup.interval.estimate if found.speedup else 1.0
    return _first(found, run, lambda case: not keeps_answers(case), limit)


def lossless_instead(found: Decision, run: Run) -> Contender | None:
    """Where the recommended setting's own output is not plain decoding's on every prompt: the setting of the largest
    ratio that is shown faster and whose output is."""
    if found.recommended is None or found.speedup is None or is_lossless(found.recommended, run):
        return None
    return _first(found, run, lambda case: is_lossless(case, run), 1.0)


def separation(best: CaseResult, other: CaseResult, run: Run) -> Separation | None:
    """How surely the best is faster than another case; None if they share no prompt.

    A baseline counts with all its measurements.
    """
    if best.workload.prompts_sha256 != other.workload.prompts_sha256:
        return None
    found = compared(_measurements(other, run), _measurements(best, run), run, PER_TOKEN)
    return None if found is None else _separation(other, found.interval, found.units)


def separation_from_plain(plain: CaseResult, other: Contender) -> Separation:
    """The same for plain decoding as the best, by the ratio that is printed for the other."""
    found = other.speedup.interval
    ratio = replace(
        found,
        estimate=1 / found.estimate,
        low=1 / found.high if math.isfinite(found.high) else 0.0,
        high=1 / found.low if found.low > 0 else math.inf,
    )
    prompts = {sample.prompt for sample in plain.samples} & {sample.prompt for sample in other.case.samples}
    return _separation(other.case, ratio, len(prompts))


def _separation(other: CaseResult, ratio: Interval, prompts: int) -> Separation:
    needed = None
    if not ratio.excludes(1.0) and math.isfinite(ratio.high) and abs(math.log(ratio.estimate)) > 0.005:
        reach = math.log(ratio.high / ratio.estimate)
        needed = math.ceil(prompts * (reach / math.log(ratio.estimate)) ** 2)
    return Separation(other.id, ratio, prompts, needed)


def _decision(target: str, cases: Sequence[CaseResult], run: Run, fits: Callable[[CaseResult], bool]) -> Decision:
    """Of the groups that have a baseline in common, the one whose recommended setting is fastest."""
    groups: dict[str, list[Contender]] = {}
    plains = {case.id: case for case in cases if run.is_own_baseline(case)}
    for case in cases:
        found = speedup(case, run) if case.id not in plains else None
        if found is not None:
            groups.setdefault(found.baseline, []).append(Contender(case, found))
    finished = run.finished
    known = {name: finished[name] for name in groups if name in finished} | plains
    made = [_of_group(target, plain, groups.get(name, []), run, fits) for name, plain in known.items()]
    return min(made, key=_latency_of, default=Decision(target, None, None, None, (), ()))


def _of_group(
    target: str, plain: CaseResult, standings: Sequence[Contender], run: Run, fits: Callable[[CaseResult], bool]
) -> Decision:
    competing = sorted((one for one in standings if fits(one.case)), key=lambda one: -one.ratio)
    reference = fits(plain)
    chosen = next((one for one in competing if one.proven or not reference), None)
    if chosen is None:
        tie = tuple(one.case for one in competing if one.speedup.interval.high >= 1)
        return Decision(target, plain if reference else None, None, plain, tuple(competing), tie, reference)
    tie = tuple(one.case for one in competing if one is not chosen and not _told_apart(chosen.case, one.case, run))
    return Decision(target, chosen.case, chosen.speedup, plain, tuple(competing), tie, reference)


def _told_apart(best: CaseResult, other: CaseResult, run: Run) -> bool:
    found = separation(best, other, run)
    return found is not None and found.separated


def _first(found: Decision, run: Run, fits: Callable[[CaseResult], bool], above: float) -> Contender | None:
    if found.plain is None:
        return None
    name = found.plain.id
    several = [
        Contender(case, ratio)
        for case in of_full_length(run)
        if case.samples and not is_wrong(case) and run.target_of(case) == found.target and fits(case)
        if (ratio := speedup(case, run)) is not None and ratio.baseline == name
    ]
    return max((one for one in several if one.proven and one.ratio > above), key=lambda one: one.ratio, default=None)


def _latency_of(found: Decision) -> float:
    return seconds_per_token(found.recommended) or math.inf if found.recommended else math.inf


def _complexity(case: CaseResult) -> tuple[bool, int, bool, bool, int]:
    point, engine = case.point, case.engine
    rank = STRATEGIES.index(point.strategy) if point.strategy in STRATEGIES else len(STRATEGIES)
    quantized = engine.draft_quant not in (None, "none") or engine.target_quant != "none"
    return bool(engine.compile), rank, quantized, point.cache != "dynamic", point.assist_toks or 0


def _measurements(case: CaseResult, run: Run) -> list[CaseResult]:
    """The case and, of a baseline, its repetitions."""
    return [case, *(each for each in run.results.get(case.id, ()) if each.again and each.status == "ok")]
