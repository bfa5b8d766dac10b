"""Advice as terminal text, Markdown and JSON: three views of the same dataclasses. Computes nothing itself."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from reports.advice.candidates import Advice, Candidate, NoAdvice, gibibytes
from reports.numbers.cases import short_names_of_ids
from reports.numbers.decision import Separation
from reports.record.plain_text import printable
from reports.views.headline import interval_text
from reports.views.sheet import Sheet, SheetColumn, SheetRow, console, print_sheet, renamed
from reports.views.sheet import markdown as markdown_of

LIMITS = {
    "draft": "draft-bound",
    "rejection": "rejection-bound",
    "overhead": "overhead-bound",
    "bandwidth": "bandwidth-bound",
    "compute": "compute-bound",
    "unknown": "unknown",
}
FRONT = (
    SheetColumn("case", "case", code=True),
    SheetColumn("tokens_per_second", "tokens/s", "tokens/s", priority=1, align="right"),
    SheetColumn("memory", "memory", priority=2, align="right", better="lower"),
    SheetColumn("pass_at_1", "pass@1", priority=4, align="right"),
    SheetColumn("perplexity", "perplexity", priority=5, align="right", better="lower"),
    SheetColumn("same_output", "same output", priority=3, align="right"),
    SheetColumn("same_model", "same model", align="right"),
)


def markdown(advice: Sequence[Advice], without: Sequence[NoAdvice] = ()) -> str:
    """All advice in Markdown. without: the targets that there is none for."""
    return "\n\n".join([*(_markdown(one) for one in advice), *(f"### {one.target}\n\n- {one.why}" for one in without)])


def terminal(advice: Sequence[Advice], without: Sequence[NoAdvice] = ()) -> None:
    """Print all advice with rich. without: the targets that there is none for."""
    to = console()
    for one in advice:
        to.print(printable(f"{one.target}: {one.best.id}"), markup=False, style="bold green", soft_wrap=True)
        for line in map(printable, _statements(one)):
            to.print(line, markup=False)
        names = short_names_of_ids([candidate.id for candidate in one.front])
        print_sheet(renamed(front_sheet(one), names), to)
        _print_list(to, "try next:", [_suggestion(each) for each in one.suggestions])
        to.print("\nin transformers:\n", markup=False)
        for line in one.lines:
            to.print(f"    {line}", markup=False, soft_wrap=True)
        to.print()
    for missing in without:
        to.print(printable(f"{missing.target}: {missing.why}"), markup=False, style="bold yellow", soft_wrap=True)


def front_sheet(one: Advice) -> Sheet:
    """The Pareto front, fastest first."""
    return Sheet(
        columns=FRONT,
        rows=tuple(
            SheetRow(_cells(candidate), tone="best" if candidate.id == one.best.id else "plain")
            for candidate in one.front
        ),
        title="Pareto front of speed, memory and quality",
        notes=(f"memory: {_memory_kind(one)}",),
    )


def as_json(advice: Sequence[Advice], without: Sequence[NoAdvice] = ()) -> list[dict[str, Any]]:
    """All advice as plain data: cases by id, figures with their units in their names; what is unknown is left out.

    without: the targets that there is no advice for; theirs has no `best`, and `why`.
    """
    return [_advice(one) for one in advice] + [dataclasses.asdict(one) for one in without]


def _advice(one: Advice) -> dict[str, Any]:
    return {
        "target": one.target,
        "best": _candidate(one.best),
        **({"speedup": _interval(one.speedup.interval)} if one.speedup else {}),
        **({"baseline": one.speedup.baseline} if one.speedup else {}),
        "not_told_apart": [case.id for case in one.decision.tie],
        **({"simplest": one.decision.simplest.id} if one.decision.simplest else {}),
        **({"smallest": one.decision.smallest.id} if one.decision.smallest else {}),
        "dropped": [{"case": case.id, "round": case.dropped_round, "reason": case.reason} for case in one.dropped],
        "unstable": [drift.baseline for drift in one.unstable],
        **({"pays_off_after_tokens": one.pays_off_after} if one.pays_off_after else {}),
        "engine": dataclasses.asdict(one.best.case.engine),
        "point": dataclasses.asdict(one.best.case.point),
        "candidates": one.candidates,
        "excluded": dict(one.excluded),
        "front": [_candidate(each) for each in one.front],
        **({"runner_up": one.runner_up.id} if one.runner_up else {}),
        "against": [
            {
                "case": each.other,
                "ratio": _interval(each.ratio),
                "separated": each.separated,
                "prompts": each.prompts,
                **({"prompts_needed": each.prompts_needed} if each.prompts_needed is not None else {}),
            }
            for each in one.against
        ],
        "bottleneck": {
            "kind": LIMITS[one.bottleneck.kind],
            "shares": dict(one.bottleneck.shares),
            **({} if one.bottleneck.share_of_limit is None else {"share_of_limit": one.bottleneck.share_of_limit}),
            "why": one.bottleneck.why,
        },
        "suggestions": [dataclasses.asdict(each) for each in one.suggestions],
        "lines": list(one.lines),
    }


def _markdown(one: Advice) -> str:
    lines = [f"### {one.target}: `{one.best.id}`", ""]
    lines += [f"- {statement}" for statement in _statements(one)]
    lines += [
        "",
        markdown_of(front_sheet(one)),
        "",
        f"Pareto front of speed, memory ({_memory_kind(one)}) and quality.",
    ]
    if one.suggestions:
        lines += ["", "Try next:", "", *(f"- {_suggestion(each)}" for each in one.suggestions)]
    return "\n".join([*lines, "", "```python", *one.lines, "```"])


def _statements(one: Advice) -> list[str]:
    best = one.best
    speed = f"{best.tokens_per_second:.1f} tokens/s"
    if one.speedup:
        speed += f", {interval_text(one.speedup.interval)} times {one.speedup.baseline}"
        if one.speedup.interval.low <= 1:
            speed += " (plain decoding does not meet the constraints)"
    else:
        speed += ", plain decoding: no setting that keeps its model is shown to be faster"
    found = [
        f"UNSTABLE: {drift.baseline} changed by {100 * (drift.ratio - 1):+.1f}% per token between two of its "
        f"measurements (limit {100 * drift.limit:g}%); the machine is noisy or busy, do not trust small differences"
        for drift in one.unstable
    ]
    found.append(speed)
    if best.memory is not None:
        peak = best.case.facts.get("host_rss_bytes")
        beside = f"; the process held up to {gibibytes(peak)}" if peak and "allocated" not in best.memory.what else ""
        found.append(f"memory {gibibytes(best.memory.bytes)} ({best.memory.what}{beside})")
    found += _tie(one)
    found.append(_answers(best))
    if one.pays_off_after is not None:
        found.append(f"pays off after {one.pays_off_after:,} tokens: what compiling and warming up cost once")
    limit = one.bottleneck
    found.append(f"{LIMITS[limit.kind]}: {limit.why}" if limit.kind != "unknown" else f"what limits it: {limit.why}")
    second = one.runner_up
    judged = {each.other for each in one.against}
    if second is not None and second.id not in judged:
        found.append(
            f"cannot be told from the runner-up {second.id} ({second.tokens_per_second:.1f} tokens/s): they have no "
            "samples of the same prompts"
        )
    found += [_against(each, second is not None and each.other == second.id) for each in one.against[:4]]
    if len(one.against) > 4:
        found.append(f"nor is it separated from {len(one.against) - 4} more")
    for case in one.dropped:
        when = "" if case.dropped_round is None else f" after round {case.dropped_round}"
        found.append(f"dropped from the race{when}: {case.id}{f': {case.reason}' if case.reason else ''}")
    for name, count in one.excluded.items():
        found.append(f"{name} excludes {count} of {one.candidates} cases")
    return found


def _tie(one: Advice) -> list[str]:
    """What the best is not told apart from, what was passed over for it, and what is faster with another model."""
    found = one.decision
    lines = []
    if found.tie:
        count = len(found.tie)
        text = f"{count} setting{' is' if count == 1 else 's are'} not told apart from it"
        if found.simplest is not None:
            text += f"; the simplest of all is {found.simplest.id}"
        if found.smallest is not None:
            text += f", the smallest {found.smallest.id}"
        lines.append(text)
    if (passed := found.faster_unproven) is not None:
        lines.append(f"passed over: {passed.case.id}, {interval_text(passed.speedup.interval)}: contains 1")
    if (other := one.quantized_faster) is not None:
        text = interval_text(other.speedup.interval)
        lines.append(f"faster still, but quantized, which may change the answers: {other.case.id}, {text}")
    return lines


def _answers(best: Candidate) -> str:
    """Model, tokens and rounding, and which option leaves the case out."""
    output = "" if best.output is None else f"same output {best.output.text}"
    if not best.same_model:
        return f"another model, or output not compared{f'; {output}' if output else ''} (--same-model leaves it out)"
    if best.lossless:
        return f"lossless{f': {output}' if output else ': plain decoding itself'}"
    if best.output is None:
        return "same model; sampled"
    examined = f"{best.output.rounding} of the {best.output.differing} others examined: rounding"
    return f"same model, {output}; {examined} (--lossless leaves it out)"


def _memory_kind(one: Advice) -> str:
    """What the memory of all of the front is; where some tell less, what these tell."""
    kinds = [each.memory.what for each in (one.best, *one.front) if each.memory]
    return max(kinds, key=len, default="not in the run file")


def _against(one: Separation, runner_up: bool) -> str:
    who = f"the runner-up {one.other}" if runner_up else one.other
    if not math.isfinite(one.ratio.high):
        return f"one prompt cannot tell it from {who} ({one.ratio.estimate:.2f})"
    if one.separated:
        return f"faster than {who}: {interval_text(one.ratio)} over {one.prompts} prompts"
    return f"not separated from {who}: {interval_text(one.ratio)} over {one.prompts} prompts contains 1"


def _cells(one: Candidate) -> tuple[str, ...]:
    return (
        one.id,
        f"{one.tokens_per_second:.1f}",
        "" if one.memory is None else gibibytes(one.memory.bytes),
        "" if one.pass_at_1 is None else f"{100 * one.pass_at_1:.1f}%",
        "" if one.perplexity is None else f"{one.perplexity:.2f}",
        "" if one.output is None else one.output.text,
        "yes" if one.same_model else "no",
    )


def _suggestion(one: Any) -> str:
    return f"{one.setting}: {one.because}"


def _print_list(console: Any, heading: str, items: Sequence[str]) -> None:
    if items:
        console.print(f"\n{heading}", markup=False)
    for item in items:
        console.print(f"  - {item}", markup=False)


def _candidate(one: Candidate) -> dict[str, Any]:
    values = {
        "case": one.id,
        "tokens_per_second": one.tokens_per_second,
        "memory_bytes": one.memory.bytes if one.memory else None,
        "memory_kind": one.memory.what if one.memory else None,
        "pass_at_1": one.pass_at_1,
        "perplexity": one.perplexity,
        "same_model": one.same_model,
        "lossless": one.lossless,
        "same_output": one.output.same if one.output else None,
        "compared_outputs": one.output.compared if one.output else None,
    }
    return {name: value for name, value in values.items() if value is not None}


def _interval(interval: Any) -> dict[str, float]:
    values = {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
    return {name: value for name, value in values.items() if math.isfinite(value)}
