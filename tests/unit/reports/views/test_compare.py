"""`python -m reports compare`: what it prints in every format, and what it refuses."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from planted_runs import ENGINE, HEADER, WORKLOAD, assisted, case, plain, write_large

from reports.__main__ import main
from reports.record.run import Run

Plant = Callable[..., Run]
PUBLISHED = Path(__file__).parents[4] / "reports" / "published"
ASSISTED = {"strategy": "assisted", "assist_toks": 3, "do_sample": False, "cache": "dynamic"}


@pytest.fixture
def pair(planted: Plant) -> tuple[str, str]:
    """Plain decoding 20% faster in head, assisted decoding with one rollback fewer; one case new and one gone."""
    base = planted(
        case("p/plain", [plain(0, 1.0), plain(1, 1.0)]),
        case("p/assisted", [assisted(0, 0.5), assisted(1, 0.5)], point=ASSISTED),
        case("p/old", [plain(0, 1.0)], point={"strategy": "plain", "cache": "none"}),
        name="base.jsonl",
    )
    fewer = dataclasses.replace(assisted(1, 0.5), rollbacks=1)
    head = planted(
        case("p/assisted", [assisted(0, 0.5), fewer], point=ASSISTED),
        case("p/plain", [plain(0, 0.8), plain(1, 0.8)]),
        case("p/fresh", [plain(0, 1.0)], point={"strategy": "plain", "cache": "static"}),
        name="head.jsonl",
        environment={**HEADER["environment"], "versions": {"torch": "2.14.0"}},
    )
    return str(base.path), str(head.path)


def test_the_terminal_shows_ratios_and_what_else_differs(
    pair: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *pair]) == 0
    shown = capsys.readouterr().out
    assert "differs: torch 2.13.0 -> 2.14.0" in shown and "different versions" in shown
    assert "100 ms/token" in shown and "80 ms/token" in shown and "0.800 [0.800, 0.800]" in shown
    assert "4 steps" in shown and "3 steps" in shown
    assert "new: p/fresh" in shown and "gone: p/old" in shown
    # latency and throughput better (no spread between prompts), and one rollback fewer; assisted times equal
    assert "2 cases compared, 1 new, 1 gone; metrics: 3 better, 0 worse, 0 changed, 4 same, 2 none shown" in shown
    assert "regress" not in shown


def test_json_holds_everything(pair: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *pair, "--format", "json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert found["environment"] == [{"key": "torch", "base": "2.13.0", "head": "2.14.0"}]
    assert (found["new"], found["gone"], found["same_versions"]) == (["p/fresh"], ["p/old"], False)
    latency = found["cases"][0]["metrics"][0]
    assert (latency["metric"], latency["unit"], latency["better"]) == ("latency_tok", "s/token", "lower")
    assert (latency["base"], latency["head"], latency["direction"]) == (0.1, pytest.approx(0.08), "better")
    assert found["cases"][0]["outputs"] == {"prompts": 2, "different": 0, "first_prompt": None, "position": None}


def test_csv_has_one_line_for_each_metric_of_each_case(
    pair: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *pair, "--format", "csv", "--metric", "latency_tok, total_rollbacks"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["head_case"], row["metric"]) for row in rows] == [
        ("p/plain", "latency_tok"),
        ("p/assisted", "assisted_latency_tok"),
        ("p/assisted", "total_rollbacks"),
    ]
    assert (rows[2]["base"], rows[2]["head"], rows[2]["ratio"], rows[2]["low"]) == ("4.0", "3.0", "0.75", "")
    assert float(rows[0]["ratio"]) == pytest.approx(0.8) and rows[0]["direction"] == "better"


def test_markdown_is_a_table_with_its_legend(pair: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *pair, "--format", "markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert {line.count("|") for line in table} == {7}
    assert "| `p/plain` | latency_tok | 100 ms/token | 80 ms/token | 0.800 [0.800, 0.800] | better |" in table
    assert any(line.startswith("head/base:") for line in lines)


def test_several_heads_are_each_compared_with_the_base(
    pair: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    base, head = pair
    assert main(["compare", base, head, base, "--format", "json", "--metric", "latency_tok"]) == 0
    found = json.loads(capsys.readouterr().out)["comparisons"]
    assert [one["head"]["path"] for one in found] == [head, base]
    assert [one["cases"][0]["metrics"][0]["ratio"] for one in found] == [pytest.approx(0.8), 1.0]


def test_other_hardware_is_a_comparison_of_machines(planted: Plant, capsys: pytest.CaptureFixture[str]) -> None:
    base = planted(case("p/a", [plain(0, 1.0), plain(1, 1.0)]), name="base.jsonl")
    head = planted(
        case("p/a", [plain(0, 9.0), plain(1, 9.0)]), name="head.jsonl", environment={"hardware": {"gpu": "NVIDIA L4"}}
    )
    assert main(["compare", str(base.path), str(head.path)]) == 0
    shown = capsys.readouterr().out
    assert "different hardware (cpu-a-processor-2c and gpu-nvidia-l4): two machines are compared" in shown
    assert "can differ there by rounding alone" in shown
    assert "worse" in shown and "regress" not in shown


def test_settings_of_one_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(PUBLISHED / "embedded.jsonl"), "--by", "target_quant"]) == 0
    shown = capsys.readouterr().out
    assert "by target_quant, everything else equal" in shown and "4bit against none" in shown
    assert "first prompt" in shown and "10 cases compared" in shown


def test_the_published_table_is_marked_and_has_no_intervals(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(PUBLISHED / "seed_study_l4.csv"), "--by", "target_quant", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    by_case = {(row["head_case"], row["metric"]): row for row in rows}
    plain_4bit = by_case["llama3-8b-1b/t=4bit,bf16/plain,greedy,dynamic", "thr"]
    assert float(plain_4bit["ratio"]) == pytest.approx(21.036 / 15.5, rel=1e-3)
    assert {row["low"] for row in rows} == {""}
    assert main(["compare", str(PUBLISHED / "seed_study_l4.csv"), "--by", "target_quant"]) == 0
    assert "published elsewhere, not measured here" in capsys.readouterr().out


def test_a_large_comparison_shows_what_changed_most(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, seed in (("base", 0), ("head", 1)):
        write_large(tmp_path / f"{name}.jsonl", 120, 3, seed)
    files = [str(tmp_path / "base.jsonl"), str(tmp_path / "head.jsonl")]
    assert main(["compare", *files, "--format", "markdown"]) == 0
    shown = capsys.readouterr().out
    assert "the 100 cases that changed most, of 120" in shown and len(shown) < 64 * 1024
    assert main(["compare", *files, "--format", "csv", "--metric", "latency_tok"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 121


def test_a_killed_run_is_used_as_far_as_it_got(pair: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    base, head = pair
    text = Path(head).read_text(encoding="utf-8")
    Path(head).write_text(text[: text.index('"id":"p/fresh"') + 60], encoding="utf-8")
    assert main(["compare", base, head]) == 0
    shown = capsys.readouterr().out
    assert "cut off and was dropped" in shown and "incomplete" in shown
    assert "2 cases compared, 1 gone" in shown


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "no such file"),
        ("", "no line of kind 'run'"),
        ("not json\n", "line 1 is not JSON"),
        ('{"kind":"run","schema":99}\n', "schema 99 is newer"),
        ('{"kind":"run","schema":1}\n{"kind":"case","id"\n{"kind":"end"}\n', "line 2 is not JSON"),
        ('{"kind":"run","schema":1}\n{"kind":"end"}\n', "no case of"),
        ("\udcff", "line 1 is"),
    ],
)
def test_unusable_files_are_refused_in_one_line(
    pair: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, told: str
) -> None:
    bad = tmp_path / "bad.jsonl"
    if content is not None:
        bad.write_bytes(f"{content}\n".encode(errors="surrogateescape") if content else b"")
    assert main(["compare", pair[0], str(bad)]) == 2
    assert main(["compare", str(bad), pair[0]]) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == "" and len(lines) == 2
    assert all("bad.jsonl" in line and told in line for line in lines)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "name a second run, or a setting with --by target_quant"),
        (("--by", "colour"), "--by 'colour': no case has this setting; choose from"),
        (("--by", "target_quant"), "--by 'target_quant': no two cases differ in it alone"),
        (("--by", "cache", "--metric", "speed"), "--metric 'speed': not a metric; choose from latency_tok"),
    ],
)
def test_wrong_options_are_refused_in_one_line(
    pair: tuple[str, str], capsys: pytest.CaptureFixture[str], options: tuple[str, ...], told: str
) -> None:
    assert main(["compare", pair[0], *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


def test_other_workloads_are_refused_with_their_keys(planted: Plant, capsys: pytest.CaptureFixture[str]) -> None:
    base = planted(case("p/a", [plain(0, 1.0)]), name="base.jsonl")
    other = {**WORKLOAD, "num_samples": 3, "prompts_sha256": "def"}
    head = planted(case("p/a", [plain(0, 1.0)], workload=other, engine=ENGINE), name="head.jsonl")
    assert main(["compare", str(base.path), str(head.path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "head.jsonl: another workload than" in line
    assert "num_samples 2 != 3, prompts_sha256 abc != def" in line


def test_other_weights_under_the_same_name_are_told(
    planted: Plant, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def measured(revision: str, name: str) -> str:
        facts = {"revisions": {"target": revision, "draft": "the same"}}
        return str(planted(case("p/plain", [plain(0, 1.0), plain(1, 1.0)], facts=facts), name=name).path)

    base, head = measured("folder 0123", "base.jsonl"), measured("folder 4567", "head.jsonl")
    unknown = measured("local folder", "old.jsonl")
    told = "weights differ (target of p folder 0123 -> folder 4567): two models are compared, not two states"
    for command in ("compare", "gate"):
        main([command, base, head])
        shown = capsys.readouterr().out
        assert told in shown and "differs:" not in shown
        main([command, base, str(shutil.copy(base, tmp_path / "copy.jsonl"))])
        main([command, unknown, head])
        assert "weights differ" not in capsys.readouterr().out
