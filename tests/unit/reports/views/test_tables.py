"""The table of a planted run, to the letter in Markdown, and in the terminal at every width."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from planted_runs import ENGINE, HEADER, assisted, case, changed, plain

from reports.__main__ import main
from reports.numbers.reading import read_measured
from reports.record.run import Run, RunFileError
from reports.views.sheet import WIDTH_OF_FILES
from reports.views.tables import Asked, csv_table, json_page, markdown_table, notes, print_run, run_sheet, title

PUBLISHED = Path(__file__).resolve().parents[4] / "reports" / "published" / "embedded.jsonl"
GOLDEN = """\
| case | tokens/s | ms/token | speedup [95%] | same output | accept rate | tokens/step | rollbacks \
| predicted ms (off) | status |
|:---|---:|---:|---:|---:|---:|---:|---:|---:|:---|
| `p/assisted` **\\*** | **20.0** | **50.0** | **2.00 [2.00, 2.00]** | **2/2** | **0.75** | **2.50** | **4** |  \
| **ok** |
| `p/plain` | 10.0 | 100.0 | baseline |  |  |  |  |  | ok |
| `p/lookup` |  |  |  |  |  |  |  |  | failed: out of order |"""
LOOKUP = {"strategy": "prompt_lookup", "assist_toks": 3, "do_sample": False, "cache": "dynamic"}


def shown(run: Run, asked: Asked | None = None) -> list[dict[str, str]]:
    """The rows of the table by the keys of its columns."""
    sheet = run_sheet(run, asked)
    keys = [column.key for column in sheet.columns]
    return [dict(zip(keys, row.cells, strict=True)) for row in sheet.rows]


def printed(capsys: pytest.CaptureFixture[str], run: Run, asked: Asked | None = None) -> str:
    print_run(run, asked=asked)
    return capsys.readouterr().out


def test_the_markdown_table_of_a_planted_run(planted: Callable[..., Run]) -> None:
    assert markdown_table(planted()) == GOLDEN


def test_the_terminal_shows_the_same_cells(planted: Callable[..., Run], capsys: pytest.CaptureFixture[str]) -> None:
    run = planted()
    text = printed(capsys, run)
    assert "planted: A processor, 2 cores; torch 2.13.0" in text
    assert "2 prompts (embedded) of 64 tokens, 10 generated" in text
    for row in run_sheet(run).rows:
        for cell in row.cells:
            assert cell in text


@pytest.mark.parametrize("width", [80, 120, 200])
def test_case_speedup_and_status_never_leave_and_what_left_is_told(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    run = read_measured(PUBLISHED)
    text = printed(capsys, run)
    table = text.partition("\nrecommended: ")[0]
    assert max(map(len, table.splitlines())) <= width
    for cells in shown(run):
        for word in [*cells["case"].split(), cells["speedup"], cells["status"].split(":")[0]]:
            assert word in table
    assert ("left out for want of room" in table) == (width < 200)
    assert ("rollbacks" in table.partition("left out")[0].replace("\n", " ")) == (width == 200)


def test_a_pipe_is_wide_unless_columns_says_otherwise(
    planted: Callable[..., Run], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planted()
    monkeypatch.delenv("COLUMNS", raising=False)
    assert "left out for want of room" not in printed(capsys, run)
    monkeypatch.setenv("COLUMNS", "60")
    narrow = printed(capsys, run)
    assert "left out for want of room" in narrow
    assert max(map(len, narrow.splitlines())) <= 60 < WIDTH_OF_FILES


def test_what_all_cases_share_is_said_once_in_the_title_and_not_in_the_rows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = printed(capsys, read_measured(PUBLISHED))
    assert "unless the case says otherwise: embedded, bf16, unquantized, greedy, dynamic cache" in text
    assert "\nprompt lookup k=3 * " in text
    assert "embedded/t=none" not in text.partition("Costs apart from time")[0]


def test_rows_come_in_the_order_of_the_ratio_that_is_printed_and_unmeasured_last(planted: Callable[..., Run]) -> None:
    twice = {"do_sample": True, "temperature": 1.0}
    run = planted(
        case("failed", [], status="failed", reason="a"),
        case("slow", [plain(0, 2.0), plain(1, 2.0)]),
        case("skipped", [], status="skipped", reason="b"),
        case("sampled plain", [plain(0, 0.4), plain(1, 0.4)], point={"strategy": "plain", **twice}),
        case("sampled", [plain(0, 0.3), plain(1, 0.3)], point={**LOOKUP, **twice}),
        case("fast", [plain(0, 1.0), plain(1, 1.0)], point=LOOKUP),
    )
    sheet = run_sheet(run)
    names = [row.values[0] for row in sheet.rows]
    assert names == ["fast", "sampled", "sampled plain", "slow", "failed", "skipped"], "2.00 before 1.33, though slower"
    assert [row.mark for row in sheet.rows] == ["*", "", "", "", "", ""]
    assert sheet.rows[-1].cells[-1] == "skipped: b"
    assert all(len(row.cells) == len(sheet.columns) for row in sheet.rows)


def test_a_case_whose_interval_contains_1_has_no_star_and_plain_decoding_gets_it(
    planted: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run = planted(
        case("base", [plain(i, 1.0) for i in range(3)]),
        case("lookup", [plain(0, 0.4), plain(1, 0.4), plain(2, 2.0)], point=LOOKUP),
    )
    assert [(row.values[0], row.mark) for row in run_sheet(run).rows] == [("lookup", ""), ("base", "*")]
    text = printed(capsys, run)
    assert "recommended: plain decoding: no setting that keeps its model is shown to be faster" in text
    assert "1 setting is not told apart from it" in text
    assert "whose interval contains 1" in text


def test_a_repeated_baseline_is_no_row_of_its_own(planted: Callable[..., Run]) -> None:
    run = planted(case("base", [plain(0, 1.0)]), case("base", [plain(0, 1.0)], again=True))
    assert [(row.values[0], row.mark) for row in run_sheet(run).rows] == [("base", "*")]


def test_same_output_counts_prompts_and_says_nothing_of_sampled_cases(planted: Callable[..., Run]) -> None:
    other = changed(case("lookup", [plain(i, 0.5) for i in range(3)], point=LOOKUP))
    other = changed(other, samples=(*other.samples[:2], changed_output(other.samples[2])))
    run = planted(
        case("base", [plain(i, 1.0) for i in range(3)]),
        other,
        case("sampled", [plain(0, 1.0)], point={**LOOKUP, "do_sample": True}),
        case("quantized", [plain(i, 0.5) for i in range(3)], engine={**ENGINE, "target_quant": "4bit"}),
    )
    same = {row["case"]: row["same_output"] for row in shown(run)}
    assert same == {"lookup": "2/3", "base": "", "sampled": "", "quantized": "3/3"}


def changed_output(sample: Any) -> Any:
    return dataclasses.replace(sample, output_sha256="other")


def test_a_bar_in_a_reason_does_not_break_the_markdown_table(planted: Callable[..., Run]) -> None:
    table = markdown_table(planted(case("a", [], status="failed", reason="x | y")))
    heading, *_, line = table.splitlines()
    assert line.count("|") - line.count("\\|") == heading.count("|")


def test_columns_sort_and_top_choose_what_is_shown(planted: Callable[..., Run]) -> None:
    run = read_measured(planted().path)
    found = shown(run, Asked("ttft_seconds,status", "ttft_seconds", 1))
    assert found == [{"case": "p/plain", "ttft_seconds": "100.0", "status": "ok"}], "0.1 s before 0.125 s"
    assert [row["case"] for row in shown(run, Asked(sort="-ttft_seconds"))] == ["p/assisted", "p/plain", "p/lookup"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Asked("speed"), ("--columns 'speed': no such column here; choose from case, id, tokens_per_second",)),
        (Asked(sort="speed"), ("--sort 'speed'", "choose from")),
        (Asked(top=0), ("--top 0: at least 1 row",)),
    ],
)
def test_a_column_that_there_is_not_is_refused_with_those_that_there_are(
    planted: Callable[..., Run], asked: Asked, words: tuple[str, ...]
) -> None:
    with pytest.raises(RunFileError) as raised:
        run_sheet(planted(), asked)
    assert all(word in str(raised.value) for word in words)
    assert "\n" not in str(raised.value)


def test_what_compiling_and_warming_up_cost_pays_off_after_so_many_tokens(planted: Callable[..., Run]) -> None:
    """5 s once, at 0.05 s less for each token: 100 tokens; a slower case never pays off."""
    run = planted(
        case("base", [plain(0, 1.0), plain(1, 1.0)]),
        case(
            "fast",
            [plain(0, 0.5), plain(1, 0.5)],
            point=LOOKUP,
            facts={"compile_seconds": 4.0},
            warm_ups=(plain(9, 1.0),),
        ),
        case(
            "slow", [plain(0, 2.0), plain(1, 2.0)], point={**LOOKUP, "assist_toks": 4}, facts={"compile_seconds": 4.0}
        ),
    )
    assert {row["case"]: row["pays_off_after"] for row in shown(run)} == {"fast": "100", "base": "", "slow": ""}


def test_a_price_tells_what_a_million_tokens_cost(planted: Callable[..., Run]) -> None:
    """0.05 s a token at 3.60 an hour: 0.001 a second, 50 for a million tokens."""
    costs = [row["cost_per_million"] for row in shown(planted(), Asked(price_per_hour=3.6))]
    assert costs == ["50.00", "100.00", ""]


def test_csv_and_json_hold_every_figure_and_the_recommendation(planted: Callable[..., Run]) -> None:
    run = read_measured(planted().path)
    first, second, third = csv.DictReader(io.StringIO(csv_table(run)))
    assert (first["case"], float(first["speedup"]), float(first["speedup_low"])) == ("p/assisted", 2.0, 2.0)
    assert float(second["ttft_seconds"]) == pytest.approx(100.0)
    assert (third["case"], third["speedup"], third["status"]) == ("p/lookup", "", "failed: out of order")
    found = json.loads(json_page(run))
    (recommended,) = found["recommended"]
    assert (recommended["case"], recommended["ratio"], recommended["low"]) == ("p/assisted", 2.0, 2.0)
    assert found["tables"][0]["rows"][0]["same_output"] == 2


def test_show_refuses_a_price_that_is_none(planted: Callable[..., Run], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(planted().path), "--price-per-hour", "-1"]) == 2
    assert capsys.readouterr().err == (
        "reports: --price-per-hour '-1': not a price; write a number above 0, such as 1.20\n"
    )


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
