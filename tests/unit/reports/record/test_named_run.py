"""What stands for a run: a file, the newest in a folder, `last`; and what a file of another kind is told to be."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from planted_runs import case, plain

from fixtures.study.options import build_study, results_path
from fixtures.study.study import StudyError
from reports.__main__ import main
from reports.record import reader
from reports.record.reader import read_outline, read_run
from reports.record.run import Run, RunFileError

Plant = Callable[..., Run]
EXPECTED = "not a run file; expected the .jsonl that `pytest perf_tests` writes"


@pytest.fixture
def runs(planted: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """reports/runs with two runs, the older of which comes last by its name, and a newer file that is none."""
    folder = planted(case("p/older", [plain(0, 1.0)]), name="b.jsonl").path.parent
    planted(case("p/newer", [plain(0, 1.0)]), name="a.jsonl")
    (folder / "samples.jsonl").write_text('{"task_id": "HumanEval/0", "completion": ""}\n')
    (folder / "broken.jsonl").write_text("{\n")
    for name, seconds in (("b.jsonl", 1000), ("a.jsonl", 2000), ("samples.jsonl", 3000), ("broken.jsonl", 4000)):
        os.utime(folder / name, (seconds, seconds))
    monkeypatch.setattr(reader, "RUNS", folder)
    monkeypatch.chdir(tmp_path)
    return folder


def test_a_folder_and_last_stand_for_the_newest_run_in_it(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newest = runs / "a.jsonl"
    assert read_run(runs).path == read_outline(Path("last")).run.path == read_run("last").path == newest
    for command in (["show", "last"], ["show", str(runs)], ["compare", str(runs / "b.jsonl"), "last"]):
        assert main(command) == 0
        assert "p/newer" in capsys.readouterr().out
    study = build_study({"study": "smoke"})
    assert results_path({"resume": str(runs)}, study, "") == (newest, True)


def test_a_file_of_that_name_is_meant_before_the_word(runs: Path, tmp_path: Path) -> None:
    if tmp_path != runs:
        (tmp_path / "last").write_bytes((runs / "b.jsonl").read_bytes())
    else:
        (runs / "last").write_bytes((runs / "b.jsonl").read_bytes())
    assert [one.id for one in read_run("last").cases] == ["p/older"]


def test_a_folder_without_runs_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "RUNS", tmp_path / "none")
    told = rf"{tmp_path}: cannot be read: no run file \(\.jsonl\) in {tmp_path}; `make bench` writes one"
    with pytest.raises(RunFileError, match=told):
        read_run(tmp_path)
    with pytest.raises(RunFileError, match=r"^last: no such file; `make bench` writes one under reports/runs/$"):
        read_run("last")
    with pytest.raises(RunFileError, match="cannot be read: no run file"):
        results_path({"resume": str(tmp_path)}, build_study({"study": "smoke"}), "")
    with pytest.raises(StudyError, match="--resume 'last': no such file"):
        results_path({"resume": "last"}, build_study({"study": "smoke"}), "")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("results.csv.jsonl", b"case,seconds\na,1\n"),
        ("benchmark.json", b'{\n  "machine_info": {}\n}\n'),
        ("one-line.json", b'{"machine_info": {}, "benchmarks": []}\n'),
        ("samples.jsonl", b'{"task_id": "HumanEval/0", "completion": ""}\n'),
        ("list.json", b"[1, 2]\n"),
        ("page.html", b"<!DOCTYPE html>\n<html>\n"),
        ("picture.png", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"),
        ("archive.zip", b"PK\x03\x04\x14\x00"),
        ("study.toml", b'name = "x"'),
        ("cases-only.jsonl", b'{"kind":"case","id":"a","status":"ok"}\n'),
    ],
)
def test_a_file_of_another_kind_is_told_what_is_expected(
    name: str, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert main(["show", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"reports: {path}: ") and line.endswith(EXPECTED)


def test_a_damaged_run_file_is_not_taken_for_another_kind(planted: Plant) -> None:
    path = planted().path
    path.write_bytes(path.read_bytes() + b'{"kind":"cage"}\n')
    with pytest.raises(RunFileError, match=r"kind is 'cage', not run, .*; the file is damaged, measure again"):
        read_run(path)
