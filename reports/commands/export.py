"""`reports export RUN --format NAME`: a run for other tools: dashboards, spreadsheets, data frames, pull requests."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from reports.commands.warning import warn
from reports.record.plain_text import without_markup
from reports.record.run import RunFileError

FORMATS = ("github-action-benchmark", "bencher", "csv", "parquet", "pytest-benchmark", "markdown")


def register(commands: Any) -> None:
    command = commands.add_parser("export", help="a run in another tool's format", description=__doc__)
    command.add_argument("file", metavar="RUN", type=Path)
    command.add_argument("--format", choices=FORMATS, required=True)
    command.add_argument("-o", "--output", metavar="FILE", type=Path, help="write here instead of standard output")
    command.add_argument(
        "--direction", choices=("smaller", "bigger"), help="github-action-benchmark: metrics that are better so"
    )
    command.add_argument(
        "--metric", action="append", default=[], help="github-action-benchmark, bencher: only this one (repeatable)"
    )
    command.add_argument("--samples", action="store_true", help="csv, parquet: one row per generation, not per case")
    command.set_defaults(run=export)


def export(options: argparse.Namespace) -> int:
    """Write the run in the format asked for."""
    _check(options)
    content = _content(options)
    if options.output is not None:
        try:
            options.output.write_bytes(content)
        except OSError as error:
            raise RunFileError(f"-o {options.output}: cannot be written: {error.strerror}; name another file") from None
        print(f"wrote {options.output}", file=sys.stderr)
    else:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    return 0


def _check(options: argparse.Namespace) -> None:
    """Refuse options that the format does not use, so that none is ignored silently."""
    form = options.format
    by_direction = form == "github-action-benchmark"
    if by_direction and options.direction is None:
        raise RunFileError(f"--format {form}: a list holds metrics of one direction; add --direction smaller or bigger")
    if options.direction is not None and not by_direction:
        raise RunFileError(f"--format {form}: has no use for --direction {options.direction}; drop it")
    if options.metric and form not in ("github-action-benchmark", "bencher"):
        raise RunFileError(f"--format {form}: has no use for --metric {options.metric[0]}; drop it")
    if options.samples and form not in ("csv", "parquet"):
        raise RunFileError(f"--format {form}: has no use for --samples; drop it, or use --format csv or parquet")
    if form == "parquet" and options.output is None and sys.stdout.isatty():
        raise RunFileError("--format parquet: is binary and would garble the terminal; add -o FILE")


def _content(options: argparse.Namespace) -> bytes:
    from reports.numbers.reading import read_measured
    from reports.record.published import is_reference
    from reports.views import exports

    run = read_measured(options.file)
    warn([run])
    form, metrics = options.format, options.metric
    timed = any(case.samples for case in run.cases)
    if not timed and (form == "pytest-benchmark" or options.samples or (is_reference(run) and form == "markdown")):
        option = "--samples" if options.samples else f"--format {form}"
        raise RunFileError(f"{options.file}: {option} needs raw samples and it holds none; use --format csv")
    if form in ("csv", "parquet"):
        rows = exports.sample_rows(run) if options.samples else exports.case_rows(run)
        if not rows:
            raise RunFileError(f"{options.file}: holds no case to export; measure some first")
        return exports.as_parquet(rows) if form == "parquet" else exports.as_csv(rows).encode()
    if form == "github-action-benchmark":
        return exports.github_action_benchmark(run, options.direction, metrics).encode()
    if form == "bencher":
        return exports.bencher(run, metrics).encode()
    if form == "pytest-benchmark":
        return exports.pytest_benchmark(run).encode()
    from reports.views.pull_request import comment

    return without_markup(comment(run)).encode()
