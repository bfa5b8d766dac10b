"""A case whose output is wrong is shown as wrong and never wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reports.comparison import best, is_wrong
from reports.metrics import derive
from reports.run import CaseResult, Run, RunWriter, Sample, read_run
from reports.tables import markdown_table, rows

WRONG = {
    "verdict": "wrong",
    "compared": 4,
    "diverged": 2,
    "first": {"prompt": 3, "position": 17, "expected": 8, "found": 9, "margin": 4.5, "rounding": 0.4},
}
NEAR = {"verdict": "near_ties", "compared": 4, "diverged": 1, "first": {"prompt": 0, "position": 5}}


def result(name: str, seconds: float, losslessness: dict[str, Any] | None) -> CaseResult:
    samples = (Sample(prompt=0, seconds=seconds, new_tokens=10, target_forwards=10, output_sha256="a"),)
    return CaseResult(
        id=name,
        status="ok",
        engine={"pair": "p", "target_quant": "none", "dtype": "bf16", "compile": False},
        point={"strategy": "plain", "cache": "dynamic", "do_sample": False},
        workload={"gen_toks": 10},
        samples=samples,
        metrics=derive(samples, speculative=False),
        facts={} if losslessness is None else {"losslessness": losslessness},
    )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run file as written and read back: the wrong case is the fastest, the one with near ties is next."""
    writer = RunWriter(tmp_path / "run.jsonl")
    writer.run({"study": {"name": "s", "workload": {"gen_toks": 10}}, "environment": {}})
    for case in (result("slow", 3.0, None), result("near", 2.0, NEAR), result("fast", 1.0, WRONG)):
        writer.case(case)
    writer.end({})
    writer.close()
    return read_run(tmp_path / "run.jsonl")


def test_only_a_wrong_verdict_makes_a_case_wrong(run: Run) -> None:
    assert {name: is_wrong(case) for name, case in run.finished.items()} == {"slow": False, "near": False, "fast": True}


def test_the_fastest_case_is_not_best_if_it_is_wrong(run: Run) -> None:
    winner = best(run.finished.values())
    assert winner is not None and winner.id == "near"
    assert best([run.finished["fast"]]) is None


def test_the_table_says_where_a_wrong_output_begins(run: Run) -> None:
    shown = {row.cells[0]: row for row in rows(run)}
    assert shown["fast"].cells[-1] == "wrong: prompt 3 differs from token 17 on"
    assert not shown["fast"].best
    assert shown["near *"].cells[-1] == "ok"
    assert "wrong: prompt 3 differs from token 17 on" in markdown_table(run)


def test_a_failed_case_still_gives_its_reason(run: Run) -> None:
    failed = CaseResult(id="x", status="oom", reason="no memory", facts={"losslessness": WRONG})
    again = Run(run.path, run.header, (failed,), complete=True)
    assert rows(again)[0].cells[-1] == "oom: no memory"
