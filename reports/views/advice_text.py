"""Advice as terminal text, Markdown and JSON: three views of the same dataclasses. Computes nothing itself."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from reports.advice.candidates import Advice, Candidate, NoAdvice, Separation, gibibytes
from reports.numbers.cases import losslessness
from reports.numbers.speedups import keeps_answers
from reports.record.plain_text import printable
from reports.record.run import CaseResult
from reports.views.tables import interval_text

LIMITS = {
    "draft": "draft-bound",
    "rejection": "rejection-bound",
    "overhead": "overhead-bound",
    "bandwidth": "bandwidth-bound",
    "compute": "compute-bound",
    "unknown": "unknown",
}
FRONT = ("case", "tokens/s", "memory", "pass@1", "perplexity", "keeps the answers")


def markdown(advice: Sequence[Advice], without: Sequence[NoAdvice] = ()) -> str:
    """All advice in Markdown. without: the targets that there is none for."""
    return "\n\n".join([*(_markdown(one) for one in advice), *(f"### {one.target}\n\n- {one.why}" for one in without)])


def terminal(advice: Sequence[Advice], without: Sequence[NoAdvice] = ()) -> None:
    """Print all advice with rich. without: the targets that there is none for."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=170)
    for one in advice:
        console.print(Text(printable(f"{one.target}: {one.best.id}"), style="bold green"))
        for line in map(printable, _statements(one)):
            console.print(line, markup=False)
        table = Table(title="Pareto front of speed, memory and quality", title_justify="left")
        for place, name in enumerate(FRONT):
            table.add_column(name, justify="left" if place == 0 else "right", overflow="fold")
        for candidate in one.front:
            style = "bold green" if candidate is one.best else None
            table.add_row(*(Text(printable(cell)) for cell in _cells(candidate)), style=style)
        console.print(table)
        console.print(f"memory: {_memory_kind(one)}", markup=False)
        _print_list(console, "try next:", [_suggestion(each) for each in one.suggestions])
        console.print("\nin transformers:\n", markup=False)
        for line in one.lines:
            console.print(f"    {line}", markup=False, soft_wrap=True)
        console.print()
    for missing in without:
        console.print(Text(printable(f"{missing.target}: {missing.why}"), style="bold yellow"), soft_wrap=True)


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
    lines += ["", "| " + " | ".join(FRONT) + " |", "|:---|" + "---:|" * (len(FRONT) - 1)]
    for candidate in one.front:
        name, *cells = _cells(candidate)
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    lines += ["", f"Pareto front of speed, memory ({_memory_kind(one)}) and quality."]
    if one.suggestions:
        lines += ["", "Try next:", "", *(f"- {_suggestion(each)}" for each in one.suggestions)]
    return "\n".join([*lines, "", "```python", *one.lines, "```"])


def _statements(one: Advice) -> list[str]:
    best = one.best
    speed = f"{best.tokens_per_second:.1f} tokens/s"
    if one.speedup:
        speed += f", {interval_text(one.speedup.interval)} times {one.speedup.baseline}"
    found = [speed]
    if best.memory is not None:
        found.append(f"memory {gibibytes(best.memory.bytes)} ({best.memory.what})")
    if not best.lossless:
        found.append(f"{_why_not_lossless(best.case)} (--lossless leaves such cases out)")
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
    for name, count in one.excluded.items():
        found.append(f"{name} excludes {count} of {one.candidates} cases")
    return found


def _why_not_lossless(case: CaseResult) -> str:
    if keeps_answers(case):
        return losslessness(case)
    return "quantized: it does not decode the baseline's own model"


def _memory_kind(one: Advice) -> str:
    return next((each.memory.what for each in (one.best, *one.front) if each.memory), "not in the run file")


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
        "yes" if one.lossless else "no",
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
        "lossless": one.lossless,
    }
    return {name: value for name, value in values.items() if value is not None}


def _interval(interval: Any) -> dict[str, float]:
    values = {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
    return {name: value for name, value in values.items() if math.isfinite(value)}
