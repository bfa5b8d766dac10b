"""A pytest plugin for perf_tests: after the first case the system takes not even one line more in any file.

`-p full_disk`, tests/end_to_end on PYTHONPATH. A limit on the size of files stands for a full disk: a part of the line
is written, and then the system refuses the rest.
"""

from __future__ import annotations

import resource
from pathlib import Path

import pytest


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call":
        results = next(Path.cwd().joinpath(argument) for argument in _ARGUMENTS if argument.endswith(".jsonl"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (results.stat().st_size + 300, resource.RLIM_INFINITY))


_ARGUMENTS: list[str] = []


def pytest_configure(config: pytest.Config) -> None:
    _ARGUMENTS.extend(map(str, config.invocation_params.args))
