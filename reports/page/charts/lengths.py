"""Time of a generation against its length, with and without a cache: linear against quadratic cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import altair as alt

from reports.numbers.cases import is_measured
from reports.numbers.statistics import Interval, bootstrap_ratio
from reports.page.charts.figure import (
    FIRST,
    FOURTH,
    SECOND,
    THIRD,
    Figure,
    Key,
    Missing,
    Panel,
    Shape,
    Table,
    axis,
    draw,
    values,
)
from reports.record.run import CaseResult, Run

KEY, TITLE = "length", "Time of a generation against its length"
LOOKS: tuple[tuple[str, Shape, tuple[int, ...]], ...] = (
    (FIRST, "circle", (1, 0)),
    (SECOND, "square", (6, 4)),
    (THIRD, "triangle", (2, 3)),
    (FOURTH, "diamond", (8, 3, 2, 3)),
)


@dataclass(frozen=True)
class Length:
    """Plain decoding to one length: tokens generated, and the mean seconds of a generation."""

    tokens: int
    seconds: Interval
    prompts: int


def by_cache(run: Run) -> dict[str, tuple[Length, ...]]:
    """Cache -> its lengths, of the engine and sampling with most lengths that were measured without a cache as well."""
    groups: dict[Hashable, dict[str, dict[int, CaseResult]]] = {}
    for case in run.finished.values():
        if is_measured(case) and case.samples and case.point.strategy == "plain":
            key = (case.engine, case.point.do_sample, dataclasses.replace(case.workload, gen_toks=0))
            lengths = groups.setdefault(key, {}).setdefault(case.point.cache, {})
            lengths[case.samples[0].new_tokens] = case
    several = [{cache: lengths for cache, lengths in group.items() if len(lengths) > 1} for group in groups.values()]
    both = [group for group in several if "none" in group and len(group) > 1]
    chosen = max(both, key=lambda group: sum(map(len, group.values())), default={})
    return {
        cache: tuple(_length(tokens, lengths[tokens]) for tokens in sorted(lengths))
        for cache, lengths in sorted(chosen.items(), key=lambda item: item[0] == "none")
    }


def lengths(run: Run) -> Figure | Missing:
    """One panel with a line for each cache."""
    found = by_cache(run)
    if not found:
        return Missing(
            KEY,
            TITLE,
            "Plain decoding was not measured at two lengths both with and without a cache; "
            "`pytest perf_tests --study embedded -m kv_cache` measures that.",
        )
    finding = " ".join(_grows(cache, each) for cache, each in found.items())
    looks = dict(zip(found, LOOKS, strict=False))
    return Figure(
        KEY,
        TITLE,
        finding,
        (Panel("", _draw(found, looks, finding), finding),),
        tuple(Key(_name(cache), shape, colour) for cache, (colour, shape, _) in looks.items()),
        Table(
            ("cache", "length (tokens)", "time of a generation (s) [95%]", "prompts"),
            tuple(
                (_name(cache), str(one.tokens), _seconds(one.seconds), str(one.prompts))
                for cache, each in found.items()
                for one in each
            ),
        ),
        how="Mean over prompts, prefill included, with 95% intervals. A straight line is linear cost; a line that "
        "bends upward is more than linear.",
    )


def _grows(cache: str, found: Sequence[Length]) -> str:
    first, last = found[0], found[-1]
    times = last.seconds.estimate / first.seconds.estimate
    text = f"With {_name(cache)}" if cache != "none" else "Without a cache"
    return f"{text}, {last.tokens / first.tokens:g} times the tokens take {times:.1f} times as long."


def _length(tokens: int, case: CaseResult) -> Length:
    seconds = [sample.seconds for sample in case.samples]
    return Length(tokens, bootstrap_ratio(seconds, [1.0] * len(seconds)), len(seconds))


def _name(cache: str) -> str:
    return "no cache" if cache == "none" else f"a {cache} cache"


def _seconds(interval: Interval) -> str:
    return f"{interval.estimate:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _draw(
    found: Mapping[str, Sequence[Length]], looks: Mapping[str, tuple[str, Shape, tuple[int, ...]]], label: str
) -> str:
    ticks = [0, *sorted({one.tokens for each in found.values() for one in each})]
    x = alt.X(
        "tokens:Q", scale=alt.Scale(domainMin=0, nice=False), axis=axis("length (tokens generated)", values=ticks)
    )
    scale = alt.Scale(domainMin=0, nice=True)
    y = alt.Y("seconds:Q", scale=scale, axis=axis("time of a generation (s)", tickCount=5))
    layers = []
    for cache, (colour, shape, dash) in looks.items():
        rows = [
            {"tokens": one.tokens, "seconds": one.seconds.estimate, "low": one.seconds.low, "high": one.seconds.high}
            for one in found[cache]
            if one.seconds.high < float("inf")
        ] or [{"tokens": one.tokens, "seconds": one.seconds.estimate} for one in found[cache]]
        base = alt.Chart(values(rows))
        layers.append(base.mark_line(color=colour, strokeDash=list(dash), strokeWidth=2).encode(x=x, y=y))
        if "low" in rows[0]:
            layers.append(
                base.mark_rule(color=colour, strokeWidth=2).encode(x=x, y=alt.Y("low:Q", scale=scale), y2="high:Q")
            )
        mark = "triangle-up" if shape == "triangle" else shape
        layers.append(base.mark_point(color=colour, shape=mark, filled=True, size=60, opacity=1).encode(x=x, y=y))
    return draw(alt.layer(*layers), label=label)
