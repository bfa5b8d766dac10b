"""`python -m reports`: from run files to answers. Exit codes: 0 holds, 1 regression, 2 unusable input."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from reports import humaneval
from reports.run import RunFileError, read_run, write_merged
from reports.tables import legend, markdown_table, notes, print_run, rows, title

UNUSABLE = 2


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


def show(options: argparse.Namespace) -> int:
    """Print the table of a run, as at the end of `pytest perf_tests`."""
    run = read_run(options.file)
    if options.format == "markdown":
        print(f"{title(run)}\n\n{markdown_table(run)}\n\n{legend(run)}" if rows(run) else title(run))
        if solved := humaneval.markdown_table(run):
            print(f"\n{solved}")
        for note in notes(run):
            print(f"\n{note}")
    else:
        print_run(run)
    return 0


def merge(options: argparse.Namespace) -> int:
    """Concatenate the cases of several runs into one file."""
    write_merged([read_run(file) for file in options.files], options.output)
    print(f"wrote {options.output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reports", description=__doc__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    command = commands.add_parser("show", help="the table of a run", description=show.__doc__)
    command.add_argument("file", metavar="RUN", type=Path)
    command.add_argument("--format", choices=("terminal", "markdown"), default="terminal")
    command.set_defaults(run=show)
    command = commands.add_parser("merge", help="several runs into one file", description=merge.__doc__)
    command.add_argument("files", metavar="RUN", type=Path, nargs="+")
    command.add_argument("-o", "--output", metavar="RUN", type=Path, required=True)
    command.set_defaults(run=merge)
    return parser


if __name__ == "__main__":
    sys.exit(main())
