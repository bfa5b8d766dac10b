"""What a setting costs apart from time: weights, loading, quality, cache, compiling, and its share of the limit.

A table of the facts that a run file holds on its cases, in the terminal and in Markdown. Works nothing out that was not
measured: what a case lacks stays empty. Knows nothing of how the figures were come by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from reports.numbers.cases import share_of_limit
from reports.record.run import CaseResult, Run
from reports.views.sheet import Scalar, Sheet, SheetColumn, SheetRow

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
class CostColumn:
    """A column, a case's cell ("" where it is not known) and, where that is one figure, its value."""

    column: SheetColumn
    cell: Callable[[CaseResult], str]
    value: Callable[[CaseResult], Scalar] | None = None


def cost_sheet(run: Run) -> Sheet:
    """The cases with a perplexity, a cache that was looked at, or compiled forwards, in the run's order; the columns of
    which some case has a figure."""
    cases = _cases(run)
    kept = [one for one in _COLUMNS if one.column.key == "case" or any(one.cell(case) for case in cases)]
    return Sheet(
        columns=tuple(one.column for one in kept),
        rows=tuple(
            SheetRow(
                tuple(one.cell(case) for one in kept),
                tuple(one.value(case) if one.value else one.cell(case) for one in kept),
                tone="plain" if case.measured else "dim",
            )
            for case in cases
        ),
        title="Costs apart from time",
        notes=(legend(cases, kept),) if cases else (),
    )


def legend(cases: Iterable[CaseResult], columns: Iterable[CostColumn]) -> str:
    """What the columns that are shown mean, and the text that perplexity was measured on."""
    cases = list(cases)
    texts = dict.fromkeys(_text(case) for case in cases if _number(case, "perplexity") is not None)
    text = " or ".join(text for text in texts if text) or "a text that the run does not name"
    copied = copy_words(cases)
    copies = f" ({copied})" if copied else ""
    return " ".join(one.column.meaning.format(text=text, copies=copies) for one in columns if one.column.meaning)


def copy_words(cases: Iterable[CaseResult]) -> str:
    """`76.4 GB/s of copies, the largest of 42.5 to 76.4`; empty where nothing was measured."""
    ends = [dict(case.facts.get("copy_bandwidth") or {}) for case in cases]
    lowest = min((float(end["lowest"]) for end in ends if end.get("lowest")), default=0.0) / 1e9
    highest = max((float(end["highest"]) for end in ends if end.get("highest")), default=0.0) / 1e9
    if not highest:
        return ""
    return f"{highest:.1f} GB/s of copies" + (
        f", the largest of {lowest:.1f} to {highest:.1f}" if lowest < highest else ""
    )


def _cases(run: Run) -> list[CaseResult]:
    return [case for case in run.finished.values() if any(_number(case, name) is not None for name in TELLING)]


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


def _figure(
    key: str, label: str, unit: str, form: str, meaning: str, factor: float = 1.0, *, priority: int
) -> CostColumn:
    column = SheetColumn(key, label, unit, priority, "right", better="lower", meaning=meaning)
    return CostColumn(column, _fact(key, form, factor), lambda case: _number(case, key))


_COLUMNS = (
    CostColumn(SheetColumn("case", "case", code=True), lambda case: case.id),
    CostColumn(
        SheetColumn(
            "weights",
            "weights",
            "MiB",
            1,
            "right",
            meaning="Weights: as stored, target + draft where a draft model is used.",
        ),
        _weights,
    ),
    _figure("load_seconds", "load", "s", ".2f", "Load: the engine, once for all its cases.", priority=4),
    _figure("perplexity", "perplexity", "", ".2f", "Perplexity: of the target on {text}.", priority=2),
    _figure("cache_bytes", "cache", "MiB", ".1f", "Cache: after one prompt and its output.", MIB, priority=3),
    _figure(
        "matching_prefix_tokens",
        "same tokens",
        "",
        ".0f",
        "Same tokens: with the quantized cache, before its output first differs from the dynamic one's, on one prompt.",
        priority=7,
    ),
    _figure(
        "logit_kl_nats",
        "KL",
        "nats",
        ".2g",
        "KL: of the next token's distribution with the quantized cache from the dynamic one's, mean over that output.",
        priority=8,
    ),
    _figure("compile_seconds", "compile", "s", ".1f", "Compile: tracing and compiling, not in the speeds.", priority=5),
    _figure(
        "graph_breaks",
        "graph breaks",
        "",
        ".0f",
        "Graph breaks: places where a forward leaves compiled code.",
        priority=9,
    ),
    _figure(
        "recompiles", "recompiles", "", ".0f", "Recompiles: graphs compiled while the case was timed.", priority=10
    ),
    CostColumn(
        SheetColumn(
            "share_of_limit",
            "of the limit",
            "%",
            6,
            "right",
            meaning="Of the limit: decoding speed over what memory bandwidth{copies} and computation, as measured in "
            "this run, allow the same forwards.",
        ),
        _of_limit,
        share_of_limit,
    ),
)
