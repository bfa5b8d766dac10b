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
from typing import Any, Literal

from reports.numbers.cases import seconds_per_token, share_of_limit
from reports.numbers.copy_range import copy_range
from reports.numbers.proposals import propose
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


@dataclass(frozen=True)
class _Idea:
    """A suggestion before it is held against the others. name: the setting that it changes; more: 1 if it makes the
    best case draft more, -1 if less, 0 if neither or of another case."""

    suggestion: Suggestion
    name: str
    more: int = 0


def suggestions(
    best: CaseResult, fit: Sequence[CaseResult], measured: Sequence[CaseResult], run: Run, limits: Bottleneck
) -> list[Suggestion]:
    """What to try next, most promising first: nothing that the run measured already, nothing past a measured point that
    was slower, and of ideas that contradict each other the first, which rests on most.

    best: the chosen case; fit: the cases that meet the constraints; measured: all of the same target.
    """
    ideas = _predicted(best, fit, run)
    others: Sequence[CaseResult] = [case for case in measured if _same_target(case, best)]
    if limits.kind == "rejection":
        ideas += _against_rejection(best, others)
    elif limits.kind == "draft":
        ideas += _against_drafting(best, others, limits)
    elif limits.kind == "overhead":
        ideas += _against_overhead(best, measured, limits)
    elif limits.kind == "bandwidth":
        ideas += _against_bandwidth(best, measured, limits)
    elif limits.kind == "compute":
        ideas += _against_computation(best, limits)
    kept: list[_Idea] = []
    for idea in ideas:
        if not any(idea.more * earlier.more < 0 or (idea.more and idea.name == earlier.name) for earlier in kept):
            kept.append(idea)
    return [idea.suggestion for idea in kept]


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


def _predicted(best: CaseResult, fit: Sequence[CaseResult], run: Run) -> list[_Idea]:
    """The fastest setting that was not run and lies between measured ones, if it is predicted to beat all that fit."""
    proposals = propose(run, [case.id for case in fit], most=1)
    ideas = []
    for proposal in proposals:
        value, now = getattr(proposal.point, proposal.name), getattr(proposal.beside.point, proposal.name)
        short = {"assist_toks": f",k={now}", "confidence_threshold": f",p={now:g}"}[proposal.name]
        because = f"not run; {proposal.because}; that is {1 / proposal.seconds_per_token:.1f} tokens/s"
        suggestion = Suggestion(f"{proposal.name} = {value:g} in {proposal.beside.id.replace(short, '')}", because)
        more = (1 if value > now else -1) * (1 if proposal.name == "assist_toks" else -1)
        ideas.append(_Idea(suggestion, proposal.name, more if proposal.beside.id == best.id else 0))
    return ideas


def _against_rejection(best: CaseResult, others: Sequence[CaseResult]) -> list[_Idea]:
    point, rate = best.point, best.metrics.get("accept_rate", 0.0)
    figure = f"accept rate {rate:.2f}, {best.metrics.get('total_rollbacks', 0):.0f} rollbacks in {_steps(best)} steps"
    ideas = []
    if point.strategy == "assisted":
        now = float(point.confidence_threshold or 0.0)
        higher = next((value for value in THRESHOLDS if value > now + 1e-9), None)
        if higher is not None and _is_open(others, best, "confidence_threshold", higher):
            because = f"{figure} at {now:g}: the draft stops sooner"
            ideas.append(_less("confidence_threshold", higher, because))
    if point.strategy == "prompt_lookup":
        ngram = int(point.lookup_ngram or 2)
        if _is_open(others, best, "lookup_ngram", ngram + 1):
            ideas.append(_less("lookup_ngram", ngram + 1, f"{figure}: longer matches are copied more surely"))
        k = int(point.assist_toks or 0)
        drafted = best.metrics.get("drafted_per_step", 0.0)
        if k > 1 and drafted > k / 2 and _is_open(others, best, "assist_toks", k // 2):
            ideas.append(_less("assist_toks", k // 2, f"{figure}, {drafted:.1f} tokens drafted per step"))
    return ideas


def _against_drafting(best: CaseResult, others: Sequence[CaseResult], limits: Bottleneck) -> list[_Idea]:
    costs = best.facts.get("forward_costs") or {}
    token, forward = costs.get("draft_token_seconds"), (costs.get("target_seconds") or {}).get("1")
    figure = f"drafting takes {limits.shares['draft']:.0%} of the time"
    if token and forward:
        figure += f", a drafted token costs {token / forward:.2f} of a target forward"
    ideas = []
    if best.point.strategy == "assisted":
        ideas.append(_Idea(Suggestion("a smaller draft (--aux-model)", figure), "aux_model"))
    layer = int(best.point.exit_layer or 0)
    if layer > 1 and _is_open(others, best, "exit_layer", layer // 2):
        ideas.append(_Idea(Suggestion(f"exit_layer = {layer // 2}", f"{figure} in {layer} layers"), "exit_layer"))
    if not any(case.point.strategy == "prompt_lookup" for case in others):
        because = f"{figure}; copying from the prompt drafts for nothing"
        ideas.append(_Idea(Suggestion("strategy = prompt_lookup", because), "strategy"))
    k = int(best.point.assist_toks or 0)
    if k > 1 and _is_open(others, best, "assist_toks", k - 1):
        ideas.append(_less("assist_toks", k - 1, figure))
    return ideas


def _less(name: str, value: float, because: str) -> _Idea:
    """The best case with a setting that makes it draft less."""
    return _Idea(Suggestion(f"{name} = {value:g}", because), name, more=-1)


def _is_open(others: Sequence[CaseResult], best: CaseResult, name: str, value: float) -> bool:
    """Whether nobody measured the best case with this value of a setting, nor a slower value on the way to it."""
    now = getattr(best.point, name) or 0
    mine = seconds_per_token(best) or 0.0
    own: dict[str, Any] = {name: getattr(best.point, name)}
    for case in others:
        alike = case.engine == best.engine and dataclasses.replace(case.point, **own) == best.point
        measured = getattr(case.point, name)
        if not alike or measured is None or case.id == best.id:
            continue
        on_the_way = min(now, value) < measured < max(now, value)
        if measured == value or (on_the_way and (seconds_per_token(case) or 0.0) > mine):
            return False
    return True


def _against_overhead(best: CaseResult, measured: Sequence[CaseResult], limits: Bottleneck) -> list[_Idea]:
    figure = limits.why
    if best.engine.compile or any(case.engine.compile and _same_quant(case, best) for case in measured):
        return []
    cache = "static" if best.point.strategy == "plain" else best.point.cache
    return [_Idea(Suggestion(f"compile = true, cache = {cache}", figure), "compile")]


def _against_bandwidth(best: CaseResult, measured: Sequence[CaseResult], limits: Bottleneck) -> list[_Idea]:
    moved = best.facts.get("bytes_moved_per_step")
    figure = limits.why + (f", {moved / 2**20:.0f} MiB moved per step" if moved else "")
    ideas = []
    if best.engine.target_quant == "none" and not any(c.engine.target_quant != "none" for c in measured):
        ideas.append(
            _Idea(
                Suggestion("target_quant = 4bit", f"{figure}; it changes the answers: score them (-m humaneval)"),
                "target_quant",
            )
        )
    if best.point.strategy == "plain" and not any(c.point.strategy != "plain" for c in measured):
        ideas.append(_Idea(Suggestion("strategy = assisted or prompt_lookup", f"{figure}, for one token"), "strategy"))
    return ideas


def _against_computation(best: CaseResult, limits: Bottleneck) -> list[_Idea]:
    if best.point.cache == "none":
        return [
            _Idea(
                Suggestion("cache = dynamic", f"{limits.why}: without a cache every step computes all positions"),
                "cache",
            )
        ]
    return [_Idea(Suggestion("dtype = bf16", limits.why), "dtype")] if best.engine.dtype == "fp32" else []


def _same_target(case: CaseResult, best: CaseResult) -> bool:
    return case.engine.dtype == best.engine.dtype and _same_quant(case, best)


def _same_quant(case: CaseResult, best: CaseResult) -> bool:
    return case.engine.target_quant == best.engine.target_quant


def _steps(case: CaseResult) -> int:
    return sum(len(sample.steps) for sample in case.samples)
