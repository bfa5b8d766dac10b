"""A pytest plugin for perf_tests: ends the speculative cases from outside, as plugins that limit a test's time do.

`-p stopping`, tests/end_to_end on PYTHONPATH. What it raises is no Exception, and comes before the third generation.
"""

from __future__ import annotations

from typing import Any

import pytest


def pytest_runtestloop(session: pytest.Session) -> None:
    from fixtures.engines.transformers.decoding.measurement import TimedDecoder

    original = TimedDecoder.__init__

    def wrapped(self: TimedDecoder, engine: Any, point: Any, *arguments: Any) -> None:
        original(self, engine, point, *arguments)
        prepare = self.prepare

        def stopping(prompt: int, ids: Any) -> dict[str, Any]:
            if prompt == 2 and point.speculative:
                pytest.fail("Timeout (>6.0s) from a plugin.")
            return prepare(prompt, ids)

        self.prepare = stopping  # type: ignore[method-assign]

    TimedDecoder.__init__ = wrapped  # type: ignore[method-assign]
