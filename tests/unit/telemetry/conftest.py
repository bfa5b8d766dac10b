"""A driver library built from `nvml_stub.c`, and a process that samples it through the real Python bindings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
FIRST_UUID = "GPU-bbbbbbbb-0000-4000-8000-000000000000"
SECOND_UUID = "GPU-aaaaaaaa-1111-4111-8111-111111111111"

CHILD = """
import json, sys, threading, time
import fixtures.telemetry.sampler as sampler
from fixtures.telemetry import for_device
options = json.loads(sys.argv[1])
sampler.JOIN_SECONDS = options["join_seconds"]
gpu = for_device("cuda:0", options["uuid"], options["interval"])[0]
with gpu:
    time.sleep(options["window"])
seen = {"telemetry": gpu.telemetry.to_json(), "threads": threading.active_count(), "torch": "torch" in sys.modules}
print(json.dumps(seen))
"""


@dataclass(frozen=True)
class Sampled:
    """What a process that sampled the stub printed, and what the stub noted of it."""

    telemetry: dict[str, Any]
    threads: int
    torch: bool
    notes: list[tuple[str, int]]

    @property
    def values(self) -> dict[str, Any]:
        return self.telemetry["values"]

    @property
    def unavailable(self) -> dict[str, str]:
        return self.telemetry["unavailable"]

    def times(self, what: str) -> int:
        """How often the stub noted `init`, `shutdown` or `power`."""
        return sum(noted == what for noted, _ in self.notes)


@pytest.fixture
def sample(driver: Callable[..., Path], tmp_path: Path) -> Callable[..., Sampled]:
    """Sample the stub in a process of its own, since the loader's path is read when a process starts."""

    def run(
        *without: str,
        uuid: str | None = FIRST_UUID,
        window: float = 0.35,
        interval: float = 0.05,
        join_seconds: float = 10.0,
        library: Path | None = None,
        **script: object,
    ) -> Sampled:
        log = tmp_path / "stub.log"
        log.unlink(missing_ok=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STUB_")}
        environment |= {f"STUB_{name.upper()}": str(value) for name, value in script.items()}
        environment |= {"LD_LIBRARY_PATH": str(library or driver(*without)), "STUB_LOG": str(log)}
        options = {"uuid": uuid, "window": window, "interval": interval, "join_seconds": join_seconds}
        done = subprocess.run(
            [sys.executable, "-c", CHILD, json.dumps(options)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        noted = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
        return Sampled(notes=[(what, int(thread)) for what, thread in noted], **json.loads(done.stdout))

    return run
