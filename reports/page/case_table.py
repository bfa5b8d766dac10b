"""The table of all cases on a page: what each cell shows, and what it is sorted by. Computes nothing of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from reports.numbers.answers import answers_text, same_output
from reports.numbers.cases import GIB, cost_per_million, is_measured, memory_of, seconds_per_token
from reports.numbers.decision import by_ratio, decisions
from reports.numbers.metrics import METRICS, case_figure
from reports.numbers.speedups import speedup
from reports.page.reproduce import case_command, case_settings
from reports.record.run import CaseResult, Run
from reports.views.headline import names_of, speedup_text


@dataclass(frozen=True)
class Cell:
    """One cell of the table of cases: what is shown and what it is sorted by; order None: unknown, sorted last."""

    text: str
    order: float | None = None


@dataclass(frozen=True)
class CaseRow:
    """One case of the table. cells follow `NUMBERS`; outcome: what is known of its output, or why there is none;
    command: empty where the run does not tell its own."""

    id: str
    name: str
    ok: bool
    best: bool
    cells: tuple[Cell, ...]
    outcome: str
    command: str
    settings: str


Number = Callable[[CaseResult, Run], Cell]


@dataclass(frozen=True)
class NumberColumn:
    """A column of figures. first: the order that a first click gives, the better end first."""

    name: str
    cell: Number
    first: Literal["ascending", "descending"] = "descending"


def _metric(name: str, form: str) -> Number:
    def cell(case: CaseResult, run: Run) -> Cell:
        value = case.metrics.get(name)
        return Cell("") if value is None else Cell(format(value, form), value)

    return cell


def _milliseconds(name: str) -> Number:
    def cell(case: CaseResult, run: Run) -> Cell:
        value = case_figure(METRICS[name], case)
        return Cell("") if value is None else Cell(f"{1000 * value:.1f}", value)

    return cell


def _speed(case: CaseResult, run: Run) -> Cell:
    per_token = seconds_per_token(case)
    return Cell(f"{1 / per_token:.1f}", 1 / per_token) if per_token else Cell("")


def _percentiles(case: CaseResult, run: Run) -> Cell:
    """Sorted by the last one."""
    found = [case_figure(METRICS[f"latency_tok_p{share}"], case) for share in (50, 90, 99)]
    known = [value for value in found if value is not None]
    return Cell(", ".join(f"{1000 * value:.1f}" for value in known), known[-1]) if len(known) == 3 else Cell("")


def _speedup(case: CaseResult, run: Run) -> Cell:
    if "published_speedup" in case.facts and not case.samples:
        return Cell(f"{case.facts['published_speedup']:.2f} (published)", case.facts["published_speedup"])
    found = speedup(case, run) if case.samples else None
    own = 1.0 if run.is_own_baseline(case) else None
    return Cell(speedup_text(case, run) if case.samples else "", found.interval.estimate if found else own)


def _same(case: CaseResult, run: Run) -> Cell:
    found = same_output(case, run)
    return Cell("") if found is None else Cell(found.text, found.same / found.compared)


def _memory(case: CaseResult, run: Run) -> Cell:
    found = memory_of(case)
    return Cell("") if found is None else Cell(f"{found.bytes / GIB:.2f}", found.bytes)


NUMBERS = (
    NumberColumn("speedup [95%]", _speedup),
    NumberColumn("tokens/s", _speed),
    NumberColumn("same output", _same),
    NumberColumn("first token (ms)", _milliseconds("ttft_seconds"), "ascending"),
    NumberColumn("between tokens (ms)", _milliseconds("decode_latency_tok"), "ascending"),
    NumberColumn("p50, p90, p99 (ms/token)", _percentiles, "ascending"),
    NumberColumn("accept rate", _metric("accept_rate", ".2f")),
    NumberColumn("tokens/step", _metric("tokens_per_step", ".2f")),
    NumberColumn("rollbacks", _metric("total_rollbacks", ".0f"), "ascending"),
    NumberColumn("memory (GiB)", _memory, "ascending"),
)


def number_columns(price_per_hour: float | None) -> tuple[NumberColumn, ...]:
    """The columns of figures, that of the cost last where a price is known."""
    if price_per_hour is None:
        return NUMBERS
    price = price_per_hour

    def cost(case: CaseResult, run: Run) -> Cell:
        found = cost_per_million(case, price)
        return Cell("") if found is None else Cell(f"{found:.2f}", found)

    return (*NUMBERS, NumberColumn("cost per million tokens", cost, "ascending"))


def case_rows(run: Run, price_per_hour: float | None = None) -> list[CaseRow]:
    """All decode cases in the order of the ratio that is printed, then those that were not measured, in their order."""
    cases = [case for case in run.finished.values() if case.kind == "decode"]
    measured = by_ratio(filter(is_measured, cases), run)
    names, numbers = names_of(run), number_columns(price_per_hour)
    chosen = {found.recommended.id for found in decisions(run) if found.recommended is not None}
    return [
        CaseRow(
            id=case.id,
            name=names[case.id],
            ok=is_measured(case),
            best=case.id in chosen,
            cells=tuple(number.cell(case, run) if is_measured(case) else Cell("") for number in numbers),
            outcome=_outcome(case, run),
            command=case_command(case, run),
            settings=case_settings(case),
        )
        for case in [*measured, *(case for case in cases if not is_measured(case))]
    ]


def _outcome(case: CaseResult, run: Run) -> str:
    if is_measured(case):
        return answers_text(case, run)
    return f"{case.status}: {case.reason}" if case.reason else case.status
