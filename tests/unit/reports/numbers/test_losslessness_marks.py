"""A case whose output is wrong is shown as wrong and never wins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reports.advice.candidates import Constraints, advise
from reports.numbers.answers import answers_text, is_lossless, is_same_model, is_uncompared, is_wrong
from reports.numbers.decision import decision
from reports.numbers.metrics import derive
from reports.page.charts.pareto import UNSHOWN, places
from reports.record.reader import read_run
from reports.record.run import CaseResult, Run, Sample
from reports.record.settings import DecodingPoint, EngineKey, WorkloadDone
from reports.record.writer import RunWriter
from reports.views.advice_text import markdown as advice_markdown
from reports.views.tables import markdown_table, run_sheet

WRONG = {
    "verdict": "wrong",
    "compared": 4,
    "diverged": 2,
    "first": {"prompt": 3, "position": 17, "expected": 8, "found": 9, "margin": 4.5, "rounding": 0.4},
}
NEAR = {"verdict": "near_ties", "compared": 4, "diverged": 1, "first": {"prompt": 0, "position": 5}}


def result(name: str, seconds: float, losslessness: dict[str, Any] | None) -> CaseResult:
    """Two prompts; named `slow` it is plain decoding, else it looks tokens up."""
    samples = tuple(Sample(i, seconds, new_tokens=10, target_forwards=10, output_sha256="a") for i in range(2))
    return CaseResult(
        id=name,
        status="ok",
        engine=EngineKey("p"),
        point=DecodingPoint() if name == "slow" else DecodingPoint("prompt_lookup", assist_toks=3),
        workload=WorkloadDone(gen_toks=10),
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


def test_the_fastest_case_is_not_recommended_if_it_is_wrong(run: Run) -> None:
    found = decision(run)
    assert found is not None and found.recommended is run.finished["near"]
    assert "fast" not in [one.case.id for one in found.standings]


def test_the_table_says_where_a_wrong_output_begins(run: Run) -> None:
    shown = {row.values[0]: row for row in run_sheet(run).rows}
    assert shown["fast"].cells[-1] == "wrong: prompt 3 differs from token 17 on"
    assert (shown["fast"].mark, shown["near"].mark) == ("", "*")
    assert shown["near"].cells[-1] == "ok"
    assert "wrong: prompt 3 differs from token 17 on" in markdown_table(run)


def test_a_failed_case_still_gives_its_reason(run: Run) -> None:
    failed = CaseResult(id="x", status="oom", reason="no memory", facts={"losslessness": WRONG})
    again = Run(run.path, run.header, (failed,), complete=True)
    assert run_sheet(again).rows[0].cells[-1] == "oom: no memory"


@pytest.mark.parametrize(
    ("point", "engine", "facts", "uncompared"),
    [
        ({}, {}, {}, False),
        ({"strategy": "prompt_lookup"}, {}, {}, True),
        ({"strategy": "prompt_lookup", "do_sample": True}, {}, {}, False),
        ({"strategy": "prompt_lookup"}, {}, {"verdict": "equal"}, False),
        ({"strategy": "prompt_lookup"}, {}, {"verdict": "not comparable", "reason": "no prompt in common"}, True),
        ({"strategy": "prompt_lookup"}, {}, {"verdict": "not comparable", "diverged": 2}, False),
        ({"cache": "static"}, {}, {}, True),
        ({"cache": "none"}, {}, {"verdict": "near_ties"}, False),
        ({}, {"compile": True}, {}, True),
        ({}, {"target_quant": "4bit"}, {}, False),
    ],
)
def test_greedy_decoding_other_than_plain_needs_a_verdict(
    point: dict[str, Any], engine: dict[str, Any], facts: dict[str, Any], uncompared: bool
) -> None:
    case = result("slow", 1.0, facts)
    case = replace(case, point=replace(case.point, **point), engine=replace(case.engine, **engine))
    assert is_uncompared(case) == uncompared


def test_a_case_that_nobody_compared_is_neither_starred_nor_lossless(run: Run) -> None:
    lookup = result("lookup", 0.5, None)
    lookup = replace(lookup, facts={"weight_bytes": {"target": 100}})
    longer = Run(run.path, run.header, (*run.cases, lookup), complete=True)
    assert not is_same_model(lookup) and not is_lossless(lookup, longer)
    assert answers_text(lookup, longer) == "same output 2/2; not compared by the suite"
    assert [row.values[0] for row in run_sheet(longer).rows if row.mark] == ["near"]
    [advice] = advise(longer)
    assert advice.best.id == "near"
    [anything] = advise(longer, Constraints(max_memory=1000))
    assert (anything.best.id, anything.best.same_model) == ("lookup", False)
    assert "(--same-model leaves it out)" in advice_markdown([anything])
    assert [place.quality for place in places(longer)] == [UNSHOWN]


def test_a_published_figure_without_samples_stays_as_it_was_published() -> None:
    published = replace(result("p", 1.0, None), samples=(), point=DecodingPoint("assisted"), metrics={"thr": 1.0})
    assert not is_uncompared(published)
