"""A small run file whose figures are known by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from planted_runs import HEADER, assisted, case, plain, typed

from reports.numbers.metrics import derive
from reports.record.reader import read_run
from reports.record.run import CaseResult, Run
from reports.record.writer import RunWriter


@pytest.fixture
def planted(tmp_path: Path) -> Callable[..., Run]:
    """`planted(*cases, ended=True)`: a run file of these cases, read back; without cases, the standard ones.

    Standard: plain decoding at 0.1 s per token, assisted at half of it, prompt lookup failed.
    """

    def plant(*cases: CaseResult, ended: bool = True, name: str = "run.jsonl", **header: Any) -> Run:
        path = tmp_path / name
        writer = RunWriter(path)
        writer.run({**HEADER, **header})
        standard = (
            case("p/plain", [plain(0, 1.0), plain(1, 1.0)], experiment="baseline"),
            case(
                "p/assisted",
                [assisted(0, 0.5), assisted(1, 0.5)],
                point={"strategy": "assisted", "do_sample": False, "cache": "dynamic"},
                metrics=derive([assisted(0, 0.5), assisted(1, 0.5)], speculative=True),
            ),
            case("p/lookup", [], status="failed", reason="out of order", point={"strategy": "prompt_lookup"}),
        )
        for each in cases or standard:
            writer.case(typed(each))
        if ended:
            writer.end({})
        writer.close()
        return read_run(path)

    return plant
