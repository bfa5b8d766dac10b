"""Reading what was published elsewhere as if it were a run: the original study's table, a CSV with comments on top.

Figures are taken over as they stand: a reference has metrics and no samples, so nothing about it can have an interval.
Knows the shape of a run and that of the table; knows nothing of what the figures mean.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reports.record.reader import read_run
from reports.record.run import CaseResult, Run, RunFileError
from reports.record.settings import DecodingPoint, EngineKey, WorkloadDone, case_id

PUBLISHED = "published elsewhere, not measured here"

_PAIRS = {"Llama-3.2-1B": "llama3-8b-1b", "Llama-3.2-3B": "llama3-8b-3b", "": "llama3-8b-1b"}
_TARGET = "Llama-3.1-8B"
_WORKLOAD: Mapping[str, Any] = {"prompts": "wikitext", "num_samples": 500, "max_prompt": 128, "gen_toks": 128}
_UNSTATED = frozenset({"seed", "eos_stops"})
_QUANTIZATIONS = ("none", "8bit", "4bit")
_COLUMNS = (
    "experiment",
    "target",
    "draft",
    "target_quant",
    "draft_quant",
    "assist_toks",
    "confidence_threshold",
    "do_sample",
    "throughput_tok_s",
    "latency_ms_tok",
    "total_rollbacks",
    "accept_rate",
    "speedup",
    "gpu_util_percent",
    "perplexity",
    "pass_at_1",
)


def read_any(path: Path | str) -> Run:
    """Read a run file, or a name ending in .csv as the original study's published table; raises RunFileError."""
    path = Path(path)
    return read_reference(path) if path.suffix == ".csv" else read_run(path)


def is_reference(run: Run) -> bool:
    """Whether the run was published elsewhere: figures without samples."""
    return bool(run.header.get("reference"))


def read_reference(path: Path) -> Run:
    """Read the original study's table.

    Latencies become seconds per token, the unit of `METRICS`. A row with pass@1 gives a HumanEval case as well. Plain
    decoding, which was published once for the target, is filed under the pair with the smaller draft. The temperature
    of the sampled rows was not published: their point has none. Raises RunFileError for a file that is missing, lacks a
    column or holds a value that is not what the column holds.
    """
    comments, table = _split(path)
    reader = csv.DictReader(text for _, text in table)
    missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise RunFileError(
            f"{path}: no column {missing[0]!r}; a reference needs the columns of reports/published/seed_study_l4.csv"
        )
    cases: list[CaseResult] = []
    numbers = [number for number, _ in table[1:]]
    for number, row in zip(numbers, reader, strict=False):
        cases += _cases(_Row(path, number, row))
    if not cases:
        raise RunFileError(f"{path}: no rows under the column names; not a reference")
    ids = [case.id for case in cases]
    twice = next((name for name in ids if ids.count(name) > 1), None)
    if twice is not None:
        raise RunFileError(f"{path}: two rows describe {twice}; leave one of them out")
    return Run(path, _header(path, comments, cases), tuple(cases), complete=True)


class _Row:
    """One row of the table whose cells are read by column, with errors that name file, line and column."""

    def __init__(self, path: Path, number: int, cells: Mapping[str, Any]) -> None:
        self.where, self._cells = f"{path}: line {number}", cells

    def text(self, column: str, allowed: Sequence[str] = ()) -> str:
        value = str(self._cells.get(column) or "").strip()
        if allowed and value not in allowed:
            raise RunFileError(f"{self.where}: {column} is {value!r}; choose from {', '.join(map(repr, allowed))}")
        return value

    def number(self, column: str) -> float | None:
        """A finite number of at least 0, or None for an empty cell."""
        value = self.text(column)
        if not value:
            return None
        try:
            found = float(value)
        except ValueError:
            found = math.nan
        if not (math.isfinite(found) and found >= 0):
            raise RunFileError(f"{self.where}: {column} is {value!r}, not a number of at least 0; correct the cell")
        return found

    def needed(self, column: str) -> float:
        """A number that cannot be missing or 0."""
        found = self.number(column)
        if not found:
            raise RunFileError(f"{self.where}: {column} is {self.text(column)!r}; this row needs a number above 0")
        return found


def _split(path: Path) -> tuple[list[str], list[tuple[int, str]]]:
    """The comment lines, and the others with their line numbers."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise RunFileError(
            f"{path}: no such file; the published table is reports/published/seed_study_l4.csv"
        ) from None
    except UnicodeDecodeError:
        raise RunFileError(f"{path}: not UTF-8 text; not a reference") from None
    except OSError as error:
        raise RunFileError(f"{path}: cannot be read: {error.strerror}") from None
    comments = [line.removeprefix("#").strip() for line in lines if line.startswith("#")]
    return comments, [(n, line) for n, line in enumerate(lines, start=1) if line.strip() and not line.startswith("#")]


def _header(path: Path, comments: Sequence[str], cases: Sequence[CaseResult]) -> dict[str, Any]:
    drafts = {pair: draft for draft, pair in _PAIRS.items() if draft}
    pairs = [
        {"name": name, "target": _TARGET, "draft": drafts[name]}
        for name in dict.fromkeys(str(case.engine.pair) for case in cases)
    ]
    return {
        "reference": PUBLISHED,
        "study": {"name": path.stem, "description": " ".join(comments), "pairs": pairs, "workload": dict(_WORKLOAD)},
        "environment": {"hardware": {"device": "cuda", "gpu": "NVIDIA L4"}, "versions": {}},
    }


def _cases(row: _Row) -> list[CaseResult]:
    row.text("target", (_TARGET,))
    draft = row.text("draft", tuple(_PAIRS))
    assisted = row.text("experiment", ("speculative", "plain")) == "speculative"
    if assisted != bool(draft):
        raise RunFileError(
            f"{row.where}: draft is {draft!r}; a speculative row names its draft, and a plain row has none"
        )
    target_quant = row.text("target_quant", _QUANTIZATIONS)
    draft_quant = row.text("draft_quant", _QUANTIZATIONS) if assisted else None
    engine = EngineKey(_PAIRS[draft], target_quant, draft_quant, dtype="bf16")
    point = _point(row, assisted)
    quantized = target_quant != "none" or draft_quant not in ("none", None)
    name = case_id(engine, point)
    perplexity, pass_at_1, speedup = (row.number(name) for name in ("perplexity", "pass_at_1", "speedup"))
    facts = {"perplexity": perplexity, "published_speedup": speedup}
    decode = CaseResult(
        name,
        "ok",
        experiment="quantization" if quantized else "speculative_decoding" if assisted else "baseline",
        engine=engine,
        point=point,
        workload=WorkloadDone(**_WORKLOAD),
        metrics=_metrics(row, "assisted_" if assisted else ""),
        facts={name: value for name, value in facts.items() if value is not None},
        notes=(PUBLISHED,),
        unstated=_UNSTATED,
    )
    if pass_at_1 is None:
        return [decode]
    solved = CaseResult(
        case_id(engine, point, variant="humaneval,base"),
        "ok",
        "humaneval",
        experiment="humaneval",
        engine=engine,
        point=point,
        workload=WorkloadDone("humaneval", prompt_form="base"),
        metrics={"pass_at_1": pass_at_1},
        notes=(PUBLISHED,),
        unstated=_UNSTATED | {"num_samples", "max_prompt", "gen_toks"},
    )
    return [decode, solved]


def _point(row: _Row, assisted: bool) -> DecodingPoint:
    toks = row.needed("assist_toks") if assisted else None
    if toks is not None and toks != int(toks):
        raise RunFileError(f"{row.where}: assist_toks is {toks:g}; it counts tokens, give a whole number")
    return DecodingPoint(
        "assisted" if assisted else "plain",
        assist_toks=None if toks is None else int(toks),
        confidence_threshold=row.number("confidence_threshold"),
        assist_schedule="constant" if assisted else None,
        do_sample=row.text("do_sample", ("true", "false")) == "true",
    )


def _metrics(row: _Row, prefix: str) -> dict[str, float]:
    found = {
        f"{prefix}latency_tok": row.needed("latency_ms_tok") / 1000,
        f"{prefix}thr": row.needed("throughput_tok_s"),
        "accept_rate": row.number("accept_rate"),
        "total_rollbacks": row.number("total_rollbacks"),
        "utilization_mean_percent": row.number("gpu_util_percent"),
    }
    return {name: value for name, value in found.items() if value is not None}
