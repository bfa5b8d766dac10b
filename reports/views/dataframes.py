"""A run as a DataFrame of polars or pandas, whichever is installed; the rows are those of the exports."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

from reports.numbers.reading import read_measured
from reports.record.run import RunFileError
from reports.views.exports import case_rows, columns_of, sample_rows

Library = Literal["polars", "pandas"]
ROWS = {"samples": sample_rows, "cases": case_rows}


def frame(path: Path | str, rows: str, library: str | None) -> Any:
    """The DataFrame; missing values are null. Raises RunFileError for a file, rows or a library that is not there."""
    if rows not in ROWS:
        raise RunFileError(f"rows {rows!r}: choose from {', '.join(ROWS)}")
    chosen = _library(library)
    columns = columns_of(ROWS[rows](read_measured(path)))
    if chosen == "polars":
        polars: Any = import_module("polars")
        return polars.DataFrame(columns, strict=False)
    pandas: Any = import_module("pandas")
    return pandas.DataFrame(columns)


def _library(asked: str | None) -> str:
    known: tuple[str, ...] = get_args(Library)
    if asked is not None and asked not in known:
        raise RunFileError(f"library {asked!r}: choose from {', '.join(known)}")
    wanted = known if asked is None else (asked,)
    installed = next((name for name in wanted if find_spec(name) is not None), None)
    if installed is None:
        raise RunFileError(f"reports.load needs {' or '.join(wanted)}, which is not installed; pip install {wanted[0]}")
    return installed
