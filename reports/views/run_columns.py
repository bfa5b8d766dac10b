"""The columns of a run's table: what the cell of a measured case shows, and its value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reports.numbers.answers import same_output
from reports.numbers.cases import GIB, cost_per_million, memory_of, pays_off_after, seconds_per_token
from reports.numbers.metrics import FACTS, METRICS, case_figure
from reports.numbers.predictions import predictions
from reports.numbers.speedups import speedup
from reports.numbers.statistics import Interval
from reports.record.run import CaseResult, Run
from reports.views.headline import interval_text, speedup_text
from reports.views.sheet import Scalar, SheetColumn


@dataclass(frozen=True)
class Field:
    """A column of the table with the cell and the value of a measured case."""

    column: SheetColumn
    text: Callable[[CaseResult], str]
    value: Callable[[CaseResult], Scalar]


def fields_of(run: Run, cases: Iterable[CaseResult], price: float | None) -> list[Field]:
    """The columns between the case and its status: those that are always shown, then one for each figure that some
    case has, shown where it is asked for."""
    off = {found.case: found.residual for found in predictions(run)}
    ratios = {case.id: ratio.interval for case in cases if (ratio := speedup(case, run)) is not None}
    outputs = {case.id: same for case in cases if (same := same_output(case, run)) is not None}
    fields = [
        _number("tokens_per_second", "tokens/s", "tokens/s", ".1f", _speed, priority=2),
        _number("ms_per_token", "ms/token", "ms/token", ".1f", _milliseconds, priority=5, better="lower"),
        Field(
            SheetColumn("speedup", "speedup [95%]", align="right"),
            lambda case: interval_text(ratios[case.id]) if case.id in ratios else speedup_text(case, run),
            lambda case: ratios[case.id].estimate if case.id in ratios else None,
        ),
        *(
            _number(f"speedup_{end}", f"{end} end", "", ".2f", _end_of(end, ratios), shown=False)
            for end in ("low", "high")
        ),
        Field(
            SheetColumn("same_output", "same output", priority=1, align="right"),
            lambda case: outputs[case.id].text if case.id in outputs else "",
            lambda case: outputs[case.id].same if case.id in outputs else None,
        ),
        _metric("accept_rate", "accept rate", "", ".2f", priority=3),
        _metric("tokens_per_step", "tokens/step", "tokens/step", ".2f", priority=4),
        _metric("total_rollbacks", "rollbacks", "", ".0f", priority=7, better="lower"),
        Field(
            SheetColumn("predicted_ms", "predicted ms (off)", priority=8, align="right", better="lower"),
            lambda case: _predicted(case, off.get(case.id)),
            lambda case: None if case.id not in off else (_milliseconds(case) or 0.0) / (1 + off[case.id]),
        ),
    ]
    if price is not None:
        fields.append(
            _number(
                "cost_per_million",
                "cost per million tokens",
                "",
                ".2f",
                lambda case: cost_per_million(case, price),
                priority=1,
                better="lower",
            )
        )
    fields += [
        _number(
            "pays_off_after",
            "pays off after",
            "tokens",
            ",.0f",
            lambda case: pays_off_after(case, run),
            shown=any(pays_off_after(case, run) is not None for case in cases),
            priority=6,
            better="lower",
        ),
        _number(
            "memory_gib",
            "memory",
            "GiB",
            ".2f",
            lambda case: None if (memory := memory_of(case)) is None else memory.bytes / GIB,
            shown=False,
            better="lower",
        ),
        _metric("ttft_seconds", "first token", "ms", ".1f", 1000, shown=False, better="lower"),
        _metric("decode_latency_tok", "inter-token", "ms", ".2f", 1000, shown=False, better="lower"),
        *(
            _metric(f"latency_tok_p{share}", f"p{share}", "ms/token", ".2f", 1000, shown=False, better="lower")
            for share in (50, 90, 99)
        ),
    ]
    taken = {field.column.key for field in fields} | {"assisted_latency_tok", "latency_tok", "assisted_thr", "thr"}
    for metric in (*METRICS.values(), *FACTS.values()):
        if metric.name not in taken and any(case_figure(metric, case) is not None for case in cases):
            better = "lower" if metric.better == "lower" else "higher"
            fields.append(_metric(metric.name, metric.name, metric.unit, ".4g", shown=False, better=better))
    return fields


def _end_of(end: str, ratios: Mapping[str, Interval]) -> Callable[[CaseResult], float | None]:
    return lambda case: float(getattr(ratios[case.id], end)) if case.id in ratios else None


def _number(
    key: str, label: str, unit: str, form: str, value: Callable[[CaseResult], float | None], **column: Any
) -> Field:
    def text(case: CaseResult) -> str:
        known = value(case)
        return "" if known is None else format(known, form)

    return Field(SheetColumn(key, label, unit, align="right", **column), text, value)


def _metric(name: str, label: str, unit: str, form: str, factor: float = 1.0, **column: Any) -> Field:
    """The column of a metric or fact, in multiples of its unit."""
    metric = METRICS.get(name) or FACTS[name]

    def value(case: CaseResult) -> float | None:
        known = case_figure(metric, case)
        return None if known is None else factor * known

    return _number(name, label, unit, form, value, **column)


def _speed(case: CaseResult) -> float | None:
    per_token = seconds_per_token(case)
    return 1 / per_token if per_token else None


def _milliseconds(case: CaseResult) -> float | None:
    per_token = seconds_per_token(case)
    return 1000 * per_token if per_token else None


def _predicted(case: CaseResult, residual: float | None) -> str:
    """`17.1 (-5.7%)`: the predicted ms per token, and how far that is from the measured ms.

    residual: of the speedup, predicted over measured less 1.
    """
    measured = _milliseconds(case)
    if residual is None or measured is None:
        return ""
    predicted = measured / (1 + residual)
    return f"{predicted:.1f} ({100 * (predicted / measured - 1):+.1f}%)"
