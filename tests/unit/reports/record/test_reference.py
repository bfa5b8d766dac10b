"""The original study's table is read as a run of figures without samples; a bad table is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.study.pairs import PAIRS
from fixtures.study.study_file import load_study
from reports.record.published import PUBLISHED, is_reference, read_any
from reports.record.run import RunFileError

ROOT = Path(__file__).resolve().parents[4]
SEED = ROOT / "reports/published/seed_study_l4.csv"
BEST = "llama3-8b-1b/t=none,d=none,bf16/assisted,k=3,p=0.2,greedy,dynamic"


@pytest.fixture
def changed(tmp_path: Path) -> Callable[[str, str], Path]:
    """The seed's table with one text replaced everywhere."""

    def change(old: str, new: str) -> Path:
        text = SEED.read_text(encoding="utf-8")
        assert old in text
        path = tmp_path / "changed.csv"
        path.write_text(text.replace(old, new), encoding="utf-8")
        return path

    return change


def test_every_row_is_a_case_with_the_ids_that_a_run_has() -> None:
    run = read_any(SEED)
    decode = [case for case in run.cases if case.kind == "decode"]
    assert len(decode) == 19 and len(run.cases) == 22 and len(run.finished) == 22
    assert {case.engine.pair for case in decode} == {"llama3-8b-1b", "llama3-8b-3b"} <= set(PAIRS)
    llama3 = {case.id for case in load_study("llama3", {"pair": "llama3-8b-1b,llama3-8b-3b"}).cases()}
    greedy = [case.id for case in decode if not case.point.do_sample]
    assert len(greedy) == 16 and set(greedy) <= llama3
    assert not any(case.samples for case in run.cases)


def test_the_figures_are_those_of_the_table_in_the_units_of_the_metrics() -> None:
    case = read_any(SEED).finished[BEST]
    assert case.metrics == {
        "assisted_latency_tok": pytest.approx(0.048150),
        "assisted_thr": 20.769,
        "accept_rate": 0.609,
        "total_rollbacks": 2428,
        "utilization_mean_percent": 81.27,
    }
    assert case.facts == {"published_speedup": 1.351}
    assert case.engine.draft_quant == "none" and case.workload.num_samples == 500
    plain = read_any(SEED).finished["llama3-8b-1b/t=4bit,bf16/plain,greedy,dynamic"]
    assert plain.metrics["thr"] == 21.036 and plain.facts == {"perplexity": 6.242}
    solved = read_any(SEED).finished["llama3-8b-1b/t=4bit,bf16/plain,greedy,dynamic/humaneval,base"]
    assert solved.kind == "humaneval" and solved.metrics == {"pass_at_1": 0.292}


def test_it_says_that_it_was_not_measured_here() -> None:
    run = read_any(SEED)
    assert run.header["reference"] == PUBLISHED == "published elsewhere, not measured here"
    assert is_reference(run) and all(case.notes == (PUBLISHED,) for case in run.cases)
    assert run.header["environment"]["hardware"]["gpu"] == "NVIDIA L4"
    assert not is_reference(read_any(ROOT / "reports/published/compile.jsonl"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("accept_rate,speedup", "acceptance,speedup", "no column 'accept_rate'"),
        ("20.769", "fast", "line 11: throughput_tok_s is 'fast', not a number"),
        ("20.769", "nan", "line 11: throughput_tok_s is 'nan', not a number"),
        ("20.769", "", "line 11: throughput_tok_s is ''; this row needs a number above 0"),
        ("8bit,3,0.2", "2bit,3,0.2", "line 14: draft_quant is '2bit'; choose from 'none', '8bit', '4bit'"),
        ("none,5,0.2", "none,5.5,0.2", "line 12: assist_toks is 5.5"),
        ("Llama-3.1-8B,,8bit", "Llama-3.1-8B,Llama-3.2-1B,8bit", "draft is 'Llama-3.2-1B'; a speculative row names"),
        ("none,5,0.2,false", "none,3,0.2,false", f"two rows describe {BEST}"),
    ],
)
def test_a_bad_table_is_refused_in_one_line(
    changed: Callable[[str, str], Path], old: str, new: str, message: str
) -> None:
    with pytest.raises(RunFileError) as refused:
        read_any(changed(old, new))
    assert message in str(refused.value) and "changed.csv" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_empty_or_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFileError, match=r"none\.csv: no such file"):
        read_any(tmp_path / "none.csv")
    (tmp_path / "empty.csv").write_text("# nothing\n", encoding="utf-8")
    with pytest.raises(RunFileError, match=r"empty\.csv: no column 'experiment'"):
        read_any(tmp_path / "empty.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RunFileError, match=r"bytes\.csv: not UTF-8"):
        read_any(tmp_path / "bytes.csv")
