"""`reports claims RUN...`: the original study's observations, and one's own claims, held against runs side by side."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from reports.commands.warning import warn
from reports.record.plain_text import without_markup
from reports.record.run import Run, RunFileError


def register(commands: Any) -> None:
    command = commands.add_parser("claims", help="is what the original study observed true here", description=__doc__)
    command.add_argument("files", metavar="RUN", type=Path, nargs="+", help="run files, or the published table (.csv)")
    command.add_argument("--format", choices=("terminal", "markdown", "json"), default="terminal")
    command.add_argument("--claim", metavar="NAME,...", help="only these claims")
    command.add_argument(
        "--claims", metavar="FILE", type=Path, help="a TOML file with [[claim]] tables, beside those of a run's study"
    )
    command.add_argument("--details", action="store_true", help="every comparison, with the cases that it used")
    command.add_argument("--fail-on", choices=("contradicted",), help="end with exit code 1 if any claim is so")
    command.set_defaults(run=claims)


def claims(options: argparse.Namespace) -> int:
    """Print the verdicts; claims are findings, so the exit code is 0 unless --fail-on says otherwise."""
    from reports.numbers.reading import read_measured
    from reports.views.claims_text import as_json, markdown, print_claims

    columns = [_column(read_measured(file), options) for file in options.files]
    if options.claim is not None:
        columns = _only(columns, options.claim)
    contradicted = any(finding.verdict == "contradicted" for column in columns for finding in column.findings)
    options.exit_code = int(contradicted and bool(options.fail_on))
    if options.format == "json":
        print(json.dumps(as_json(columns), indent=2))
    elif options.format == "markdown":
        print(without_markup(markdown(columns)))
    else:
        print_claims(columns, every=options.details)
    warn(column.run for column in columns)
    return int(options.exit_code)


def _column(run: Run, options: argparse.Namespace) -> Any:
    from reports.claims.original import CLAIMS, evaluate
    from reports.claims.own import claims_of, read_claims
    from reports.views.claims_text import ClaimsOfRun

    given = () if options.claims is None else read_claims(options.claims)
    names = {claim.name for claim in given}
    carried = [claim for claim in claims_of(run) if claim.name not in names]
    return ClaimsOfRun(run, evaluate(run, [*CLAIMS, *carried, *given]))


def _only(columns: list[Any], names: str) -> list[Any]:
    from reports.views.claims_text import ClaimsOfRun

    wanted = [name.strip() for name in names.split(",")]
    known = list(dict.fromkeys(finding.name for column in columns for finding in column.findings))
    for name in wanted:
        if name not in known:
            raise RunFileError(f"--claim {name!r}: no such claim here; choose from {', '.join(known)}")
    return [
        ClaimsOfRun(column.run, tuple(finding for finding in column.findings if finding.name in wanted))
        for column in columns
    ]
