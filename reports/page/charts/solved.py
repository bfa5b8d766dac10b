"""HumanEval: problems solved by each case, and the difference to its base over the same problems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from reports.numbers import humaneval
from reports.numbers.cases import short_names
from reports.numbers.humaneval import Paired
from reports.page.charts.figure import FIRST, INK, MUTED, SECOND, Figure, Key, Missing, Panel, Table, axis, draw, values
from reports.record.run import Run
from reports.views.humaneval_table import LEGEND, humaneval_sheet

KEY, TITLE = "humaneval", "HumanEval: problems solved"
ROW = 34


@dataclass(frozen=True)
class Solving:
    """One case: the percentage of problems solved, and its comparison with its base; None: it has no base."""

    name: str
    solved: float
    problems: int
    paired: Paired | None
    p_value: float | None


def solving(run: Run) -> list[Solving]:
    """The finished HumanEval cases in their order."""
    cases = [case for case in run.finished.values() if case.kind == "humaneval" and case.status == "ok"]
    names = short_names(cases)
    compared = humaneval.comparisons(run) if run.completions else {}
    found = []
    for case in cases:
        problems = round(case.metrics.get("problems", 0))
        share = case.metrics["solved"] / problems if problems else case.metrics.get("pass_at_1")
        if share is not None:
            paired, p_value = compared.get(case.id, (None, None))
            found.append(Solving(names[case.id], 100 * share, problems, paired, p_value))
    return found


def solved(run: Run) -> Figure | Missing:
    """A panel of percentages, and one of paired differences where there are any."""
    found = solving(run)
    if not found:
        return Missing(
            KEY, TITLE, "HumanEval was not run; `make humaneval` or `pytest perf_tests -m humaneval` runs it."
        )
    totals = ", ".join(f"{one.name} {one.solved:.1f}%" for one in found)
    differences = [one for one in found if one.paired is not None]
    panels = [Panel("problems solved", _draw_totals(found, f"Solved: {totals}."), f"Solved: {totals}.")]
    if differences:
        words = "; ".join(_difference(one) for one in differences) + "."
        panels.append(Panel("difference to the base", _draw_differences(differences, words), words))
    finding = f"Solved: {totals}." + (f" Paired: {panels[1].alt}" if differences else "")
    keys = [Key("solved", "bar", FIRST)]
    if differences:
        keys += [Key("difference, with 95% interval", "circle", SECOND), Key("no difference", "dotted", MUTED)]
    return Figure(
        KEY,
        TITLE,
        finding,
        tuple(panels),
        tuple(keys),
        _table(found, run),
        how=LEGEND if differences else "",
    )


def _table(found: Sequence[Solving], run: Run) -> Table:
    """The table of HumanEval as in the terminal; of cases published without completions, their shares."""
    if run.completions:
        sheet = humaneval_sheet(run)
        return Table(tuple(column.heading for column in sheet.columns), tuple(row.cells for row in sheet.rows))
    return Table(("case", "solved (%)"), tuple((one.name, f"{one.solved:.1f}") for one in found))


def _difference(one: Solving) -> str:
    assert one.paired is not None
    return f"{one.name} {humaneval.points(one.paired.difference)} points, {one.paired.statement(one.p_value)}"


def _rows(names: Sequence[str]) -> alt.Y:
    return alt.Y("case:N", sort=list(names), axis=None)


def _draw_totals(found: Sequence[Solving], label: str) -> str:
    y = _rows([one.name for one in found])
    x = alt.X("solved:Q", scale=alt.Scale(domain=[0, 100]), axis=axis("problems solved (%)", tickCount=5))
    rows = [
        {"case": one.name, "solved": one.solved, "zero": 0, "text": f"{one.name}: {one.solved:.1f}%"} for one in found
    ]
    base = alt.Chart(values(rows))
    bars = base.mark_bar(height=10, yOffset=8, color=FIRST).encode(x=x, y=y)
    texts = base.mark_text(align="left", dx=3, dy=-7, color=INK).encode(
        x=alt.X("zero:Q", scale=alt.Scale(domain=[0, 100])), y=y, text="text:N"
    )
    return draw(alt.layer(bars, texts), height=ROW * len(found) + 46, label=label)


def _draw_differences(found: Sequence[Solving], label: str) -> str:
    y = _rows([one.name for one in found])
    rows: list[dict[str, Any]] = []
    reach = 5.0
    for one in found:
        assert one.paired is not None
        at = one.paired.difference
        rows.append({"case": one.name, "points": 100 * at.estimate, "low": 100 * at.low, "high": 100 * at.high})
        reach = max(reach, 105 * abs(at.low), 105 * abs(at.high))
    scale = alt.Scale(domain=[-reach, reach], nice=False)
    x = alt.X("points:Q", scale=scale, axis=axis("difference (percentage points)", tickCount=5))
    base = alt.Chart(values(rows))
    layers = [
        alt.Chart(values([{"points": 0}])).mark_rule(color=MUTED, strokeDash=[2, 3]).encode(x=x),
        base.mark_rule(color=SECOND, strokeWidth=2, yOffset=8).encode(y=y, x=alt.X("low:Q", scale=scale), x2="high:Q"),
        base.mark_point(color=SECOND, filled=True, size=60, opacity=1, yOffset=8).encode(y=y, x=x),
        alt.Chart(values([{"case": one.name, "points": -reach} for one in found]))
        .mark_text(align="left", dx=3, dy=-7, color=INK)
        .encode(y=y, x=x, text="case:N"),
    ]
    return draw(alt.layer(*layers), height=ROW * len(found) + 46, label=label)
