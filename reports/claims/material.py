"""What a claim rests on: comparisons of measured cases, each with its effect, interval and evidence, and the verdict.

A comparison is what one pair of cases (or one curve) says about a claim. A claim about several of them is supported
only if every one of them holds, and contradicted if one is significantly the other way after Holm's adjustment. Knows
run files and statistics; knows no single claim and nothing of rendering.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from reports.numbers.answers import is_wrong
from reports.numbers.formulas import Quantile, Ratio
from reports.numbers.metrics import METRICS, Metric
from reports.numbers.pairing import compared
from reports.numbers.speedups import drifts
from reports.numbers.statistics import Interval, holm, paired_quantile_ratio, paired_ratio_of_totals, ratio_p
from reports.record.columns import SampleColumns
from reports.record.published import is_reference
from reports.record.run import CaseResult, Run
from reports.record.settings import VALUE_TYPES

Verdict = Literal["supported", "contradicted", "not enough evidence"]
Unit = Literal["ratio", "points", "exponent"]
Expect = Literal["lower", "higher", "same"]

LEVEL = 0.05


MEASURES: dict[str, Metric] = {
    metric.name: metric
    for metric in METRICS.values()
    if metric.formula is not None and not metric.name.startswith(("assisted_", "latency_tok_p"))
}
"""Metrics that can be compared prompt by prompt, by their names without the prefix assisted_."""


@dataclass(frozen=True)
class ClaimComparison:
    """One comparison that a claim rests on.

    estimate: a ratio, a difference in points or an exponent (`unit`), with its 95% interval, or None where figures were
    published without samples. evidence_for, evidence_against: p-values that the claim holds, or its opposite, beyond
    what counts as noise; published figures give 0 or 1. favour: how far the estimate lies on the claim's side.
    """

    label: str
    cases: tuple[str, ...]
    estimate: float
    interval: Interval | None
    unit: Unit
    evidence_for: float
    evidence_against: float
    favour: float

    @property
    def holds(self) -> bool:
        return self.evidence_for < LEVEL


@dataclass(frozen=True)
class Evidence:
    """All that a run says about one claim. missing: what would have to be measured, one text each."""

    comparisons: tuple[ClaimComparison, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Material:
    """The cases of a run that a claim may rest on: measured, decoding, and not found to be wrong.

    noise: log of the largest change of a baseline between its two measurements, which timings of other cases may hold
    as well where their interval does not carry it. targets: pair -> target model.
    """

    run: Run
    cases: tuple[CaseResult, ...]
    noise: float
    targets: Mapping[str, str]
    drafts: Mapping[str, str]
    repeats: Mapping[str, Sequence[CaseResult]]

    @property
    def published(self) -> bool:
        return is_reference(self.run)

    def measurements(self, case: CaseResult) -> list[CaseResult]:
        """The case and, of a baseline, its repetitions."""
        return [case, *self.repeats.get(case.id, ())]


def material_of(run: Run) -> Material:
    """Collect what claims may rest on."""
    published = is_reference(run)
    cases = tuple(
        case
        for case in run.finished.values()
        if case.kind == "decode"
        and case.status == "ok"
        and not is_wrong(case)
        and (published or (case.samples and sum(one.new_tokens for one in case.samples)))
    )
    pairs = [pair for pair in run.header.get("study", {}).get("pairs", ()) if isinstance(pair, Mapping)]
    repeats: dict[str, list[CaseResult]] = {}
    for case in run.cases:
        if case.again and case.status == "ok":
            repeats.setdefault(case.id, []).append(case)
    return Material(
        run,
        cases,
        max((abs(math.log(one.ratio)) for one in drifts(run) if not one.paired), default=0.0),
        {str(pair.get("name")): str(pair.get("target", "")) for pair in pairs},
        {str(pair.get("name")): str(pair.get("draft") or "") for pair in pairs},
        repeats,
    )


def value(case: CaseResult, key: str) -> Any:
    """A setting of the engine or the point of a case, by its name; None where it does not apply."""
    engine = case.engine.of_case(case.point)
    return getattr(engine, key) if hasattr(engine, key) else getattr(case.point, key)


def settings(case: CaseResult, *, but: Iterable[str] = ()) -> Hashable:
    """The prompts and the settings of a case, those named in `but` aside: equal for cases that are alike."""
    workload = tuple(each for name, each in vars(case.workload).items() if name not in but)
    return (workload, *(value(case, key) for key in VALUE_TYPES if key not in but))


def grouped(cases: Iterable[CaseResult], *, but: Iterable[str]) -> dict[Hashable, list[CaseResult]]:
    """Cases that differ at most in what `but` names, together, in their order."""
    groups: dict[Hashable, list[CaseResult]] = {}
    for case in cases:
        groups.setdefault(settings(case, but=but), []).append(case)
    return groups


def compare(
    material: Material,
    label: str,
    metric: str,
    head: CaseResult,
    base: CaseResult,
    expect: Expect = "higher",
    margin: float = 0.0,
) -> ClaimComparison | None:
    """The ratio of a metric of `MEASURES`, head over base on the same prompts; None where it cannot be formed.

    higher, lower: by more than the share `margin`. same: both ways within it. The interval of a timing is that of
    `numbers.pairing`, which carries the machine; a quantile's does not, so that it has to clear the noise as well.
    """
    cases = (head.id, base.id)
    if material.published:
        first, second = _published(head, metric), _published(base, metric)
        if not first or not second:
            return None
        return _from_ratio(label, cases, first / second, None, 0, expect, margin, 0.0)
    measure = MEASURES[metric]
    if isinstance(measure.formula, Ratio) and not measure.exact:
        ratio = compared(material.measurements(head), material.measurements(base), material.run, measure.formula)
        if ratio is None or ratio.interval.estimate <= 0:
            return None
        return _from_ratio(label, cases, ratio.interval.estimate, ratio.interval, ratio.units, expect, margin, 0.0)
    heads, bases = _terms(material.measurements(head), measure), _terms(material.measurements(base), measure)
    prompts = [prompt for prompt in bases if prompt in heads]
    tops = [[side[prompt][term] for prompt in prompts] for side in (bases, heads) for term in (0, 1)]
    if not prompts or any(min(column) < 0 or sum(column) == 0 for column in tops):
        return None
    if isinstance(measure.formula, Quantile):
        interval = paired_quantile_ratio(tops[0], tops[2], measure.formula.share)
        if interval is None:
            return None
    else:
        interval = paired_ratio_of_totals(*tops)
    noise = 0.0 if measure.exact else material.noise
    return _from_ratio(label, cases, interval.estimate, interval, len(prompts), expect, margin, noise)


def faster(material: Material, label: str, head: CaseResult, base: CaseResult) -> ClaimComparison | None:
    """Head decodes more tokens per second than base."""
    return compare(material, label, "thr", head, base, "higher")


def slower(material: Material, label: str, head: CaseResult, base: CaseResult) -> ClaimComparison | None:
    """Head decodes fewer tokens per second than base."""
    return compare(material, label, "thr", head, base, "lower")


def verdict_of(evidence: Evidence) -> tuple[Verdict, ClaimComparison | None]:
    """The verdict and the comparison that decides it: the weakest for the claim, or the strongest against it.

    Nothing is adjusted for support, because every comparison has to hold; a contradiction needs only one of several,
    so their p-values are adjusted (Holm).
    """
    found = evidence.comparisons
    broken = contradicting(found)
    if broken:
        return "contradicted", min(broken, key=lambda one: one.favour)
    open_ones = [one for one in found if not one.holds]
    if found and not open_ones and not evidence.missing:
        return "supported", min(found, key=lambda one: one.favour)
    return "not enough evidence", min(open_ones or found, key=lambda one: one.favour, default=None)


def contradicting(comparisons: Sequence[ClaimComparison]) -> tuple[ClaimComparison, ...]:
    """Those of a claim's comparisons that are significantly the other way, adjusted for their number."""
    adjusted = holm([one.evidence_against for one in comparisons])
    return tuple(one for one, p in zip(comparisons, adjusted, strict=True) if p < LEVEL)


def kept(comparisons: Iterable[ClaimComparison | None]) -> tuple[ClaimComparison, ...]:
    return tuple(one for one in comparisons if one is not None)


def by_threshold(
    label: str, cases: tuple[str, ...], interval: Interval, unit: Unit, favour: float, p_value: float
) -> ClaimComparison:
    """A comparison whose estimate lies on one side of a threshold, `favour` away from it on the claim's side."""
    return ClaimComparison(
        label,
        cases,
        interval.estimate,
        interval,
        unit,
        p_value if favour > 0 else 1.0,
        p_value if favour < 0 else 1.0,
        favour,
    )


def by_figure(label: str, cases: tuple[str, ...], estimate: float, unit: Unit, favour: float) -> ClaimComparison:
    """A comparison of published figures, on one side of the threshold or on the other."""
    return ClaimComparison(label, cases, estimate, None, unit, float(favour <= 0), float(favour >= 0), favour)


def _published(case: CaseResult, metric: str) -> float | None:
    return case.metrics.get(metric, case.metrics.get(f"assisted_{metric}"))


def _terms(measurements: Sequence[CaseResult], measure: Metric) -> dict[int, tuple[float, float]]:
    """Prompt -> what is counted and per what, means over the measurements that have the prompt."""
    found: dict[int, list[tuple[float, float]]] = {}
    assert measure.formula is not None
    for case in measurements:
        terms = measure.formula.terms(SampleColumns(case.samples))
        for sample, top, bottom in zip(case.samples, *(term.tolist() for term in terms), strict=True):
            if not math.isnan(top):
                found.setdefault(sample.prompt, []).append((top, bottom))
    return {
        prompt: (sum(top for top, _ in each) / len(each), sum(bottom for _, bottom in each) / len(each))
        for prompt, each in found.items()
    }


def _from_ratio(
    label: str,
    cases: tuple[str, ...],
    estimate: float,
    interval: Interval | None,
    units: int,
    expect: Expect,
    margin: float,
    noise: float,
) -> ClaimComparison:
    reach = math.log1p(margin)
    change = math.log(estimate)
    if expect == "same":
        return _equivalent(label, cases, estimate, interval, units, reach, noise)
    sign = 1 if expect == "higher" else -1
    favour = sign * change - reach
    if interval is None:
        return by_figure(label, cases, estimate, "ratio", favour)
    return ClaimComparison(
        label,
        cases,
        estimate,
        interval,
        "ratio",
        ratio_p(interval, units, null=math.exp(sign * (reach + noise))) if favour > noise else 1.0,
        ratio_p(interval, units, null=math.exp(sign * (reach - noise))) if favour < -noise else 1.0,
        favour,
    )


def _equivalent(
    label: str,
    cases: tuple[str, ...],
    estimate: float,
    interval: Interval | None,
    units: int,
    reach: float,
    noise: float,
) -> ClaimComparison:
    """The whole interval within the margin, or the whole of it outside."""
    change = math.log(estimate)
    favour = reach - abs(change)
    if interval is None:
        return by_figure(label, cases, estimate, "ratio", favour)
    inside = [1.0]
    if favour > noise:
        inside = [ratio_p(interval, units, null=math.exp(edge)) for edge in (noise - reach, reach - noise)]
    outside = 1.0
    if favour < -noise:
        outside = ratio_p(interval, units, null=math.exp(math.copysign(reach + noise, change)))
    return ClaimComparison(label, cases, estimate, interval, "ratio", max(inside), outside, favour)
