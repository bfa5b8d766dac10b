"""`reports show RUN`: the table of a run, as at the end of `pytest perf_tests`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from reports.commands.choosing import add_choice, add_price, price_of
from reports.numbers.reading import read_measured
from reports.record.plain_text import without_markup
from reports.views.tables import Asked, csv_table, json_page, markdown_page, print_run


def register(commands: Any) -> None:
    command = commands.add_parser("show", help="the table of a run", description=__doc__)
    command.add_argument("file", metavar="RUN", type=Path)
    command.add_argument("--format", choices=("terminal", "markdown", "csv", "json"), default="terminal")
    add_choice(command)
    add_price(command)
    command.set_defaults(run=show)


def show(options: argparse.Namespace) -> int:
    """Print the run's table in the format asked for."""
    asked = Asked(options.columns, options.sort, options.top, price_of(options))
    run = read_measured(options.file)
    if options.format == "terminal":
        print_run(run, asked=asked)
    elif options.format == "csv":
        print(csv_table(run, asked), end="")
    elif options.format == "markdown":
        print(without_markup(markdown_page(run, asked)))
    else:
        print(json_page(run, asked))
    return 0
