"""Settings that a race should try beside its grid: those that the cost model predicts to be the best.

Pure: from a run file to points. A prediction is taken at the model's word only as far as it was right where it could be
checked: it is corrected by what was measured of the same setting, and never goes past a measured point that was slower.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from reports.numbers.cases import seconds_per_token
from reports.numbers.cost_model import residual
from reports.numbers.predictions import Curve, curves
from reports.record.run import CaseResult, Run
from reports.record.settings import DecodingPoint, EngineKey, Workload

THRESHOLD_STEP = 0.05  # thresholds are proposed in steps of this


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may be proposed: tokens drafted in a step, and the threshold below which a draft stops, ends included."""

    least_toks: int = 1
    most_toks: int = 12
    least_threshold: float = 0.0
    most_threshold: float = 0.9


@dataclass(frozen=True, slots=True)
class Proposal:
    """A case that nobody measured: what to decode with and how, its predicted seconds per token, and why.

    beside: the measured case that it differs from in one setting, named `name`.
    """

    engine: EngineKey
    point: DecodingPoint
    workload: Workload
    seconds_per_token: float
    because: str
    beside: CaseResult
    name: str


def propose(run: Run, competing: Collection[str], bounds: Bounds | None = None, *, most: int = 3) -> list[Proposal]:
    """Return at most `most` settings that are predicted to be faster than every competing case, the fastest first.

    competing: ids of the cases that may win. Tokens per step come from the cost model's curves, between the measured
    neighbours of the best k of a setting, or beyond it where it is the last one measured. Thresholds come from the
    parabola through three measured ones of the same k, the middle one fastest.
    """
    bounds = bounds or Bounds()
    measured = {case.id: latency for case in run.finished.values() if (latency := seconds_per_token(case))}
    fastest = min((measured[case] for case in competing if case in measured), default=None)
    if fastest is None:
        return []
    run_already = {(case.engine, case.point) for case in run.finished.values()}
    found: dict[tuple[EngineKey, DecodingPoint], Proposal] = {}
    eligible = [curve for curve in curves(run, range(1, bounds.most_toks + 1)) if _competes(curve, competing)]
    for proposal in (*_tokens(eligible, bounds), *_thresholds(eligible, competing, bounds)):
        place = proposal.engine, proposal.point
        if place in run_already or not proposal.seconds_per_token < fastest:
            continue
        if place not in found or proposal.seconds_per_token < found[place].seconds_per_token:
            found[place] = proposal
    return sorted(found.values(), key=lambda proposal: proposal.seconds_per_token)[:most]


def _competes(curve: Curve, competing: Collection[str]) -> bool:
    return any(case.id in competing for case in curve.cases.values())


def _tokens(eligible: list[Curve], bounds: Bounds) -> Iterator[Proposal]:
    for curve in eligible:
        best = max(curve.measured, key=lambda k: curve.measured[k])
        between = curve.open_to(bounds.least_toks, bounds.most_toks)
        if not between or best not in {point.k for point in curve.points}:
            continue
        k = max(between, key=curve.corrected)
        case = curve.cases[best]
        latency = _latency(case) * curve.measured[best] / curve.corrected(k)
        because = (
            f"the cost model predicts {curve.corrected(k):.2f}x at k = {k}, corrected by what was measured at "
            f"{_listed(curve)} ({_off(curve, k)}); k = {best} is {curve.measured[best]:.2f}x"
        )
        point = dataclasses.replace(case.point, assist_toks=k)
        yield Proposal(case.engine, point, case.workload, latency, because, case, "assist_toks")


def _thresholds(eligible: list[Curve], competing: Collection[str], bounds: Bounds) -> Iterator[Proposal]:
    alike: dict[tuple[object, ...], dict[float, CaseResult]] = defaultdict(dict)
    for curve in eligible:
        for case in curve.cases.values():
            threshold = case.point.confidence_threshold
            if threshold is not None and case.id in competing:
                setting = case.engine, dataclasses.replace(case.point, confidence_threshold=None), case.workload
                alike[setting][threshold] = case
    for cases in alike.values():
        thresholds = sorted(cases)
        best = min(thresholds, key=lambda threshold: _latency(cases[threshold]))
        place = thresholds.index(best)
        if not 0 < place < len(thresholds) - 1:
            continue
        around = thresholds[place - 1 : place + 2]
        latencies = [_latency(cases[threshold]) for threshold in around]
        curvature, slope, _ = parabola = np.polyfit(around, latencies, 2)
        lowest = round(-slope / (2 * curvature) / THRESHOLD_STEP) * THRESHOLD_STEP if curvature > 0 else best
        lowest = round(min(max(lowest, bounds.least_threshold), bounds.most_threshold), 6)
        if lowest in thresholds or not around[0] < lowest < around[2]:
            continue
        told = ", ".join(f"{threshold:g}" for threshold in around)
        because = f"the parabola through the thresholds {told} is lowest at {lowest:g}"
        point = dataclasses.replace(cases[best].point, confidence_threshold=lowest)
        predicted = float(np.polyval(parabola, lowest))
        case = cases[best]
        yield Proposal(case.engine, point, case.workload, predicted, because, case, "confidence_threshold")


def _latency(case: CaseResult) -> float:
    return seconds_per_token(case) or float("inf")


def _off(curve: Curve, k: int) -> str:
    """How far the model was off for this curve, where it was measured nearest to k."""
    predicted = {point.k: point.speedup for point in curve.points}
    nearest = min(curve.measured.keys() & predicted.keys(), key=lambda measured: (abs(measured - k), measured))
    return f"it is off by {residual(predicted[nearest], curve.measured[nearest]):+.0%} at k = {nearest}, the nearest"


def _listed(curve: Curve) -> str:
    return ", ".join(f"k = {k}" for k in curve.measured)
