"""Whether timings changed, from effect size and significance together; pure.

What a change is measured against is the noise between runs, which the prompts of one run cannot show:
- one run each: the calibrated deviation between two runs of the same code, or the error over prompts where that is
  larger, because a run can be noisier than the calibration was. Without a calibration nothing regresses or passes: a
  machine shared with others was seen to run the same code at half its speed, with every prompt slowed alike;
- a speedup whose case took turns with its baseline, round by round, on both sides: what its rounds show, and what two
  processes may differ by; no calibration is needed (gate/between.py);
- interleaved blocks of base and head: the spread of the changes of the blocks; with fewer than four blocks pooled with
  the calibrated deviation, since two or three say little about their own spread;
- several earlier runs as a rolling base: the median of them, which one odd run cannot move; the newest comes first.

A timing regressed if it got worse by more than the threshold and the Holm-adjusted p over all timings of all cases is
at most alpha. It passes only if a change as large as the threshold is excluded at 99%. Between the two it is
inconclusive: never silently a pass. The smallest change that alpha lets through is the noise floor; where it lies above
the threshold, it takes its place. A Student t with the degrees of freedom of the noise stands for how well that is
known: Welch 1938 gives the idea, and the larger of two spreads is used instead of their sum because calibrated noise
already holds the noise between prompts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reports.gate.between import Between, between_runs
from reports.gate.calibration import Noise
from reports.gate.evidence import (
    LogChange,
    Series,
    change,
    is_timed,
    latency_name,
    level,
    measurements,
    quantile_change,
    series,
    share_of,
    timing_series,
    took_turns,
)
from reports.gate.thresholds import GateRules
from reports.gate.verdicts import Judgement, Verdict
from reports.numbers.metrics import METRICS
from reports.numbers.pairing import may_stop
from reports.numbers.speedups import baseline_measurements
from reports.numbers.statistics import Interval, holm
from reports.record.run import CaseResult, Run

PASS_CONFIDENCE = 0.99  # one-sided, that a change as large as the threshold did not happen
OWN_SPREAD_BLOCKS = 4


@dataclass(frozen=True)
class MeasuredCase:
    """One case in one run."""

    case: CaseResult
    run: Run


@dataclass(frozen=True)
class Sides:
    """One case in the runs of base and of head. interleaved: base[i] and head[i] were measured in one block."""

    base: tuple[MeasuredCase, ...]
    head: tuple[MeasuredCase, ...]
    interleaved: bool = False

    @property
    def id(self) -> str:
        return self.head[0].case.id


@dataclass(frozen=True)
class TimingTest:
    """One timing of one case: values of base and head, log(head / base) with its error, and what counts.

    calibrated: the noise was measured, or its case took turns (`by_rounds`), not assumed. singles: the change of each
    head measurement alone; several where a suspect was measured again to confirm.
    """

    case: str
    metric: str
    threshold: float
    base: float
    head: float
    log: float
    error: float
    degrees: float
    calibrated: bool
    singles: tuple[float, ...] = ()
    by_rounds: bool = False


def timing_tests(
    cases: Sequence[Sides], rules: GateRules, noise: Noise | None
) -> tuple[list[TimingTest], list[tuple[Sides, str]]]:
    """Every timing that the rules gate, of every case that was measured on both sides; and those that head has lost."""
    found: list[TimingTest] = []
    lost: list[tuple[Sides, str]] = []
    for sides in cases:
        if sides.head[0].case.kind != "decode":
            continue
        bases, heads = [_timings(one) for one in sides.base], [_timings(one) for one in sides.head]
        again = [_confirmation(one) for one in sides.head]
        for metric in bases[0]:
            threshold = rules.threshold(metric, sides.id)
            if threshold is None:
                continue
            if not all(metric in each for each in heads):
                lost.append((sides, metric))
                continue
            if sides.interleaved and not all(metric in each for each in bases):
                continue
            first = [each[metric] for each in bases if metric in each]
            second = [each[metric] for each in heads]
            extra = [each[metric] for each in again if metric in each]
            by_rounds = all(each.by_rounds for each in (*first, *second))
            between = between_runs(noise, metric, by_rounds=by_rounds)
            found.append(_test(sides, metric, threshold, first, second, extra, between))
    return found, lost


def judge_timings(tests: Sequence[TimingTest], alpha: float) -> list[Judgement]:
    """A judgement per test, the error rate held over all of them together."""
    worse = holm([_tail(test.log, test) for test in tests])
    better = holm([_tail(-test.log, test) for test in tests])
    return [_judge(test, len(tests), alpha, *p) for test, *p in zip(tests, worse, better, strict=True)]


def report_timings(tests: Sequence[TimingTest], reason: str) -> list[Judgement]:
    """The timings as measured, none of them gated for this reason."""
    return [
        Judgement(
            test.case, test.metric, "not gated", False, *_values(test), _interval(test), test.threshold, detail=reason
        )
        for test in tests
    ]


@dataclass(frozen=True)
class _Timing:
    """One timing of one side. share: of a quantile over prompts; such a one has no control. by_rounds: took turns with
    its control in every round."""

    own: Series
    control: Series | None = None
    share: float | None = None
    by_rounds: bool = False

    def to(self, head: _Timing) -> LogChange:
        if self.share is not None:
            return quantile_change(self.own, head.own, self.share)
        return change(self.own, head.own, base_control=self.control, head_control=head.control)

    @property
    def value(self) -> float:
        return math.exp(level(self.own, self.share) - (level(self.control) if self.control else 0.0))


def _timings(one: MeasuredCase) -> dict[str, _Timing]:
    return _with_speedup(measurements(one.case, one.run), one)


def _confirmation(one: MeasuredCase) -> dict[str, _Timing]:
    """The timings of a suspect that was measured again at the end of its run."""
    return _with_speedup(measurements(one.case, one.run, confirming=True), one)


def _with_speedup(measured: Sequence[CaseResult], one: MeasuredCase) -> dict[str, _Timing]:
    """The timings, and the speedup over plain decoding in the same run, which slows down with the machine too."""
    found = {metric: _Timing(own, share=share_of(metric)) for metric, own in timing_series(measured).items()}
    latency = found.get(latency_name(one.case))
    control = [each for each in baseline_measurements(measured[0], one.run) if is_timed(each)] if measured else []
    if latency is None or not control or any(each.id == one.case.id for each in control):
        return found
    by_rounds = not may_stop(one.run) and all(took_turns(case, each) for case in measured for each in control)
    return {**found, "speedup": _Timing(latency.own, series(control, "latency_tok", repeats=True), by_rounds=by_rounds)}


def _test(
    sides: Sides,
    metric: str,
    threshold: float,
    bases: Sequence[_Timing],
    heads: Sequence[_Timing],
    again: Sequence[_Timing],
    between: Between,
) -> TimingTest:
    calibrated = between.measured
    if sides.interleaved:
        changes = [base.to(head) for base, head in zip(bases, heads, strict=True)]
        log, error, degrees = _of_blocks([each.log for each in changes], between)
        calibrated = calibrated or len(changes) >= OWN_SPREAD_BLOCKS
        singles: tuple[float, ...] = ()
    else:
        each_head = [[base.to(head) for base in bases] for head in (*heads, *again)]
        singles = tuple(float(np.median([one.log for one in row])) for row in each_head)
        log = float(np.mean(singles))
        within = float(np.mean([one.error**2 for row in each_head for one in row]))
        units = min(one.units for row in each_head for one in row)
        error, degrees = _of_runs(within, units, len(bases), len(heads), between)
    sign = -1.0 if metric == "speedup" else 1.0
    old, new = (math.exp(sign * float(np.median([math.log(each.value) for each in side]))) for side in (bases, heads))
    by_rounds = all(each.by_rounds for each in (*bases, *heads))
    return TimingTest(sides.id, metric, threshold, old, new, log, error, degrees, calibrated, singles, by_rounds)


def _of_blocks(logs: Sequence[float], between: Between) -> tuple[float, float, float]:
    """Mean, standard error and degrees of freedom of the changes of interleaved blocks."""
    count = len(logs)
    variance, degrees = float(np.var(logs, ddof=1)), count - 1.0
    if count < OWN_SPREAD_BLOCKS:
        variance = (degrees * variance + between.degrees * between.deviation**2) / (degrees + between.degrees)
        degrees += between.degrees
    return float(np.mean(logs)), math.sqrt(variance / count), degrees


def _of_runs(within: float, units: int, bases: int, heads: int, between: Between) -> tuple[float, float]:
    """Standard error and degrees of freedom between runs that were not interleaved.

    A median of three or more base runs has pi / 2 times the variance of their mean.
    """
    share = (1 / heads + (math.pi / 2 if bases >= 3 else 1.0) / bases) / 2
    if between.apart and math.isfinite(within):
        rounds, processes = within * share, between.deviation**2 * share
        degrees = (rounds + processes) ** 2 / (rounds**2 / max(units - 1.0, 1.0) + processes**2 / between.degrees)
        return math.sqrt(rounds + processes), degrees
    if between.deviation**2 >= within or (units == 1 and between.measured):
        return between.deviation * math.sqrt(share), between.degrees
    return math.sqrt(within * share), max(units - 1.0, 1.0)


def _judge(test: TimingTest, count: int, alpha: float, worse: float, better: float) -> Judgement:
    limit = math.log1p(test.threshold)
    floor = math.expm1(min(_t(1 - alpha / count, test.degrees) * test.error, 20.0))
    verdict: Verdict = "inconclusive"
    if test.log > limit and worse <= alpha:
        verdict = "regressed"
    elif test.log < -limit and better <= alpha:
        verdict = "improved"
    elif test.log + _t(PASS_CONFIDENCE, test.degrees) * test.error < limit:
        verdict = "pass"
    detail = ""
    if verdict != "inconclusive" and not test.calibrated:
        told = "within" if verdict == "pass" else "beyond"
        verdict, detail = "inconclusive", f"{told} assumed noise, but the noise of this machine was never measured"
    if verdict == "regressed" and len(test.singles) > 1:
        told = " and ".join(f"{100 * math.expm1(single):+.1f}%" for single in test.singles)
        if min(test.singles) <= limit:
            verdict = "inconclusive"
            detail = f"not confirmed when measured again: {told}"
        else:
            detail = f"confirmed when measured again: {told}"
    return Judgement(
        test.case,
        test.metric,
        verdict,
        False,
        *_values(test),
        _interval(test),
        test.threshold,
        floor,
        worse,
        detail,
    )


def _interval(test: TimingTest) -> Interval:
    reach = min(_t(PASS_CONFIDENCE, test.degrees) * test.error, 700.0)
    low, high = math.exp(max(test.log - reach, -700.0)), math.exp(min(test.log + reach, 700.0))
    return Interval(math.exp(test.log), low, high, 2 * PASS_CONFIDENCE - 1, "t")


def _values(test: TimingTest) -> tuple[str, str]:
    if test.metric == "speedup":
        return f"{test.base:.2f}x", f"{test.head:.2f}x"
    unit = "ms/token" if METRICS[test.metric].unit == "s/token" else "ms"
    return f"{1000 * test.base:.4g} {unit}", f"{1000 * test.head:.4g} {unit}"


def _tail(log: float, test: TimingTest) -> float:
    """The chance of a change as large as this one, or larger, if nothing changed."""
    from scipy.special import stdtr

    if test.error == 0:
        return 0.0 if log > 0 else 1.0
    return float(stdtr(test.degrees, -log / test.error))


def _t(share: float, degrees: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, share))
