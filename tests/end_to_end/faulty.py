"""A pytest plugin for perf_tests: chosen generations crash, hang or leave the process, as models and drivers do.

`-p faulty`, tests/end_to_end on PYTHONPATH. FAULTS names them: `prompt_lookup,4@2=segfault` is what happens when this
strategy with so many drafted tokens comes to its third prompt. What happens does so in C code where it can.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest


def _hang() -> None:
    """Wait in a system call for what never comes; signals that Python handles do not end it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})
    os.read(os.pipe()[0], 1)


FAULTS: dict[str, Callable[[], object]] = {
    "segfault": lambda: ctypes.string_at(0),
    "hang": _hang,
    "_exit": lambda: os._exit(0),
    "exit": lambda: sys.exit("the model has had enough"),
}


def pytest_runtestloop(session: pytest.Session) -> None:
    from fixtures.engines.transformers.decoding.measurement import TimedDecoder

    chosen = dict(each.split("=") for each in os.environ["FAULTS"].split())
    original = TimedDecoder.__init__

    def wrapped(self: TimedDecoder, engine: Any, point: Any, *arguments: Any) -> None:
        original(self, engine, point, *arguments)
        prepare = self.prepare

        def failing(prompt: int, ids: Any) -> dict[str, Any]:
            fault = chosen.get(f"{point.strategy},{point.assist_toks}@{prompt}")
            if fault is not None:
                FAULTS[fault]()
            return prepare(prompt, ids)

        self.prepare = failing  # type: ignore[method-assign]

    TimedDecoder.__init__ = wrapped  # type: ignore[method-assign]
