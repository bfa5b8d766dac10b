"""`reports doctor`: what on this machine will be slow, skipped or not to be trusted, and the command that mends it."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from reports.launch.machine_look import MachineLook, look_at_machine
from reports.record.plain_text import one_line

STATES = {
    "doubtful": "figures may not be trusted",
    "slow": "figures are right, and lower than they could be",
    "skipped": "some cases cannot run",
    "unknown": "the system does not tell",
    "good": "nothing to do",
}
"""What each state means, worst first."""
WIDTH = 100


def register(commands: Any) -> None:
    command = commands.add_parser(
        "doctor", help="what on this machine will be slow, skipped or doubtful", description=__doc__
    )
    command.add_argument(
        "--device", default="auto", help="as pytest takes it: auto, cpu, cuda or cuda:N (default: auto)"
    )
    command.add_argument("--format", choices=("terminal", "json"), default="terminal")
    command.set_defaults(run=doctor)


def doctor(options: argparse.Namespace) -> int:
    """Print what was found; 0 whatever it is, since a machine is no regression."""
    found = look_at_machine(options.device)
    if options.format == "json":
        print(json.dumps(asdict(found), indent=2))
        return 0
    for line in _lines(found):
        print(line)
    return 0


def _lines(found: MachineLook) -> Iterator[str]:
    yield one_line(found.title)
    counts = Counter(each.state for each in found.observed)
    margin = " " * 10
    for state, meaning in STATES.items():
        if not counts[state]:
            continue
        yield ""
        yield f"{state.upper()}: {meaning}"
        for each in found.observed:
            if each.state != state:
                continue
            yield from textwrap.wrap(f"{each.topic}: {one_line(each.says)}", WIDTH, subsequent_indent="  ")
            if each.mend:
                yield from textwrap.wrap(
                    one_line(each.mend),
                    WIDTH,
                    initial_indent="  mend: ",
                    subsequent_indent=margin,
                    break_on_hyphens=False,
                )
    yield ""
    yield ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
