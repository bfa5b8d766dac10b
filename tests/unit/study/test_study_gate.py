"""A study's own thresholds are checked when it is read and travel in what the run file says of the study."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.study.study import Study, StudyError
from fixtures.study.study_file import load_study
from reports.gate.thresholds import PYPROJECT, read_rules

STUDY = "pair = 'embedded'\n[[sweep]]\nexperiment = 'baseline'\n"


def read(folder: Path, text: str) -> Study:
    path = folder / "mine.toml"
    path.write_text(STUDY + text, encoding="utf-8")
    return load_study(str(path))


def test_the_gate_reads_them_from_the_run_file(tmp_path: Path):
    study = read(tmp_path, "[gate]\nthresholds = { latency_tok = 0.08 }\n")
    assert read_rules(PYPROJECT, study.describe()).threshold("latency_tok", "any") == 0.08


def test_a_study_without_them_is_described_as_before(tmp_path: Path):
    assert "gate" not in read(tmp_path, "").describe()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[gate]\nthresholds = { drafted = 0.1 }\n", "mine.toml: [gate] thresholds 'drafted'"),
        ("[gate]\nlimit = 1\n", "mine.toml: [gate] unknown key 'limit'"),
    ],
)
def test_a_mistake_ends_the_run_before_it_begins(tmp_path: Path, text: str, said: str):
    with pytest.raises(StudyError) as caught:
        read(tmp_path, text)
    assert said in str(caught.value)
