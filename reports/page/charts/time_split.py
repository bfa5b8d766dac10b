"""Where the time of a token goes: drafting, verifying and the rest, beside the least that the hardware allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt

from reports.numbers.cases import of_full_length, seconds_per_token, short_names
from reports.numbers.speedups import baseline_measurements
from reports.page.charts.figure import (
    AXIS,
    FIRST,
    FOURTH,
    INK,
    SECOND,
    THIRD,
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

KEY, TITLE = "time", "Time per token, by what it is spent on"
MOST_BARS = 12
ROW = 30
PARTS = (("draft", SECOND), ("verify", FIRST), ("other", THIRD), ("not split", FOURTH))


@dataclass(frozen=True)
class Split:
    """One case's milliseconds per token. whole: of plain decoding, which has nothing to split, else 0. limit: the least
    that moving the weights and the cache, or computing, takes on this device; None where it was not worked out."""

    name: str
    draft: float
    verify: float
    other: float
    whole: float
    limit: float | None
    bound: str

    @property
    def total(self) -> float:
        return self.draft + self.verify + self.other + self.whole


def splits(run: Run) -> list[Split]:
    """The cases of full length with samples, fastest first."""
    names = short_names(case for case in run.finished.values() if case.kind == "decode")
    return [_split(case, names[case.id]) for case in of_full_length(run) if case.samples]


def time_split(run: Run) -> Figure | Missing:
    """One bar for each of the fastest cases and for the baseline; all others are in the table."""
    found = splits(run)
    if not found:
        return Missing(
            KEY, TITLE, "No case was measured with samples; `make bench` or `pytest perf_tests` measures them."
        )
    base = _baseline_name(run)
    kept = found[: MOST_BARS - 1] + [one for one in found[MOST_BARS - 1 :] if one.name == base]
    parts = [(name, colour) for name, colour in PARTS if any(_milliseconds(one, name) for one in kept)]
    with_limit = [one for one in kept if one.limit]
    legend = [
        Key(
            {"draft": "drafting", "verify": "verifying", "other": "other"}.get(name, "plain: all in the target"),
            "bar",
            c,
        )
        for name, c in parts
    ]
    if with_limit:
        legend.append(Key("the hardware's limit", "tick", INK))
    finding = _finding(kept[0], base)
    return Figure(
        KEY,
        TITLE,
        finding,
        (Panel("", _draw(kept, parts, finding), finding),),
        tuple(legend),
        Table(
            ("case", "draft (ms)", "verify (ms)", "other (ms)", "plain (ms)", "all (ms/token)", "limit (ms/token)"),
            tuple(
                (
                    one.name,
                    *(f"{value:.2f}" if value else "" for value in (one.draft, one.verify, one.other, one.whole)),
                    f"{one.total:.2f}",
                    f"{one.limit:.2f} ({one.bound})" if one.limit else "",
                )
                for one in found
            ),
        ),
        how="Prefill included. "
        + (
            "Limit: the time to move weights and cache (or to compute) once for every forward, at the bandwidth that a "
            "plain copy reaches here."
            if with_limit
            else "The hardware's limit was not measured in this run; `make bench` measures it."
        )
        + (
            f" The fastest {len(kept)} of {len(found)} cases, the baseline among them."
            if len(kept) < len(found)
            else ""
        ),
    )


def _finding(fastest: Split, base: str) -> str:
    text = f"The fastest, {fastest.name}, takes {fastest.total:.1f} ms per token"
    if fastest.whole:
        text += ", all of it in the target"
    else:
        shares = (("drafting", fastest.draft), ("verifying", fastest.verify), ("other", fastest.other))
        text += ": " + ", ".join(f"{100 * part / fastest.total:.0f}% {name}" for name, part in shares)
    if fastest.limit:
        text += f"; that is {fastest.total / fastest.limit:.1f} times the {fastest.bound} limit"
    return f"{text}."


def _split(case: CaseResult, name: str) -> Split:
    tokens = sum(sample.new_tokens for sample in case.samples)
    draft, verify, other = (
        1000 * sum(getattr(sample, f"{part}_seconds") for sample in case.samples) / tokens
        for part in ("draft", "verify", "other")
    )
    total = 1000 * (seconds_per_token(case) or 0.0)
    is_split = draft + verify > 0
    limit = case.facts.get("limit_tokens_per_second")
    return Split(
        name=name,
        draft=draft if is_split else 0.0,
        verify=verify if is_split else 0.0,
        other=other if is_split else 0.0,
        whole=0.0 if is_split else total,
        limit=1000 / limit if limit else None,
        bound=str(case.facts.get("limit_bound", "hardware")),
    )


def _baseline_name(run: Run) -> str:
    """The name of the baseline of the fastest case."""
    names = short_names(case for case in run.finished.values() if case.kind == "decode")
    fastest = next(case for case in of_full_length(run) if case.samples)
    return next((names[one.id] for one in baseline_measurements(fastest, run)), "")


def _milliseconds(split: Split, part: str) -> float:
    return split.whole if part == "not split" else float(getattr(split, part))


def _draw(kept: Sequence[Split], parts: Sequence[tuple[str, str]], label: str) -> str:
    order = [one.name for one in kept]
    rows = []
    for one in kept:
        left = 0.0
        for part, _ in parts:
            width = _milliseconds(one, part)
            if width:
                rows.append({"case": one.name, "part": part, "left": left, "right": left + width})
            left += width
    y = alt.Y("case:N", sort=order, axis=None, scale=alt.Scale(paddingInner=0.1, paddingOuter=0.1))
    x = alt.X("left:Q", axis=axis("time per token (ms)", tickCount=5), scale=alt.Scale(domainMin=0, nice=True))
    colours = alt.Scale(domain=[part for part, _ in parts], range=[colour for _, colour in parts])
    bars = (
        alt.Chart(values(rows))
        .mark_bar(height=9, yOffset=8)
        .encode(y=y, x=x, x2="right:Q", color=alt.Color("part:N", scale=colours))
    )
    labels = alt.Chart(
        values([{"case": one.name, "left": 0, "text": f"{one.name}: {one.total:.1f} ms"} for one in kept])
    )
    layers = [bars, labels.mark_text(align="left", dx=3, dy=-6, fontSize=11, color=INK).encode(y=y, x=x, text="text:N")]
    limits = [{"case": one.name, "left": one.limit} for one in kept if one.limit]
    if limits:
        layers.append(
            alt.Chart(values(limits))
            .mark_tick(color=INK, opacity=1, thickness=2.5, height=15, yOffset=8, orient="vertical")
            .encode(y=y, x=x)
        )
    layers.insert(0, alt.Chart(values([{"left": 0}])).mark_rule(color=AXIS).encode(x=x))
    return draw(alt.layer(*layers), height=ROW * len(kept) + 46, label=label)
