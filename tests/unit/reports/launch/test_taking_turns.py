"""What a code state can do is what it says of itself, not where its modules lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.launch.block_runs import takes_turns


@pytest.mark.parametrize(
    ("said", "has_file", "wanted"),
    [
        ('[tool.decodebench]\ncapabilities = ["turns"]\n', False, True),
        ("[tool.decodebench]\ncapabilities = []\n", True, False),
        ("[project]\nname = 'x'\n", True, True),
        ("[project]\nname = 'x'\n", False, False),
        ("not TOML [", True, True),
        (None, False, False),
    ],
)
def test_turns_are_asked_for_and_only_an_older_state_is_looked_at(
    said: str | None, has_file: bool, wanted: bool, tmp_path: Path
) -> None:
    if said is not None:
        (tmp_path / "pyproject.toml").write_text(said)
    if has_file:
        (tmp_path / "fixtures").mkdir()
        (tmp_path / "fixtures" / "turns.py").touch()
    assert takes_turns(tmp_path) is wanted


def test_this_state_takes_turns_wherever_its_module_lies() -> None:
    assert takes_turns(Path(__file__).resolve().parents[4])
