"""The table of a run as data; the terminal, Markdown, CSV and JSON are forms of it. Computes nothing itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from reports.numbers.answers import is_wrong
from reports.numbers.cases import (
    is_measured,
    shared_settings,
    short_names,
)
from reports.numbers.decision import by_ratio, decisions
from reports.numbers.humaneval import humaneval_cases
from reports.numbers.pairing import meaning
from reports.numbers.predictions import prediction_lines
from reports.numbers.speedups import drifts, speedup
from reports.record.plain_text import printable, shortened
from reports.record.run import CaseResult, Run
from reports.views.cost_table import cost_sheet
from reports.views.headline import names_of, recommended_data, recommended_lines
from reports.views.humaneval_table import humaneval_sheet
from reports.views.run_columns import Field, fields_of
from reports.views.sheet import (
    Sheet,
    SheetColumn,
    SheetRow,
    as_csv,
    as_data,
    chosen,
    console,
    markdown,
    print_sheet,
    renamed,
)

LONGEST_STATUS = 160  # characters; the run file has the whole reason
MANY = 4  # cases that share a note, from which on it is said once
STAR = "*"


@dataclass(frozen=True)
class Asked:
    """How a table is to be shown: `--columns`, `--sort`, `--top`, `--price-per-hour`; None: as it is."""

    columns: str | None = None
    sort: str | None = None
    top: int | None = None
    price_per_hour: float | None = None

    @property
    def anything(self) -> bool:
        return (self.columns, self.sort, self.top) != (None, None, None)


def run_sheet(run: Run, asked: Asked | None = None, *, ids: bool = False) -> Sheet:
    """All decode cases of a run in the order of the ratio that is printed, then those that were not measured.

    ids: cases by their ids, not by short names. Raises RunFileError for a column that there is not.
    """
    asked = asked or Asked()
    cases = [case for case in run.finished.values() if case.kind == "decode"]
    timed = [case for case in cases if is_measured(case) and case.samples]
    others = [case for case in cases if case not in timed]
    winners = {found.recommended.id for found in decisions(run) if found.recommended is not None}
    fields = fields_of(run, timed, asked.price_per_hour)
    names = {case.id: case.id for case in cases} if ids else names_of(run)
    rows = [_row(case, fields, names, case.id in winners) for case in by_ratio(timed, run)]
    rows += [_bare_row(case, len(fields), names) for case in others]
    sheet = Sheet(
        columns=(
            SheetColumn("case", "case", code=ids),
            SheetColumn("id", "id", shown=False, code=True),
            *(field.column for field in fields),
            SheetColumn("status", "status", least=10),
        ),
        rows=tuple(rows),
        title=title(run),
        shared=tuple(filter(None, (workload(run), "" if ids else _unless_named(cases)))),
        notes=(_legend(run),),
    )
    return chosen(sheet, asked.columns, asked.sort, asked.top)


LEGEND = (
    "Speedup: against plain decoding with a dynamic cache, unquantized and uncompiled, on the same prompts. "
    "Same output: prompts whose greedy output is plain decoding's, token by token; bf16 parts at near ties, see "
    "docs/statistics.md. Predicted ms: per token, by the cost model; off: from the measured ms. * recommended: of "
    "those that decode the same model, the largest speedup whose interval lies above 1, else plain decoding."
)


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


def workload(run: Run) -> str:
    """`20 prompts (embedded) of 128 tokens, 64 generated`."""
    asked = run.header.get("study", {}).get("workload", {})
    length = "as long as they are" if asked.get("max_prompt") == 0 else f"of {asked.get('max_prompt', '?')} tokens"
    source = f"{asked.get('prompts', '?')}{', as a chat' if asked.get('chat') else ''}"
    return f"{asked.get('num_samples', '?')} prompts ({source}) {length}, {asked.get('gen_toks', '?')} generated"


def legend(run: Run) -> str:
    """What the cases have in common, what the speedup is against and what the mark means."""
    return f"{workload(run)}. {_legend(run)}"


def _legend(run: Run) -> str:
    return f"{LEGEND} {meaning(run)}."


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


def markdown_table(run: Run, most: int | None = None, asked: Asked | None = None) -> str:
    """The table in Markdown, cases by their ids.

    most: so many rows of measured cases alone, those of the largest speedup and the baseline of the first.
    """
    sheet = run_sheet(run, asked, ids=True)
    if most is not None:
        timed = [row for row in sheet.rows if row.tone != "dim"]
        cases = run.finished
        first = next((found for row in timed if (found := speedup(cases[str(row.values[0])], run))), None)
        plain = [row for row in timed if first is not None and row.values[0] == first.baseline]
        kept = [row for row in timed if row not in plain][: most - len(plain)]
        sheet = replace(sheet, rows=tuple(row for row in timed if row in kept or row in plain))
    return markdown(sheet)


def markdown_page(run: Run, asked: Asked | None = None) -> str:
    """Title, tables, recommendation and notes in Markdown."""
    if asked is not None and asked.anything:
        return f"{title(run)}\n\n{markdown_table(run, asked=asked)}\n\n{legend(run)}"
    parts = [title(run)]
    if run_sheet(run).rows:
        parts += [markdown_table(run, asked=asked), *recommended_lines(run), legend(run)]
    parts += [
        f"{markdown(sheet)}\n\n{' '.join(sheet.notes)}"
        for sheet in (cost_sheet(run), humaneval_sheet(run))
        if sheet.rows
    ]
    return "\n\n".join([*parts, *notes(run)])


def csv_table(run: Run, asked: Asked | None = None) -> str:
    """The table with a column for every figure that is known, or those asked for; cases by their ids."""
    return as_csv(_with_every_column(run, asked))


def json_page(run: Run, asked: Asked | None = None) -> str:
    """Tables, recommendation and notes as JSON."""
    tables = [as_data(_with_every_column(run, asked))]
    tables += [as_data(sheet) for sheet in (cost_sheet(run), humaneval_sheet(run)) if sheet.rows]
    found = {"run": str(run.path), "recommended": recommended_data(run), "tables": tables, "notes": notes(run)}
    return json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False)


def print_run(run: Run, terminal: Any = None, asked: Asked | None = None) -> None:
    """Print tables, recommendation and notes; `terminal` is pytest's reporter, or None for standard output."""
    to = console(None if terminal is None else terminal._tw._file)
    asked = asked or Asked()
    to.print()
    sheet = run_sheet(run, asked)
    if sheet.rows:
        print_sheet(sheet, to)
        for line in recommended_lines(run):
            to.print(printable(line), markup=False, style="bold green" if line.startswith("recommended") else None)
    names = names_of(run) | short_names(humaneval_cases(run))
    for beside in (cost_sheet(run), humaneval_sheet(run)):
        if beside.rows and not asked.anything:
            to.print()
            print_sheet(renamed(beside, names), to)
    for note in map(printable, notes(run)):
        to.print(note, markup=False, style="bold red" if note.startswith("UNSTABLE") else None)


def _row(case: CaseResult, fields: Iterable[Field], names: Mapping[str, str], best: bool) -> SheetRow:
    fields = list(fields)
    status = _status(case)
    return SheetRow(
        cells=(names[case.id], case.id, *(field.text(case) for field in fields), status),
        values=(case.id, case.id, *(field.value(case) for field in fields), status),
        tone="best" if best else "plain",
        mark=STAR if best else "",
    )


def _bare_row(case: CaseResult, fields: int, names: Mapping[str, str]) -> SheetRow:
    status = _status(case)
    return SheetRow(
        cells=(names[case.id], case.id, *[""] * fields, status),
        values=(case.id, case.id, *[None] * fields, status),
        tone="dim",
    )


def _status(case: CaseResult) -> str:
    """How the case ended; for a wrong one the prompt and the output token, counted from 0 as in the run file."""
    if case.measured and case.samples and is_wrong(case):
        first = case.facts["losslessness"].get("first", {})
        return f"wrong: prompt {first.get('prompt', '?')} differs from token {first.get('position', '?')} on"
    if case.status == "ok" or not case.reason:
        return case.status
    return shortened(f"{case.status}: {case.reason}", LONGEST_STATUS)


def _with_every_column(run: Run, asked: Asked | None) -> Sheet:
    """The sheet with all columns unless some are asked for; cases by their ids."""
    asked = asked or Asked()
    if asked.columns is not None:
        return run_sheet(run, asked, ids=True)
    timed = [case for case in run.finished.values() if is_measured(case) and case.samples]
    keys = [field.column.key for field in fields_of(run, timed, asked.price_per_hour)]
    return run_sheet(run, replace(asked, columns=",".join([*keys, "status"])), ids=True)


def _unless_named(cases: Iterable[CaseResult]) -> str:
    shared = shared_settings(case.id for case in cases)
    return f"unless the case says otherwise: {shared} (--columns id shows the ids)" if shared else ""


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
