"""How far drafts are followed: the share of drafted tokens accepted at each position of a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt

from reports.numbers.cases import is_measured, short_names
from reports.numbers.predictions import acceptance_of
from reports.page.charts.figure import FIRST, SECOND, Figure, Key, Missing, Panel, Table, axis, draw, values
from reports.record.run import Run

KEY, TITLE = "acceptance", "Acceptance by draft position"
MOST_PANELS = 6


@dataclass(frozen=True)
class Position:
    """One draft position, counted from 1. judged: steps whose token here was judged, all before it accepted."""

    position: int
    steps: int
    judged: int
    accepted: int

    @property
    def joint(self) -> float:
        """Share of all steps in which the tokens up to here were proposed and accepted."""
        return self.accepted / self.steps

    @property
    def conditional(self) -> float | None:
        """Share of judged tokens that were accepted; None where none was judged."""
        return self.accepted / self.judged if self.judged else None


@dataclass(frozen=True)
class Accepted:
    """The positions of one case."""

    name: str
    positions: tuple[Position, ...]


def accepted(run: Run) -> list[Accepted]:
    """The measured cases that drafted, most accepted tokens first; of settings alike but for k the deepest."""
    names = short_names(case for case in run.finished.values() if case.kind == "decode")
    found: dict[str, Accepted] = {}
    for case in run.finished.values():
        if not is_measured(case) or not any(sample.steps for sample in case.samples):
            continue
        counts = acceptance_of(case.samples)
        positions = tuple(
            Position(i + 1, len(counts.steps), judged, hits)
            for i, (judged, hits) in enumerate(zip(counts.judged, counts.accepted, strict=True))
        )
        setting = case.id.replace(f",k={case.point.assist_toks}", "")
        if positions and len(positions) > len(found[setting].positions if setting in found else ()):
            found[setting] = Accepted(names[case.id], positions)
    return sorted(found.values(), key=lambda one: -sum(at.accepted for at in one.positions))


def acceptance(run: Run) -> Figure | Missing:
    """One panel for each setting's deepest draft; those beyond MOST_PANELS are in the table alone."""
    found = accepted(run)
    if not found:
        return Missing(
            KEY, TITLE, "No case recorded the steps of its drafts; `pytest perf_tests -m speculative` records them."
        )
    deep = [one for one in found if len(one.positions) > 1]
    shown = (deep or found)[:MOST_PANELS]
    more = len(found) - len(shown)
    return Figure(
        KEY,
        TITLE,
        _words(shown[0]) + ".",
        tuple(Panel(one.name, _draw(one), _words(one)) for one in shown),
        (
            Key("conditional: accepted once all before were", "circle", FIRST),
            Key("joint: of all steps", "square", SECOND),
        ),
        Table(
            ("case", "position", "steps", "judged", "accepted", "conditional (share)", "joint (share)"),
            tuple(
                (
                    one.name,
                    *map(str, (at.position, at.steps, at.judged, at.accepted)),
                    "" if at.conditional is None else f"{at.conditional:.3f}",
                    f"{at.joint:.3f}",
                )
                for one in found
                for at in one.positions
            ),
        ),
        how="The joint share also falls where a draft stops early, for want of confidence or of a match. Deep "
        "positions rest on few steps; the table has the counts."
        + (f" {more} more settings are in the table." if more else ""),
    )


def _words(one: Accepted) -> str:
    first, last = one.positions[0], one.positions[:3][-1]
    text = f"{one.name}: of {first.steps} steps, {100 * first.joint:.0f}% keep the first drafted token"
    if last is not first:
        text += f" and {100 * last.joint:.0f}% the first {last.position}"
    if first.conditional is not None:
        text += f"; the first is accepted in {100 * first.conditional:.0f}% of the steps that drafted"
    return text


def _draw(one: Accepted) -> str:
    count = len(one.positions)
    x = alt.X(
        "position:Q",
        scale=alt.Scale(domain=[0.5, max(count, 4) + 0.5], nice=False),
        axis=axis("position in the draft (tokens)", values=list(range(1, max(count, 4) + 1)), format="d", grid=False),
    )
    y = alt.Y("share:Q", scale=alt.Scale(domain=[0, 1]), axis=axis("accepted (share)", tickCount=5))
    conditional = [
        {"position": at.position, "share": at.conditional} for at in one.positions if at.conditional is not None
    ]
    joint = [{"position": at.position, "share": at.joint} for at in one.positions]
    return draw(
        alt.layer(*_line(conditional, x, y, FIRST, "circle", [1, 0]), *_line(joint, x, y, SECOND, "square", [5, 4])),
        height=200,
        label=_words(one),
    )


def _line(
    rows: Sequence[dict[str, float]], x: alt.X, y: alt.Y, colour: str, shape: str, dash: list[float]
) -> list[alt.Chart]:
    base = alt.Chart(values(rows)).encode(x=x, y=y)
    return [
        base.mark_line(color=colour, strokeDash=dash, strokeWidth=2),
        base.mark_point(color=colour, shape=shape, filled=True, size=50, opacity=1),
    ]
