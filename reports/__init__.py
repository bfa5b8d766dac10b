"""From a run file to an answer: reading, metrics, statistics, verdicts, rendering. Never imports torch or fixtures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from reports.views.dataframes import Library


def load(path: Path | str, rows: Literal["samples", "cases"] = "samples", library: Library | None = None) -> Any:
    """A run file as a DataFrame: one row a generation, or one a case.

    A column is named as in `reports export --format csv`. library: polars or pandas; None takes polars where it is
    installed, else pandas. Raises RunFileError, a ValueError, for a file that is no run file.
    """
    from reports.views.dataframes import frame

    return frame(path, rows, library)
