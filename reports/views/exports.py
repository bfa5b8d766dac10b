"""A run in the formats of other tools: what they read, in their words. Files are written by the command.

Knows the run file and each tool's format; computes no statistic of its own. A value that is missing or not finite is
left out, never written as 0.

Formats, and where they are described:
- github-action-benchmark: `customSmallerIsBetter` or `customBiggerIsBetter`, a list of {name, unit, value, range,
  extra} (github.com/benchmark-action/github-action-benchmark);
- bencher: Bencher Metric Format, {benchmark: {measure: {value, lower_value, upper_value}}}
  (bencher.dev/docs/reference/bencher-metric-format), read by its `json` adapter;
- pytest-benchmark: the file of `--benchmark-json`, one round per prompt, as `pytest-benchmark compare` reads it.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from reports.numbers.answers import is_lossless, is_same_model, same_output
from reports.numbers.decision import decisions
from reports.numbers.metrics import METRICS, Direction
from reports.numbers.speedups import speedup
from reports.numbers.statistics import Interval, bootstrap_ratio
from reports.record.run import CaseResult, Run, RunFileError, Sample
from reports.record.settings import PARTS

Scalar = str | int | float | bool
Row = dict[str, Scalar]

SPEEDUP = "speedup"
_LATENCIES = ("latency_tok", "assisted_latency_tok")
_RATES = ("thr", "assisted_thr", "generation_thr")
_BENCHER_NAME, _BENCHER_MEASURE = 1024, 64  # characters that Bencher allows
_SAMPLE_FIGURES = (
    "round",
    "turn",
    "started",
    "seconds",
    "new_tokens",
    "target_forwards",
    "ttft_seconds",
    "first_tokens",
    "draft_forwards",
    "drafted",
    "accepted",
    "rejected",
    "censored",
    "rollbacks",
    "draft_seconds",
    "verify_seconds",
    "other_seconds",
    "output_sha256",
)


@dataclass(frozen=True)
class ExportedFigure:
    """One metric of one case; interval: over prompts, where the metric is a ratio of totals with samples."""

    case: CaseResult
    metric: str
    unit: str
    better: Direction
    value: float
    interval: Interval | None


def figures(run: Run, metrics: Sequence[str] = ()) -> Iterator[ExportedFigure]:
    """Every finite metric of every case whose figures stand but repeats of baselines, in the order of the run file.

    metrics: only these; raises RunFileError for one that no case has.
    """
    cases = [case for case in run.finished.values() if case.measured]
    ratios = {case.id: found.interval for case in cases if case.samples and (found := speedup(case, run)) is not None}
    known = {name for case in cases for name in case.metrics} | ({SPEEDUP} if ratios else set())
    for name in metrics:
        if name not in known:
            raise RunFileError(
                f"{run.path}: --metric {name!r}: no case has it; choose from {', '.join(sorted(known)) or 'none'}"
            )
    for case in cases:
        for name, value in case.metrics.items():
            if (not metrics or name in metrics) and _finite(value):
                unit, better = _meaning(name)
                yield ExportedFigure(case, name, unit, better, value, _interval(case, name))
        ratio = ratios.get(case.id)
        if ratio is not None and (not metrics or SPEEDUP in metrics):
            known_ends = ratio if _finite(ratio.high) else None
            yield ExportedFigure(case, SPEEDUP, "", "higher", ratio.estimate, known_ends)


def github_action_benchmark(run: Run, direction: Literal["smaller", "bigger"], metrics: Sequence[str] = ()) -> str:
    """The list for customSmallerIsBetter or customBiggerIsBetter: metrics of that direction only."""
    wanted = {"smaller": "lower", "bigger": "higher"}[direction]
    entries = []
    for one in figures(run, metrics):
        if one.better == wanted:
            entry: dict[str, Any] = {"name": f"{one.case.id} {one.metric}", "unit": one.unit, "value": one.value}
            if one.interval is not None:
                entry["range"] = f"± {(one.interval.high - one.interval.low) / 2:.3g}"
                entry["extra"] = (
                    f"95% interval {one.interval.low:.6g} to {one.interval.high:.6g}, {len(one.case.samples)} prompts"
                )
            entries.append(entry)
    return _json(entries)


def bencher(run: Run, metrics: Sequence[str] = ()) -> str:
    """Bencher Metric Format, a benchmark per case and a measure per metric, under our metric names and units."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for one in figures(run, metrics):
        measure = {"value": one.value}
        if one.interval is not None:
            measure |= {"lower_value": one.interval.low, "upper_value": one.interval.high}
        name = one.case.id[:_BENCHER_NAME]
        found.setdefault(name, {})[one.metric.replace("_", "-")[:_BENCHER_MEASURE]] = measure
    return _json(found)


def case_rows(run: Run) -> list[Row]:
    """One row per case and per repeat of a baseline: how it ended, settings, its standing, metrics and plain facts.

    Columns of settings and facts are named after their part (`engine.dtype`, `facts.load_seconds`); metrics by their
    own names.
    """
    recommended = {found.recommended.id for found in decisions(run) if found.recommended is not None}
    rows = []
    for case in run.cases:
        row = _case_columns(case)
        row |= {} if case.again else _verdict(case, run, recommended)
        row |= {name: value for name, value in case.metrics.items() if _finite(value)}
        row |= _scalars("facts", case.facts)
        rows.append(row)
    return rows


def sample_rows(run: Run) -> list[Row]:
    """One row per generation: its case's settings and its raw figures; draft positions as `proposed_at.0` and so on."""
    return [_case_columns(case) | _sample_columns(sample) for case in run.cases for sample in case.samples]


def as_csv(rows: Sequence[Row]) -> str:
    """Rows as CSV with a header; a cell is empty where the row has no value."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=_columns(rows), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_parquet(rows: Sequence[Row]) -> bytes:
    """Rows as a Parquet file; null where a row has no value. A column of mixed types becomes text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.table({name: pa.array(values) for name, values in columns_of(rows).items()}), sink)
    return sink.getvalue()


def columns_of(rows: Sequence[Row]) -> dict[str, list[Scalar | None]]:
    """Rows by column, each of one type; None where a row has no value. A column of mixed types becomes text."""
    columns: dict[str, list[Scalar | None]] = {}
    for name in _columns(rows):
        values = [row.get(name) for row in rows]
        kinds = {type(value) for value in values if value is not None}
        if kinds == {int, float}:
            values = [None if value is None else float(value) for value in values]
        elif len(kinds) > 1:
            values = [None if value is None else str(value) for value in values]
        columns[name] = values
    return columns


def pytest_benchmark(run: Run) -> str:
    """The file of `pytest --benchmark-json`: a benchmark per case, its rounds the seconds of every prompt.

    Statistics are pytest-benchmark's own. Metrics are in extra_info. HumanEval cases have no rounds and are left out.
    """
    from pytest_benchmark.stats import Stats

    recommended = {found.recommended.id for found in decisions(run) if found.recommended is not None}
    environment = run.header.get("environment", {})
    hardware, versions = environment.get("hardware", {}), environment.get("versions", {})
    benchmarks = []
    for case in run.cases:
        rounds = [sample.seconds for sample in case.samples if _finite(sample.seconds)]
        if not case.measured or not rounds:
            continue
        stats = Stats()
        for seconds in rounds:
            stats.update(seconds)
        name = f"{case.id}{' again' if case.again else ''}"
        benchmarks.append(
            {
                "group": case.experiment or None,
                "name": name,
                "fullname": f"{case.experiment}::{name}",
                "params": vars(case.engine) | vars(case.point),
                "param": case.id,
                "extra_info": {
                    "case": case.id,
                    "again": case.again,
                    **({} if case.again else _verdict(case, run, recommended)),
                    **_clean(case.metrics),
                },
                "options": {"warmup": False, "disable_gc": True, "min_rounds": 1, "max_time": 0, "min_time": 0},
                "stats": {**_clean(stats.as_dict()), "data": rounds, "iterations": 1},
            }
        )
    machine = {
        "node": "",
        "processor": str(hardware.get("gpu") or hardware.get("cpu") or "unknown"),
        "machine": str(environment.get("system", "")),
        "python_version": str(environment.get("python", "")),
        "cpu": {"brand_raw": str(hardware.get("cpu") or "unknown"), "count": hardware.get("cpu_cores")},
        "versions": dict(versions),
    }
    commit = {"id": str(environment.get("git_commit", "unknown")), "dirty": False, "branch": "unknown"}
    return _json(
        {
            "machine_info": machine,
            "commit_info": commit,
            "benchmarks": benchmarks,
            "datetime": str(run.header.get("started_at") or "unknown"),
            "version": _pytest_benchmark_version(),
        }
    )


def _pytest_benchmark_version() -> str:
    from importlib.metadata import version

    return version("pytest-benchmark")


def _case_columns(case: CaseResult) -> Row:
    row: Row = {"case": case.id, "status": case.status, "kind": case.kind, "experiment": case.experiment}
    row |= {"again": case.again, "reason": case.reason, "started_at": case.started_at}
    for part in PARTS:
        known = {name: value for name, value in vars(getattr(case, part)).items() if name not in case.unstated}
        row |= _scalars(part, known | dict(case.unknown.get(part, {})))
    return row


def _verdict(case: CaseResult, run: Run, recommended: Collection[str]) -> Row:
    """What all views say of a measured case: its speedup with the interval, its output, whether it is recommended."""
    if case.kind != "decode" or not case.measured or not case.samples:
        return {}
    row: Row = {"recommended": case.id in recommended, "same_model": is_same_model(case)}
    row["lossless"] = is_lossless(case, run)
    found, same = speedup(case, run), same_output(case, run)
    if found is not None:
        ends = {"": found.interval.estimate, "_low": found.interval.low, "_high": found.interval.high}
        row |= {f"{SPEEDUP}{end}": value for end, value in ends.items() if _finite(value)}
        row["speedup_baseline"] = found.baseline
    if same is not None:
        row |= {"same_output": same.same, "compared_outputs": same.compared, "differences_by_rounding": same.rounding}
    return row


def _sample_columns(sample: Sample) -> Row:
    row: Row = {"prompt": sample.prompt, "visit": sample.visit}
    for name in _SAMPLE_FIGURES:
        value = getattr(sample, name)
        if value is not None and (isinstance(value, str) or _finite(value)):
            row[name] = value
    for name in ("proposed_at", "accepted_at"):
        row |= {f"{name}.{place}": count for place, count in enumerate(getattr(sample, name))}
    return row


def _scalars(part: str, values: Mapping[str, Any]) -> Row:
    """The plain values of a mapping, under `part.name`; one level of nesting is opened, longer things are left out."""
    row: Row = {}
    for name, value in values.items():
        if isinstance(value, str | bool) or (isinstance(value, int | float) and _finite(value)):
            row[f"{part}.{name}"] = value
        elif isinstance(value, Mapping) and not part.count("."):
            row |= _scalars(f"{part}.{name}", value)
    return row


def _columns(rows: Sequence[Row]) -> list[str]:
    """The columns of all rows, in the order in which they first appear."""
    return list(dict.fromkeys(name for row in rows for name in row))


def _meaning(metric: str) -> tuple[str, Direction]:
    """Unit and direction of a metric, those of HumanEval included; unknown ones are compared in no direction."""
    known = METRICS.get(metric)
    if known is not None:
        return known.unit, known.better
    if metric.startswith("pass_at_"):
        return "share", "higher"
    other: dict[str, tuple[str, Direction]] = {
        "generation_thr": ("tokens/s", "higher"),
        "seconds_per_problem": ("s", "lower"),
        "solved": ("problems", "higher"),
    }
    return other.get(metric, ("", "same"))


def _interval(case: CaseResult, metric: str) -> Interval | None:
    """The interval over prompts of a speed or a latency, both ratios of totals; None for other metrics."""
    if metric not in _LATENCIES + _RATES or len(case.samples) < 2:
        return None
    seconds = [sample.seconds for sample in case.samples]
    tokens = [sample.new_tokens for sample in case.samples]
    found = bootstrap_ratio(seconds, tokens) if metric in _LATENCIES else bootstrap_ratio(tokens, seconds)
    return found if _finite(found.low) and _finite(found.high) else None


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _clean(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if not isinstance(value, float) or math.isfinite(value)}


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
