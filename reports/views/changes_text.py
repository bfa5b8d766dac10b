"""A comparison in the terminal, as Markdown, JSON and CSV: four views of the same object. Computes nothing itself."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reports.compare.changes import CaseChange, Change, Comparison
from reports.numbers.cases import shared_settings, short_names_of_ids
from reports.numbers.statistics import Interval
from reports.record.matching import Difference, hardware_key, weights_differences
from reports.record.plain_text import printable
from reports.record.published import PUBLISHED, is_reference
from reports.record.run import Run
from reports.views.sheet import Sheet, SheetColumn, SheetRow, Tone, console, print_sheet
from reports.views.sheet import markdown as markdown_of
from reports.views.tables import title

COLUMNS = (
    SheetColumn("case", "case"),
    SheetColumn("metric", "metric", least=20),
    SheetColumn("base", "base", priority=2, align="right"),
    SheetColumn("head", "head", priority=1, align="right"),
    SheetColumn("ratio", "head/base [95%]", align="right"),
    SheetColumn("direction", "verdict", least=10),
)
SHOWN_CASES = 100  # beyond this many a table is no longer read; JSON and CSV hold all
SHOWN_NAMES = 20
CSV_COLUMNS = (
    "base_run",
    "head_run",
    "by",
    "base_value",
    "head_value",
    "base_case",
    "head_case",
    "metric",
    "unit",
    "better",
    "base",
    "head",
    "ratio",
    "low",
    "high",
    "confidence",
    "direction",
    "prompts",
)
_TONES: dict[str, Tone] = {"better": "good", "worse": "bad", "changed": "warn"}
LEGEND = (
    "head/base: of the metric as named, over the prompts that both have; interval over prompts, paired. better, worse: "
    "a count that differs, or an interval that excludes 1. Figures without an interval show no direction."
)


def heading(found: Comparison) -> list[str]:
    """Which runs are compared, on what, and what a reader must know before the figures."""
    if found.by:
        lines, runs = [f"{found.base.path}: {title(found.base)}", f"by {found.by}, everything else equal"], [found.base]
    else:
        lines = [f"base {found.base.path}: {title(found.base)}", f"head {found.head.path}: {title(found.head)}"]
        lines, runs = lines + _machines(found), [found.base, found.head]
    for run in runs:
        if is_reference(run):
            lines.append(f"{run.path}: {PUBLISHED}")
        lines += run.warnings
        if not run.complete:
            lines.append(f"{run.path}: incomplete, the run was interrupted; what it measured is used")
    lines += [
        f"UNSTABLE: {drift.baseline} changed by {100 * (drift.ratio - 1):+.1f}% per token within its own run "
        f"(limit {100 * drift.limit:g}%); do not trust small differences"
        for drift in found.unstable
    ]
    return lines


def summary(found: Comparison) -> str:
    """How many cases were compared, and which way their metrics went."""
    counts = Counter(change.direction for case in found.cases for change in case.changes)
    told = ", ".join(f"{counts[name]} {name}" for name in ("better", "worse", "changed", "same", "none shown"))
    rest = (("without figures", found.unmeasured), ("new", found.new), ("gone", found.gone), ("renamed", found.renamed))
    extra = "".join(f", {len(cases)} {name}" for name, cases in rest if cases)
    return f"{len(found.cases)} cases compared{extra}; metrics: {told}"


def listed(found: Comparison) -> list[str]:
    """Cases that are not in the table of figures, and why."""
    lines = [
        f"no figures ({one.side}): {one.id}: {one.status}{f', {one.reason}' if one.reason else ''}"
        for one in found.unmeasured[:SHOWN_NAMES]
    ]
    lines += [f"new: {name}" for name in found.new[:SHOWN_NAMES]]
    lines += [f"gone: {name}" for name in found.gone[:SHOWN_NAMES]]
    lines += [f"renamed: {old} is now {new}" for old, new in found.renamed[:SHOWN_NAMES]]
    hidden = sum(max(len(cases) - SHOWN_NAMES, 0) for cases in (found.unmeasured, found.new, found.gone, found.renamed))
    return [*lines, f"and {hidden} more; --format json lists them"] if hidden else lines


def print_comparisons(comparisons: Iterable[Comparison]) -> None:
    """Print every comparison: heading, figures, what is not among them."""
    to = console()
    for found in comparisons:
        to.print()
        for line in map(printable, heading(found)):
            to.print(line, markup=False, soft_wrap=True)
        shown = _shown(found)
        if shown:
            print_sheet(changes_sheet(shown, short=True), to)
        for line in map(printable, (*_hidden(found, shown), summary(found), *listed(found))):
            to.print(line, markup=False, soft_wrap=True)


def markdown(comparisons: Iterable[Comparison]) -> str:
    """Every comparison as headings and tables in Markdown."""
    parts = []
    for found in comparisons:
        shown = _shown(found)
        parts += [f"{line}  " for line in heading(found)] + [""]
        if shown:
            parts += [markdown_of(changes_sheet(shown, quote="`")), "", LEGEND]
        parts += [*_hidden(found, shown), "", summary(found)]
        parts += ["", *(f"- {line}" for line in listed(found))] if listed(found) else []
        parts.append("")
    return "\n".join(parts).rstrip()


def as_json(comparisons: Iterable[Comparison]) -> str:
    """Every comparison as one JSON object, `{"comparisons": [...]}`; a bound or ratio that is not finite is null."""
    return json.dumps({"comparisons": [_json(found) for found in comparisons]}, allow_nan=False)


def as_csv(comparisons: Iterable[Comparison]) -> str:
    """One line for each metric of each case; an empty cell where there is no interval."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for found in comparisons:
        for case in found.cases:
            start = (found.base.path, found.head.path, found.by, *(case.values or ("", "")), case.base, case.head)
            writer.writerows([(*start, *_csv_cells(change), case.prompts) for change in case.changes])
    return text.getvalue().rstrip("\n")


def value_text(value: float, unit: str) -> str:
    """A metric's value with its unit: times per token in milliseconds, bytes in MiB, counts whole."""
    if unit == "s/token":
        return f"{1000 * value:.4g} ms/token"
    if unit == "bytes":
        return f"{value / 2**20:.4g} MiB"
    unit = "" if unit == "share" else unit
    number = f"{value:,.0f}" if value == int(value) and abs(value) >= 10 else f"{value:.4g}"
    return f"{number} {unit}".rstrip()


def ratio_text(ratio: float | None, interval: Interval | None) -> str:
    """`0.876 [0.851, 0.902]`, the bounds only where there is an interval."""
    if ratio is None:
        return "-"
    if interval is None:
        return f"{ratio:.3f}"
    return f"{ratio:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _machines(found: Comparison) -> list[str]:
    lines = []
    if found.same_hardware is False:
        keys = f"{hardware_key(found.base)} and {hardware_key(found.head)}"
        lines.append(f"different hardware ({keys}): two machines are compared, not two states of the code")
    if found.same_versions is False:
        lines.append("different versions: what changed may be theirs")
    if found.same_hardware is False or found.same_versions is False:
        lines.append("counts and outputs in bf16, fp16 and quantized can differ there by rounding alone")
    weights = () if found.same_hardware is None else weights_differences(found.base, found.head)
    if weights:
        lines.append(f"weights differ ({_told(weights)}): two models are compared, not two states of the code")
    others = [one for one in found.environment if one not in weights]
    if others and found.same_hardware is not None:
        lines.append(f"differs: {_told(others)}")
    if found.same_hardware and found.same_versions:
        lines.append("same hardware and versions")
    return lines


def _told(differences: Iterable[Difference]) -> str:
    return ", ".join(_difference(one) for one in differences)


def _difference(one: Difference) -> str:
    return f"{one.key} {_abbreviated(one.base) or 'unknown'} -> {_abbreviated(one.head) or 'unknown'}"


def _abbreviated(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:12]}..."


def _shown(found: Comparison) -> Sequence[CaseChange]:
    """All cases in their order if they are few, else those with the largest shown changes."""
    if len(found.cases) <= SHOWN_CASES:
        return found.cases
    return sorted(found.cases, key=_largest_change, reverse=True)[:SHOWN_CASES]


def _largest_change(case: CaseChange) -> float:
    shown = [change.ratio for change in case.changes if change.direction in _TONES]
    return max((abs(math.log(ratio)) if ratio else math.inf for ratio in shown), default=0.0)


def _hidden(found: Comparison, shown: Sequence[CaseChange]) -> list[str]:
    if len(shown) == len(found.cases):
        return []
    return [f"the {len(shown)} cases that changed most, of {len(found.cases)}; --format json and csv hold all"]


def changes_sheet(cases: Sequence[CaseChange], quote: str = "", *, short: bool = False) -> Sheet:
    """The lines of all cases; quote: what stands around the name of each; short: names instead of ids."""
    ids = [case.head for case in cases]
    names = short_names_of_ids(ids) if short else {}
    rows = _rows(cases, quote, names)
    shared = shared_settings(ids) if short else ""
    return Sheet(
        columns=COLUMNS,
        rows=tuple(SheetRow(row, tone=_TONES.get(row[-1].split(" ")[0], "plain")) for row in rows),
        shared=(f"unless the case says otherwise: {shared}",) if shared else (),
        notes=(LEGEND,),
    )


def _rows(cases: Sequence[CaseChange], quote: str, names: Mapping[str, str]) -> list[tuple[str, ...]]:
    """The lines of a table: case, metric, base, head, ratio, direction; equal counts of a case share one line."""
    found = []
    for case in cases:
        lines = [_row(change) for change in case.changes if change.direction != "same"]
        equal = [change for change in case.changes if change.direction == "same"]
        if equal:
            told = ", ".join(f"{one.metric.name} {value_text(one.base, one.metric.unit)}" for one in equal)
            lines.append((f"equal: {told}", "", "", "", "same"))
        if case.solved is not None:
            one = case.solved
            estimate, low, high = (100 * x for x in (one.difference.estimate, one.difference.low, one.difference.high))
            span = f"{estimate:+.1f} [{low:+.1f}, {high:+.1f}]"
            told = f"only base {one.only_base}, only head {one.only_head} of {one.problems}"
            verdict = f"{one.statement()} (p {one.p_value:.2g}){one.caution}"
            lines.append((f"problems solved: {told}", "", "", f"{span} points", verdict))
        if case.outputs is not None:
            lines.append(_outputs_row(case))
        for number, line in enumerate(lines or [("no metric in common", "", "", "", "")]):
            found.append((f"{quote}{_name(case, names)}{quote}" if number == 0 else "", *line))
    return found


def _row(change: Change) -> tuple[str, ...]:
    unit = change.metric.unit
    return (
        change.metric.name,
        value_text(change.base, unit),
        value_text(change.head, unit),
        ratio_text(change.ratio, change.interval),
        change.direction,
    )


def _outputs_row(case: CaseChange) -> tuple[str, ...]:
    assert case.outputs is not None
    one = case.outputs
    if not one.different:
        return (f"greedy outputs: equal on {one.prompts} prompts", "", "", "", "same")
    where = f"first prompt {one.first_prompt}" + (f", token {one.position}" if one.position is not None else "")
    return (f"greedy outputs: {one.different} of {one.prompts} differ, {where}", "", "", "", "changed")


def _name(case: CaseChange, names: Mapping[str, str]) -> str:
    head = names.get(case.head, case.head)
    name = head if case.values is None else f"{head} ({case.values[1]} against {case.values[0]})"
    return name if case.prompts == case.of_prompts else f"{name} ({case.prompts} of {case.of_prompts} prompts)"


def _json(found: Comparison) -> dict[str, Any]:
    return {
        "base": _run_json(found.base),
        "head": _run_json(found.head),
        "by": found.by or None,
        "same_hardware": found.same_hardware,
        "same_versions": found.same_versions,
        "environment": [{"key": one.key, "base": one.base, "head": one.head} for one in found.environment],
        "cases": [_case_json(case) for case in found.cases],
        "unmeasured": [
            {"id": one.id, "side": one.side, "status": one.status, "reason": one.reason} for one in found.unmeasured
        ],
        "new": list(found.new),
        "gone": list(found.gone),
        "renamed": [{"base": old, "head": new} for old, new in found.renamed],
    }


def _run_json(run: Run) -> dict[str, Any]:
    return {
        "path": str(run.path),
        "title": title(run),
        "complete": run.complete,
        "reference": PUBLISHED if is_reference(run) else None,
        "warnings": list(run.warnings),
    }


def _case_json(case: CaseChange) -> dict[str, Any]:
    outputs, solved = case.outputs, case.solved
    return {
        "base": case.base,
        "head": case.head,
        "values": list(case.values) if case.values else None,
        "prompts": case.prompts,
        "of_prompts": case.of_prompts,
        "metrics": [_change_json(change) for change in case.changes],
        "outputs": None
        if outputs is None
        else {
            "prompts": outputs.prompts,
            "different": outputs.different,
            "first_prompt": outputs.first_prompt,
            "position": outputs.position,
        },
        "solved": None
        if solved is None
        else {
            "problems": solved.problems,
            "only_base": solved.only_base,
            "only_head": solved.only_head,
            "batch_rows": list(solved.batches) if solved.batches else None,
            "difference": solved.difference.estimate,
            "low": solved.difference.low,
            "high": solved.difference.high,
            "p": solved.p_value,
        },
    }


def _change_json(change: Change) -> dict[str, Any]:
    interval = change.interval
    return {
        "metric": change.metric.name,
        "unit": change.metric.unit,
        "better": change.metric.better,
        "exact": change.metric.exact,
        "base": change.base,
        "head": change.head,
        "ratio": _finite(change.ratio),
        "low": None if interval is None else _finite(interval.low),
        "high": None if interval is None else _finite(interval.high),
        "confidence": None if interval is None else interval.confidence,
        "method": None if interval is None else interval.method,
        "direction": change.direction,
    }


def _csv_cells(change: Change) -> tuple[Any, ...]:
    metric, interval = change.metric, change.interval
    bounds: tuple[Any, ...] = ("", "", "") if interval is None else (interval.low, interval.high, interval.confidence)
    ratio = "" if change.ratio is None else change.ratio
    return (metric.name, metric.unit, metric.better, change.base, change.head, ratio, *bounds, change.direction)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
