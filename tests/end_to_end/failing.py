"""A pytest plugin for perf_tests: every case that samples fails. `-p failing`, tests/end_to_end on PYTHONPATH."""

from __future__ import annotations

from typing import Any

import pytest


def pytest_runtestloop(session: pytest.Session) -> None:
    """Have every TimedDecoder of a sampling case refuse to be made."""
    from fixtures.engines.transformers.decoding.measurement import TimedDecoder

    original = TimedDecoder.__init__

    def wrapped(self: TimedDecoder, engine: Any, point: Any, *arguments: Any) -> None:
        if point.do_sample:
            raise RuntimeError("sampling is out of order")
        original(self, engine, point, *arguments)

    TimedDecoder.__init__ = wrapped
