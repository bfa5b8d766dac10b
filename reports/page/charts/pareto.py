"""Speed against memory, with quality marked: which settings no other one beats in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import altair as alt

from reports.numbers.answers import answers_text, is_uncompared, is_wrong, keeps_answers
from reports.numbers.cases import GIB, memory_of, of_full_length, seconds_per_token, short_names
from reports.page.charts.figure import (
    CARD,
    FIRST,
    INK,
    SECOND,
    WRONG,
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

KEY, TITLE = "pareto", "Speed against memory"
KEEPS, CHANGES, UNSHOWN, FALSE = (
    "the target's own model",
    "quantized answers",
    "answers not compared",
    "wrong output",
)
MARKS: dict[str, tuple[Shape, str]] = {
    KEEPS: ("circle", FIRST),
    CHANGES: ("triangle", SECOND),
    UNSHOWN: ("square", SECOND),
    FALSE: ("cross", WRONG),
}


@dataclass(frozen=True)
class Place:
    """One case in the plane: memory in bytes, speed in tokens/s."""

    case: CaseResult
    memory: int
    speed: float

    @property
    def quality(self) -> str:
        if is_wrong(self.case):
            return FALSE
        if not keeps_answers(self.case):
            return CHANGES
        return UNSHOWN if is_uncompared(self.case) else KEEPS


def places(run: Run) -> list[Place]:
    """The cases of full length whose memory is known, fastest first."""
    found = []
    for case in of_full_length(run):
        memory, per_token = memory_of(case), seconds_per_token(case)
        if memory is not None and per_token:
            found.append(Place(case, memory.bytes, 1 / per_token))
    return found


def front(found: Sequence[Place]) -> list[Place]:
    """The places that no other one of at least their quality beats in memory and speed, least memory first.

    Wrong outputs have no part in it. Of places that are alike in both, the first one given stays.
    """
    kept: list[Place] = []
    for place in sorted(found, key=lambda one: (one.memory, -one.speed, one.quality != KEEPS)):
        better = [one for one in kept if one.quality in (KEEPS, place.quality)]
        if place.quality != FALSE and all(place.speed > one.speed for one in better):
            kept.append(place)
    return kept


def pareto(run: Run) -> Figure | Missing:
    """One panel; the front is joined by a line and numbered, and the numbers are listed under it."""
    found = places(run)
    if len(found) < 2:
        return Missing(
            KEY,
            TITLE,
            "Fewer than two measured cases tell their memory; `pytest perf_tests` measures more settings.",
        )
    names = short_names(case for case in run.finished.values() if case.kind == "decode")
    best = front(found)
    kinds = {memory.what for place in found if (memory := memory_of(place.case)) is not None}
    what = {max(kinds, key=len)} if kinds else kinds  # where some tell less, what these tell
    listed = tuple(
        f"{names[place.case.id]}: {place.speed:.1f} tokens/s, {place.memory / GIB:.2f} GiB, {place.quality}"
        for place in best
    )
    own = [place for place in best if place.quality == KEEPS] or best
    least, most = own[0], own[-1]
    if least is most:
        finding = f"Of those with {most.quality}, none needs less memory or is faster than {_named(most, names)}."
    else:
        finding = (
            f"Of those with {most.quality}, from the least memory to the most speed: {_named(least, names)} to "
            f"{_named(most, names)}."
        )
    shown = [quality for quality in MARKS if any(place.quality == quality for place in found)]
    return Figure(
        KEY,
        TITLE,
        finding,
        (Panel("", _draw(found, best, finding), finding),),
        tuple(Key(quality, *MARKS[quality]) for quality in shown),
        Table(
            ("case", "memory (GiB)", "speed (tokens/s)", "on the front", "output"),
            tuple(
                (
                    names[place.case.id],
                    f"{place.memory / GIB:.3f}",
                    f"{place.speed:.1f}",
                    "yes" if place in best else "",
                    answers_text(place.case, run),
                )
                for place in found
            ),
        ),
        how=f"Memory: {'; '.join(sorted(what))}. Up and to the left is better. Numbered: not beaten in both by a "
        "setting of at least the same quality; a line joins those of one quality.",
        listed=listed,
    )


def _named(place: Place, names: Mapping[str, str]) -> str:
    return f"{names[place.case.id]} ({place.speed:.1f} tokens/s, {place.memory / GIB:.2f} GiB)"


def _draw(found: Sequence[Place], best: Sequence[Place], label: str) -> str:
    scale = alt.Scale(zero=False, nice=True, padding=8)
    x = alt.X("memory:Q", scale=scale, axis=axis("memory (GiB)", tickCount=5))
    top = 1.12 * max(place.speed for place in found)
    y = alt.Y("speed:Q", scale=alt.Scale(domain=[0, top]), axis=axis("speed (tokens/s)", tickCount=5))
    numbers = [
        {"memory": place.memory / GIB, "speed": place.speed, "number": str(n)} for n, place in enumerate(best, 1)
    ]
    layers = []
    for quality, (_, colour) in MARKS.items():
        line = [{"memory": one.memory / GIB, "speed": one.speed} for one in best if one.quality == quality]
        if len(line) > 1:
            lines = alt.Chart(values(line)).mark_line(color=colour, strokeWidth=1.5, interpolate="step-after")
            layers.append(lines.encode(x=x, y=y))
    for quality, (shape, colour) in MARKS.items():
        rows = [{"memory": one.memory / GIB, "speed": one.speed} for one in found if one.quality == quality]
        if rows:
            mark = "triangle-up" if shape == "triangle" else shape
            layers.append(
                alt.Chart(values(rows))
                .mark_point(shape=mark, filled=True, color=colour, size=55, opacity=1, stroke=CARD, strokeWidth=1)
                .encode(x=x, y=y)
            )
    layers.append(
        alt.Chart(values(numbers)).mark_text(dy=-11, fontWeight="bold", color=INK).encode(x=x, y=y, text="number:N")
    )
    return draw(alt.layer(*layers), height=280, label=label)
