"""Charts of a run as files of their own, for a README: the page's drawings with the page's colours written in.

Knows the charts and the page's style sheet; which run is pictured where is the README's to say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from reports.page.charts import figures
from reports.page.charts.figure import Figure, Shape
from reports.record.run import Run

STYLE = Path(__file__).resolve().parent / "templates" / "page.css"
PICTURED = ("speedup", "pareto", "length")
"""Charts that a README shows, where the run has the data."""

SIGNS: dict[Shape, str] = {
    "circle": "●",
    "square": "■",
    "triangle": "▲",
    "cross": "✕",
    "diamond": "◆",
    "line": "—",
    "dashed": "- -",
    "dotted": "···",
    "bar": "▮",
    "tick": "|",
    "ring": "○",
}


@dataclass(frozen=True)
class Picture:
    """One chart: the name of its file, its SVG, what it shows in words, and Markdown that explains its marks."""

    name: str
    svg: str
    alt: str
    caption: str


def pictures(run: Run) -> list[Picture]:
    """The first panel of each pictured chart."""
    found = []
    for figure in figures(run):
        if isinstance(figure, Figure) and figure.key in PICTURED:
            panel = figure.panels[0]
            marks = "; ".join(f"{SIGNS[key.shape]} {key.label}" for key in figure.legend)
            title = figure.title + (f", {panel.title}" if panel.title else "")
            numbered = "; ".join(f"{number}: {one}" for number, one in enumerate(figure.listed, start=1))
            explained = "; ".join(part for part in (marks, numbered) if part)
            caption = f"{title}. {figure.finding}" + (f" ({explained})" if explained else "")
            found.append(Picture(f"{run.path.stem}-{figure.key}.svg", standalone(panel.svg), panel.alt, caption))
    return found


def standalone(svg: str) -> str:
    """A drawing of the page as a document: with its colours for light and dark, a background and a font."""
    style = STYLE.read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)color-scheme", style, re.DOTALL)[:2]
    rules = " ".join(f":root {{{light}}} @media (prefers-color-scheme: dark) {{ :root {{{dark}}} }}".split())
    drawing = re.fullmatch(r'(<svg[^>]*viewBox="(\S+) (\S+) (\S+) (\S+)"[^>]*)>(.*)', svg, re.DOTALL)
    if drawing is None:
        raise ValueError("not a drawing of the page")
    start, left, top, width, height, rest = drawing.groups()
    ground = f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="var(--card)"/>'
    named = f'{start} xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif"'
    return f"{named}><style>{rules}</style>{ground}{rest}\n"
