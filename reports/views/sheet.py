"""A table as data, and its four forms: terminal, Markdown, CSV and JSON. Knows nothing of what a table is about.

The one place that decides how wide output is, which columns leave where there is too little room, and how a cell is
escaped. A column of priority 0 never leaves; the others do one after the other, the highest priority first.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any, Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reports.record.plain_text import printable
from reports.record.run import RunFileError

WIDTH_OF_FILES = 200
"""Of output that goes to a file or a pipe and whose reader has not set COLUMNS."""
NARROWEST = 40
_GAP = 2  # between two columns
_WRAPPED = 30  # the least that a column of text keeps before others leave for it
_LEAST = 8

Align = Literal["left", "right", "centre"]
Tone = Literal["plain", "best", "dim", "good", "bad", "warn"]
Scalar = str | int | float | bool | None
_STYLES: dict[Tone, str] = {
    "plain": "",
    "best": "bold green",
    "dim": "dim",
    "good": "green",
    "bad": "bold red",
    "warn": "yellow",
}
_RULES: dict[Align, str] = {"left": ":---", "right": "---:", "centre": ":---:"}


@dataclass(frozen=True)
class SheetColumn:
    """key: what options and JSON call it. unit: shown behind the label that does not hold it already.

    priority: 0 stays at any width; the highest leaves first. shown: whether it is there unless asked for. better: which
    end of its values `--sort` puts first. code: an identifier, which Markdown sets as code. least: the characters that
    a column of text keeps. meaning: a sentence for the notes.
    """

    key: str
    label: str
    unit: str = ""
    priority: int = 0
    align: Align = "left"
    shown: bool = True
    better: Literal["higher", "lower"] = "higher"
    code: bool = False
    least: int = _WRAPPED
    meaning: str = ""

    @property
    def heading(self) -> str:
        """`memory (GiB)`; `ms/token`."""
        return self.label if not self.unit or self.unit in self.label else f"{self.label} ({self.unit})"


@dataclass(frozen=True)
class SheetRow:
    """cells: texts in the order of the columns, with line ends where they have several lines. values: the same as data,
    for sorting, JSON and CSV; empty: the texts are. mark: shown behind the first cell. leads: of every cell, how its
    first line stands out of the others."""

    cells: tuple[str, ...]
    values: tuple[Scalar, ...] = ()
    tone: Tone = "plain"
    mark: str = ""
    leads: tuple[Tone, ...] = ()


@dataclass(frozen=True)
class Sheet:
    """title: of what; shared: what holds for all rows, said once; notes: what a reader must know to read it."""

    columns: tuple[SheetColumn, ...]
    rows: tuple[SheetRow, ...]
    title: str = ""
    shared: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def plain_sheet(columns: Mapping[str, Align], rows: Iterable[Sequence[str]]) -> Sheet:
    """A sheet of texts alone; columns: label -> alignment."""
    made = tuple(SheetColumn(label, label, align=align) for label, align in columns.items())
    return Sheet(made, tuple(SheetRow(tuple(cells)) for cells in rows))


def chosen(sheet: Sheet, columns: str | None = None, sort: str | None = None, top: int | None = None) -> Sheet:
    """The sheet with the columns of a comma list (else those shown unasked), sorted by a column's better end first
    (`-KEY`: its other end; rows without a value come last), cut to its first rows.

    The first column is always there. Raises RunFileError that names the option, the value and what is allowed.
    """
    if top is not None and top < 1:
        raise RunFileError(f"--top {top}: at least 1 row is shown")
    keys = [column.key for column in sheet.columns]
    rows = sheet.rows
    if sort is not None:
        place = keys.index(_known("--sort", sort.removeprefix("-"), keys))
        column = sheet.columns[place]
        rows = _sorted(rows, place, descending=(column.better == "higher") != sort.startswith("-"))
    wanted = [column.key for column in sheet.columns if column.shown]
    if columns is not None:
        named = [_known("--columns", name.strip(), keys) for name in columns.split(",") if name.strip()]
        wanted = list(dict.fromkeys([keys[0], *named]))
    picked = _picked(replace(sheet, rows=rows[:top]), [keys.index(key) for key in wanted])
    asked = () if columns is None else tuple(replace(column, priority=0) for column in picked.columns)
    return replace(picked, columns=asked or picked.columns)


def renamed(sheet: Sheet, names: Mapping[str, str]) -> Sheet:
    """The sheet with short names in place of the ids in its first column."""
    rows = tuple(
        replace(row, cells=(names.get(row.cells[0], row.cells[0]), *row.cells[1:]), values=row.values or row.cells)
        for row in sheet.rows
    )
    return replace(sheet, rows=rows)


def fitted(sheet: Sheet, width: int) -> Sheet:
    """The sheet without the columns for which there is no room; which ones left is the last of its notes."""
    kept = list(range(len(sheet.columns)))
    left: list[int] = []
    while sum(_least(sheet, place) + _GAP for place in kept) - _GAP > width:
        droppable = [place for place in kept if sheet.columns[place].priority and place]
        if not droppable:
            break
        leaving = max(droppable, key=lambda place: (sheet.columns[place].priority, place))
        kept.remove(leaving)
        left.append(leaving)
    if not left:
        return sheet
    names = ", ".join(sheet.columns[place].key for place in sorted(left))
    told = f"left out for want of room: {names} (a wider terminal, or COLUMNS, shows them)"
    return replace(_picked(sheet, kept), notes=(*sheet.notes, told))


def print_sheet(sheet: Sheet, to: Console | None = None) -> None:
    """Print title, what all rows share, table and notes, in the width that there is."""
    to = to or console()
    shown = fitted(sheet, to.width)
    for line in filter(None, (shown.title, *shown.shared)):
        to.print(Text(printable(line), style="bold" if line == shown.title else ""), soft_wrap=False)
    to.print(terminal(shown, to.width))
    for note in shown.notes:
        to.print(Text(printable(note), style="dim"))


def terminal(sheet: Sheet, width: int) -> Table:
    """The table alone, at most `width` wide where that can be: columns of text wrap, figures do not."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column, room in zip(sheet.columns, _widths(sheet, width), strict=True):
        table.add_column(
            Text(printable(column.heading)),
            justify="left" if column.align == "left" else "right" if column.align == "right" else "center",
            overflow="fold",
            width=room,
        )
    for row in sheet.rows:
        texts = [_lines(cell) for cell in row.cells]
        if row.mark and texts:
            texts[0][-1] += f" {row.mark}"
        nothing: tuple[Tone, ...] = ("plain",)
        leads = row.leads or nothing * len(texts)
        cells = [_led([printable(line) for line in lines], lead) for lines, lead in zip(texts, leads, strict=True)]
        table.add_row(*cells, style=_STYLES[row.tone] or None)
    return table


def markdown(sheet: Sheet) -> str:
    """The table in Markdown, without title and notes; the best row is bold."""
    lines = [
        _line(column.heading for column in sheet.columns),
        "|" + "|".join(_RULES[column.align] for column in sheet.columns) + "|",
    ]
    for row in sheet.rows:
        cells = [
            _markdown_cell(cell, column, bold=row.tone == "best" and place > 0, lead=bool(row.leads) and place > 0)
            for place, (cell, column) in enumerate(zip(row.cells, sheet.columns, strict=True))
        ]
        if row.mark and cells:
            cells[0] += f" **{row.mark.replace('*', chr(92) + '*')}**"
        lines.append(_line(cells))
    return "\n".join(lines)


def as_csv(sheet: Sheet) -> str:
    """A header of keys and one line for each row; a cell without a value is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.key for column in sheet.columns])
    writer.writerows(["" if value is None else value for value in _values(row)] for row in sheet.rows)
    return text.getvalue()


def as_data(sheet: Sheet) -> dict[str, Any]:
    """Everything as plain data for JSON; a value that is not known is null."""
    return {
        "title": sheet.title,
        "shared": list(sheet.shared),
        "columns": [{"key": one.key, "label": one.label, "unit": one.unit or None} for one in sheet.columns],
        "rows": [
            {column.key: value for column, value in zip(sheet.columns, _values(row), strict=True)} for row in sheet.rows
        ],
        "notes": list(sheet.notes),
    }


def as_json(sheet: Sheet) -> str:
    """`as_data` as text."""
    return json.dumps(as_data(sheet), indent=1, ensure_ascii=False, allow_nan=False)


class _SheetConsole(Console):
    def on_broken_pipe(self) -> None:
        """Pass on that nobody reads: rich would exit with 1, whatever the answer is."""
        raise BrokenPipeError


def console(file: IO[str] | None = None) -> Console:
    """Where tables are printed: as wide as the terminal or COLUMNS say, else WIDTH_OF_FILES."""
    made = _SheetConsole(file=file, highlight=False)
    said = os.environ.get("COLUMNS", "")
    if not made.is_terminal and not (said.isdigit() and int(said) > 0):
        made = _SheetConsole(file=file, highlight=False, width=WIDTH_OF_FILES)
    elif made.width < NARROWEST:
        made = _SheetConsole(file=file, highlight=False, width=NARROWEST)
    return made


def _known(option: str, name: str, keys: Sequence[str]) -> str:
    if name not in keys:
        raise RunFileError(f"{option} {name!r}: no such column here; choose from {', '.join(keys)}")
    return name


def _sorted(rows: Iterable[SheetRow], place: int, *, descending: bool) -> tuple[SheetRow, ...]:
    known = [row for row in rows if _values(row)[place] not in (None, "")]
    unknown = [row for row in rows if _values(row)[place] in (None, "")]
    numeric = all(isinstance(_values(row)[place], int | float) for row in known)
    if not numeric:
        return (*sorted(known, key=lambda row: str(_values(row)[place])), *unknown)
    sign = -1 if descending else 1
    return (*sorted(known, key=lambda row: sign * float(_values(row)[place] or 0)), *unknown)


def _picked(sheet: Sheet, places: Sequence[int]) -> Sheet:
    return replace(
        sheet,
        columns=tuple(sheet.columns[place] for place in places),
        rows=tuple(
            replace(
                row,
                cells=tuple(row.cells[place] for place in places),
                values=tuple(row.values[place] for place in places) if row.values else (),
                leads=tuple(row.leads[place] for place in places) if row.leads else (),
            )
            for row in sheet.rows
        ),
    )


def _values(row: SheetRow) -> tuple[Scalar, ...]:
    """The row as data; what is not finite is not known."""
    values: Sequence[Scalar] = row.values or row.cells
    return tuple(None if isinstance(value, float) and not math.isfinite(value) else value for value in values)


def _natural(sheet: Sheet, place: int) -> int:
    """The width in which no cell of a column wraps; a heading may wrap at its spaces."""
    mark = max((cell_len(row.mark) + 1 for row in sheet.rows if row.mark), default=0) if not place else 0
    cells = [cell_len(printable(line)) for row in sheet.rows for line in _lines(row.cells[place])]
    words = [cell_len(word) for word in sheet.columns[place].heading.split()]
    return max([*words, *(length + mark for length in cells), 1])


def _least(sheet: Sheet, place: int) -> int:
    column = sheet.columns[place]
    natural = _natural(sheet, place)
    return min(natural, column.least) if column.align == "left" else natural


def _widths(sheet: Sheet, width: int) -> list[int]:
    """Of every column; what room there is beyond the least goes to the columns of text, the first one first."""
    places = range(len(sheet.columns))
    widths = [_least(sheet, place) for place in places]
    over = sum(widths) + _GAP * (len(widths) - 1) - width
    for place in sorted(places, key=lambda one: -widths[one]):
        if over > 0 and sheet.columns[place].align == "left":
            cut = min(over, max(0, widths[place] - _LEAST))
            widths[place] -= cut
            over -= cut
    room = -over
    for place in places:
        if room > 0:
            more = min(room, _natural(sheet, place) - widths[place])
            widths[place] += more
            room -= more
    return widths


def _lines(cell: str) -> list[str]:
    return cell.split("\n")


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _led(lines: Sequence[str], lead: Tone) -> Text:
    return Text("\n").join(Text(line, style=_STYLES[lead] if not place else "") for place, line in enumerate(lines))


def _markdown_cell(cell: str, column: SheetColumn, *, bold: bool, lead: bool) -> str:
    lines = [" ".join(printable(line).split()).replace("|", "\\|") for line in _lines(cell)]
    if column.code and any(lines):
        return "<br>".join(f"`{line}`" for line in lines)
    lines = [line.replace("<", "&lt;") for line in lines]
    if lead and lines[0]:
        lines[0] = f"**{lines[0]}**"
    text = "<br>".join(lines)
    return f"**{text}**" if bold and text else text
