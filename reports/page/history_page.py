"""A history as one self-contained HTML page, and as JSON: two views of the same dataclasses."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reports.compare.trends import FOLLOWED, LATENCY, RATIO, History, KnownNoise, LevelChange, Point, Source, Trend
from reports.page.charts.trend_chart import chart, scale_of

MOST_CHARTS = 120  # more make the page slow; those with changes are drawn first, the rest is in the table
TITLES = {
    RATIO: "speedup over plain decoding of the same run",
    LATENCY: "time per token",
    "accept_rate": "accept rate",
    "pass_at_1": "HumanEval pass@1",
}
AXES = {RATIO: "speedup", LATENCY: "time", "accept_rate": "accepted", "pass_at_1": "solved"}


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
    """All of one hardware: its runs, the series with more than one run, how many have only one, its noise, and the
    changes of time that are its own: (case, what changed)."""

    key: str
    sources: tuple[Source, ...]
    drawn: tuple[Drawn, ...]
    single: int
    left_out: int
    noise: tuple[str, ...]
    of_machine: tuple[tuple[str, str], ...]


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
        history=history,
        machines=_machines(history),
        turns=_turns(history),
        short=_short,
        day=_day,
        breakable=_breakable,
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
                        "noise": change.floor,
                        "verdict": verdict(one, change),
                        "environment": {each.key: [each.base, each.head] for each in change.environment},
                    }
                    for change in one.changes
                ],
                "of_machine": [{"at": change.at.number, "p_value": change.p_value} for change in one.of_machine],
                "within_noise": one.within_noise,
            }
            for one in history.series
        ],
        "noise": [
            {"hardware": hardware, "study": study, "file": known.file, "floor": dict(known.floors)}
            for (hardware, study), known in history.noise.items()
            if known is not None
        ],
        "unreadable": [{"file": str(one.path), "reason": one.reason} for one in history.unreadable],
    }


def verdict(series: Trend, change: LevelChange) -> str:
    """`better`, `worse` or `changed`."""
    better = series.is_better(change)
    return "changed" if better is None else "better" if better else "worse"


def _machines(history: History) -> list[Machine]:
    left = MOST_CHARTS
    machines = []
    for key in dict.fromkeys(source.hardware for source in history.sources):
        own = [series for series in history.series if series.hardware == key]
        trends = sorted(
            (series for series in own if len(series.points) > 1),
            key=lambda series: (not series.changes, FOLLOWED.index(series.metric)),
        )
        drawn = tuple(_drawn(series, place < left) for place, series in enumerate(trends))
        machines.append(
            Machine(
                key=key,
                sources=tuple(source for source in history.sources if source.hardware == key),
                drawn=drawn,
                single=len(own) - len(trends),
                left_out=max(0, len(trends) - left),
                noise=tuple(
                    _noise(study, known, own) for (hardware, study), known in history.noise.items() if hardware == key
                ),
                of_machine=tuple(
                    (series.case, _change_text(series, change)) for series in own for change in series.of_machine
                ),
            )
        )
        left = max(0, left - len(trends))
    return machines


def _noise(study: str, known: KnownNoise | None, series: Sequence[Trend]) -> str:
    """What is known of the machine's noise with a study, and what it has done to the changes."""
    if known is None:
        return (
            f"study {study}: nobody measured the noise of this machine, so a change of time may be the machine's "
            f"alone; python -m reports calibrate --study {study} measures it"
        )
    shown = [(TITLES[name], known.floors[name]) for name in (RATIO, LATENCY) if name in known.floors]
    floors = ", ".join(f"{title} {math.expm1(floor):.1%}" for title, floor in shown)
    within = sum(trend.within_noise for trend in series)
    told = f"study {study}: two runs of the same code differ by up to: {floors or 'not measured'} ({known.file})"
    return f"{told}; {within} changes of level no larger than that are not reported" if within else told


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
        svg=chart(series, scale_of(series), AXES[series.metric], _spoken(series)) if with_chart else "",
        changes=tuple(f"{verdict(series, change)}: {_change_text(series, change)}" for change in series.changes),
        cells=tuple(
            (str(point.source.number), _day(point.source), _short(point.source.commit), *_figures(series, point))
            for point in series.points
        ),
    )


def _spoken(series: Trend) -> str:
    """The text alternative of a chart: range, last value and changes."""
    factor, unit = scale_of(series)
    figures = [factor * point.value for point in series.points]
    text = (
        f"{TITLES[series.metric]} of {series.case} over {len(figures)} runs: from {min(figures):.3g} to "
        f"{max(figures):.3g} {unit}, last {figures[-1]:.3g}."
    )
    changes = "; ".join(_change_text(series, change) for change in series.changes)
    return f"{text} Changes: {changes}." if changes else f"{text} No change of level found."


def _change_text(series: Trend, change: LevelChange) -> str:
    factor, unit = scale_of(series)
    ratio = f" ({change.after / change.before - 1:+.1%})" if change.before else ""
    return (
        f"{TITLES[series.metric]} {factor * change.before:.3g} to {factor * change.after:.3g} {unit}{ratio} at run "
        f"{change.at.number}, p = {change.p_value:.2g}{_beside_noise(series, change)}"
    )


def _beside_noise(series: Trend, change: LevelChange) -> str:
    if not series.by_clock:
        return ""
    if change.floor is None:
        return ", noise of this machine unknown"
    return f", beyond this machine's noise of {math.expm1(change.floor):.1%}"


def _figures(series: Trend, point: Point) -> tuple[str, str]:
    factor, unit = scale_of(series)
    interval = point.interval
    spread = f"{factor * interval.low:.4g} to {factor * interval.high:.4g}" if interval else ""
    return f"{factor * point.value:.4g} {unit}", spread


def _short(text: str) -> str:
    """A commit or hash by its first characters; other text as it is."""
    return text[:8] if re.fullmatch(r"[0-9a-f]{32,}", text) else text


def _breakable(case: str) -> Any:
    """A case's id that a narrow column breaks behind its commas and strokes, not within a word."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"([,/])", r"\1<wbr>", str(escape(case))))


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
        "versions": dict(source.versions),
    }


def _point(point: Point) -> dict[str, Any]:
    found: dict[str, Any] = {"file": str(point.source.path), "number": point.source.number, "value": point.value}
    if point.interval is not None:
        found |= {"low": point.interval.low, "high": point.interval.high}
    return found
