"""Claims as a terminal table, Markdown or JSON, one column for each run: views of the same findings.

Computes nothing itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from reports.claims.material import Comparison
from reports.claims.original import Finding
from reports.numbers.statistics import Interval
from reports.record.plain_text import printable
from reports.record.published import PUBLISHED, is_reference
from reports.record.run import Run
from reports.views.tables import title

NO_INTERVAL = "no interval: published figures"
LEGEND = (
    "A claim is supported if every comparison that it rests on holds by its whole 95% interval, contradicted if one "
    "is significantly the other way (Holm-adjusted). Differences in speed count only beyond the largest change of a "
    "baseline between its two measurements. Shown is the comparison that decides. Figures published without samples "
    "have no interval: their verdicts take them at face value."
)
_COLOURS = {"supported": "green", "contradicted": "bold red", "not enough evidence": "dim"}


@dataclass(frozen=True)
class Column:
    """One run and what it says about the claims that it was held against."""

    run: Run
    findings: tuple[Finding, ...]

    @property
    def heading(self) -> str:
        """Study and machine; of a reference, that it was not measured here."""
        name = title(self.run).split(";")[0]
        return f"{name} ({PUBLISHED})" if is_reference(self.run) else name

    def finding(self, name: str) -> Finding | None:
        return next((one for one in self.findings if one.name == name), None)


def terminal_table(columns: Sequence[Column]) -> Table:
    """The table for a terminal."""
    table = Table(title="Claims", title_justify="left", caption=LEGEND, caption_justify="left", show_lines=True)
    table.add_column("claim", ratio=2, overflow="fold")
    for column in columns:
        table.add_column(Text("\n".join(map(printable, column.heading.split("\n")))), ratio=3, overflow="fold")
    for claim in _rows(columns):
        cells = [Text(printable(f"{claim.name}: {claim.says}"))]
        for column in columns:
            finding = column.finding(claim.name)
            lines = [] if finding is None else [printable(line) for line in cell(finding)]
            style = "" if finding is None else _COLOURS[finding.verdict]
            cells.append(Text("\n").join(Text(line, style="" if i else style) for i, line in enumerate(lines)))
        table.add_row(*cells)
    return table


def details(columns: Sequence[Column]) -> list[str]:
    """Every comparison of every claim in one line, with the cases that it used."""
    lines = []
    for column in columns:
        for finding in column.findings:
            if finding.comparisons:
                lines.append(f"{column.run.path.name}, {finding.name} ({finding.effect}):")
                lines += [
                    f"  {_bearing(one, finding)}: {_effect(one)}; cases: {' | '.join(one.cases)}"
                    for one in finding.comparisons
                ]
    return lines


def markdown_table(columns: Sequence[Column]) -> str:
    """The same table in Markdown, the legend below it."""
    rows = [["claim", *(column.heading for column in columns)], [":---"] * (len(columns) + 1)]
    for claim in _rows(columns):
        cells = [f"{claim.says} (`{claim.name}`)"]
        for column in columns:
            finding = column.finding(claim.name)
            lines = [] if finding is None else cell(finding)
            cells.append("<br>".join([f"**{lines[0]}**", *lines[1:]] if lines else []))
        rows.append(cells)
    escaped = [[one.replace("|", "\\|") for one in row] for row in rows]
    return "\n".join(["| " + " | ".join(row) + " |" for row in escaped] + ["", LEGEND])


def markdown(columns: Sequence[Column]) -> str:
    """The table, and every comparison in a part that can be folded out."""
    lines = details(columns)
    if not lines:
        return markdown_table(columns)
    folded = ["<details><summary>All comparisons</summary>", "", "```", *lines, "```", "", "</details>"]
    return "\n".join([markdown_table(columns), "", *folded])


def as_json(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Everything, one entry for each run; an interval that is not known is null."""
    return [
        {
            "run": str(column.run.path),
            "title": column.heading,
            "reference": is_reference(column.run),
            "claims": [
                {
                    "name": finding.name,
                    "says": finding.says,
                    "verdict": finding.verdict,
                    "by_published_figures": finding.published,
                    "effect": finding.effect,
                    "deciding": None if finding.deciding is None else _comparison(finding.deciding),
                    "comparisons": [_comparison(one) for one in finding.comparisons],
                    "missing": list(finding.missing),
                    "cases": list(finding.cases),
                }
                for finding in column.findings
            ],
        }
        for column in columns
    ]


def cell(finding: Finding) -> list[str]:
    """One finding in a few lines: the verdict, what decides it, how many comparisons hold, what is missing."""
    by = finding.published and finding.verdict != "not enough evidence"
    lines = [f"{finding.verdict}{', by published figures' if by else ''}"]
    if finding.deciding is not None:
        lines.append(_effect(finding.deciding))
        count = len(finding.comparisons)
        holding = sum(one.holds for one in finding.comparisons)
        lines.append(f"{holding} of {count} comparisons hold" if count > 1 else "1 comparison")
    if finding.missing and finding.verdict == "not enough evidence":
        shown = "; ".join(finding.missing[:3])
        lines.append(f"missing: {shown}{f' and {len(finding.missing) - 3} more' if len(finding.missing) > 3 else ''}")
    return lines


def _rows(columns: Sequence[Column]) -> list[Finding]:
    """Every claim once, in order of first appearance."""
    found: dict[str, Finding] = {}
    for column in columns:
        for finding in column.findings:
            found.setdefault(finding.name, finding)
    return list(found.values())


def _bearing(comparison: Comparison, finding: Finding) -> str:
    if comparison in finding.broken:
        return "against"
    return "holds" if comparison.holds else "open"


def _effect(comparison: Comparison) -> str:
    """`label: 1.24 [1.19, 1.28]`, differences in points with their sign."""
    form, unit = ("+.1f", " points") if comparison.unit == "points" else (".2f", "")
    shown = format(comparison.estimate, form)
    if comparison.interval is None:
        return f"{comparison.label}: {shown}{unit}, {NO_INTERVAL}"
    return f"{comparison.label}: {shown} [{comparison.interval.low:{form}}, {comparison.interval.high:{form}}]{unit}"


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "label": comparison.label,
        "cases": list(comparison.cases),
        "estimate": comparison.estimate,
        "unit": comparison.unit,
        "interval": None if comparison.interval is None else _bounds(comparison.interval),
        "evidence_for": comparison.evidence_for,
        "evidence_against": comparison.evidence_against,
        "holds": comparison.holds,
    }


def _bounds(interval: Interval) -> dict[str, Any]:
    """JSON knows no infinity: an end that is not known is null."""
    low, high = interval.low, interval.high
    return {"low": low, "high": high if high < float("inf") else None, "confidence": interval.confidence}
