"""Has this machine looked at by what measures, in a process of its own: reports/ knows neither torch nor fixtures."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from reports.record.run import RunFileError

ROOT = Path(__file__).resolve().parents[2]
LONGEST_SECONDS = 180.0
MODULE = "fixtures.measuring.checkup"


@dataclass(frozen=True)
class Observed:
    """One thing that was looked at. state: good, doubtful, slow, skipped or unknown; mend: what changes it, if any."""

    topic: str
    state: str
    says: str
    mend: str


@dataclass(frozen=True)
class MachineLook:
    """What a machine is, in one line, and what was observed of it."""

    title: str
    observed: tuple[Observed, ...]


def look_at_machine(device: str, python: str = sys.executable, root: Path = ROOT) -> MachineLook:
    """Start the look and wait for it, a few seconds; raises RunFileError where it does not come to an end."""
    command = [python, "-m", MODULE, "--device", device]
    try:
        done = subprocess.run(
            command, cwd=root, capture_output=True, text=True, errors="replace", timeout=LONGEST_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise RunFileError(f"doctor: the look at this machine did not end within {LONGEST_SECONDS:g} s") from None
    except OSError as error:
        raise RunFileError(f"doctor: the look at this machine could not be started: {error}") from None
    try:
        found = json.loads(done.stdout.splitlines()[-1])
        return MachineLook(found["title"], tuple(Observed(**each) for each in found["observations"]))
    except (IndexError, ValueError, KeyError, TypeError):
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        why = said[-1] if said else f"it ended with exit code {done.returncode}"
        raise RunFileError(
            f"doctor: this machine could not be looked at: {why}; is the suite's environment complete (make setup)?"
        ) from None
