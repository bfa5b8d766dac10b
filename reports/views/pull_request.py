"""A run as one Markdown comment for a pull request: short at first sight, the rest folded away, never too long.

Renders what tables.py and humaneval_table.py say; computes nothing. A comment that is longer than GitHub takes is
refused whole, so rows are left out from the end, and the text says how many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reports.record.run import Run
from reports.views.headline import recommended_lines
from reports.views.humaneval_table import humaneval_sheet
from reports.views.sheet import Sheet, markdown
from reports.views.tables import legend, notes, run_sheet, title

LARGEST = 64_000  # bytes; GitHub takes 65,536 characters
AT_FIRST = 8  # rows that are visible without unfolding
_LONGEST_CELL = 300  # characters; a reason of failure can hold a whole traceback


def comment(run: Run, largest: int = LARGEST) -> str:
    """The comment, at most `largest` bytes in UTF-8 (at least 4,000 are needed for a useful one)."""
    table = run_sheet(run, ids=True)
    solved = humaneval_sheet(run)
    head = [f"### {_one_line(title(run))}", ""]
    if table.rows:
        first = replace(table, rows=table.rows[:AT_FIRST])
        head += [*_table(first), "", *(f"- {_one_line(line)}" for line in recommended_lines(run))]
    head.append("")
    folded = [("HumanEval", "rows", 2, [*_table(solved), "", *solved.notes] if solved.rows else [])]
    folded.append(("Notes", "notes", 0, [f"- {_one_line(note)}" for note in (legend(run), *notes(run))]))
    if len(table.rows) > AT_FIRST:
        folded.append((f"All {len(table.rows)} cases", "cases", 2, _table(table)))
    room = largest - _size(head)
    for place, (summary, unit, header, lines) in enumerate(folded):
        if lines:
            part = _folded(summary, unit, header, lines, room // (len(folded) - place))
            head += part
            room -= _size(part)
    return "\n".join(head)


def _folded(summary: str, unit: str, header: int, lines: Sequence[str], room: int) -> list[str]:
    """A folded section of at most `room` bytes, with as many of the lines as fit; header: lines that are no entries."""
    kept = list(lines)
    told: list[str] = []
    while True:
        part = [f"<details><summary>{summary}</summary>", "", *kept, *told, "", "</details>", ""]
        if _size(part) <= room or not kept:
            return part
        surplus = _size(part) - room
        while kept and surplus > 0:
            surplus -= _size([kept.pop()])
        missing = len(lines) - max(len(kept), header)
        told = ["", f"{missing} more {unit} left out for length; `python -m reports show RUN` prints everything."]


def _table(sheet: Sheet) -> list[str]:
    """The table without cells that are longer than a reader wants: a reason can hold a whole traceback."""
    rows = tuple(replace(row, cells=tuple(map(_short, row.cells))) for row in sheet.rows)
    return markdown(replace(sheet, rows=rows)).split("\n")


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 1] + "…"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _size(lines: Sequence[str]) -> int:
    return sum(len(line.encode()) + 1 for line in lines)
