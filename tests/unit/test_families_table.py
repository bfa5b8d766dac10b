"""The table of families: true for a few of them, which stand for kinds of layers, caches and parts; and whole."""

from __future__ import annotations

import pytest

from tools.families import COLUMNS, DOCUMENT, RUNS, differences, rows_of, told
from tools.tiny_families import FAMILIES

QUICK = ("gpt2", "gpt_neox", "gemma3_multimodal", "mixtral", "mamba")


@pytest.mark.parametrize("name", QUICK)
def test_the_table_says_what_the_suite_does(name: str, one_thread: None) -> None:
    assert differences(rows_of([name]), DOCUMENT.read_text(encoding="utf-8")) == []


def test_every_family_and_column_is_in_the_table_and_none_fails() -> None:
    table = told(DOCUMENT.read_text(encoding="utf-8"))
    assert list(table) == [family.title for family in FAMILIES.values()]
    for title, cells in table.items():
        assert tuple(cells) == COLUMNS, title
        assert "fails" not in cells.values(), title
        assert all(cell == RUNS or "; " in cell or ": give" in cell for cell in cells.values()), (
            f"{title}: a reason ends with its remedy"
        )
    assert "could not be examined" not in DOCUMENT.read_text(encoding="utf-8")
