"""A table as data in its four forms, and every command's table at three widths."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from reports.__main__ import main
from reports.record.run import RunFileError
from reports.views.sheet import (
    Sheet,
    SheetColumn,
    SheetRow,
    as_csv,
    as_json,
    chosen,
    console,
    fitted,
    markdown,
    print_sheet,
)

ROOT = Path(__file__).resolve().parents[4]
UPGRADE = "reports/published/transformers-5.24"

SHEET = Sheet(
    columns=(
        SheetColumn("case", "case", code=True),
        SheetColumn("speed", "speed", "tokens/s", priority=1, align="right"),
        SheetColumn("wait", "wait", "ms", priority=2, align="right", better="lower"),
        SheetColumn("hidden", "hidden", shown=False),
        SheetColumn("status", "status", least=8),
    ),
    rows=(
        SheetRow(("a|b", "20.0", "5.0", "x", "ok"), ("a|b", 20.0, 5.0, "x", "ok"), tone="best", mark="*"),
        SheetRow(("c", "", "7.0", "y", "failed: <out of\norder>"), ("c", None, 7.0, "y", "failed"), tone="dim"),
        SheetRow(("d", "30.0", "9.0", "z", "ok"), ("d", 30.0, float("inf"), "z", "ok")),
    ),
    title="of what",
    shared=("all alike",),
    notes=("a note",),
)


def printed(sheet: Sheet, width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    file = io.StringIO()
    print_sheet(sheet, console(file))
    return file.getvalue()


def test_markdown_escapes_what_would_end_a_cell_and_marks_the_best() -> None:
    assert markdown(chosen(SHEET)).splitlines() == [
        "| case | speed (tokens/s) | wait (ms) | status |",
        "|:---|---:|---:|:---|",
        "| `a\\|b` **\\*** | **20.0** | **5.0** | **ok** |",
        "| `c` |  | 7.0 | failed: &lt;out of<br>order> |",
        "| `d` | 30.0 | 9.0 | ok |",
    ]


def test_csv_and_json_hold_the_values_and_no_number_that_is_none() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(SHEET))))
    assert [row["speed"] for row in rows] == ["20.0", "", "30.0"]
    found = json.loads(as_json(SHEET))
    assert [row["wait"] for row in found["rows"]] == [5.0, 7.0, None]
    assert found["columns"][1] == {"key": "speed", "label": "speed", "unit": "tokens/s"}
    assert (found["title"], found["shared"], found["notes"]) == ("of what", ["all alike"], ["a note"])


def test_the_better_end_comes_first_and_what_is_not_known_last() -> None:
    assert [row.cells[0] for row in chosen(SHEET, sort="speed").rows] == ["d", "a|b", "c"]
    assert [row.cells[0] for row in chosen(SHEET, sort="-speed").rows] == ["a|b", "d", "c"]
    assert [row.cells[0] for row in chosen(SHEET, sort="wait", top=2).rows] == ["a|b", "c"]
    assert [column.key for column in chosen(SHEET, "hidden,speed").columns] == ["case", "hidden", "speed"]


@pytest.mark.parametrize("bad", [{"columns": "wat"}, {"sort": "wat"}, {"top": -1}])
def test_what_there_is_not_is_named_with_the_option(bad: dict[str, object]) -> None:
    with pytest.raises(RunFileError, match=f"--{next(iter(bad))} "):
        chosen(SHEET, **bad)  # type: ignore[arg-type]


def test_columns_leave_by_priority_and_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {width: [column.key for column in fitted(chosen(SHEET), width).columns] for width in (60, 27, 10)}
    assert kept[60] == ["case", "speed", "wait", "status"]
    assert kept[27] == ["case", "speed", "status"]
    assert kept[10] == ["case", "status"]
    text = printed(chosen(SHEET), 40, monkeypatch)
    assert max(map(len, text.splitlines())) <= 40
    assert text.splitlines()[:2] == ["of what", "all alike"]


def test_columns_that_are_asked_for_stay() -> None:
    assert [column.key for column in fitted(chosen(SHEET, "speed,wait"), 10).columns] == ["case", "speed", "wait"]


def test_a_narrow_terminal_never_has_a_column_of_no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(chosen(SHEET), 1, monkeypatch)
    for word in ("a|b", "failed:", "ok"):
        assert word in text


COMMANDS = {
    "show": (("show", "reports/published/embedded.jsonl"), ("1.43 [", "status", "9/20")),
    "compare": (("compare", f"{UPGRADE}/base-1.jsonl", f"{UPGRADE}/head-1.jsonl"), ("verdict", "worse", "none shown")),
    "gate": (("gate", f"{UPGRADE}/base-1.jsonl", f"{UPGRADE}/base-3.jsonl"), ("gate: ", "verdict", "change")),
    "advise": (("advise", "reports/published/embedded.jsonl"), ("1.43 [", "same", "model", "yes")),
    "claims": (("claims", "reports/published/embedded.jsonl"), ("contradicted", "recommended: ")),
}


@pytest.mark.parametrize("width", [80, 120, 200])
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_keeps_its_verdict_at_every_width(
    name: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", str(width))
    command, words = COMMANDS[name]
    main(list(command))
    text = capsys.readouterr().out
    for word in words:
        assert word in text
    rules = [number for number, line in enumerate(text.splitlines()) if line.startswith("────")]
    for rule in rules:
        table = text.splitlines()[rule - 1 : rule + 12]
        assert max(map(len, table)) <= width
