"""The figures that are shown for the committed run files change only where a commit says so.

Where a figure is meant to change, `python tests/unit/reports/golden.py` writes the texts anew.
"""

from __future__ import annotations

import pytest
from golden import FOLDER, ROOT, answer, questions


@pytest.mark.parametrize("name", questions())
def test_the_committed_run_files_are_answered_as_before(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert answer(questions()[name]) == (FOLDER / f"{name}.txt").read_text(encoding="utf-8")


def test_no_answer_is_kept_that_nobody_asks_for() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(questions())
