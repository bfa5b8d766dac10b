"""`python -m reports`: from run files to answers. Exit codes: 0 holds, 1 regression, 2 unusable input."""

from __future__ import annotations

import argparse
import importlib
import sys

from reports.run import RunFileError

UNUSABLE = 2
COMMANDS = (
    "show",
    "merge",
    "compare",
    "gate",
    "ab",
    "calibrate",
    "promote",
    "claims",
    "advise",
    "page",
    "export",
    "history",
)
"""Modules of reports/commands, in the order of `--help`."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except RunFileError as error:
        print(f"reports: {error}", file=sys.stderr)
        return UNUSABLE
    except BrokenPipeError:
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reports", description=__doc__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"reports.commands.{name}").register(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
