"""What `reports claims` prints, in every format, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from planted_claims import FALSE, TRUE, cases_of, solved_cases, write_claims

from reports.__main__ import main
from reports.claims.own import BUILT_IN
from reports.record.run import RunFileError
from tools.readme import renewed

ROOT = Path(__file__).resolve().parents[4]
SEED = str(ROOT / "reports/published/seed_study_l4.csv")
OWN = """
[[claim]]
name = "lookup_pays"
says = "Prompt lookup is faster than plain decoding"
metric = "latency_tok"
of = { strategy = "assisted", assist_toks = 3, do_sample = false, target_quant = "none", draft_quant = "none" }
against = { strategy = "plain", target_quant = "none" }
expect = "lower"
"""


@pytest.fixture
def true_run(tmp_path: Path) -> str:
    return str(write_claims(tmp_path / "true.jsonl", cases_of(TRUE), solved_cases(TRUE)).path)


@pytest.fixture
def false_run(tmp_path: Path) -> str:
    return str(write_claims(tmp_path / "false.jsonl", cases_of(FALSE), solved_cases(FALSE)).path)


@pytest.fixture
def own_file(tmp_path: Path) -> str:
    path = tmp_path / "own.toml"
    path.write_text(OWN, encoding="utf-8")
    return str(path)


def test_runs_stand_side_by_side(true_run: str, false_run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims", true_run, false_run, SEED, "--format", "markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| ")]
    assert [len(row) for row in rows] == [4] * (1 + len(BUILT_IN))
    assert "NVIDIA L4 (published elsewhere, not measured here)" in rows[0][3]
    assert all(row[1].startswith("**supported**<br>") for row in rows[1:])
    assert all(row[2].startswith("**contradicted**<br>") for row in rows[1:])
    quantized = next(row for row in rows if "`quantization_slows`" in row[0])
    assert quantized[3].startswith("**contradicted, by published figures**<br>t=4bit,bf16/plain")
    assert (
        "(21.0 against 15.5 tokens/s): 1.36, no interval: published figures<br>5 of 6 comparisons hold" in quantized[3]
    )
    assert "<details><summary>All comparisons</summary>" in lines


def test_json_holds_effects_intervals_and_cases(true_run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims", true_run, SEED, "--format", "json"]) == 0
    measured, published = json.loads(capsys.readouterr().out)
    assert (measured["reference"], published["reference"]) == (False, True)
    assert [claim["name"] for claim in measured["claims"]] == list(BUILT_IN)
    greedy = next(claim for claim in measured["claims"] if claim["name"] == "greedy_beats_sampling")
    deciding = greedy["deciding"]
    assert greedy["verdict"] == "supported" and deciding["interval"]["low"] < deciding["estimate"]
    assert deciding["cases"] == greedy["cases"] and len(greedy["cases"]) == 2
    assert published["claims"][0]["deciding"]["interval"] is None


def test_the_terminal_shows_details_on_demand(true_run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims", true_run, "--claim", "greedy_beats_sampling"]) == 0
    short = capsys.readouterr().out
    assert "supported" in short and "larger_draft" not in short and "cases:" not in short
    assert main(["claims", true_run, "--claim", "greedy_beats_sampling", "--details"]) == 0
    assert "  holds: than assisted,k=3,p=0.2,sampled,dynamic: 1.1" in capsys.readouterr().out


def test_claims_are_findings_unless_asked_to_fail(true_run: str, false_run: str) -> None:
    assert main(["claims", false_run]) == 0
    assert main(["claims", false_run, "--fail-on", "contradicted"]) == 1
    assert main(["claims", true_run, "--fail-on", "contradicted"]) == 0
    assert main(["claims", true_run, false_run, "--fail-on", "contradicted"]) == 1


def test_own_claims_come_from_a_file_or_with_the_run(
    true_run: str, own_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["claims", true_run, "--claims", own_file, "--claim", "lookup_pays", "--format", "json"]) == 0
    [claim] = json.loads(capsys.readouterr().out)[0]["claims"]
    assert claim["verdict"] == "supported"
    assert claim["deciding"]["estimate"] == pytest.approx(0.5, rel=0.02)
    told = {"name": "carried", "says": "s", "metric": "thr", "expect": "higher"}
    told |= {"of": {"cache": "static"}, "against": {"cache": "dynamic"}}
    carrying = write_claims(tmp_path / "carrying.jsonl", cases_of(TRUE)[:1], claims=[told])
    assert main(["claims", str(carrying.path), true_run, "--claim", "carried", "--format", "markdown"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if "`carried`" in line)
    assert row == "| s (`carried`) | **not enough evidence**<br>missing: any case with of = { cache = 'static' } |  |"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--claim", "nothing"], "--claim 'nothing': no such claim here; choose from best_setting"),
        (["--claims", "none.toml"], "none.toml: cannot be read"),
    ],
)
def test_unusable_options_end_with_2(
    true_run: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["claims", true_run, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_cut_off_run_is_used_with_a_warning(false_run: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(false_run)
    path.write_bytes(path.read_bytes()[:-20])
    assert main(["claims", false_run, "--claim", "best_setting"]) == 0
    printed = capsys.readouterr()
    assert "contradicted" in printed.out and "cut off and was dropped" in printed.err


def test_the_readme_takes_a_block_of_several_runs() -> None:
    files = "reports/published/seed_study_l4.csv reports/published/compile.jsonl"
    text = renewed(f"before\n<!-- {files} claims -->\nold\n<!-- end -->\nafter")
    lines = text.splitlines()
    assert (lines[0], lines[1], lines[-2:]) == ("before", f"<!-- {files} claims -->", ["<!-- end -->", "after"])
    assert lines[2].count(" | ") == 2 and "old" not in lines
    assert sum(line.startswith("| ") for line in lines) == 1 + len(BUILT_IN)
    assert renewed(text) == text
    with pytest.raises(RunFileError, match=r"compile\.jsonl: a block speed is of one run"):
        renewed(f"<!-- {files} speed -->\nold\n<!-- end -->")
