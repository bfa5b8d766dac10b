"""The table of a run, in the terminal and in Markdown: both are views of the same rows. Computes nothing itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from reports.numbers import humaneval
from reports.numbers.predictions import prediction_lines, predictions
from reports.numbers.speedups import Speedup, best, drifts, is_wrong, speedup
from reports.numbers.statistics import Interval
from reports.record.plain_text import printable, shortened
from reports.record.run import CaseResult, Run
from reports.views import cost_table

COLUMNS = (
    "case",
    "tokens/s",
    "ms/token",
    "speedup [95%]",
    "accept rate",
    "tokens/step",
    "rollbacks",
    "predicted ms (off)",
    "status",
)

LONGEST_STATUS = 160  # characters; the run file has the whole reason
STATUS_WIDTH = 32  # a long reason wraps, so that the ids need not
MANY = 4  # cases that share a note, from which on it is said once
WIDTH_OF_FILES = 200  # of output that goes to a file or a pipe, where no terminal says how wide it is


@dataclass(frozen=True)
class Row:
    """One case as shown. cells follow COLUMNS; best: the fastest case that keeps the baseline's answers."""

    cells: tuple[str, ...]
    best: bool
    ok: bool

    @property
    def case(self) -> str:
        """The id of the case."""
        return self.cells[0].removesuffix(" *")


def rows(run: Run) -> list[Row]:
    """All cases of a run, fastest first, then those that were not measured, in their order."""
    cases = [case for case in run.finished.values() if case.kind == "decode"]
    measured = sorted((case for case in cases if case.measured and case.samples), key=_seconds_per_token)
    others = [case for case in cases if not (case.measured and case.samples)]
    winner = best(measured, run.header.get("study", {}).get("workload", {}).get("gen_toks"))
    predicted = {found.case: found.residual for found in predictions(run)}
    return [_row(case, run, case is winner, predicted.get(case.id)) for case in [*measured, *others]]


def notes(run: Run) -> list[str]:
    """What a reader of the table must know: drift, instability, an incomplete run, dropped lines."""
    found = []
    if traced := run.header.get("environment", {}).get("traced_by"):
        found.append(f"UNSTABLE: measured under a tracer ({traced}), which takes time of its own: do not trust times")
    for drift in drifts(run):
        change = f"{100 * (drift.ratio - 1):+.1f}%"
        if drift.unstable:
            found.append(
                f"UNSTABLE: {drift.baseline} changed by {change} per token between two of its measurements "
                f"(limit {100 * drift.limit:g}%); the machine is noisy or busy, do not trust small differences"
            )
        else:
            found.append(f"drift: {drift.baseline} at most {change} per token {drift.between}")
    found += prediction_lines(run)
    found += _case_notes(run)
    if not run.complete:
        found.append("incomplete: the run was interrupted; continue it with --resume")
    return [*found, *run.warnings]


def _case_notes(run: Run) -> list[str]:
    """The notes of all cases; what is noted with many of them is said once."""
    cases: dict[str, list[str]] = {}
    for case in run.finished.values():
        for note in case.notes:
            cases.setdefault(note, []).append(case.id)
    return [
        line
        for note, ids in cases.items()
        for line in ([f"{len(ids)} cases: {note}"] if len(ids) >= MANY else [f"{name}: {note}" for name in ids])
    ]


def legend(run: Run) -> str:
    """What the speedup is against and what the mark means."""
    workload = run.header.get("study", {}).get("workload", {})
    return (
        f"{workload.get('num_samples', '?')} prompts ({workload.get('prompts', '?')}) of "
        f"{workload.get('max_prompt', '?')} tokens, {workload.get('gen_toks', '?')} generated. Speedup: against plain "
        "decoding with a dynamic cache, unquantized and uncompiled, on the same prompts. Predicted ms: per token, by "
        "the cost model; off: its speedup over the measured one. * fastest that keeps the baseline's answers."
    )


def title(run: Run) -> str:
    """Study, processor or GPU, versions: which run this table is of."""
    environment = run.header.get("environment", {})
    hardware, versions = environment.get("hardware", {}), environment.get("versions", {})
    machine = (
        hardware.get("gpu") or f"{hardware.get('cpu', 'unknown processor')}, {hardware.get('cpu_cores', '?')} cores"
    )
    stack = ", ".join(
        f"{name} {versions[name]}" for name in ("torch", "transformers", "bitsandbytes") if name in versions
    )
    return f"{run.header.get('study', {}).get('name', 'run')}: {machine}; {stack}"


def terminal_table(run: Run) -> Table:
    """The table for a terminal."""
    table = Table(
        title=Text(printable(title(run))),
        title_justify="left",
        caption=Text(printable(legend(run))),
        caption_justify="left",
    )
    for number, name in enumerate(COLUMNS):
        last = number == len(COLUMNS) - 1
        table.add_column(
            name,
            justify="left" if number == 0 or last else "right",
            overflow="fold",
            no_wrap=0 < number < len(COLUMNS) - 1,
            min_width=30 if number == 0 else None,
            max_width=STATUS_WIDTH if last else None,
        )
    for row in rows(run):
        table.add_row(
            *(Text(printable(cell)) for cell in row.cells),
            style="bold green" if row.best else (None if row.ok else "dim"),
        )
    return table


def markdown_table(run: Run, most: int | None = None) -> str:
    """The same table in Markdown.

    most: so many rows of measured cases alone, the fastest ones and the baseline of the fastest.
    """
    lines = ["| " + " | ".join(COLUMNS) + " |", "|:---|" + "---:|" * (len(COLUMNS) - 2) + ":---|"]
    for row in rows(run) if most is None else _fastest(run, most):
        cells = [cell.replace("|", "\\|") for cell in row.cells]
        cells[0] = f"`{cells[0].removesuffix(' *')}`" + (" **\\***" if row.best else "")
        lines.append(
            "| " + " | ".join(f"**{cell}**" if row.best and i and cell else cell for i, cell in enumerate(cells)) + " |"
        )
    return "\n".join(lines)


def _fastest(run: Run, most: int) -> list[Row]:
    measured = [row for row in rows(run) if row.ok]
    cases = run.finished
    baselines = [found.baseline for row in measured if (found := speedup(cases[row.case], run)) is not None][:1]
    shown = [row for row in measured if row.case not in baselines][: most - len(baselines)]
    return [row for row in measured if row in shown or row.case in baselines]


def print_run(run: Run, terminal: Any = None) -> None:
    """Print table and notes; `terminal` is pytest's reporter, or None for standard output."""
    file = None if terminal is None else terminal._tw._file
    console = Console(file=file, highlight=False)
    if not console.is_terminal:
        console = Console(file=file, highlight=False, width=WIDTH_OF_FILES)
    console.print()
    if rows(run):
        console.print(terminal_table(run))
    if cost_table.rows(run):
        console.print(cost_table.terminal_table(run))
    if humaneval.humaneval_rows(run):
        console.print(humaneval.terminal_table(run))
    for note in map(printable, notes(run)):
        console.print(note, markup=False, style="bold red" if note.startswith("UNSTABLE") else None)


def _row(case: CaseResult, run: Run, is_best: bool, residual: float | None) -> Row:
    ok = case.measured and bool(case.samples)
    status = _status(case, ok)
    if not ok:
        return Row((case.id, *[""] * (len(COLUMNS) - 2), status), False, False)
    per_token = _seconds_per_token(case)
    metrics = case.metrics
    cells = (
        case.id + (" *" if is_best else ""),
        f"{1 / per_token:.1f}",
        f"{1000 * per_token:.1f}",
        _speedup(speedup(case, run)),
        _number(metrics.get("accept_rate"), ".2f"),
        _number(metrics.get("tokens_per_step"), ".2f"),
        _number(metrics.get("total_rollbacks"), ".0f"),
        "" if residual is None else f"{1000 * per_token / (1 + residual):.1f} ({100 * residual:+.1f}%)",
        status,
    )
    return Row(cells, is_best, True)


def _status(case: CaseResult, ok: bool) -> str:
    """How the case ended; for a wrong one the prompt and the output token, counted from 0 as in the run file."""
    if ok and is_wrong(case):
        first = case.facts["losslessness"].get("first", {})
        return f"wrong: prompt {first.get('prompt', '?')} differs from token {first.get('position', '?')} on"
    if case.status == "ok" or not case.reason:
        return case.status
    return shortened(f"{case.status}: {case.reason}", LONGEST_STATUS)


def interval_text(interval: Interval) -> str:
    """`1.32 [1.28, 1.37]`."""
    return f"{interval.estimate:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _speedup(found: Speedup | None) -> str:
    return "" if found is None else interval_text(found.interval)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _seconds_per_token(case: CaseResult) -> float:
    tokens: Sequence[int] = [sample.new_tokens for sample in case.samples]
    return sum(sample.seconds for sample in case.samples) / sum(tokens)
