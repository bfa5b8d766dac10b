"""`reports page RUN... -o FILE`: verdict, charts and all cases of one or more runs in one self-contained HTML file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from reports.commands.choosing import add_price, price_of
from reports.record.run import RunFileError


def register(commands: Any) -> None:
    command = commands.add_parser("page", help="a page of charts, one HTML file", description=__doc__)
    command.add_argument("files", metavar="RUN", type=Path, nargs="+")
    command.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="the HTML file to write")
    add_price(command)
    command.set_defaults(run=page)


def page(options: argparse.Namespace) -> int:
    """Write the page and tell where it is."""
    from reports.numbers.reading import read_measured
    from reports.page.run_page import write_page

    output: Path = options.output
    price_per_hour = price_of(options)
    if any(output.resolve() == file.resolve() for file in options.files):
        raise RunFileError(f"{output}: -o names one of the run files; name another file for the page")
    write_page([read_measured(file) for file in options.files], output, price_per_hour)
    print(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB)")
    return 0
