"""The table of a planted run, to the letter, in the terminal and in Markdown."""

from __future__ import annotations

import io
from collections.abc import Callable

from planted_runs import HEADER, assisted, case, plain
from rich.console import Console

from reports.record.run import Run
from reports.views.tables import COLUMNS, markdown_table, notes, rows, terminal_table, title

GOLDEN = """\
| case | tokens/s | ms/token | speedup [95%] | accept rate | tokens/step | rollbacks | predicted ms (off) | status |
|:---|---:|---:|---:|---:|---:|---:|---:|:---|
| `p/assisted` **\\*** | **20.0** | **50.0** | **2.00 [2.00, 2.00]** | **0.75** | **2.50** | **4** |  | **ok** |
| `p/plain` | 10.0 | 100.0 |  |  |  |  |  | ok |
| `p/lookup` |  |  |  |  |  |  |  | failed: out of order |"""


def test_the_markdown_table_of_a_planted_run(planted: Callable[..., Run]) -> None:
    assert markdown_table(planted()) == GOLDEN


def test_the_terminal_shows_the_same_cells(planted: Callable[..., Run]) -> None:
    run = planted()
    output = io.StringIO()
    Console(file=output, width=200).print(terminal_table(run))
    shown = output.getvalue()
    assert "planted: A processor, 2 cores; torch 2.13.0" in shown
    assert "2 prompts (embedded) of 64 tokens, 10 generated." in shown
    for row in rows(run):
        for cell in row.cells:
            assert cell in shown


def test_rows_come_fastest_first_and_unmeasured_last(planted: Callable[..., Run]) -> None:
    run = planted(
        case("failed", [], status="failed", reason="a"),
        case("slow", [plain(0, 2.0)]),
        case("skipped", [], status="skipped", reason="b"),
        case("fast", [plain(0, 1.0)], point={"strategy": "prompt_lookup"}),
    )
    found = rows(run)
    assert [row.cells[0] for row in found] == ["fast *", "slow", "failed", "skipped"]
    assert [row.best for row in found] == [True, False, False, False]
    assert found[3].cells[-1] == "skipped: b"
    assert all(len(row.cells) == len(COLUMNS) for row in found)


def test_a_repeated_baseline_is_no_row_of_its_own(planted: Callable[..., Run]) -> None:
    run = planted(case("base", [plain(0, 1.0)]), case("base", [plain(0, 1.0)], again=True))
    assert [row.cells[0] for row in rows(run)] == ["base *"]


def test_a_bar_in_a_reason_does_not_break_the_markdown_table(planted: Callable[..., Run]) -> None:
    line = markdown_table(planted(case("a", [], status="failed", reason="x | y"))).splitlines()[-1]
    assert line.count("|") - line.count("\\|") == len(COLUMNS) + 1


def test_an_interrupted_run_says_so(planted: Callable[..., Run]) -> None:
    assert notes(planted(ended=False)) == ["incomplete: the run was interrupted; continue it with --resume"]
    assert notes(planted(name="whole.jsonl")) == []


def test_a_gpu_is_named_in_the_title(planted: Callable[..., Run]) -> None:
    run = planted(case("a", [assisted(0, 1.0)]), environment={"hardware": {"gpu": "A card"}, "versions": {}})
    assert title(run).startswith("planted: A card")


def test_what_is_noted_with_many_cases_is_said_once(planted: Callable[..., Run]) -> None:
    shared = "3 of 9 prompts: time budget of 12 min"
    cases = [case(f"c{number}", [plain(0, 1.0)], notes=(shared, f"own {number}")) for number in range(5)]
    assert notes(planted(*cases)) == ["5 cases: " + shared, *(f"c{number}: own {number}" for number in range(5))]
    assert notes(planted(*cases[:2], name="few.jsonl"))[:2] == [f"c0: {shared}", f"c1: {shared}"]


def test_a_run_under_a_tracer_says_that_its_times_mean_little(planted: Callable[..., Run]) -> None:
    run = planted(environment={**HEADER["environment"], "traced_by": "pydevd"})
    assert notes(run)[0].startswith("UNSTABLE: measured under a tracer (pydevd)")
    assert not any("tracer" in note for note in notes(planted(name="other.jsonl")))
