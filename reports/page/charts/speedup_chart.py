"""Speedup against the tokens drafted per step: what was measured, with intervals, and what the cost model expects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt

from reports.numbers.answers import is_wrong
from reports.numbers.cases import is_measured, short_names
from reports.numbers.predictions import Curve, curves
from reports.numbers.speedups import speedup
from reports.numbers.statistics import Interval
from reports.page.charts.figure import (
    FIRST,
    MUTED,
    SECOND,
    WRONG,
    Figure,
    Key,
    Missing,
    Panel,
    Table,
    axis,
    draw,
    values,
)
from reports.record.run import CaseResult, Run
from reports.views.headline import interval_text

KEY, TITLE = "speedup", "Speedup against tokens drafted per step"
MOST_PANELS = 6


@dataclass(frozen=True)
class MeasuredSpeedup:
    """One case: tokens drafted per step, and the speedup over the same engine's plain decoding."""

    case: CaseResult
    k: int
    interval: Interval

    @property
    def is_wrong(self) -> bool:
        return is_wrong(self.case)


@dataclass(frozen=True)
class Setting:
    """All k of one setting that were measured; curve: the cost model's, None where it has no costs to work with."""

    name: str
    measured: tuple[MeasuredSpeedup, ...]
    curve: Curve | None

    @property
    def best(self) -> MeasuredSpeedup:
        """The fastest; one of wrong output only where all are."""
        return max(self.measured, key=lambda one: (not one.is_wrong, one.interval.estimate))


def settings(run: Run) -> list[Setting]:
    """The settings that draft a number of tokens, most k first, then the fastest."""
    by_setting: dict[str, list[MeasuredSpeedup]] = {}
    for case in run.finished.values():
        k = int(case.point.assist_toks or 0)
        found = speedup(case, run, same_engine=True) if is_measured(case) and case.samples and k else None
        if found is not None:
            by_setting.setdefault(_without_k(case), []).append(MeasuredSpeedup(case, k, found.interval))
    predicted = {curve.setting: curve for curve in curves(run)}
    names = short_names(case for case in run.finished.values() if case.kind == "decode")
    found_settings = [
        Setting(
            name=_name(names[each[0].case.id], each[0].k),
            measured=tuple(sorted(each, key=lambda one: one.k)),
            curve=predicted.get(setting),
        )
        for setting, each in by_setting.items()
    ]
    return sorted(found_settings, key=lambda one: (-len(one.measured), -one.best.interval.estimate))


def speedups(run: Run) -> Figure | Missing:
    """One panel for each setting, all on the same scales; those beyond MOST_PANELS are in the table alone."""
    found = settings(run)
    if not found:
        return Missing(
            KEY,
            TITLE,
            "No case with drafted tokens and its plain decoding was measured with samples; "
            "`pytest perf_tests -m speculative` measures them.",
        )
    shown = found[:MOST_PANELS]
    top = max(one for setting in shown for one in _heights(setting, high=True))
    bottom = min(1.0, min(one for setting in shown for one in _heights(setting, high=False)))
    longest = max([12, *(one.k for setting in shown for one in setting.measured)])
    panels = tuple(_panel(setting, (bottom, top), longest) for setting in shown)
    best = max(found, key=lambda setting: (not setting.best.is_wrong, setting.best.interval.estimate))
    finding = (
        f"Fastest over its own engine's plain decoding: {best.name} at {best.best.k} tokens, "
        f"{interval_text(best.best.interval)}. {_shape(found)}"
    )
    more = len(found) - len(shown)
    return Figure(
        KEY,
        TITLE,
        finding,
        panels,
        _legend(shown),
        _table(found),
        how="Against plain decoding by the same engine (same quantization, dtype, compile) on the same prompts. The "
        "curve comes from counts and costs of single forwards; no time of the case itself enters it."
        + (f" {more} more settings are in the table." if more else ""),
    )


def _legend(shown: Sequence[Setting]) -> tuple[Key, ...]:
    keys = [Key("measured, with 95% interval", "circle", FIRST)]
    if any(one.is_wrong for setting in shown for one in setting.measured):
        keys.append(Key("wrong output", "cross", WRONG))
    if any(setting.curve for setting in shown):
        keys.append(Key("cost model, also where nothing was run", "dashed", SECOND))
        keys.append(Key("the model's best", "diamond", SECOND))
    return (*keys, Key("1.0: plain decoding", "dotted", MUTED))


def _shape(found: Sequence[Setting]) -> str:
    """Whether the speedup has an inner optimum, of the setting with most k."""
    most = found[0]
    if len(most.measured) < 3:
        return ""
    ks = [one.k for one in most.measured]
    best = most.best
    where = "at the low end" if best.k == ks[0] else "at the high end" if best.k == ks[-1] else "inside"
    overlapping = sum(one.interval.high >= best.interval.low for one in most.measured) - 1
    return (
        f"Of {most.name}, the best of k = {', '.join(map(str, ks))} is {best.k}, {where}; the intervals of "
        f"{overlapping} of the {len(ks) - 1} others overlap with its own."
    )


def _panel(setting: Setting, span: tuple[float, float], longest: int) -> Panel:
    x = alt.X("k:Q", scale=alt.Scale(domain=[0, longest]), axis=axis("tokens drafted per step", tickMinStep=1))
    scale = alt.Scale(domain=list(span), nice=True, zero=False)
    y = alt.Y("speedup:Q", scale=scale, axis=axis("speedup (times)", tickCount=5))
    layers = [
        alt.Chart(values([{"one": 1}]))
        .mark_rule(color=MUTED, strokeDash=[2, 3], strokeWidth=1.5)
        .encode(y=alt.Y("one:Q", scale=scale))
    ]
    if setting.curve is not None:
        line = [{"k": point.k, "speedup": point.speedup} for point in setting.curve.points]
        best = {"k": setting.curve.best.k, "speedup": setting.curve.best.speedup}
        layers.append(
            alt.Chart(values(line)).mark_line(color=SECOND, strokeDash=[6, 4], strokeWidth=2).encode(x=x, y=y)
        )
        layers.append(
            alt.Chart(values([best]))
            .mark_point(shape="diamond", filled=True, color=SECOND, size=80, opacity=1)
            .encode(x=x, y=y)
        )
    for wrong, shape, colour in ((False, "circle", FIRST), (True, "cross", WRONG)):
        points = [
            {
                "k": one.k,
                "speedup": one.interval.estimate,
                "low": one.interval.low,
                "high": min(one.interval.high, span[1]),
            }
            for one in setting.measured
            if one.is_wrong == wrong
        ]
        if points:
            base = alt.Chart(values(points))
            rules = base.mark_rule(color=colour, strokeWidth=2)
            layers.append(rules.encode(x=x, y=alt.Y("low:Q", scale=scale), y2="high:Q"))
            marks = base.mark_point(shape=shape, filled=True, color=colour, size=60, opacity=1)
            layers.append(marks.encode(x=x, y=y))
    label = f"{setting.name}: " + "; ".join(
        f"at {one.k} tokens {interval_text(one.interval)}{' (wrong output)' * one.is_wrong}" for one in setting.measured
    )
    if setting.curve is not None:
        label += f". The cost model's best is {setting.curve.best.k} tokens, {setting.curve.best.speedup:.2f} times."
    else:
        label += ". No cost model's curve."
    return Panel(setting.name, draw(alt.layer(*layers), label=label), label)


def _heights(setting: Setting, *, high: bool) -> list[float]:
    measured = [one.interval.high if high else one.interval.low for one in setting.measured]
    estimates = [one.interval.estimate for one in setting.measured]
    finite = [value for value in measured if 0 < value < float("inf")]
    curve = [point.speedup for point in setting.curve.points] if setting.curve else []
    return [*finite, *estimates, *curve]


def _table(found: Sequence[Setting]) -> Table:
    rows = []
    for setting in found:
        predicted = {point.k: point.speedup for point in setting.curve.points} if setting.curve else {}
        for one in setting.measured:
            expected = f"{predicted[one.k]:.2f}" if one.k in predicted else ""
            rows.append((setting.name, str(one.k), interval_text(one.interval), expected))
        if predicted:
            ks = f"{min(predicted)} to {max(predicted)}"
            rows.append((setting.name, ks, "", ", ".join(f"{predicted[k]:.2f}" for k in sorted(predicted))))
    return Table(("setting", "k (tokens)", "measured speedup [95%]", "cost model"), tuple(rows))


def _without_k(case: CaseResult) -> str:
    return case.id.replace(f",k={case.point.assist_toks}", "")


def _name(name: str, k: int) -> str:
    return name.replace(f" k={k}", "").replace(f",k={k}", "")
