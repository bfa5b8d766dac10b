"""What a chart is made of, and its drawing: an Altair chart to an SVG that follows the page's colours and width.

Every colour in a chart is one of the placeholders below; drawing replaces each by a CSS variable of the page, so that
one SVG serves light, dark and print. Text is drawn at 11 units in a chart 360 units wide: readable on a phone at 1:1.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import altair as alt

WIDTH = 360
HEIGHT = 230
FONT = 11

INK, MUTED, GRID, AXIS, CARD = "#0a0001", "#0a0002", "#0a0003", "#0a0004", "#0a0005"
FIRST, SECOND, THIRD, FOURTH, WRONG = "#0b0001", "#0b0002", "#0b0003", "#0b0004", "#0b0005"
VARIABLES: dict[str, str] = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    AXIS: "--axis",
    CARD: "--card",
    FIRST: "--series-1",
    SECOND: "--series-2",
    THIRD: "--series-3",
    FOURTH: "--series-4",
    WRONG: "--bad",
}

Shape = Literal["circle", "square", "triangle", "cross", "diamond", "line", "dashed", "dotted", "bar", "tick", "ring"]


@dataclass(frozen=True)
class Table:
    """The data of a chart as text; the first column names the row."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Key:
    """One entry of a chart's legend: a mark told apart by its shape or dash as well as by its colour."""

    label: str
    shape: Shape
    colour: str

    @property
    def variable(self) -> str:
        """The page's CSS variable of the colour."""
        return VARIABLES[self.colour]


@dataclass(frozen=True)
class Panel:
    """One drawing. alt: what it shows, in words."""

    title: str
    svg: str
    alt: str


@dataclass(frozen=True)
class Figure:
    """One chart of the page: one or more panels on the same scales, what they show in words, and their data."""

    key: str
    title: str
    finding: str
    panels: tuple[Panel, ...]
    legend: tuple[Key, ...]
    table: Table
    how: str = ""
    listed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Missing:
    """A chart that the run has no data for. sentence: why, and what measures it; table: what there is instead."""

    key: str
    title: str
    sentence: str
    table: Table | None = None


def values(rows: Sequence[Mapping[str, Any]]) -> alt.Data:
    """Rows as a chart's inline data."""
    return alt.Data(values=[dict(row) for row in rows])


def axis(title: str, **settings: Any) -> alt.Axis:
    """An axis whose title names quantity and unit."""
    return alt.Axis(title=title, **settings)


def draw(chart: Any, *, height: int = HEIGHT, label: str) -> str:
    """Draw an Altair chart, WIDTH x height units, as an SVG for inlining; label: its text alternative.

    The SVG carries no size, so that the page sizes it, and nothing that a reader's software would read out twice.
    """
    sized = chart.properties(width=WIDTH, height=height, autosize=alt.AutoSizeParams(type="fit", contains="padding"))
    file = io.StringIO()
    sized.configure(**_theme()).save(file, format="svg")
    return _inlined(file.getvalue(), label)


def _theme() -> dict[str, Any]:
    return {
        "aria": False,
        "background": "transparent",
        "font": "sans-serif",
        "padding": 4,
        "view": alt.ViewConfig(stroke=None),
        "axis": alt.AxisConfig(
            labelColor=MUTED,
            titleColor=INK,
            gridColor=GRID,
            domainColor=AXIS,
            tickColor=AXIS,
            labelFontSize=FONT,
            titleFontSize=FONT,
            titleFontWeight="normal",
            titlePadding=6,
        ),
        "legend": alt.LegendConfig(disable=True),
        "text": alt.MarkConfig(fontSize=FONT, color=INK),
    }


def _inlined(svg: str, label: str) -> str:
    """The SVG without size and background, with the page's variables for colours and one text alternative."""
    size = re.search(r'viewBox="([^"]+)"', svg)
    body = re.search(r"<svg[^>]*>(.*)</svg>", svg, re.DOTALL)
    if size is None or body is None:
        raise ValueError("not an SVG drawing")
    drawn = re.sub(r'"(#0[ab]000\d)"', lambda found: f'"var({VARIABLES[found[1]]})"', body[1])
    drawn = drawn.replace('font-family="sans-serif"', 'font-family="inherit"')
    drawn = re.sub(r' (?:role|aria-[a-z]+)="[^"]*"', "", drawn)
    return f'<svg class="chart" viewBox="{size[1]}" role="img" aria-label="{_attribute(label)}">{drawn}</svg>'


def _attribute(text: str) -> str:
    from markupsafe import escape

    return str(escape(text))
