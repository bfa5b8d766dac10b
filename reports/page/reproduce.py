"""How to measure a run, or a single case of it, again: command lines and settings to copy. Pure; runs nothing."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

from reports.numbers.speedups import speedup
from reports.record.run import CaseResult, Run
from reports.record.settings import PARTS

_WITH_VALUE = ("-m", "-k", "-p", "-o", "-W", "-n")
"""pytest's own options that choose tests or change how they are shown; a node id takes the place of choosing."""


def run_command(run: Run) -> str:
    """The command line that made the run, as its header tells it; empty where it does not."""
    argv = run.header.get("argv") or ()
    return shlex.join(["pytest", *map(str, argv)]) if argv else ""


def case_command(case: CaseResult, run: Run) -> str:
    """The command line that measures this case and its baseline alone; empty where the run does not tell its own."""
    argv = [str(each) for each in run.header.get("argv") or ()]
    if not argv or not case.experiment:
        return ""
    found = speedup(case, run)
    base = run.finished.get(found.baseline) if found is not None else None
    nodes = [_node(one) for one in (base, case) if one is not None]
    return shlex.join(["pytest", *nodes, *_options(argv)])


def case_settings(case: CaseResult) -> str:
    """The case's engine, point and workload as JSON, without what does not apply."""
    kept = {
        part: {key: value for key, value in vars(getattr(case, part)).items() if value is not None} for part in PARTS
    }
    return json.dumps({"id": case.id, **kept}, indent=2, ensure_ascii=False)


def _node(case: CaseResult) -> str:
    return f"perf_tests/test_{case.experiment}.py::test_{case.experiment}[{case.id}]"


def _options(argv: Sequence[str]) -> list[str]:
    """The suite's own options of a command line: without test paths and without what chooses tests."""
    kept: list[str] = []
    skip = False
    for each in argv:
        if skip:
            skip = False
        elif each in _WITH_VALUE:
            skip = True
        elif not _chooses(each):
            kept.append(each)
    return kept


def _chooses(argument: str) -> bool:
    """Whether it names tests, or is a short option such as -x or -q."""
    short = argument.startswith("-") and not argument.startswith("--")
    return short or argument.rstrip("/") == "perf_tests" or "perf_tests/test_" in argument
