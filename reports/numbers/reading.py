"""Reading run files for their figures: their metrics are what their own samples give by the formulas of today."""

from __future__ import annotations

from pathlib import Path

from reports.numbers.metrics import rederived
from reports.record.published import is_reference, read_any
from reports.record.run import Run


def read_measured(path: Path | str) -> Run:
    """Read a run file, or a reference (.csv), whose figures stay as published; raises RunFileError."""
    run = read_any(path)
    return run if is_reference(run) else rederived(run)
