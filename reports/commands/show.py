"""`reports show RUN`: the table of a run, as at the end of `pytest perf_tests`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from reports.numbers import humaneval
from reports.numbers.reading import read_measured
from reports.views import cost_table
from reports.views.tables import legend, markdown_table, notes, print_run, rows, title


def register(commands: Any) -> None:
    command = commands.add_parser("show", help="the table of a run", description=__doc__)
    command.add_argument("file", metavar="RUN", type=Path)
    command.add_argument("--format", choices=("terminal", "markdown"), default="terminal")
    command.set_defaults(run=show)


def show(options: argparse.Namespace) -> int:
    """Print the run's table in the format asked for."""
    run = read_measured(options.file)
    if options.format == "markdown":
        print(f"{title(run)}\n\n{markdown_table(run)}\n\n{legend(run)}" if rows(run) else title(run))
        if beside := cost_table.markdown_table(run):
            print(f"\n{beside}")
        if solved := humaneval.markdown_table(run):
            print(f"\n{solved}")
        for note in notes(run):
            print(f"\n{note}")
    else:
        print_run(run)
    return 0
