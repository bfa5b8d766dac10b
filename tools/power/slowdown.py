"""A pytest plugin for runs of perf_tests: makes generation slower by a known share, inside the clock.

Every timed generation is followed by a sleep of SLOWDOWN times what it took, before the clock is stopped, so that the
product's own code stays untouched and the true change is known. Environment: SLOWDOWN, a comma list of
BEGINNING=SHARE: how the name of a run file begins, and the share (`head-=0.05`: of interleaved sides only head is 5%
slower). Load it with `-p slowdown` and tools/power on PYTHONPATH.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest


def pytest_runtestloop(session: pytest.Session) -> None:
    """Slow the run down whose run file begins as the environment says."""
    results = Path(session.config.getoption("--results") or "").name
    for entry in os.environ["SLOWDOWN"].split(","):
        beginning, _, share = entry.partition("=")
        if results.startswith(beginning):
            slow_down(float(share))


def slow_down(share: float) -> None:
    """Have every TimedDecoder made from now on sleep `share` times what its generation took."""
    from fixtures.engines.transformers.decoding.measurement import TimedDecoder

    original = TimedDecoder.__init__

    def wrapped(self: TimedDecoder, *arguments: Any, **settings: Any) -> None:
        original(self, *arguments, **settings)
        generate, clock = self._generate, self._clock

        def slower(*inputs: Any, **options: Any) -> Any:
            began = time.perf_counter()
            output = generate(*inputs, **options)
            clock.synchronize()
            time.sleep(share * (time.perf_counter() - began))
            return output

        self._generate = slower

    TimedDecoder.__init__ = wrapped  # type: ignore[method-assign]
