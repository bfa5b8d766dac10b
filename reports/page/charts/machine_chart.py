"""What the machine did: plain decoding's time per token, round by round, with the rounds that were disturbed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import altair as alt

from reports.numbers.cases import short_names
from reports.page.charts.figure import FIRST, WRONG, Figure, Key, Missing, Panel, Table, axis, draw, values
from reports.record.run import CaseResult, Run, Sample

KEY, TITLE = "machine", "The machine over the run"
MOST_PANELS = 4


@dataclass(frozen=True)
class BaselineRound:
    """One round of a baseline: when it began (s since the run began), seconds per token over all its generations in the
    round, and why its times are doubtful (empty: they are not)."""

    number: int
    started: float
    per_token: float
    disturbed: str


def rounds_of(case: CaseResult, run: Run) -> list[BaselineRound]:
    """The rounds of a case in time; none where it did not take turns."""
    why = {(one.session, one.block, one.visit, one.round): one.disturbed for one in run.rounds}
    generations: dict[tuple[int, int], list[Sample]] = {}
    for sample in (*case.samples, *case.repeats):
        if sample.round is not None and sample.new_tokens:
            generations.setdefault((sample.visit, sample.round), []).append(sample)
    found = []
    for (visit, number), samples in sorted(generations.items()):
        began = min((sample.started for sample in samples if sample.started is not None), default=float(number))
        per_token = sum(sample.seconds for sample in samples) / sum(sample.new_tokens for sample in samples)
        disturbed = why.get((case.session, case.block or 0, visit, number), "")
        found.append(BaselineRound(number, began, per_token, disturbed))
    return found


def machine(run: Run) -> Figure | Missing:
    """A panel for each baseline that took turns."""
    baselines = [case for case in run.finished.values() if case.kind == "decode" and run.is_own_baseline(case)]
    drawn = {case.id: found for case in baselines if len(found := rounds_of(case, run)) > 1}
    if not drawn:
        return Missing(
            KEY,
            TITLE,
            "Cases did not take turns in this run, so that nothing tells how the machine's speed went while they were "
            "measured. `pytest perf_tests --order rounds` lets them.",
        )
    names = short_names(case for case in run.finished.values() if case.kind == "decode")
    shown = list(drawn)[:MOST_PANELS]
    finding = " ".join(_words(names[name], drawn[name]) for name in shown)
    disturbed = any(one.disturbed for name in shown for one in drawn[name])
    keys = [Key("a round", "circle", FIRST)] + ([Key("a disturbed round", "cross", WRONG)] if disturbed else [])
    return Figure(
        KEY,
        TITLE,
        finding,
        tuple(_panel(names[name], drawn[name]) for name in shown),
        tuple(keys),
        Table(
            ("baseline", "round", "began (s)", "ms/token", "disturbed"),
            tuple(
                (names[name], str(one.number), f"{one.started:.1f}", f"{1000 * one.per_token:.2f}", one.disturbed)
                for name in shown
                for one in drawn[name]
            ),
        ),
        how="Plain decoding's seconds per token of each round, over all its generations in it. Speedups pair "
        "generations of the same round, so that what all cases of a round share drops out of them.",
    )


def _panel(name: str, found: Sequence[BaselineRound]) -> Panel:
    words = _words(name, found)
    return Panel(name, _draw(found, words), words)


def _words(name: str, found: Sequence[BaselineRound]) -> str:
    times = [1000 * one.per_token for one in found]
    text = (
        f"{name}: {min(times):.1f} to {max(times):.1f} ms per token over {len(found)} rounds, "
        f"{median(times):.1f} in the middle"
    )
    reasons = Counter(one.disturbed for one in found if one.disturbed)
    if not reasons:
        return f"{text}."
    told = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common(3))
    return f"{text}; {reasons.total()} disturbed: {told}."


def _draw(found: Sequence[BaselineRound], label: str) -> str:
    rows = [
        {"minutes": one.started / 60, "ms": 1000 * one.per_token, "disturbed": bool(one.disturbed)} for one in found
    ]
    x = alt.X("minutes:Q", axis=axis("time in the run (minutes)"), scale=alt.Scale(zero=False, padding=8))
    y = alt.Y("ms:Q", axis=axis("time per token (ms)"), scale=alt.Scale(zero=False, padding=8))
    line = alt.Chart(values(rows)).mark_line(color=FIRST, opacity=0.35, strokeWidth=1.2).encode(x=x, y=y)
    plain = [row for row in rows if not row["disturbed"]]
    layers = [line, alt.Chart(values(plain)).mark_point(color=FIRST, filled=True, size=26, opacity=1).encode(x=x, y=y)]
    if len(plain) < len(rows):
        marks = alt.Chart(values([row for row in rows if row["disturbed"]]))
        layers.append(marks.mark_point(color=WRONG, shape="cross", filled=True, size=60, opacity=1).encode(x=x, y=y))
    return draw(alt.layer(*layers), height=180, label=label)
