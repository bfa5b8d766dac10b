"""What only a GPU can show: `make gpu` on the card at hand. `make test` leaves it out, and never touches a GPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MINUTES = 10


@pytest.mark.gpu
def test_every_check_holds_on_this_card(tmp_path: Path) -> None:
    """As `make gpu`; asked for with `pytest tests -m gpu`."""
    import torch

    assert torch.cuda.is_available(), "asked for the tests that need a GPU on a machine that has none"
    command = [sys.executable, "-m", "tools.gpu", "--results", str(tmp_path / "gpu.jsonl"), "--minutes", str(MINUTES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60 * (MINUTES + 12), check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("asked", "selected"), [((), 0), (("-m", "gpu"), 1), (("-m", "not embedded"), 0)])
def test_a_gpu_is_used_only_by_whoever_asks_for_it(asked: tuple[str, ...], selected: int) -> None:
    command = [sys.executable, "-m", "pytest", __file__, "--collect-only", "-q", "-p", "no:cacheprovider", *asked]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.count("::test_every_check_holds_on_this_card") == selected, done.stdout + done.stderr
