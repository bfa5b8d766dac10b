"""What reading a run file left out, told beside a command's answer. No command itself."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from reports.record.plain_text import one_line
from reports.record.run import Run

LONGEST_WARNING = 1000


def warn(runs: Iterable[Run]) -> None:
    """Print every warning of these runs once, on its own line of standard error."""
    tell(one for run in runs for one in run.warnings)


def tell(warnings: Iterable[str]) -> None:
    """Print every warning once, on its own line of standard error."""
    for one in dict.fromkeys(warnings):
        print(f"reports: {one_line(one, LONGEST_WARNING)}", file=sys.stderr)
