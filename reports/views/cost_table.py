"""What a setting costs apart from time: weights, loading, quality, cache, compiling, and its share of the limit.

A table of the facts that a run file holds on its cases, in the terminal and in Markdown. Works nothing out that was not
measured: what a case lacks stays empty. Knows nothing of how the figures were come by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from reports.numbers.cases import share_of_limit
from reports.record.plain_text import printable
from reports.record.run import CaseResult, Run

MIB = 2**20
TELLING = (
    "perplexity",
    "cache_bytes",
    "matching_prefix_tokens",
    "logit_kl_nats",
    "compile_seconds",
    "graph_breaks",
    "recompiles",
)
"""Facts of which a case needs one to be in the table; weights and load time are its whole engine's."""


@dataclass(frozen=True)
class Row:
    """One case as shown; `cells` follow `columns(run)`. ok: whether the case ended well."""

    cells: tuple[str, ...]
    ok: bool


@dataclass(frozen=True)
class Column:
    """A column: its name, a case's cell ("" where it is not known), and what the legend says of it."""

    name: str
    cell: Callable[[CaseResult], str]
    meaning: str = ""


def columns(run: Run) -> tuple[str, ...]:
    """The case, and every column of which some case has a figure."""
    return tuple(column.name for column in _kept(_cases(run)))


def rows(run: Run) -> list[Row]:
    """The cases with a perplexity, a cache that was looked at, or compiled forwards, in the run's order."""
    cases = _cases(run)
    kept = _kept(cases)
    return [Row(tuple(column.cell(case) for column in kept), case.measured) for case in cases]


def legend(run: Run) -> str:
    """What the columns that are shown mean, and the text that perplexity was measured on."""
    cases = _cases(run)
    texts = dict.fromkeys(_text(case) for case in cases if _number(case, "perplexity") is not None)
    told = [
        column.meaning.format(text=" or ".join(text for text in texts if text) or "a text that the run does not name")
        for column in _kept(cases)
        if column.meaning
    ]
    return " ".join(told)


def terminal_table(run: Run) -> Table:
    """The table for a terminal."""
    table = Table(
        title="Costs apart from time",
        title_justify="left",
        caption=Text(printable(legend(run))),
        caption_justify="left",
    )
    for number, name in enumerate(columns(run)):
        table.add_column(name, justify="right" if number else "left", overflow="fold", min_width=None if number else 30)
    for row in rows(run):
        table.add_row(*(Text(printable(cell)) for cell in row.cells), style=None if row.ok else "dim")
    return table


def markdown_table(run: Run) -> str:
    """The same table in Markdown, the legend below it; empty if no case has such figures."""
    found = rows(run)
    if not found:
        return ""
    names = columns(run)
    lines = [_markdown(names), "|:---|" + "---:|" * (len(names) - 1)]
    lines += [_markdown((f"`{row.cells[0]}`", *row.cells[1:])) for row in found]
    return "\n".join([*lines, "", legend(run)])


def _markdown(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _cases(run: Run) -> list[CaseResult]:
    return [case for case in run.finished.values() if any(_number(case, name) is not None for name in TELLING)]


def _kept(cases: Iterable[CaseResult]) -> list[Column]:
    cases = list(cases)
    return [column for column in _COLUMNS if column.name == "case" or any(column.cell(case) for case in cases)]


def _number(case: CaseResult, name: str) -> float | None:
    found = case.facts.get(name)
    return found if isinstance(found, int | float) and not isinstance(found, bool) else None


def _fact(name: str, form: str, unit: float = 1.0) -> Callable[[CaseResult], str]:
    """The cell of one fact, in multiples of `unit`."""

    def cell(case: CaseResult) -> str:
        found = _number(case, name)
        return "" if found is None else format(found / unit, form)

    return cell


def _weights(case: CaseResult) -> str:
    """`256.6`, and of a case that drafts with a model of its own `256.6 + 67.5`."""
    weights = case.facts.get("weight_bytes")
    if not isinstance(weights, Mapping) or "target" not in weights:
        return ""
    roles = ("target", "draft") if case.point.strategy == "assisted" and "draft" in weights else ("target",)
    return " + ".join(f"{weights[role] / MIB:.1f}" for role in roles)


def _of_limit(case: CaseResult) -> str:
    share = share_of_limit(case)
    return "" if share is None else f"{100 * share:.1f}"


def _text(case: CaseResult) -> str:
    """`embedded prose (1023 tokens)`."""
    source, tokens = str(case.facts.get("perplexity_text") or ""), _number(case, "perplexity_tokens")
    return source if not source or tokens is None else f"{source} ({tokens:.0f} tokens)"


_COLUMNS = (
    Column("case", lambda case: case.id),
    Column("weights (MiB)", _weights, "Weights: as stored, target + draft where a draft model is used."),
    Column("load (s)", _fact("load_seconds", ".2f"), "Load: the engine, once for all its cases."),
    Column("perplexity", _fact("perplexity", ".2f"), "Perplexity: of the target on {text}."),
    Column("cache (MiB)", _fact("cache_bytes", ".1f", MIB), "Cache: after one prompt and its output."),
    Column(
        "same tokens",
        _fact("matching_prefix_tokens", ".0f"),
        "Same tokens: with the quantized cache, before its output first differs from the dynamic one's, on one prompt.",
    ),
    Column(
        "KL (nats)",
        _fact("logit_kl_nats", ".2g"),
        "KL: of the next token's distribution with the quantized cache from the dynamic one's, mean over that output.",
    ),
    Column("compile (s)", _fact("compile_seconds", ".1f"), "Compile: tracing and compiling, not in the speeds."),
    Column(
        "graph breaks",
        _fact("graph_breaks", ".0f"),
        "Graph breaks: places where a forward leaves compiled code.",
    ),
    Column("recompiles", _fact("recompiles", ".0f"), "Recompiles: graphs compiled while the case was timed."),
    Column(
        "of the limit (%)",
        _of_limit,
        "Of the limit: decoding speed over what memory bandwidth and computation, as measured in this run, allow the "
        "same forwards.",
    ),
)
