"""What a setting costs apart from time, to the letter, and on the published runs against their own lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from planted_runs import case, plain

from reports.numbers.metrics import fact_values
from reports.record.reader import read_run
from reports.record.run import CaseResult, Run
from reports.record.settings import current_id
from reports.views.cost_table import cost_sheet
from reports.views.sheet import console, markdown, print_sheet
from tools.readme import renewed

PUBLISHED = Path(__file__).resolve().parents[4] / "reports/published"
MIB = 2**20
ENGINE = {"weight_bytes": {"target": 256 * MIB, "draft": 64 * MIB + 1}, "load_seconds": 1.5}

GOLDEN = """\
| case | weights (MiB) | load (s) | perplexity | cache (MiB) | same tokens | KL (nats) | compile (s) | graph breaks \
| recompiles | of the limit (%) |
|:---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
| `base` | 256.0 | 1.50 | 13.93 | 4.5 |  |  |  |  |  | 25.0 |
| `uncached` | 256.0 | 1.50 |  | 0.0 |  |  |  |  |  |  |
| `quantized` | 256.0 | 1.50 |  | 1.0 | 33 | 0.027 |  |  |  |  |
| `compiled` | 256.0 + 64.0 | 1.50 |  |  |  |  | 69.9 | 2 | 0 |  |"""


def told(name: str, facts: dict[str, Any], **changes: Any) -> CaseResult:
    return case(name, [plain(0, 1.0)], facts=facts, **changes)


def legend_of(run: Run) -> str:
    return " ".join(cost_sheet(run).notes)


def costly() -> list[CaseResult]:
    """25%: 20 tokens/s of 80. The last one has nothing to tell beyond its engine."""
    text = {"perplexity": 13.9331, "perplexity_text": "embedded prose", "perplexity_tokens": 1023}
    limit = {"limit_tokens_per_second": 80.0}
    compiled = {"compile_seconds": 69.88857, "compiled_graphs": 8, "graph_breaks": 2, "recompiles": 0}
    return [
        told("base", {**ENGINE, **text, **limit, "cache_bytes": 4.5 * MIB}, metrics={"decode_latency_tok": 0.05}),
        told("uncached", {**ENGINE, "cache_bytes": 0}),
        told("quantized", {**ENGINE, "cache_bytes": MIB, "matching_prefix_tokens": 33, "logit_kl_nats": 0.0270469}),
        told("compiled", {**ENGINE, **compiled}, point={"strategy": "assisted"}),
        told("silent", {**ENGINE, **limit}, metrics={"decode_latency_tok": 0.05}),
    ]


def test_the_markdown_table_of_a_planted_run(planted: Callable[..., Run]) -> None:
    sheet = cost_sheet(planted(*costly()))
    assert markdown(sheet) == GOLDEN
    assert "Perplexity: of the target on embedded prose (1023 tokens)." in sheet.notes[0]


def test_the_terminal_shows_the_same_cells(planted: Callable[..., Run]) -> None:
    run = planted(*costly())
    output = StringIO()
    print_sheet(cost_sheet(run), console(output))
    assert all(cell in output.getvalue() for row in cost_sheet(run).rows for cell in row.cells)


@pytest.mark.parametrize(
    ("facts", "names", "cells"),
    [
        ({"perplexity": 2.0}, ("case", "perplexity"), ("a", "2.00")),
        ({"cache_bytes": 0}, ("case", "cache (MiB)"), ("a", "0.0")),
        ({"compile_seconds": 3.0, "graph_breaks": 0}, ("case", "compile (s)", "graph breaks"), ("a", "3.0", "0")),
        ({"logit_kl_nats": 1.24e-6}, ("case", "KL (nats)"), ("a", "1.2e-06")),
        ({"cache_bytes": MIB, "weight_bytes": {"draft": MIB}, "load_seconds": None}, ("case", "cache (MiB)"), None),
    ],
)
def test_only_columns_with_a_figure_are_shown(
    planted: Callable[..., Run], facts: dict[str, Any], names: tuple[str, ...], cells: tuple[str, ...] | None
) -> None:
    run = planted(told("a", facts))
    sheet = cost_sheet(run)
    assert tuple(column.heading for column in sheet.columns) == names
    assert [row.cells for row in sheet.rows] == [cells or ("a", "1.0")]
    assert ("Perplexity" in sheet.notes[0]) == ("perplexity" in names)
    assert ("Of the limit" in sheet.notes[0]) == ("of the limit (%)" in names)


def test_a_run_with_nothing_to_tell_has_no_table(planted: Callable[..., Run], run_reports: Callable[..., Any]) -> None:
    run = planted(told("a", {**ENGINE, "perplexity": None}))
    assert (cost_sheet(run).rows, cost_sheet(run).notes) == ((), ())
    for form in ("terminal", "markdown"):
        assert "load (s)" not in run_reports("show", run.path, "--format", form).stdout


def test_a_case_that_compiled_while_it_was_timed_is_in_the_table_though_it_failed(planted: Callable[..., Run]) -> None:
    facts = {"compile_seconds": 12.0, "graph_breaks": 0, "recompiles": 3}
    run = planted(case("late", [], status="failed", reason="compiling took 2.0 s", facts=facts))
    [row] = cost_sheet(run).rows
    assert (row.cells, row.tone) == (("late", "12.0", "0", "3"), "dim")


def test_several_texts_are_all_named(planted: Callable[..., Run]) -> None:
    cases = [told(str(i), {"perplexity": 3.0, **text}) for i, text in enumerate(({"perplexity_text": "A"}, {}))]
    assert "on A." in legend_of(planted(*cases))
    cases.append(told("2", {"perplexity": 3.0, "perplexity_text": "B", "perplexity_tokens": 7}))
    assert "on A or B (7 tokens)." in legend_of(planted(*cases, name="two.jsonl"))
    assert "on a text that the run does not name." in legend_of(planted(cases[1], name="none.jsonl"))


def test_show_prints_it_under_the_main_table(planted: Callable[..., Run], run_reports: Callable[..., Any]) -> None:
    path = planted(*costly()).path
    markdown, terminal = (run_reports("show", path, "--format", form).stdout for form in ("markdown", "terminal"))
    assert markdown.index("| tokens/s |") < markdown.index(GOLDEN.splitlines()[0])
    assert terminal.index("tokens/s") < terminal.index("256.0 + 64.0")


@pytest.mark.parametrize("name", ["embedded.jsonl", "compile.jsonl"])
def test_the_published_runs_show_what_their_lines_say(name: str) -> None:
    """The share of the limit by another way: bytes per second over those of a copy, where bandwidth is the limit."""
    run = read_run(PUBLISHED / name)
    lines = [json.loads(line) for line in (PUBLISHED / name).read_text(encoding="utf-8").splitlines()]
    facts = {
        current_id(line["id"]): line.get("facts", {})
        for line in lines
        if line["kind"] == "case" and not line.get("again")
    }
    sheet = cost_sheet(run)
    names = [column.heading for column in sheet.columns]
    shown = {row.cells[0]: dict(zip(names, row.cells, strict=True)) for row in sheet.rows}
    telling = {"perplexity", "cache_bytes", "compile_seconds"}
    assert set(shown) == {name for name, found in facts.items() if telling & set(found)}
    assert 0 < len(shown) < len(facts)
    for case_id, cells in shown.items():
        found = facts[case_id]
        assert cells["weights (MiB)"].split(" + ")[0] == f"{found['weight_bytes']['target'] / MIB:.1f}"
        assert cells["compile (s)"] == (f"{found['compile_seconds']:.1f}" if "compile_seconds" in found else "")
        assert cells["graph breaks"] == str(found.get("graph_breaks", ""))
        assert cells["cache (MiB)"] == (f"{found['cache_bytes'] / MIB:.1f}" if "cache_bytes" in found else "")
        if found.get("limit_bound") == "bandwidth":
            assert float(cells["of the limit (%)"]) == pytest.approx(100 * found["bandwidth_share"], abs=0.051)
        else:
            assert "limit_bound" in found or cells["of the limit (%)"] == ""


def test_the_readme_has_a_block_for_it() -> None:
    text = "<!-- reports/published/compile.jsonl costs -->\nold\n<!-- end -->"
    assert markdown(cost_sheet(read_run(PUBLISHED / "compile.jsonl"))) in renewed(text)


def test_graph_breaks_can_be_compared_like_recompiles() -> None:
    assert fact_values({"graph_breaks": 0, "recompiles": 1}) == {"graph_breaks": 0.0, "recompiles": 1.0}
