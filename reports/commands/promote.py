"""`reports promote RUN`: make a run the baseline of its study and hardware, if it is complete and did not regress."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from reports.commands.gate import add_rules, noise_of, rules_of
from reports.commands.warning import warn


def register(commands: Any) -> None:
    command = commands.add_parser("promote", help="make a run the baseline", description=__doc__)
    command.add_argument("file", metavar="RUN", type=Path)
    command.add_argument("--accept", metavar="REASON", default="", help="take a known change, and record why")
    command.add_argument("--baseline", metavar="DIR", type=Path, help="folder of baselines (reports/baselines)")
    command.add_argument("--keep", metavar="N", type=int, default=10, help="how many to keep for --rolling (10)")
    add_rules(command)
    command.set_defaults(run=promote_run)


def promote_run(options: argparse.Namespace) -> int:
    """Promote the run and say where it went and what it was judged against; 1 if it got worse."""
    from reports.gate.baselines import FOLDER, promote
    from reports.record.reader import read_run
    from reports.record.run import RunFileError
    from reports.views.gate_text import headline, print_gate

    if options.keep < 1:
        raise RunFileError(f"--keep {options.keep}: at least 1 baseline is kept")
    run = read_run(options.file)
    warn([run])
    done = promote(
        run,
        rules_of(options, run),
        noise_of(options, run),
        accept=options.accept.strip(),
        folder=options.baseline or FOLDER,
        keep=options.keep,
    )
    options.exit_code = int(bool(done.refused))
    if done.refused:
        if done.verdict is not None:
            print_gate(done.verdict)
        print(f"not promoted: {done.refused}")
        return 1
    print(f"wrote {done.path}" + (f"; against the one before: {headline(done.verdict)}" if done.verdict else ""))
    return 0
