"""What limits a case, and what to try next: from its time split, its acceptance, the cost model and the hardware.

The rule, for a case that drafts. Every cause is the share of the case's time that would be saved were it gone:
- draft: draft_share, less the draft's call overhead (steps that drafted x draft_call_overhead_seconds);
- rejection: (1 - tokens_per_step / (1 + drafted_per_step)) x (draft_share + verify_share): if every drafted token were
  accepted, the same tokens would need so many fewer steps;
- overhead: other_share, plus the draft's call overhead.
The largest of them names the case if it is at least MATTERS of the time; they are no partition and may add up to more
than all of it. Otherwise the target's forwards limit it, as they do every case of plain decoding: by bandwidth or by
computation (whichever binds the least time, limit_bound) if the case runs at NEAR_LIMIT of what the hardware allows
(1 / (decode_latency_tok x limit_tokens_per_second)), else by overhead: launches, dispatch and kernels that are far from
the hardware. The hardware's bandwidth is the largest that was measured in the session; where the smallest would put the
case at NEAR_LIMIT, overhead is not told apart from a slow memory, and the limit is unknown. It is unknown, too, where
the run file lacks what the rule needs.

Pure; knows no rendering.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from reports.numbers.cases import seconds_per_token, share_of_limit
from reports.numbers.copy_range import copy_range
from reports.numbers.predictions import Curve, curves, predictions
from reports.record.run import CaseResult, Run

MATTERS = 0.15
NEAR_LIMIT = 0.5
THRESHOLDS = (0.0, 0.2, 0.4, 0.6, 0.8)  # tried next where too many drafted tokens are rejected

Kind = Literal["draft", "rejection", "overhead", "bandwidth", "compute", "unknown"]


@dataclass(frozen=True)
class Bottleneck:
    """kind: what limits the case. shares: cause -> share of the time that it costs (drafting cases only).
    share_of_limit: decoding speed over the least time of the same forwards. why: the deciding figure in words."""

    kind: Kind
    shares: Mapping[Kind, float]
    share_of_limit: float | None
    why: str


@dataclass(frozen=True)
class Suggestion:
    """setting: what to change, in the words of the options; because: the figure that it rests on."""

    setting: str
    because: str


def bottleneck(case: CaseResult) -> Bottleneck:
    """What limits a measured case, by the rule at the top of this module."""
    shares = _shares(case)
    limit = share_of_limit(case)
    if shares:
        kind = max(shares, key=lambda name: shares[name])
        if shares[kind] >= MATTERS:
            return Bottleneck(kind, shares, limit, _why(kind, shares[kind], case.metrics))
    if limit is None:
        return Bottleneck("unknown", shares, None, "the run file holds no hardware limit for this case")
    bound: Kind = "compute" if case.facts.get("limit_bound") == "compute" else "bandwidth"
    if limit >= NEAR_LIMIT:
        return Bottleneck(bound, shares, limit, f"decoding runs at {limit:.0%} of the hardware's limit, set by {bound}")
    spread = copy_range(case) if bound == "bandwidth" else 1.0
    if limit * spread >= NEAR_LIMIT:
        return Bottleneck(
            "unknown",
            shares,
            limit,
            f"decoding runs at {limit:.0%} to {limit * spread:.0%} of what bandwidth allows, by the largest and the "
            "smallest copy bandwidth that was measured: overhead and a slow memory are not told apart",
        )
    return Bottleneck(
        "overhead",
        shares,
        limit,
        f"decoding runs at {limit:.0%} of what {bound} allows: the rest is launches, dispatch and slow kernels",
    )


def suggestions(
    best: CaseResult, fit: Sequence[CaseResult], measured: Sequence[CaseResult], run: Run, limits: Bottleneck
) -> list[Suggestion]:
    """What to try next, most promising first; nothing that the run measured already.

    best: the chosen case; fit: the cases that meet the constraints; measured: all of the same target.
    """
    found = _predicted(best, fit, run)
    others: Sequence[CaseResult] = [case for case in measured if _same_target(case, best)]
    if limits.kind == "rejection":
        found += _against_rejection(best, others)
    elif limits.kind == "draft":
        found += _against_drafting(best, others, limits)
    elif limits.kind == "overhead":
        found += _against_overhead(best, measured, limits)
    elif limits.kind == "bandwidth":
        found += _against_bandwidth(best, measured, limits)
    elif limits.kind == "compute":
        found += _against_computation(best, limits)
    return found


def _shares(case: CaseResult) -> dict[Kind, float]:
    metrics = case.metrics
    needed = ("draft_share", "verify_share", "other_share", "tokens_per_step", "drafted_per_step")
    if not all(name in metrics for name in needed):
        return {}
    seconds = sum(sample.seconds for sample in case.samples)
    per_call = float((case.facts.get("forward_costs") or {}).get("draft_call_overhead_seconds", 0.0))
    calls = sum(proposed > 0 for sample in case.samples for proposed, _ in sample.steps)
    drafts = case.point.strategy == "assisted"
    call_share = min(calls * per_call / seconds, metrics["draft_share"]) if drafts and seconds else 0.0
    saved = max(0.0, 1 - metrics["tokens_per_step"] / (1 + metrics["drafted_per_step"]))
    return {
        "draft": metrics["draft_share"] - call_share,
        "rejection": saved * (metrics["draft_share"] + metrics["verify_share"]),
        "overhead": metrics["other_share"] + call_share,
    }


def _why(kind: str, share: float, metrics: Mapping[str, float]) -> str:
    if kind == "draft":
        return f"drafting takes {share:.0%} of the time"
    if kind == "rejection":
        return (
            f"{share:.0%} of the time would be saved if every drafted token were accepted "
            f"(accept rate {metrics.get('accept_rate', 0.0):.2f})"
        )
    return f"{share:.0%} of the time is outside the forwards of draft and target"


def _predicted(best: CaseResult, fit: Sequence[CaseResult], run: Run) -> list[Suggestion]:
    """The fastest k that was not run, of all settings among `fit`, if it is predicted to beat the chosen case."""
    speed = _tokens_per_second(best)
    off = [abs(one.residual) for one in predictions(run)]
    top: tuple[float, Curve, CaseResult] | None = None
    settings = {_without_k(case): case for case in fit if case.point.assist_toks}
    for curve in curves(run):
        case = settings.get(curve.setting)
        if case is None or curve.best.k in curve.measured:
            continue
        measured = curve.measured.get(case.point.assist_toks or 0)
        if measured is None:
            continue
        # The curve's speedups are over plain decoding of the same engine, whose speed follows from a measured case.
        predicted = curve.best.speedup * _tokens_per_second(case) / measured
        if predicted > speed and (top is None or predicted > top[0]):
            top = (predicted, curve, case)
    if top is None:
        return []
    predicted, curve, case = top
    best_k, best_measured = max(curve.measured.items(), key=lambda item: item[1])
    return [
        Suggestion(
            f"assist_toks = {curve.best.k} in {curve.setting}",
            f"not run; the cost model predicts {predicted:.1f} tokens/s, {curve.best.speedup:.2f} times plain decoding "
            f"of the same engine (best measured there: {best_measured:.2f} at {best_k}; the model is off by "
            f"{median(off):.0%} in the median of this run)",
        )
    ]


def _against_rejection(best: CaseResult, others: Sequence[CaseResult]) -> list[Suggestion]:
    point, rate = best.point, best.metrics.get("accept_rate", 0.0)
    figure = f"accept rate {rate:.2f}, {best.metrics.get('total_rollbacks', 0):.0f} rollbacks in {_steps(best)} steps"
    found = []
    if point.strategy == "assisted":
        now = float(point.confidence_threshold or 0.0)
        higher = next((value for value in THRESHOLDS if value > now + 1e-9), None)
        if higher is not None and not _ran(others, best, confidence_threshold=higher):
            found.append(
                Suggestion(f"confidence_threshold = {higher:g}", f"{figure} at {now:g}: the draft stops sooner")
            )
    if point.strategy == "prompt_lookup":
        ngram = int(point.lookup_ngram or 2)
        if not _ran(others, best, lookup_ngram=ngram + 1):
            found.append(Suggestion(f"lookup_ngram = {ngram + 1}", f"{figure}: longer matches are copied more surely"))
        k = int(point.assist_toks or 0)
        drafted = best.metrics.get("drafted_per_step", 0.0)
        if k > 1 and drafted > k / 2 and not _ran(others, best, assist_toks=k // 2):
            found.append(Suggestion(f"assist_toks = {k // 2}", f"{figure}, {drafted:.1f} tokens drafted per step"))
    return found


def _against_drafting(best: CaseResult, others: Sequence[CaseResult], limits: Bottleneck) -> list[Suggestion]:
    costs = best.facts.get("forward_costs") or {}
    token, forward = costs.get("draft_token_seconds"), (costs.get("target_seconds") or {}).get("1")
    figure = f"drafting takes {limits.shares['draft']:.0%} of the time"
    if token and forward:
        figure += f", a drafted token costs {token / forward:.2f} of a target forward"
    found = [Suggestion("a smaller draft (--aux-model)", figure)] if best.point.strategy == "assisted" else []
    layer = int(best.point.exit_layer or 0)
    if layer > 1 and not _ran(others, best, exit_layer=layer // 2):
        found.append(Suggestion(f"exit_layer = {layer // 2}", f"{figure} in {layer} layers"))
    if not any(case.point.strategy == "prompt_lookup" for case in others):
        found.append(Suggestion("strategy = prompt_lookup", f"{figure}; copying from the prompt drafts for nothing"))
    k = int(best.point.assist_toks or 0)
    if k > 1 and not _ran(others, best, assist_toks=k - 1):
        found.append(Suggestion(f"assist_toks = {k - 1}", figure))
    return found


def _against_overhead(best: CaseResult, measured: Sequence[CaseResult], limits: Bottleneck) -> list[Suggestion]:
    figure = limits.why
    if best.engine.compile or any(case.engine.compile and _same_quant(case, best) for case in measured):
        return []
    cache = "static" if best.point.strategy == "plain" else best.point.cache
    return [Suggestion(f"compile = true, cache = {cache}", figure)]


def _against_bandwidth(best: CaseResult, measured: Sequence[CaseResult], limits: Bottleneck) -> list[Suggestion]:
    moved = best.facts.get("bytes_moved_per_step")
    figure = limits.why + (f", {moved / 2**20:.0f} MiB moved per step" if moved else "")
    found = []
    if best.engine.target_quant == "none" and not any(c.engine.target_quant != "none" for c in measured):
        found.append(Suggestion("target_quant = 4bit", f"{figure}; it changes the answers: score them (-m humaneval)"))
    if best.point.strategy == "plain" and not any(c.point.strategy != "plain" for c in measured):
        found.append(Suggestion("strategy = assisted or prompt_lookup", f"{figure}, for one token"))
    return found


def _against_computation(best: CaseResult, limits: Bottleneck) -> list[Suggestion]:
    if best.point.cache == "none":
        return [Suggestion("cache = dynamic", f"{limits.why}: without a cache every step computes all positions")]
    return [Suggestion("dtype = bf16", limits.why)] if best.engine.dtype == "fp32" else []


def _ran(others: Sequence[CaseResult], best: CaseResult, **changes: Any) -> bool:
    wanted = dataclasses.replace(best.point, **changes)
    return any(case.engine == best.engine and case.point == wanted for case in others)


def _same_target(case: CaseResult, best: CaseResult) -> bool:
    return case.engine.dtype == best.engine.dtype and _same_quant(case, best)


def _same_quant(case: CaseResult, best: CaseResult) -> bool:
    return case.engine.target_quant == best.engine.target_quant


def _steps(case: CaseResult) -> int:
    return sum(len(sample.steps) for sample in case.samples)


def _tokens_per_second(case: CaseResult) -> float:
    return 1 / (seconds_per_token(case) or float("inf"))


def _without_k(case: CaseResult) -> str:
    return case.id.replace(f",k={case.point.assist_toks}", "")
