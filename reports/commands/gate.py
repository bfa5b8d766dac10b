"""`reports gate BASE HEAD`: did head get worse. BASE: a run file, a folder of baselines, or `auto` (reports/baselines).

Exit codes: 0 passed, also with a warning when inconclusive or when timings could not be gated (1 for both with
--strict); 1 regressed, or a case missing or not measured; 2 the runs cannot be used or compared.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from reports.commands.warning import warn
from reports.numbers.reading import read_measured

FORMATS = ("terminal", "markdown", "junit", "sarif", "github")


def register(commands: Any) -> None:
    command = commands.add_parser("gate", help="did a change make it worse", description=__doc__)
    command.add_argument("runs", metavar="BASE HEAD", nargs="*", help="run files; BASE also a folder or `auto`")
    command.add_argument("--base", metavar="RUN", action="append", default=[], help="of interleaved blocks, in order")
    command.add_argument("--head", metavar="RUN", action="append", default=[], help="the same number of them")
    command.add_argument("--rolling", metavar="N", type=int, default=1, help="median of the last N baselines")
    command.add_argument("--confirm-with", metavar="RUN", nargs="+", default=[], help="head measured again")
    command.add_argument("--format", choices=FORMATS, default="terminal")
    command.add_argument("-o", "--output", metavar="FILE", type=Path, help="write there; the verdict is printed too")
    add_rules(command)
    command.set_defaults(run=run_gate)


def add_rules(command: Any) -> None:
    """The options that decide what passes; the same for gate and promote."""
    command.add_argument("--strict", action="store_true", help="inconclusive or ungated timings fail as well")
    command.add_argument("--allow-missing", metavar="PATTERN", action="append", default=[], help="case ids, with *")
    command.add_argument("--threshold", metavar="METRIC=REL", action="append", default=[], help="or METRIC=false")
    command.add_argument("--calibration", metavar="FILE", type=Path, help="noise of this machine, if not the default")


def run_gate(options: argparse.Namespace) -> int:
    """Judge, print or write the verdict in the format asked for, and return its exit code."""
    from reports.gate.judging import gate

    base, head, interleaved = _runs(options)
    warn([*base, *head])
    found = gate(base, head, rules_of(options, head[0]), noise_of(options, head[0]), interleaved=interleaved)
    options.exit_code = found.exit_code
    write(found, options.format, options.output)
    return found.exit_code


def rules_of(options: argparse.Namespace, head: Any) -> Any:
    """The rules from pyproject.toml, head's study and the options."""
    from dataclasses import replace

    from reports.gate.thresholds import PYPROJECT, read_rules

    rules = read_rules(PYPROJECT, head.header.get("study"), options.threshold)
    return replace(
        rules,
        strict=rules.strict or options.strict,
        allow_missing=(*rules.allow_missing, *options.allow_missing),
    )


def noise_of(options: argparse.Namespace, head: Any) -> Any:
    """The calibration asked for, else that of head's machine and study, or None."""
    from reports.gate.calibration import find_noise, read_noise

    return find_noise(head) if options.calibration is None else read_noise(options.calibration)


def write(found: Any, form: str, output: Path | None) -> None:
    """The verdict in a format, printed, or written to a file with the headline printed."""
    from reports.record.plain_text import without_markup
    from reports.record.run import RunFileError
    from reports.views.gate_formats import github_annotations, junit, sarif
    from reports.views.gate_text import headline, markdown, print_gate

    if form == "terminal" and output is None:
        print_gate(found)
        return
    views = {
        "markdown": lambda found: without_markup(markdown(found)),
        "junit": junit,
        "sarif": sarif,
        "github": github_annotations,
    }
    if output is None:
        print(views[form](found), end="")
        return
    try:
        with output.open("w", encoding="utf-8") as file:
            if form == "terminal":
                print_gate(found, file)
            else:
                file.write(views[form](found))
    except OSError as error:
        raise RunFileError(
            f"-o {output}: cannot be written ({error.strerror}); name a file in a folder you own"
        ) from None
    print(f"gate: {headline(found)}\nwrote {output}")


def _runs(options: argparse.Namespace) -> tuple[list[Any], list[Any], bool]:
    from reports.gate.baselines import find_baselines
    from reports.record.run import RunFileError

    if options.base or options.head:
        if options.runs or options.confirm_with or options.rolling != 1:
            raise RunFileError("--base and --head: name interleaved runs by these alone, without BASE HEAD or others")
        return [read_measured(each) for each in options.base], [read_measured(each) for each in options.head], True
    if len(options.runs) != 2:
        raise RunFileError(f"gate: {len(options.runs)} runs given; name BASE and HEAD, or blocks by --base and --head")
    head = [read_measured(each) for each in (options.runs[1], *options.confirm_with)]
    return find_baselines(options.runs[0], head[0], options.rolling), head, False
