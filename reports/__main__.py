"""`python -m reports`: from run files to answers. Exit codes: 0 holds, 1 regression, 2 unusable input."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from contextlib import redirect_stderr, redirect_stdout, suppress

UNUSABLE = 2
try:
    from reports.record.plain_text import fenced, one_line, tolerate_any_text
    from reports.record.run import RunFileError
except ModuleNotFoundError as missing:
    print(
        f"reports: {missing.name} is not installed for {sys.executable}: activate the suite's environment by "
        "`. .venv/bin/activate`, which `make .venv/.installed` makes",
        file=sys.stderr,
    )
    sys.exit(UNUSABLE)

LONGEST_REFUSAL = 1000  # characters: some list what differs
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
    "schema",
    "doctor",
)
"""Modules of reports/commands, in the order of `--help`."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code, also where nobody reads the answer to its end."""
    tolerate_any_text()
    with redirect_stdout(fenced(sys.stdout)), redirect_stderr(fenced(sys.stderr)):
        return _run(arguments)


def _run(arguments: list[str] | None) -> int:
    options = _parser().parse_args(arguments)
    options.exit_code = 0  # a command with a verdict sets it before it prints
    try:
        options.exit_code = int(options.run(options))
        sys.stdout.flush()
    except RunFileError as error:
        print(f"reports: {one_line(error, LONGEST_REFUSAL)}", file=sys.stderr)
        return UNUSABLE
    except BrokenPipeError:
        _close_output()
    return int(options.exit_code)


def _close_output() -> None:
    """Have what is still to be written go nowhere, so that the interpreter does not fail on it when it ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reports", description=__doc__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"reports.commands.{name}").register(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
