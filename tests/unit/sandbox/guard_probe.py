"""Run under the guard: fails unless the guard holds."""

from __future__ import annotations

import os
from pathlib import Path

processes = [name for name in os.listdir("/proc") if name.isdigit()]
assert len(processes) <= 2, f"{len(processes)} processes are visible"
for folder in (Path(__file__).parent, Path.home(), Path("/var/tmp")):
    try:
        (folder / "written-through-the-guard").touch()
    except OSError:
        continue
    raise AssertionError(f"{folder} is writable")
Path("/tmp/probe").touch()
