"""One series over many runs: dates and versions below, room above and below its values, where its level changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import altair as alt

from reports.compare.trends import LATENCY, RATIO, Source, Trend
from reports.page.charts.figure import AXIS, FIRST, FONT, THIRD, WIDTH, axis, draw, values

MARGIN = 0.12  # of the range of values, free above and below them
CONSTANT = 0.05  # of a value that never changes, on either side of it
CHARACTER = 0.6 * FONT  # its width, about
PLOT = WIDTH - 70  # of which the axis of values takes no part
GAP = 10  # between two labels
MOST_LINES = 4
MOST_RENEWED = 6  # more lines of new versions would hide the values: two versions in turns, as of an upgrade measured


@dataclass(frozen=True)
class Tick:
    """A labelled run on the axis: its number, and lines of text, the date first and the versions that are new then."""

    number: int
    lines: tuple[str, ...]


def padded(low: float, high: float) -> tuple[float, float]:
    """Where an axis begins and ends so that no value lies on its edge; what never changes lies in its middle."""
    reach = high - low
    margin = MARGIN * reach if reach > 1e-9 * max(abs(low), abs(high)) else CONSTANT * max(abs(high), 1e-12)
    begins = low - margin
    return (max(0.0, begins) if low >= 0 else begins), high + margin


def ticks(sources: Sequence[Source], changed: Sequence[int] = (), width: float = PLOT) -> list[Tick]:
    """The runs that are labelled, none over another: ends, new versions and changes of level first, then between."""
    if not sources:
        return []
    new = _new_versions(sources)
    dates = _dates(sources)
    numbers = [source.number for source in sources]
    first, last = numbers[0], numbers[-1]
    order = [first, *(number for number in numbers if new.get(number)), last, *changed, *_between(numbers)]
    reach = max(1, last - first)
    taken: list[tuple[float, float]] = []
    chosen: list[Tick] = []
    for number in dict.fromkeys(number for number in order if number in dates):
        tick = Tick(number, (dates[number], *new.get(number, ())))
        half = CHARACTER * max(map(len, tick.lines)) / 2
        middle = width * (number - first) / reach
        begins, ends = middle - half - GAP, middle + half + GAP
        if all(ends <= low or begins >= high for low, high in taken):
            taken.append((begins, ends))
            chosen.append(tick)
    return sorted(chosen, key=lambda tick: tick.number)


def chart(series: Trend, scale: tuple[float, str], title: str, spoken: str) -> str:
    """The series as an SVG. scale: factor and unit of values; title: of their axis; spoken: its text alternative."""
    factor, unit = scale
    rows = [
        {
            "run": point.source.number,
            "value": factor * point.value,
            "low": factor * (point.interval.low if point.interval else point.value),
            "high": factor * (point.interval.high if point.interval else point.value),
        }
        for point in series.points
    ]
    sources = [point.source for point in series.points]
    labelled = ticks(sources, [change.at.number for change in series.changes])
    first, last = sources[0].number, sources[-1].number
    room = max(0.5, 0.06 * (last - first))
    x = alt.X(
        "run:Q",
        axis=axis(
            _title(sources),
            values=[tick.number for tick in labelled],
            labelExpr=_expression(labelled),
            labelOverlap=False,
            labelLineHeight=FONT + 2,
        ),
        scale=alt.Scale(domain=[first - room, last + room], nice=False),
    )
    domain = padded(min(row["low"] for row in rows), max(row["high"] for row in rows))
    levels = alt.Scale(domain=list(domain), nice=False)
    y = alt.Y("value:Q", axis=axis(f"{title} ({unit})", tickCount=5), scale=levels)
    base = alt.Chart(values(rows))
    layers: list[Any] = [
        base.mark_rule(color=FIRST, opacity=0.5).encode(x=x, y=alt.Y("low:Q", scale=levels), y2="high:Q"),
        base.mark_line(color=FIRST, strokeWidth=1.5).encode(x=x, y=y),
        base.mark_point(color=FIRST, filled=True, size=30, opacity=1).encode(x=x, y=y),
    ]
    if series.metric == RATIO and domain[0] < 1 < domain[1]:
        one = alt.Chart(values([{"value": 1.0}])).mark_rule(color=AXIS)
        layers.insert(0, one.encode(y=alt.Y("value:Q", scale=levels)))
    renewed = [number for number, lines in _new_versions(sources).items() if number != first and lines]
    layers += _rules([number - 0.5 for number in renewed], AXIS, [1, 3]) if len(renewed) <= MOST_RENEWED else []
    layers += _rules([change.at.number - 0.5 for change in series.changes], THIRD, [4, 3])
    return draw(alt.layer(*layers), height=180, label=spoken)


def scale_of(series: Trend) -> tuple[float, str]:
    """By what the values are multiplied to be shown, and the unit that they then have."""
    return (1000.0, "ms/token") if series.metric == LATENCY else (1.0, series.unit)


def _rules(places: Sequence[float], colour: str, dash: list[float]) -> list[Any]:
    if not places:
        return []
    rows = values([{"run": place} for place in places])
    return [alt.Chart(rows).mark_rule(color=colour, strokeDash=dash, strokeWidth=1.5).encode(x=alt.X("run:Q"))]


def _dates(sources: Sequence[Source]) -> dict[int, str]:
    """What tells a run's place in time: its date, or its time where all are of one day; else its number."""
    days = {source.started_at[:10] for source in sources}
    return {
        source.number: (source.started_at[11:16] if len(days) == 1 else source.started_at[:10])
        or f"run {source.number}"
        for source in sources
    }


def _title(sources: Sequence[Source]) -> str:
    days = {source.started_at[:10] for source in sources}
    return f"run, oldest first, of {days.pop()}" if len(days) == 1 and "" not in days else "run, oldest first"


def _new_versions(sources: Sequence[Source]) -> dict[int, tuple[str, ...]]:
    """By run: the versions that it begins with (the first run, of what readers know), or that differ from before."""
    known = dict(list(sources[0].versions.items())[:2])
    lines = {sources[0].number: _lines(known)}
    for before, source in pairwise(sources):
        new = {name: version for name, version in source.versions.items() if before.versions.get(name) != version}
        if new:
            lines[source.number] = _lines(new)
    return lines


def _lines(versions: Mapping[str, str]) -> tuple[str, ...]:
    texts = [f"{name} {version}" for name, version in versions.items()]
    kept = texts[: MOST_LINES - 1] if len(texts) > MOST_LINES else texts
    return (*kept, f"and {len(texts) - len(kept)} more") if len(texts) > len(kept) else tuple(kept)


def _between(numbers: Sequence[int]) -> list[int]:
    """The other runs, those in the middle of what is still empty first."""
    order: list[int] = []
    spans = [(0, len(numbers) - 1)]
    while spans:
        low, high = spans.pop(0)
        middle = (low + high) // 2
        order.append(numbers[middle])
        if middle - low > 0:
            spans.append((low, middle - 1))
        if high - middle > 0:
            spans.append((middle + 1, high))
    return order


def _expression(labelled: Sequence[Tick]) -> str:
    """A Vega expression: the lines of the tick with the axis value at hand."""
    import json

    lines = {str(tick.number): list(tick.lines) for tick in labelled}
    return f"{json.dumps(lines)}[toString(datum.value)]"
