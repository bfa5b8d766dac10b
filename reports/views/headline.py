"""The answer on top of a page: which setting to deploy, by how much it is faster, and what to believe of it.

Pure: a run in, one frozen object out; renders nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reports.numbers import humaneval
from reports.numbers.cases import LOSSLESS, losslessness, of_full_length, seconds_per_token
from reports.numbers.speedups import (
    Drift,
    baseline_measurements,
    best,
    competing,
    drifts,
    is_wrong,
    keeps_answers,
    speedup,
)
from reports.numbers.statistics import Interval
from reports.record.run import CaseResult, Run

Decision = Literal["deploy", "plain", "unmeasured"]


@dataclass(frozen=True)
class Solved:
    """HumanEval of the model that the setting decodes with. difference: in shares, against `base`; None: no base."""

    case: str
    solved: int
    problems: int
    difference: Interval | None
    base: str
    statement: str


@dataclass(frozen=True)
class Headline:
    """What to deploy. decision: a setting that is shown to be faster; plain decoding, for want of one; or no speed.

    case: the setting, or the baseline. rivals: how many settings could have been picked (they keep the baseline's
    answers and have its speed to be compared with; baselines are none), which makes the estimate of the one that was a
    little too good. alone: nothing but baselines was measured. faster_unproven: the fastest setting, where its interval
    contains 1 and it was passed over for that. lossless_instead: where the setting's own output is not shown to be
    plain decoding's, the fastest one that is shown both faster and lossless. quantized_faster: the fastest quantized
    setting, where it is faster still. drifts: of the baselines; empty if none was measured again.
    """

    decision: Decision
    case: CaseResult | None
    speedup: Interval | None
    tokens_per_second: float | None
    lossless: str
    rivals: int
    alone: bool
    faster_unproven: CaseResult | None
    lossless_instead: CaseResult | None
    quantized_faster: CaseResult | None
    drifts: tuple[Drift, ...]
    solved: Solved | None

    @property
    def stable(self) -> bool | None:
        """Whether every baseline measured twice stayed within its limit; None if none was measured twice."""
        return all(not drift.unstable for drift in self.drifts) if self.drifts else None


def headline(run: Run) -> Headline:
    """The fastest setting that keeps the baseline's answers and whose speedup's interval lies above 1, else plain.

    Settings are compared by seconds per token, each against the baseline of its own dtype and sampling.
    """
    cases = of_full_length(run)
    left = [case for case in cases if case.samples]
    gen_toks = _gen_toks(run)
    passed_over: CaseResult | None = None
    while (fastest := best(left, gen_toks)) is not None:
        found = speedup(fastest, run)
        if found is not None and found.interval.low > 1:
            return _headline("deploy", fastest, found.interval, passed_over, cases, run)
        if _is_baseline(fastest, run):
            return _headline("plain", fastest, None, passed_over, cases, run)
        passed_over = passed_over or (fastest if found is not None else None)
        left.remove(fastest)
    return _headline("unmeasured", None, None, None, cases, run)


def _headline(
    decision: Decision,
    case: CaseResult | None,
    interval: Interval | None,
    passed_over: CaseResult | None,
    cases: list[CaseResult],
    run: Run,
) -> Headline:
    per_token = None if case is None else seconds_per_token(case)
    settings = [one for one in cases if not _is_baseline(one, run)]
    plain = "is the reference itself" if decision == "plain" else ""
    return Headline(
        decision=decision,
        case=case,
        speedup=interval,
        tokens_per_second=1 / per_token if per_token else None,
        lossless=plain or ("" if case is None else losslessness(case)),
        rivals=sum(bool(baseline_measurements(one, run)) for one in competing(settings, _gen_toks(run))),
        alone=not settings,
        faster_unproven=passed_over,
        lossless_instead=None if case is None or decision == "plain" else _lossless_instead(case, cases, run),
        quantized_faster=None if case is None else _quantized_faster(case, cases, run),
        drifts=tuple(drifts(run)),
        solved=None if case is None else _solved(case, run),
    )


def _lossless_instead(case: CaseResult, cases: list[CaseResult], run: Run) -> CaseResult | None:
    if losslessness(case) in LOSSLESS:
        return None
    for other in cases:
        found = speedup(other, run) if losslessness(other) in LOSSLESS else None
        if found is not None and found.interval.low > 1:
            return other
    return None


def _quantized_faster(case: CaseResult, cases: list[CaseResult], run: Run) -> CaseResult | None:
    """cases: fastest first."""
    for other in cases:
        if other is case:
            return None
        found = None if keeps_answers(other) or is_wrong(other) or not other.samples else speedup(other, run)
        if found is not None and found.interval.low > 1:
            return other
    return None


def _gen_toks(run: Run) -> int | None:
    """The number of new tokens that the study asks for."""
    found: int | None = run.header.get("study", {}).get("workload", {}).get("gen_toks")
    return found


def _is_baseline(case: CaseResult, run: Run) -> bool:
    return any(case is one for one in baseline_measurements(case, run))


def _solved(case: CaseResult, run: Run) -> Solved | None:
    """The HumanEval case of the same target: with the same strategy if it was measured, else plain decoding's."""
    fit = [
        other
        for other in run.finished.values()
        if other.kind == "humaneval"
        and other.status == "ok"
        and "solved" in other.metrics
        and run.target_of(other) == run.target_of(case)
        and (other.engine.target_quant, other.engine.dtype) == (case.engine.target_quant, case.engine.dtype)
        and other.point.strategy in (case.point.strategy, "plain")
    ]
    if not fit:
        return None
    chosen = min(fit, key=lambda other: other.point.strategy != case.point.strategy)
    paired, p_value = (humaneval.comparisons(run) if run.completions else {}).get(chosen.id, (None, None))
    return Solved(
        case=chosen.id,
        solved=round(chosen.metrics["solved"]),
        problems=round(chosen.metrics["problems"]),
        difference=None if paired is None else paired.difference,
        base="" if paired is None else paired.base,
        statement="" if paired is None else paired.statement(p_value),
    )
