"""Claims as a terminal table, Markdown or JSON, one column for each run: views of the same findings.

Computes nothing itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reports.claims.material import ClaimComparison
from reports.claims.original import Finding
from reports.numbers.statistics import Interval
from reports.record.plain_text import printable
from reports.record.published import PUBLISHED, is_reference
from reports.record.run import Run
from reports.views.headline import recommended_data, recommended_lines
from reports.views.sheet import Sheet, SheetColumn, SheetRow, Tone, console, print_sheet
from reports.views.sheet import markdown as markdown_of
from reports.views.tables import title

NO_INTERVAL = "no interval: published figures"
LEGEND = (
    "A claim is supported if every comparison that it rests on holds by its whole 95% interval, contradicted if one "
    "is significantly the other way (Holm-adjusted). Differences in speed count only beyond the largest change of a "
    "baseline between its two measurements. Shown is the comparison that decides. Figures published without samples "
    "have no interval: their verdicts take them at face value."
)
_TONES: dict[str, Tone] = {"supported": "good", "contradicted": "bad", "not enough evidence": "dim"}


@dataclass(frozen=True)
class ClaimsOfRun:
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


def claims_sheet(columns: Sequence[ClaimsOfRun], quote: str = "") -> Sheet:
    """A claim a row, a run a column: the verdict and what decides it. quote: what stands around a claim's name."""
    return Sheet(
        columns=(
            SheetColumn("claim", "claim", least=24),
            *(SheetColumn(f"run_{number}", column.heading, least=26) for number, column in enumerate(columns, start=1)),
        ),
        rows=tuple(_row(claim, columns, quote) for claim in _rows(columns)),
        title="Claims",
        notes=(LEGEND,),
    )


def _row(claim: Finding, columns: Sequence[ClaimsOfRun], quote: str) -> SheetRow:
    findings = [column.finding(claim.name) for column in columns]
    return SheetRow(
        cells=(
            f"{claim.says} ({quote}{claim.name}{quote})",
            *("" if finding is None else "\n".join(cell(finding)) for finding in findings),
        ),
        leads=("plain", *("plain" if finding is None else _TONES[finding.verdict] for finding in findings)),
    )


def print_claims(columns: Sequence[ClaimsOfRun], *, every: bool = False) -> None:
    """Print the table and, below it, what to use by each run; every: each comparison, too."""
    to = console()
    print_sheet(claims_sheet(columns), to)
    for line in [*recommended(columns), *(details(columns) if every else ())]:
        to.print(printable(line), markup=False)


def recommended(columns: Sequence[ClaimsOfRun]) -> list[str]:
    """What each run recommends, by the rule of all views; published figures have no samples to decide by."""
    measured = [column.run for column in columns if not is_reference(column.run)]
    return [f"{run.path.name}: {line}" for run in measured for line in recommended_lines(run)]


def details(columns: Sequence[ClaimsOfRun]) -> list[str]:
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


def markdown_table(columns: Sequence[ClaimsOfRun]) -> str:
    """The same table in Markdown, the legend below it."""
    table = markdown_of(claims_sheet(columns, quote="`"))
    return f"{table}\n\n{LEGEND}"


def markdown(columns: Sequence[ClaimsOfRun]) -> str:
    """The table, and every comparison in a part that can be folded out."""
    lines = details(columns)
    table = "\n".join([markdown_table(columns), "", *(f"- {line}" for line in recommended(columns))]).rstrip()
    if not lines:
        return table
    folded = ["<details><summary>All comparisons</summary>", "", "```", *lines, "```", "", "</details>"]
    return "\n".join([table, "", *folded])


def as_json(columns: Sequence[ClaimsOfRun]) -> list[dict[str, Any]]:
    """Everything, one entry for each run; an interval that is not known is null."""
    return [
        {
            "run": str(column.run.path),
            "title": column.heading,
            "reference": is_reference(column.run),
            "recommended": [] if is_reference(column.run) else recommended_data(column.run),
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


def _rows(columns: Sequence[ClaimsOfRun]) -> list[Finding]:
    """Every claim once, in order of first appearance."""
    found: dict[str, Finding] = {}
    for column in columns:
        for finding in column.findings:
            found.setdefault(finding.name, finding)
    return list(found.values())


def _bearing(comparison: ClaimComparison, finding: Finding) -> str:
    if comparison in finding.broken:
        return "against"
    return "holds" if comparison.holds else "open"


def _effect(comparison: ClaimComparison) -> str:
    """`label: 1.24 [1.19, 1.28]`, differences in points with their sign."""
    form, unit = ("+.1f", " points") if comparison.unit == "points" else (".2f", "")
    shown = format(comparison.estimate, form)
    if comparison.interval is None:
        return f"{comparison.label}: {shown}{unit}, {NO_INTERVAL}"
    return f"{comparison.label}: {shown} [{comparison.interval.low:{form}}, {comparison.interval.high:{form}}]{unit}"


def _comparison(comparison: ClaimComparison) -> dict[str, Any]:
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
