"""A pytest plugin for perf_tests: `-p tools.soak.injected` has generations meet faults by chance.

SOAK names, as JSON, a log that gets a line for each fault before it happens (each with its seed from the log's length),
and how often one comes: in a generation, by probability. Every hundredth generation tells the
resident memory there, too.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

LOOKS_AFTER = 100  # generations


def _raise(error: Exception) -> None:
    raise error


def _hang() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})
    os.read(os.pipe()[0], 1)


def _fill_disk() -> None:
    """From now on no file of this process may grow beyond what is half a line more than the run file has."""
    size = Path(json.loads(os.environ["SOAK"])["run"]).stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))


FAULTS: dict[str, Callable[[], object]] = {
    "oom": lambda: _raise(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")),
    "no host memory": lambda: _raise(MemoryError()),
    "exception": lambda: _raise(ValueError("the model has a fault")),
    "SystemExit": lambda: _raise(SystemExit(3)),  # type: ignore[arg-type]
    "hang": _hang,
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "_exit": lambda: os._exit(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "kill parent": lambda: os.kill(os.getppid(), signal.SIGKILL),
    "SIGTERM": lambda: os.kill(os.getppid(), signal.SIGTERM),
    "disk full": _fill_disk,
}


def pytest_runtestloop(session: pytest.Session) -> None:
    from fixtures.engines.transformers.decoding.measurement import TimedDecoder

    given = json.loads(os.environ["SOAK"])
    log = Path(given["log"])
    chance = random.Random(f"{given['seed']}/{log.stat().st_size if log.exists() else 0}")
    original, generations = TimedDecoder.__init__, iter(range(10**9))

    def note(line: str) -> None:
        with log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def wrapped(self: Any, *arguments: Any) -> None:
        original(self, *arguments)
        prepare = self.prepare

        def failing(prompt: int, ids: Any) -> Any:
            number = next(generations)
            if number % LOOKS_AFTER == 0:
                note(f"memory {number} {psutil.Process().memory_info().rss}")
            if chance.random() < given["rate"]:
                kind = chance.choice(list(FAULTS))
                note(f"fault {kind}")
                FAULTS[kind]()
            return prepare(prompt, ids)

        self.prepare = failing

    TimedDecoder.__init__ = wrapped  # type: ignore[method-assign, assignment]
