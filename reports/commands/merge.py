"""`reports merge RUN... -o RUN`: the cases of several runs, of one machine and one set of versions, in one file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reports.commands.warning import tell, warn
from reports.record.merging import missing_shards, shards_of, write_merged
from reports.record.reader import read_run
from reports.record.run import Run, RunFileError


def register(commands: Any) -> None:
    command = commands.add_parser("merge", help="several runs into one file", description=__doc__)
    command.add_argument("files", metavar="RUN", type=Path, nargs="+")
    command.add_argument("-o", "--output", metavar="RUN", type=Path, required=True)
    command.set_defaults(run=merge)


def merge(options: argparse.Namespace) -> int:
    """Concatenate the cases of several runs into one file."""
    runs = [read_run(file) for file in options.files]
    warn(runs)
    _refuse_other_machines(runs)
    try:
        write_merged(runs, options.output)
    except OSError as error:
        raise RunFileError(f"-o {options.output}: cannot be written: {error.strerror}; name another file") from None
    print(f"wrote {options.output}")
    if missing := missing_shards(shards_of(runs)):
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        tell([f"{options.output}: the study is not whole without shard {missing[0]}{more}; merge it as well"])
    return 0


def _refuse_other_machines(runs: Sequence[Run]) -> None:
    """Raise RunFileError where the merged file's one header would be wrong for some of its cases."""
    from reports.record.matching import hardware_key, versions_key

    first, *others = runs
    for run in others:
        for what, key in (("hardware", hardware_key), ("versions", versions_key)):
            here, there = key(run), key(first)
            if here != there:
                raise RunFileError(
                    f"{run.path}: other {what} than {first.path}: {_differing(here, there)} instead of "
                    f"{_differing(there, here)}; compare them instead: "
                    f"python -m reports compare {first.path} {run.path}"
                )


def _differing(key: str, other: str) -> str:
    """The parts of a key (`name=version,...`, or one machine) that the other does not have."""
    theirs = other.split(",")
    return ",".join(part for part in key.split(",") if part not in theirs) or "none"
