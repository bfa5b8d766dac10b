"""A history as one self-contained HTML page, and as JSON: two views of the same dataclasses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from reports.compare.trends import LATENCY, History, LevelChange, Point, Source, Trend

MOST_CHARTS = 120  # more make the page slow; those with changes are drawn first, the rest is in the table
TITLES = {LATENCY: "time per token", "accept_rate": "accept rate", "pass_at_1": "HumanEval pass@1"}
AXES = {LATENCY: "time", "accept_rate": "accepted", "pass_at_1": "solved"}


@dataclass(frozen=True)
class Drawn:
    """One series as shown. svg: empty where it was not drawn."""

    title: str
    case: str
    svg: str
    changes: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Turn:
    """All changes whose new level begins with one run. environment: what else differs there, in words; changes:
    (verdict, case, what changed)."""

    at: Source
    environment: tuple[str, ...]
    changes: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Machine:
    """All of one hardware: its runs, the series with more than one run, and how many have only one."""

    key: str
    sources: tuple[Source, ...]
    drawn: tuple[Drawn, ...]
    single: int
    left_out: int


def page(history: History) -> str:
    """The whole page, without anything to load from elsewhere."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("reports.page"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("history.html.j2").render(
        history=history, machines=_machines(history), turns=_turns(history), short=_short, day=_day
    )


def as_json(history: History) -> dict[str, Any]:
    """Runs, series with their points and changes, and what could not be read; figures in the units of `metric`."""
    return {
        "folder": str(history.folder),
        "runs": [_source(source) for source in history.sources],
        "series": [
            {
                "hardware": one.hardware,
                "case": one.case,
                "identity": one.identity,
                "metric": one.metric,
                "unit": one.unit,
                "points": [_point(point) for point in one.points],
                "changes": [
                    {
                        "at": _source(change.at),
                        "before": change.before,
                        "after": change.after,
                        "p_value": change.p_value,
                        "verdict": verdict(one, change),
                        "environment": {each.key: [each.base, each.head] for each in change.environment},
                    }
                    for change in one.changes
                ],
            }
            for one in history.series
        ],
        "unreadable": [{"file": str(one.path), "reason": one.reason} for one in history.unreadable],
    }


def verdict(series: Trend, change: LevelChange) -> str:
    """`better`, `worse` or `changed`."""
    better = series.is_better(change)
    return "changed" if better is None else "better" if better else "worse"


def _machines(history: History) -> list[Machine]:
    left = MOST_CHARTS
    found = []
    for key in dict.fromkeys(source.hardware for source in history.sources):
        own = [one for one in history.series if one.hardware == key]
        trends = sorted(
            (one for one in own if len(one.points) > 1), key=lambda one: (not one.changes, one.metric != LATENCY)
        )
        drawn = tuple(_drawn(one, place < left) for place, one in enumerate(trends))
        found.append(
            Machine(
                key=key,
                sources=tuple(source for source in history.sources if source.hardware == key),
                drawn=drawn,
                single=len(own) - len(trends),
                left_out=max(0, len(trends) - left),
            )
        )
        left = max(0, left - len(trends))
    return found


def _turns(history: History) -> list[Turn]:
    """The changes by the run at which they begin, the most recent first."""
    by_run: dict[Source, list[tuple[Trend, LevelChange]]] = {}
    for series, change in history.changes:
        by_run.setdefault(change.at, []).append((series, change))
    return [
        Turn(
            at=at,
            environment=tuple(
                dict.fromkeys(
                    f"{each.key}: {_short(each.base) or 'none'} to {_short(each.head) or 'none'}"
                    for _, change in found
                    for each in change.environment
                )
            ),
            changes=tuple((verdict(one, change), one.case, _change_text(one, change)) for one, change in found),
        )
        for at, found in by_run.items()
    ]


def _drawn(series: Trend, with_chart: bool) -> Drawn:
    return Drawn(
        title=TITLES[series.metric],
        case=series.case,
        svg=_chart(series) if with_chart else "",
        changes=tuple(f"{verdict(series, change)}: {_change_text(series, change)}" for change in series.changes),
        cells=tuple(
            (str(point.source.number), _day(point.source), _short(point.source.commit), *_figures(series, point))
            for point in series.points
        ),
    )


def _chart(series: Trend) -> str:
    import altair as alt

    from reports.page.charts.figure import FIRST, THIRD, axis, draw, values

    factor, unit = _scale(series)
    rows = [
        {
            "run": point.source.number,
            "value": factor * point.value,
            "low": factor * (point.interval.low if point.interval else point.value),
            "high": factor * (point.interval.high if point.interval else point.value),
        }
        for point in series.points
    ]
    ticks = sorted({point.source.number for point in series.points})
    x = alt.X(
        "run:Q", axis=axis("run, oldest first", values=ticks, format="d"), scale=alt.Scale(zero=False, padding=12)
    )
    y = alt.Y("value:Q", axis=axis(f"{AXES[series.metric]} ({unit})"), scale=alt.Scale(zero=False))
    base = alt.Chart(values(rows))
    layers: list[Any] = [
        base.mark_rule(color=FIRST, opacity=0.5).encode(
            x=x, y=alt.Y("low:Q", scale=alt.Scale(zero=False)), y2="high:Q"
        ),
        base.mark_line(color=FIRST, strokeWidth=1.5).encode(x=x, y=y),
        base.mark_point(color=FIRST, filled=True, size=30, opacity=1).encode(x=x, y=y),
    ]
    if series.changes:
        marks = [{"run": change.at.number - 0.5} for change in series.changes]
        rule = alt.Chart(values(marks)).mark_rule(color=THIRD, strokeDash=[4, 3], strokeWidth=1.5)
        layers.append(rule.encode(x=alt.X("run:Q")))
    return draw(alt.layer(*layers), height=170, label=_spoken(series))


def _spoken(series: Trend) -> str:
    """The text alternative of a chart: range, last value and changes."""
    factor, unit = _scale(series)
    figures = [factor * point.value for point in series.points]
    text = (
        f"{TITLES[series.metric]} of {series.case} over {len(figures)} runs: from {min(figures):.3g} to "
        f"{max(figures):.3g} {unit}, last {figures[-1]:.3g}."
    )
    changes = "; ".join(_change_text(series, change) for change in series.changes)
    return f"{text} Changes: {changes}." if changes else f"{text} No change of level found."


def _change_text(series: Trend, change: LevelChange) -> str:
    factor, unit = _scale(series)
    ratio = f" ({change.after / change.before - 1:+.1%})" if change.before else ""
    return (
        f"{TITLES[series.metric]} {factor * change.before:.3g} to {factor * change.after:.3g} {unit}{ratio} at run "
        f"{change.at.number}, p = {change.p_value:.2g}"
    )


def _figures(series: Trend, point: Point) -> tuple[str, str]:
    factor, unit = _scale(series)
    interval = point.interval
    spread = f"{factor * interval.low:.4g} to {factor * interval.high:.4g}" if interval else ""
    return f"{factor * point.value:.4g} {unit}", spread


def _scale(series: Trend) -> tuple[float, str]:
    return (1000.0, "ms/token") if series.metric == LATENCY else (1.0, series.unit)


def _short(text: str) -> str:
    """A commit or hash by its first characters; other text as it is."""
    return text[:8] if re.fullmatch(r"[0-9a-f]{32,}", text) else text


def _day(source: Source) -> str:
    return source.started_at[:16].replace("T", " ")


def _source(source: Source) -> dict[str, Any]:
    return {
        "file": str(source.path),
        "hardware": source.hardware,
        "number": source.number,
        "started_at": source.started_at,
        "commit": source.commit,
        "study": source.study,
    }


def _point(point: Point) -> dict[str, Any]:
    found: dict[str, Any] = {"file": str(point.source.path), "number": point.source.number, "value": point.value}
    if point.interval is not None:
        found |= {"low": point.interval.low, "high": point.interval.high}
    return found
