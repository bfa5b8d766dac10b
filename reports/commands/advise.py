"""`reports advise RUN`: the best setting under constraints, what limits it, what to try next, and how to set it."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from reports.commands.warning import warn
from reports.record.amounts import bytes_of
from reports.record.plain_text import without_markup
from reports.record.run import RunFileError


def register(commands: Any) -> None:
    command = commands.add_parser("advise", help="the best setting under constraints", description=__doc__)
    command.add_argument("file", metavar="RUN", type=Path)
    command.add_argument("--max-memory", metavar="BYTES", help="at most so much memory: 12884901888, 12GiB, 800MiB")
    command.add_argument("--min-pass-at-1", metavar="SHARE", help="at least this share of HumanEval solved: 0.6")
    command.add_argument("--lossless", action="store_true", help="only plain decoding's very output, on every prompt")
    command.add_argument("--same-model", action="store_true", help="nothing quantized that decides on tokens")
    command.add_argument("--sampled", action="store_true", help="advise on sampling instead of greedy decoding")
    command.add_argument("--format", choices=("terminal", "markdown", "json"), default="terminal")
    command.set_defaults(run=advise)


def advise(options: argparse.Namespace) -> int:
    """Print the advice in the format asked for."""
    from reports.advice import candidates
    from reports.numbers.reading import read_measured
    from reports.views import advice_text

    memory, share = options.max_memory, options.min_pass_at_1
    constraints = candidates.Constraints(
        max_memory=None if memory is None else parse_bytes(memory),
        min_pass_at_1=None if share is None else _share(share),
        lossless=options.lossless,
        same_model=options.same_model,
        sampled=options.sampled,
    )
    run = read_measured(options.file)
    warn([run])
    found, without = candidates.advise(run, constraints), candidates.without_advice(run, constraints)
    if options.format == "json":
        print(json.dumps(advice_text.as_json(found, without), indent=1, allow_nan=False))
    elif options.format == "markdown":
        print(without_markup(advice_text.markdown(found, without)))
    else:
        advice_text.terminal(found, without)
    return 0


def parse_bytes(text: str) -> float:
    """`12GiB`, `800 MiB`, `12GB` or a number of bytes; raises RunFileError."""
    try:
        return bytes_of(text)
    except ValueError as error:
        raise RunFileError(f"--max-memory {text!r}: {error}") from None


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise RunFileError(f"--min-pass-at-1 {text!r}: not a share; write a number from 0 to 1, such as 0.6")
    return value
