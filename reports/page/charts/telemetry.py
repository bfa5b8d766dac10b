"""What the device did while cases were measured: utilization, memory and power over time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import altair as alt

from reports.numbers.cases import GIB, short_names
from reports.page.charts.figure import FIRST, SECOND, Figure, Key, Missing, Panel, Table, axis, draw, values
from reports.record.run import CaseResult, Run

KEY, TITLE = "telemetry", "Utilization, memory and power over time"
MOST_POINTS, MOST_OF_ALL = 60, 3000
"""Of one case, and of all cases together, in a drawing; longer series are thinned."""


@dataclass(frozen=True)
class Quantity:
    """What may be drawn: the series that hold it, best first, as (sampler, name), and how to show it."""

    name: str
    unit: str
    sources: tuple[tuple[str, str], ...]
    summaries: tuple[tuple[str, str], ...]
    scale: float = 1.0


QUANTITIES = (
    Quantity(
        "utilization",
        "%",
        (("nvml", "utilization_percent"), ("cpu", "process_utilization_percent")),
        (("nvml", "utilization_mean_percent"), ("cpu", "process_utilization_mean_percent")),
    ),
    Quantity(
        "memory",
        "GiB",
        (("nvml", "process_memory_bytes"), ("nvml", "memory_bytes"), ("cpu", "rss_bytes")),
        (("nvml", "process_memory_max_bytes"), ("nvml", "memory_max_bytes"), ("cpu", "rss_max_bytes")),
        1 / GIB,
    ),
    Quantity(
        "power",
        "W",
        (("nvml", "power_watts"), ("cpu", "package_power_watts")),
        (("nvml", "power_mean_watts"), ("cpu", "package_power_mean_watts")),
    ),
)


@dataclass(frozen=True)
class Stretch:
    """One case on the time line: where its measurement begins (s) and its readings in the quantity's unit."""

    name: str
    drafts: bool
    start: float
    seconds: tuple[float, ...]
    readings: tuple[float, ...]


def stretches(run: Run, quantity: Quantity) -> list[Stretch]:
    """The quantity's series, case after case in the order measured; time between measurements is left out."""
    names = short_names(case for case in run.finished.values() if case.kind == "decode")
    found, clock = [], 0.0
    for case in _sampled(run):
        series = next(
            (
                one
                for sampler, name in quantity.sources
                if (one := _get(case.telemetry, sampler, "series", name)) and one.get("values")
            ),
            None,
        )
        if series is not None:
            seconds, readings = _trusted(series, rate=quantity.name == "utilization")
            scaled = tuple(quantity.scale * value for value in readings)
            name = names.get(case.id, case.id) + (" again" if case.again else "")
            drafts = case.point.strategy != "plain"
            found.append(Stretch(name, drafts, clock, seconds, scaled))
        clock += _window(case)
    return found


def _trusted(series: Mapping[str, Any], *, rate: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Times and readings; of a rate only those over at least half a usual period since the reading before:
    counters advance in ticks, and over less they tell of the tick, up to several times what the machine can do."""
    seconds, readings = tuple(map(float, series["seconds"])), tuple(map(float, series["values"]))
    gaps = [later - earlier for earlier, later in pairwise((0.0, *seconds))]
    if not rate or len(gaps) < 3:
        return seconds, readings
    least = median(gaps) / 2
    kept = [place for place, gap in enumerate(gaps) if gap >= least]
    return tuple(seconds[place] for place in kept), tuple(readings[place] for place in kept)


def telemetry(run: Run) -> Figure | Missing:
    """One panel for each quantity that has series; what has none is told with the sampler's reason."""
    drawn = {quantity: found for quantity in QUANTITIES if (found := stretches(run, quantity))}
    table = _table(run)
    absent = [_absent(run, quantity) for quantity in QUANTITIES if quantity not in drawn]
    if not drawn:
        why = " ".join(text for text in absent if text) or "The run has no readings of the device."
        if table.rows:
            why = f"Only summaries are stored, no readings over time. {why}"
        return Missing(KEY, TITLE, f"{why} `pytest perf_tests` takes readings.", table if table.rows else None)
    words = {quantity: _words(quantity, found) for quantity, found in drawn.items()}
    has_both = any(one.drafts for each in drawn.values() for one in each) and any(
        not one.drafts for each in drawn.values() for one in each
    )
    keys = (Key("plain decoding", "line", FIRST), Key("with drafted tokens", "line", SECOND))
    drafts = any(one.drafts for each in drawn.values() for one in each)
    return Figure(
        KEY,
        TITLE,
        " ".join([*words.values(), *(text for text in absent if text)]),
        tuple(
            Panel(f"{quantity.name} ({quantity.unit})", _draw(quantity, found, words[quantity]), words[quantity])
            for quantity, found in drawn.items()
        ),
        keys if has_both else keys[int(drafts) :][:1],
        table,
        how="Cases one after the other in the order measured; loading and warming up between them is left out. "
        + (
            "100% utilization is one core." if _source(run) == "cpu" else "Utilization: share of time with work queued."
        ),
    )


def _sampled(run: Run) -> list[CaseResult]:
    return [case for case in run.cases if case.telemetry]


def _source(run: Run) -> str:
    return "nvml" if any("nvml" in case.telemetry for case in _sampled(run)) else "cpu"


def _window(case: CaseResult) -> float:
    return max((float(one.get("seconds", 0.0)) for one in case.telemetry.values()), default=0.0)


def _get(telemetry: Mapping[str, Any], sampler: str, group: str, name: str) -> Any:
    return telemetry.get(sampler, {}).get(group, {}).get(name)


def _absent(run: Run, quantity: Quantity) -> str:
    """Why there is no such quantity, by the sampler's own words."""
    for case in _sampled(run):
        for sampler, name in quantity.summaries:
            reason = _get(case.telemetry, sampler, "unavailable", name)
            if reason:
                return f"No {quantity.name}: {reason}."
    return ""


def _words(quantity: Quantity, found: Sequence[Stretch]) -> str:
    readings = [value for one in found for value in one.readings]
    mean = sum(readings) / len(readings)
    name = quantity.name.capitalize()
    return f"{name} from {min(readings):.3g} to {max(readings):.3g} {quantity.unit}, {mean:.3g} on average."


def _table(run: Run) -> Table:
    names = short_names(case for case in run.finished.values() if case.kind == "decode")
    rows = []
    for case in _sampled(run):
        cells = []
        for quantity in QUANTITIES:
            found = (_get(case.telemetry, sampler, "values", name) for sampler, name in quantity.summaries)
            value = next((one for one in found if one is not None), None)
            cells.append("" if value is None else f"{quantity.scale * value:.4g}")
        if any(cells):
            rows.append(
                (names.get(case.id, case.id) + (" again" if case.again else ""), f"{_window(case):.1f}", *cells)
            )
    return Table(
        ("case", "measured for (s)", "utilization, mean (%)", "memory, most (GiB)", "power, mean (W)"), tuple(rows)
    )


def _draw(quantity: Quantity, found: Sequence[Stretch], label: str) -> str:
    rows = [
        {
            "stretch": number,
            "kind": "drafted" if one.drafts else "plain",
            "minutes": (one.start + second) / 60,
            "value": value,
        }
        for number, one in enumerate(found)
        for second, value in _thinned(one, max(2, min(MOST_POINTS, MOST_OF_ALL // len(found))))
    ]
    x = alt.X("minutes:Q", scale=alt.Scale(domainMin=0, nice=False), axis=axis("time measured (minutes)", tickCount=6))
    y = alt.Y(
        "value:Q", scale=alt.Scale(domainMin=0, nice=True), axis=axis(f"{quantity.name} ({quantity.unit})", tickCount=5)
    )
    colours = alt.Color("kind:N", scale=alt.Scale(domain=["plain", "drafted"], range=[FIRST, SECOND]))
    base = alt.Chart(values(rows)).encode(x=x, y=y, color=colours)
    lines = base.mark_line(strokeWidth=1.5).encode(detail="stretch:N")
    readings = Counter(row["stretch"] for row in rows)
    alone = [row for row in rows if readings[row["stretch"]] == 1]
    layers = [lines]
    if alone:
        layers.append(
            alt.Chart(values(alone)).mark_point(filled=True, size=25, opacity=1).encode(x=x, y=y, color=colours)
        )
    return draw(alt.layer(*layers), height=190, label=label)


def _thinned(one: Stretch, most: int) -> list[tuple[float, float]]:
    """At most `most` readings: means of equal groups."""
    pairs = list(zip(one.seconds, one.readings, strict=False))
    size = -(-len(pairs) // most)
    groups = [pairs[i : i + size] for i in range(0, len(pairs), size)]
    return [(sum(s for s, _ in group) / len(group), sum(v for _, v in group) / len(group)) for group in groups]
