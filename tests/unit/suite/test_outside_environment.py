"""A Python without the suite's packages is told which environment to activate, in one line instead of a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("program", "code", "missing"),
    [
        (["-m", "reports", "show", "last"], 2, "reports: msgspec is not installed"),
        (["-c", "import fixtures.installed"], 4, "ERROR: msgspec, orjson, rich, numpy, torch, transformers not"),
    ],
)
def test_a_python_without_packages_says_what_to_activate(program: list[str], code: int, missing: str) -> None:
    bare = [sys.executable, "-S", *program]  # without site-packages
    done = subprocess.run(bare, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stderr.startswith(missing) and done.stderr.count("\n") == 1
    assert ". .venv/bin/activate" in done.stderr and sys.executable in done.stderr


def test_pytest_looks_for_them_before_anything_that_needs_them_is_imported() -> None:
    lines = (ROOT / "conftest.py").read_text(encoding="utf-8").splitlines()
    own = [line for line in lines if line.startswith(("import fixtures", "from fixtures", "from reports"))]
    assert own[0].startswith("import fixtures.installed")
