"""`reports.load`: a run as a DataFrame, by polars and by pandas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from planted_runs import assisted, case, plain

import reports
from reports.record.run import Run, RunFileError
from reports.views import dataframes


@pytest.fixture
def run(planted: Callable[..., Run]) -> Path:
    rounds = [replace(plain(i, 1.0 + i), round=i, turn=0, started=10.0 * i) for i in range(2)]
    return planted(
        case("p/plain", rounds, experiment="baseline"),
        case("p/a", [assisted(0, 0.5), assisted(1, 1.0)], point={"strategy": "assisted", "assist_toks": 3}),
        case("p/failed", [], status="failed", reason="no memory"),
    ).path


def as_rows(frame: Any) -> list[dict[str, Any]]:
    """Rows of either library, missing values left out."""
    if hasattr(frame, "to_dicts"):
        rows = frame.to_dicts()
    else:
        rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_samples_are_rows_with_their_raw_figures_and_their_case_s_settings(run: Path, library: Any) -> None:
    pytest.importorskip(library)
    frame = reports.load(run, library=library)
    assert type(frame).__module__.startswith(library)
    rows = as_rows(frame)
    assert [(row["case"], row["prompt"], row["seconds"]) for row in rows] == [
        ("p/plain", 0, 1.0), ("p/plain", 1, 2.0), ("p/a", 0, 0.5), ("p/a", 1, 1.0),
    ]  # fmt: skip
    assert [row.get("round") for row in rows] == [0, 1, None, None] and rows[1]["started"] == 10.0
    assert rows[2]["point.assist_toks"] == 3 and rows[2]["accepted"] == assisted(0, 0.5).accepted
    assert frame["seconds"].sum() == 4.5, "numbers are numbers"


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_cases_are_rows_with_metrics_speedup_and_status(run: Path, library: Any) -> None:
    pytest.importorskip(library)
    rows = {row["case"]: row for row in as_rows(reports.load(str(run), "cases", library))}
    assert rows["p/a"]["speedup"] == pytest.approx(2.0)
    assert rows["p/a"]["speedup_low"] <= 2.0 <= rows["p/a"]["speedup_high"]
    assert rows["p/a"]["lossless"] is False or rows["p/a"]["lossless"] is True
    assert (rows["p/failed"]["status"], rows["p/failed"]["reason"]) == ("failed", "no memory")


def test_polars_comes_first_and_what_is_missing_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(*names: str) -> None:
        monkeypatch.setattr(dataframes, "find_spec", dict.fromkeys(names, "a package").get)

    installed("pandas")
    assert type(reports.load(run)).__module__.startswith("pandas")
    installed()
    with pytest.raises(RunFileError, match="needs polars or pandas, which is not installed; pip install polars"):
        reports.load(run)
    with pytest.raises(RunFileError, match="needs pandas, which is not installed; pip install pandas"):
        reports.load(run, library="pandas")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"rows": "prompts"}, "rows 'prompts': choose from samples, cases"), ({"library": "dask"}, "choose from polars")],
)
def test_what_there_is_none_of_is_refused(run: Path, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(RunFileError, match=said):
        reports.load(run, **arguments)


def test_a_file_that_is_no_run_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunFileError) as refused:
        reports.load(tmp_path / "none.jsonl")
    assert "no such file" in str(refused.value) and "\n" not in str(refused.value)
