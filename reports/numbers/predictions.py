"""Speculation predicted and measured: what the cost model says of every case of a run, also of those not run.

Pure: from a run file to numbers, no torch, no rendering but the short text at the end. A prediction takes the costs of
forwards from the engine's micro-benchmark (`facts["forward_costs"]`), the plain decoding of the same engine as its
unit (its time per step and to the first token), and from the case itself only counts: what was proposed and accepted.
No time of the case that it predicts enters.

A generation's predicted time is the baseline's time to first token, plus the draft's prefill, plus every step's cost;
the first step's own target position is in the time to first token already. Draft costs hold for one draft call per
step, whose overhead is counted apart; prompt lookup is taken to draft for nothing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from reports.numbers.cost_model import CurvePoint, SpeculationCosts, emitted_per_step, residual
from reports.numbers.speedups import baseline_measurements
from reports.record.run import CaseResult, Run, Sample

LARGEST_K = 12  # curves are drawn from 1 to here
PREDICTED = ("assisted", "prompt_lookup")  # strategies whose drafting costs are known


@dataclass(frozen=True)
class Acceptance:
    """How steps went, pooled over generations. At each draft position: reached, the steps that accepted all before it;
    proposed, those that proposed a token there; judged, those of the reached ones whose token the target judged;
    accepted. steps: all, with what each proposed."""

    steps: tuple[int, ...]
    reached: tuple[int, ...]
    proposed: tuple[int, ...]
    judged: tuple[int, ...]
    accepted: tuple[int, ...]

    @property
    def conditional_rates(self) -> tuple[float, ...]:
        """Per position: accepted / judged, where all before were accepted; ends at the first position never judged."""
        return tuple(a / j for a, j in zip(self.accepted, self.judged, strict=True) if j)

    @property
    def continued(self) -> tuple[float, ...]:
        """Per position: accepted / reached; below the conditional rate where a draft stopped early."""
        return tuple(a / r for a, r in zip(self.accepted, self.reached, strict=True) if r)


@dataclass(frozen=True)
class Prediction:
    """One case: predicted tokens per step and speedup over plain decoding of the same engine, beside the measured ones.

    draft_cost: c, a drafted token over a plain step. verify_costs: forward of p positions over one. residual: predicted
    over measured speedup, minus 1.
    """

    case: str
    baseline: str
    k: int
    alpha: float | None
    conditional_rates: tuple[float, ...]
    draft_cost: float
    call_overhead: float
    verify_costs: Mapping[int, float]
    tokens_per_step: float
    measured_tokens_per_step: float
    predicted_speedup: float
    measured_speedup: float
    residual: float


@dataclass(frozen=True)
class Curve:
    """All k of one setting (engine, threshold, schedule, sampling), run or not, from the acceptance of those run.

    measured: speedup by the k that were run. cases: these, by k.
    """

    setting: str
    points: tuple[CurvePoint, ...]
    measured: Mapping[int, float]
    cases: Mapping[int, CaseResult]

    @property
    def best(self) -> CurvePoint:
        """The fastest predicted k, the smallest among equals; a speedup below 1 says that plain decoding is faster."""
        return max(self.points, key=lambda point: point.speedup)

    def open_to(self, least: int = 1, most: int = LARGEST_K) -> list[int]:
        """The k that were not run and lie past no measured one that was slower than the fastest measured."""
        fastest = max(self.measured, key=lambda k: self.measured[k])
        lower = max((k for k in self.measured if k < fastest), default=least - 1)
        upper = min((k for k in self.measured if k > fastest), default=most + 1)
        return [point.k for point in self.points if lower < point.k < upper and point.k != fastest]

    def corrected(self, k: int) -> float:
        """The predicted speedup at k times what the model was off by at the k that were run, between these as between
        the two, beyond them as at the last; where k was run that is what was measured."""
        predicted = {point.k: point.speedup for point in self.points}
        known = sorted(self.measured.keys() & predicted.keys())
        off = np.interp(k, known, [math.log(self.measured[each] / predicted[each]) for each in known])
        return predicted[k] * math.exp(float(off))


@dataclass(frozen=True)
class _Base:
    """Plain decoding of the same engine on the case's prompts: totals of one pass over them."""

    id: str
    prompts: int
    tokens: int
    first_seconds: float
    step_seconds: float

    @property
    def seconds(self) -> float:
        return self.first_seconds + self.step_seconds * (self.tokens - self.prompts)


def predictions(run: Run) -> list[Prediction]:
    """The prediction of every measured case that drafts and has its baseline and its engine's forward costs."""
    found = []
    for case in _predictable(run):
        base, costs = _base(case, run), _costs(case)
        if base is None or costs is None:
            continue
        acceptance = acceptance_of(case.samples)
        step_costs = sum(_step_cost(costs, proposed) for proposed in acceptance.steps)
        predicted = base.seconds / _seconds(base, step_costs, _prefill(case))
        measured = _measured(case, base)
        found.append(
            Prediction(
                case=case.id,
                baseline=base.id,
                k=case.point.assist_toks or 0,
                alpha=case.metrics.get("alpha"),
                conditional_rates=acceptance.conditional_rates,
                draft_cost=costs.draft,
                call_overhead=costs.overhead,
                verify_costs=dict(costs.verify),
                tokens_per_step=emitted_per_step(acceptance.continued),
                measured_tokens_per_step=_tokens(case) / sum(s.target_forwards for s in case.samples),
                predicted_speedup=predicted,
                measured_speedup=measured,
                residual=residual(predicted, measured),
            )
        )
    return found


def curves(run: Run, ks: Iterable[int] = range(1, LARGEST_K + 1)) -> list[Curve]:
    """Per setting, the prediction at every k in ks and every one run, from the steps of all cases that drafted so far.

    Beyond the largest k run, positions are taken to be proposed and accepted like the last one. Holds for the constant
    schedule, whose k is fixed.
    """
    settings: dict[tuple[Any, ...], list[CaseResult]] = {}
    for case in _predictable(run):
        if case.point.assist_schedule in (None, "constant"):
            settings.setdefault(_setting(case), []).append(case)
    found = []
    for cases in settings.values():
        base, costs = _base(cases[0], run), _costs(cases[0])
        if base is None or costs is None:
            continue
        by_k = {case.point.assist_toks or 0: case for case in cases}
        taken = {k: acceptance_of(case.samples, k) for k, case in by_k.items()}
        if not any(one.steps for one in taken.values()):
            continue
        points = []
        for k in sorted({*ks, *by_k}):
            continued, proposed = _pooled(taken, k)
            tokens = emitted_per_step(continued)
            # A share `proposed[i]` of the steps drafts a token at position i: steps of each length follow from it.
            lengths = [before - now for before, now in zip([1.0, *proposed], [*proposed, 0.0], strict=True)]
            per_step = sum(share * _step_cost(costs, drafted) for drafted, share in enumerate(lengths))
            speedup = base.seconds / _seconds(base, per_step * base.tokens / tokens, _prefill(cases[0]))
            points.append(CurvePoint(k, tokens, speedup))
        measured = {k: _measured(case, _base(case, run) or base) for k, case in sorted(by_k.items())}
        found.append(Curve(_without_k(cases[0]), tuple(points), measured, dict(sorted(by_k.items()))))
    return found


def prediction_lines(run: Run) -> list[str]:
    """A short text: how far the model is off, and the predicted best k of every setting."""
    found = predictions(run)
    if not found:
        return []
    off = [abs(prediction.residual) for prediction in found]
    worst = max(found, key=lambda prediction: abs(prediction.residual))
    lines = [
        f"cost model: predicted against measured speedup over the same engine's plain decoding, {len(found)} cases: "
        f"median off by {100 * median(off):.1f}%, most {100 * worst.residual:+.1f}% ({worst.case})"
    ]
    for curve in curves(run):
        fastest, measured = max(curve.measured.items(), key=lambda item: item[1])
        best = max([fastest, *curve.open_to()], key=curve.corrected)
        predicted = {point.k: point.speedup for point in curve.points}
        speedup = predicted[best] if best == fastest else curve.corrected(best)
        text = f"{curve.setting}: predicted best k = {best}, speedup {speedup:.2f}"
        text += (
            f" (measured {measured:.2f})"
            if best == fastest
            else f", corrected by what was measured (not run; measured best k = {fastest}, {measured:.2f})"
        )
        lines.append(text + ("; plain decoding is faster" if max(speedup, measured) < 1 else ""))
    return lines


def acceptance_of(samples: Sequence[Sample], k: int | None = None) -> Acceptance:
    """Count a case's steps by draft position. Tokens past the end of the output count as proposed, not as judged.

    k: leave out the steps at the end of a generation that proposed fewer than k because no more tokens were missing;
    they say nothing about another k.
    """
    steps: list[tuple[int, int]] = []
    judged = [0] * max((proposed for sample in samples for proposed, _ in sample.steps), default=0)
    for sample in samples:
        missing = sample.new_tokens
        for number, (proposed, accepted) in enumerate(sample.steps):
            limited = k is not None and proposed == missing - 1 < k
            missing -= accepted + 1
            if limited:
                continue
            steps.append((proposed, accepted))
            cut = sample.censored > 0 and number == len(sample.steps) - 1
            for i in range(min(proposed, accepted + (0 if cut else 1))):
                judged[i] += 1
    longest = len(judged)
    return Acceptance(
        steps=tuple(proposed for proposed, _ in steps),
        reached=tuple(sum(accepted >= i for _, accepted in steps) for i in range(longest)),
        proposed=tuple(sum(proposed > i for proposed, _ in steps) for i in range(longest)),
        judged=tuple(judged),
        accepted=tuple(sum(accepted > i for _, accepted in steps) for i in range(longest)),
    )


def _pooled(taken: Mapping[int, Acceptance], k: int) -> tuple[list[float], list[float]]:
    """`continued` and the share of steps that propose, at each of k positions, over all cases that drafted so far."""
    continued: list[float] = []
    proposed: list[float] = []
    for i in range(k):
        having = [one for limit, one in taken.items() if limit > i and len(one.steps) and len(one.reached) > i]
        reached = sum(one.reached[i] for one in having)
        if reached:
            continued.append(sum(one.accepted[i] for one in having) / reached)
            share = sum(one.proposed[i] for one in having) / sum(len(one.steps) for one in having)
            proposed.append(min(share, proposed[-1]) if proposed else share)
        else:
            continued.append(continued[-1] if continued else 0.0)
            going_on = proposed[-1] / proposed[-2] if len(proposed) > 1 and proposed[-2] else 1.0
            proposed.append(proposed[-1] * going_on if proposed else 0.0)
    return continued, proposed


def _predictable(run: Run) -> list[CaseResult]:
    return [
        case
        for case in run.finished.values()
        if case.kind == "decode"
        and case.status == "ok"
        and case.samples
        and case.point.strategy in PREDICTED
        and case.point.assist_toks
    ]


def _base(case: CaseResult, run: Run) -> _Base | None:
    """The same engine's plain decoding on the case's prompts, the mean of its measurements; None if not measured."""
    prompts = {sample.prompt for sample in case.samples}
    measurements = [
        [sample for sample in one.samples if sample.prompt in prompts and sample.ttft_seconds is not None]
        for one in baseline_measurements(case, run, same_engine=True)
    ]
    measurements = [samples for samples in measurements if {sample.prompt for sample in samples} == prompts]
    if not measurements:
        return None
    samples = [sample for one in measurements for sample in one]
    first = sum(sample.ttft_seconds or 0.0 for sample in samples)
    tokens, later = sum(s.new_tokens for s in samples), sum(s.new_tokens - s.first_tokens for s in samples)
    if not later:
        return None
    return _Base(
        id=baseline_measurements(case, run, same_engine=True)[0].id,
        prompts=len(prompts),
        tokens=round(tokens / len(measurements)),
        first_seconds=first / len(measurements),
        step_seconds=(sum(sample.seconds for sample in samples) - first) / later,
    )


def _costs(case: CaseResult) -> SpeculationCosts | None:
    """The engine's costs in units of one target forward; None where they were not measured."""
    facts = case.facts.get("forward_costs")
    if not facts:
        return None
    seconds = {int(positions): float(value) for positions, value in facts["target_seconds"].items()}
    one = seconds[1]
    verify = {positions: value / one for positions, value in seconds.items()}
    if case.point.strategy == "prompt_lookup":
        return SpeculationCosts(0.0, verify)
    if "draft_token_seconds" not in facts:
        return None
    return SpeculationCosts(facts["draft_token_seconds"] / one, verify, facts["draft_call_overhead_seconds"] / one)


def _step_cost(costs: SpeculationCosts, drafted: int) -> float:
    """A step's cost; where nothing is drafted the draft is not called."""
    return costs.step(drafted) - (costs.overhead if drafted == 0 else 0.0)


def _prefill(case: CaseResult) -> float:
    """The draft's prefill of one prompt, in units of one target forward."""
    if case.point.strategy == "prompt_lookup":
        return 0.0
    facts = case.facts["forward_costs"]
    return float(facts.get("draft_prefill_seconds", 0.0)) / float(facts["target_seconds"]["1"])


def _seconds(base: _Base, step_costs: float, prefill: float) -> float:
    """The predicted seconds of all prompts; step_costs: of all their steps together, in plain steps."""
    return base.first_seconds + base.step_seconds * (step_costs - base.prompts + prefill * base.prompts)


def _measured(case: CaseResult, base: _Base) -> float:
    latency = sum(sample.seconds for sample in case.samples) / _tokens(case)
    return base.seconds / base.tokens / latency


def _tokens(case: CaseResult) -> int:
    return sum(sample.new_tokens for sample in case.samples)


def _setting(case: CaseResult) -> tuple[Any, ...]:
    return (case.engine, dataclasses.replace(case.point, assist_toks=None), case.workload)


def _without_k(case: CaseResult) -> str:
    return case.id.replace(f",k={case.point.assist_toks}", "")
