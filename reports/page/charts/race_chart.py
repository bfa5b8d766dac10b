"""The race: every setting's speedup against the round, as it was known then; dropped ones end there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import altair as alt

from reports.numbers.cases import short_names
from reports.numbers.decision import decision
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

KEY, TITLE = "race", "Speedups as the rounds went by"
LOOKS = 12  # rounds at which the intervals are worked out
LEAST = 3  # rounds before which an interval says nothing
MOST_CASES = 24  # of the largest ratio


@dataclass(frozen=True)
class Course:
    """A case's interval after so many rounds, in their order. dropped: after how many it left, None if it did not."""

    case: str
    name: str
    points: tuple[tuple[int, Interval], ...]
    dropped: int | None
    reason: str

    @property
    def last(self) -> Interval:
        return self.points[-1][1]


def courses(run: Run) -> list[Course]:
    """Of every case that took turns and has a speedup, the largest ratio first."""
    order = _order(run)
    names = short_names(case for case in run.finished.values() if case.kind == "decode")
    step = max(1, math.ceil(len(order) / LOOKS))
    looks = sorted({*range(LEAST, len(order) + 1, step), len(order)}) if len(order) >= LEAST else []
    points: dict[str, list[tuple[int, Interval]]] = {}
    for many in looks:
        short = _after(run, {place: number for number, place in enumerate(order) if number < many})
        for case in short.finished.values():
            rounds = len({(sample.visit, sample.round) for sample in case.samples})
            found = speedup(case, short) if case.kind == "decode" and case.samples and rounds >= LEAST else None
            already = points.setdefault(case.id, [])
            if found is not None and math.isfinite(found.interval.high) and (not already or _went_on(case, run, many)):
                already.append((many, found.interval))
    made = [
        Course(case.id, names[case.id], tuple(points[case.id]), _left(case), case.reason if _left(case) else "")
        for case in run.finished.values()
        if len(points.get(case.id, ())) > 1
    ]
    return sorted(made, key=lambda one: -one.last.estimate)[:MOST_CASES]


def race(run: Run) -> Figure | Missing:
    """One panel: the recommended setting with its interval, the others as lines, dropped ones ending in a cross."""
    found = courses(run)
    if not found:
        return Missing(
            KEY,
            TITLE,
            "Cases did not take turns in this run, so that there is no round after which to look. "
            "`pytest perf_tests --order rounds` measures by rounds, `--race` drops what cannot be the best.",
        )
    chosen = decision(run)
    best = chosen.recommended.id if chosen is not None and chosen.recommended is not None else ""
    leader = next((one for one in found if one.case == best), found[0])
    dropped = [one for one in found if one.dropped is not None]
    finding = (
        f"{leader.name}: {leader.last.estimate:.2f} [{leader.last.low:.2f}, {leader.last.high:.2f}] after "
        f"{leader.points[-1][0]} rounds. {_drops(dropped)}"
    )
    keys = [Key(leader.name, "line", FIRST), Key("others", "line", MUTED), Key("1.0: plain decoding", "dotted", SECOND)]
    keys += [Key("dropped", "cross", WRONG)] if dropped else []
    return Figure(
        KEY,
        TITLE,
        finding,
        (Panel("", _draw(found, leader, finding), finding),),
        tuple(keys),
        Table(
            ("case", "rounds", "speedup [95%]", "left after round", "why"),
            tuple(
                (
                    one.name,
                    str(one.points[-1][0]),
                    f"{one.last.estimate:.2f} [{one.last.low:.2f}, {one.last.high:.2f}]",
                    "" if one.dropped is None else str(one.dropped),
                    one.reason,
                )
                for one in found
            ),
        ),
        how="Each interval is worked out from the rounds until then alone. The bar at a line's end is its last one.",
    )


def _order(run: Run) -> list[tuple[int, int]]:
    """Every (visit, round) that some case decoded, in time."""
    places = {(sample.visit, sample.round) for case in run.cases for sample in case.samples if sample.round is not None}
    return sorted(places)


def _after(run: Run, kept: dict[tuple[int, int], int]) -> Run:
    """The run as it was known after these rounds."""
    cases = tuple(
        replace(
            case,
            samples=tuple(one for one in case.samples if (one.visit, one.round) in kept),
            repeats=tuple(one for one in case.repeats if (one.visit, one.round) in kept),
            status="ok" if case.measured else case.status,
        )
        for case in run.cases
    )
    return replace(run, cases=cases)


def _went_on(case: CaseResult, run: Run, many: int) -> bool:
    """Whether the case still decoded among the rounds since the look before; a dropped one's line ends."""
    left = _left(run.finished[case.id])
    return left is None or many <= left + 1


def _left(case: CaseResult) -> int | None:
    return case.dropped_round if case.status == "dropped" else None


def _drops(dropped: Sequence[Course]) -> str:
    if not dropped:
        return "None was dropped."
    first = min(one.dropped for one in dropped if one.dropped is not None)
    return f"{len(dropped)} {'was' if len(dropped) == 1 else 'were'} dropped, the first after round {first}."


def _draw(found: Sequence[Course], leader: Course, label: str) -> str:
    x = alt.X("round:Q", axis=axis("rounds (prompts)", format="d", tickMinStep=1), scale=alt.Scale(zero=False))
    y = alt.Y("ratio:Q", axis=axis("speedup (times)"), scale=alt.Scale(zero=False))
    others = [
        {"case": one.case, "round": many, "ratio": interval.estimate}
        for one in found
        if one is not leader
        for many, interval in one.points
    ]
    ends = [
        {"round": one.points[-1][0], "low": one.last.low, "high": one.last.high} for one in found if one is not leader
    ]
    own = [
        {"round": many, "ratio": interval.estimate, "low": interval.low, "high": interval.high}
        for many, interval in leader.points
    ]
    crosses = [{"round": one.points[-1][0], "ratio": one.last.estimate} for one in found if one.dropped is not None]
    low_high = {"y": alt.Y("low:Q", scale=alt.Scale(zero=False)), "y2": "high:Q"}
    layers = [
        alt.Chart(values([{"one": 1.0}])).mark_rule(color=SECOND, strokeDash=[2, 3]).encode(y="one:Q"),
        alt.Chart(values(own)).mark_area(color=FIRST, opacity=0.18).encode(x=x, **low_high),
        alt.Chart(values(own)).mark_line(color=FIRST, strokeWidth=2).encode(x=x, y=y),
    ]
    if others:
        lines = alt.Chart(values(others)).mark_line(color=MUTED, strokeWidth=1, opacity=0.8)
        layers.append(lines.encode(x=x, y=y, detail="case:N"))
        layers.append(alt.Chart(values(ends)).mark_rule(color=MUTED, opacity=0.5).encode(x=x, **low_high))
    if crosses:
        marks = alt.Chart(values(crosses)).mark_point(color=WRONG, shape="cross", filled=True, size=55, opacity=1)
        layers.append(marks.encode(x=x, y=y))
    return draw(alt.layer(*layers), label=label)
