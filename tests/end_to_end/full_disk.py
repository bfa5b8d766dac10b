"""A pytest plugin for perf_tests: after the second round the system takes no further line in any file.

`-p full_disk`, tests/end_to_end on PYTHONPATH. A limit on the size of files stands for a full disk: a part of the line
is written, and then the system refuses the rest.
"""

from __future__ import annotations

import resource
from typing import Any

import pytest


def pytest_runtestloop(session: pytest.Session) -> None:
    from reports.record.writer import RunWriter

    original = RunWriter.round

    def wrapped(self: RunWriter, done: Any, *more: Any) -> None:
        original(self, done, *more)
        if done.round == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.path.stat().st_size + 300, resource.RLIM_INFINITY))

    RunWriter.round = wrapped  # type: ignore[method-assign]
