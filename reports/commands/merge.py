"""`reports merge RUN... -o RUN`: the cases of several runs in one file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from reports.run import read_run, write_merged


def register(commands: Any) -> None:
    command = commands.add_parser("merge", help="several runs into one file", description=__doc__)
    command.add_argument("files", metavar="RUN", type=Path, nargs="+")
    command.add_argument("-o", "--output", metavar="RUN", type=Path, required=True)
    command.set_defaults(run=merge)


def merge(options: argparse.Namespace) -> int:
    """Concatenate the cases of several runs into one file."""
    write_merged([read_run(file) for file in options.files], options.output)
    print(f"wrote {options.output}")
    return 0
