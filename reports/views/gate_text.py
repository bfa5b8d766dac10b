"""The gate's verdict for people: in the terminal, and in Markdown for a step summary or a pull request.

Both are views of the same Gate; what is computed is in gate/judging.py. For machines: views/gate_formats.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from reports.gate.verdicts import UNTOLD, Gate, Judgement
from reports.numbers.cases import short_names_of_ids
from reports.record.plain_text import printable
from reports.views.sheet import Sheet, SheetColumn, SheetRow, Tone, console, print_sheet, renamed
from reports.views.sheet import markdown as markdown_of

SHOWN = ("regressed", "inconclusive", "improved")
COLUMNS = (
    SheetColumn("case", "case", code=True),
    SheetColumn("metric", "metric", least=20),
    SheetColumn("verdict", "verdict", least=12),
    SheetColumn("base", "base", priority=3),
    SheetColumn("head", "head", priority=2),
    SheetColumn("change", "change [98%]", least=23),
    SheetColumn("threshold", "threshold", priority=4),
    SheetColumn("p", "p", priority=5),
    SheetColumn("detail", "detail", priority=1),
)
TONES: dict[str, Tone] = {"regressed": "bad", "inconclusive": "warn", "improved": "good", "not gated": "dim"}
MOST_LINES = 20
BY_TURNS = "5%"  # as measured, see reports/published/gate.json
MOST_ROWS = 60  # of one table in Markdown, since a comment has a largest size
_MEANING = {
    "pass": "PASS: nothing got worse",
    "regressed": "REGRESSED",
    "faulty": "FAULTY: cases of head could not be judged",
    "inconclusive": "INCONCLUSIVE: the noise is too large to tell",
}


def headline(found: Gate) -> str:
    """The verdict in one line: what it is, and how many of what."""
    counts = Counter(one.verdict for one in found.judgements)
    told = [
        f"{counts[name]} {name}"
        for name in ("regressed", "inconclusive", "improved", "pass", "not gated")
        if counts[name]
    ]
    if found.failures:
        told.append(f"{len(found.failures)} cases not measured")
    meaning = _MEANING[found.verdict]
    if found.verdict == "inconclusive" and not counts["inconclusive"]:
        meaning = "INCONCLUSIVE: nothing could be gated"
    if found.verdict == "pass" and found.timing_reason:
        meaning = "PASS: the counts hold; timings were not gated"
    return f"{meaning} ({', '.join(told) or 'no metric'})"


def sight(found: Gate) -> str:
    """What this gate can see at all, before its verdict: the least change of each timing that it would call worse."""
    if found.timing_reason:
        return f"this gate sees counts only: timings are not gated ({found.timing_reason})"
    least: dict[str, list[float]] = {}
    for one in found.judgements:
        if one.threshold is not None and one.floor is not None:
            least.setdefault(one.metric, []).append(max(one.threshold, one.floor))
    if not least:
        return "this gate sees counts only: no timing is gated"
    told = ", ".join(f"{_least(changes)} in {metric}" for metric, changes in least.items())
    beside = "" if found.interleaved else f"; by turns, `python -m reports ab` finds {BY_TURNS} on a shared machine"
    return f"this gate finds changes above {told}{beside}"


def _least(changes: Sequence[float]) -> str:
    """`3.4%`, or the range over the cases where they differ; where nothing can be told, no number."""
    low, high = min(changes), max(changes)
    if low > UNTOLD:
        return "any size not at all"
    return _share(low) if _share(low) == _share(high) else f"{_share(low)} to {_share(min(high, UNTOLD))}"


def remarks(found: Gate) -> list[str]:
    """What the reader must know besides the table: faults, why timings are not gated, notes, what it means."""
    lines = []
    for fault in found.faults:
        named = f"{fault.case}: " if fault.case else ""
        lines.append(f"{'allowed' if fault.allowed else 'FAULT'}: {fault.kind}: {named}{fault.reason}")
    if found.timing_reason:
        lines.append(f"timings are reported, not gated: {found.timing_reason}")
    ungated = [one.detail.partition("; ") for one in found.of("not gated") if one.exact]
    reasons = Counter(reason.partition(" (")[0] for reason, _, _ in ungated)
    differing = Counter(reason.partition(" (")[0] for reason, _, first in ungated if first)
    lines += [
        f"counts reported, not gated: {number}, of which {differing[reason]} differ: {reason}"
        for reason, number in reasons.items()
    ]
    lines += found.notes
    if found.verdict == "inconclusive":
        lines.append(f"neither a regression nor its absence is shown: {_remedy(found)}")
    if found.strict and found.verdict == "inconclusive":
        lines.append("--strict: this fails because the noise is too large to tell, not because anything got worse")
    elif found.exit_code and found.verdict == "pass":
        lines.append("--strict: this fails because timings could not be gated, not because anything got worse")
    return lines


def _remedy(found: Gate) -> str:
    """What would tell more than an inconclusive verdict does."""
    if not found.interleaved:
        calibrate = "calibrate this machine, " if any("make calibrate" in note for note in found.notes) else ""
        return f"compare by turns with `python -m reports ab`, {calibrate}or measure both by rounds with more prompts"
    return "measure more blocks or more prompts" + ("" if found.by_turns else ", or by --turns prompt")


def judged(found: Gate, verdicts: Sequence[str] = SHOWN) -> Sheet:
    """The judgements of these verdicts, regressions first."""
    chosen = [one for verdict in verdicts for one in found.judgements if one.verdict == verdict]
    return Sheet(
        columns=COLUMNS,
        rows=tuple(SheetRow(_cells(one), tone=TONES.get(one.verdict, "plain")) for one in chosen),
        title=f"{found.head} against {found.base}",
    )


def print_gate(found: Gate, file: Any = None) -> None:
    """Print verdict, table of all that did not simply pass, and remarks; file: None for standard output."""
    to = console(file)
    to.print(printable(sight(found)), markup=False)
    shown = judged(found)
    if shown.rows:
        names = short_names_of_ids(row.cells[0] for row in shown.rows)
        print_sheet(renamed(replace(shown, rows=shown.rows[:MOST_LINES]), names), to)
        if len(shown.rows) > MOST_LINES:
            to.print(f"and {len(shown.rows) - MOST_LINES} more, all in --format junit", markup=False)
    for line in map(printable, remarks(found)):
        to.print(line, markup=False, style="bold red" if line.startswith("FAULT") else None)
    style = {"pass": "bold green", "inconclusive": "bold yellow"}.get(found.verdict, "bold red")
    to.print(f"gate: {headline(found)}", markup=False, style=style)


def markdown(found: Gate) -> str:
    """The verdict in Markdown: what failed in the open, the rest folded away."""
    lines = [f"### Gate: {_escaped(headline(found))}", "", f"`{found.head}` against `{found.base}`", ""]
    lines += [_escaped(sight(found)), ""]
    regressed = judged(found, ("regressed",))
    if regressed.rows:
        lines += [*_table(regressed), ""]
    told = remarks(found)
    lines += [f"- {_escaped(line)}" for line in told[:MOST_ROWS]]
    if len(told) > MOST_ROWS:
        lines.append(f"- and {len(told) - MOST_ROWS} more remarks, left out here; `--format terminal` has all")
    for summary, verdicts in (
        ("inconclusive", ("inconclusive",)),
        ("improved", ("improved",)),
        ("passed or not gated", ("pass", "not gated")),
    ):
        folded = judged(found, verdicts)
        if folded.rows:
            lines += [
                "",
                f"<details><summary>{len(folded.rows)} {summary}</summary>",
                "",
                *_table(folded),
                "",
                "</details>",
            ]
    return "\n".join(lines) + "\n"


def change_text(one: Judgement) -> str:
    """`+6.1% [+4.0%, +8.3%]`: how much slower head is than base; empty for exact metrics."""
    if one.ratio is None:
        return ""
    estimate, low, high = (_percent(value) for value in (one.ratio.estimate, one.ratio.low, one.ratio.high))
    return f"{estimate} [{low}, {high}]"


def threshold_text(one: Judgement) -> str:
    """The threshold that held: `3%`, `3% -> 7.2% (noise)` where the noise floor is above it, `exact`.

    Above 1000% the floor is no number to read: `too few prompts`.
    """
    if one.exact:
        return "exact"
    if one.threshold is None:
        return ""
    limit = f"{100 * one.threshold:g}%"
    if one.untold:
        return f"{limit} -> too few prompts"
    return f"{limit} -> {_share(one.floor)} (noise)" if one.raised else limit


def _cells(one: Judgement) -> tuple[str, ...]:
    p_value = "" if one.p_value is None else "<0.0001" if one.p_value < 1e-4 else f"{one.p_value:.2g}"
    return (
        one.case,
        one.metric,
        one.verdict,
        one.base,
        one.head,
        change_text(one),
        threshold_text(one),
        p_value,
        one.detail,
    )


def _table(shown: Sheet) -> list[str]:
    lines = [markdown_of(replace(shown, rows=shown.rows[:MOST_ROWS]))]
    if len(shown.rows) > MOST_ROWS:
        lines += [
            "",
            f"and {len(shown.rows) - MOST_ROWS} more rows of {len(shown.rows)}, left out here; "
            "`--format junit` has all",
        ]
    return lines


def _escaped(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def _percent(ratio: float) -> str:
    change = 100 * (ratio - 1)
    return ">+999%" if change > 999 else f"{change:+.1f}%"


def _share(value: float | None) -> str:
    return "?" if value is None else f"{100 * value:.1f}%"
