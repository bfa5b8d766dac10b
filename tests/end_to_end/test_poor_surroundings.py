"""One run as some people have it: plugins are not loaded by themselves, one that is loaded ends tests that take long,
the terminal knows ASCII only, and the model's folder is named in another script.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.engines.transformers.models import synthetic
from fixtures.engines.transformers.models.shapes import SHAPES
from reports.record.reader import read_run
from reports.record.run import Run
from tests.unit.synthetic_pairs import save

ROOT = Path(__file__).resolve().parents[2]
STUDY = """\
name = "poor"
pair = "synthetic-tiny"
warmup = 0
drift_limit = 1000.0
[workload]
num_samples = 3
max_prompt = 8
gen_toks = 8
[defaults]
dtype = "fp32"
[[sweep]]
experiment = "baseline"
[[sweep]]
experiment = "speculative_decoding"
strategy = "prompt_lookup"
assist_toks = 3
"""
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"}
"""Paths can be spelled, but nothing beside ASCII can be shown: a UTF-8 machine behind an old terminal."""

Bench = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place") / "模型"
    shape = SHAPES["tiny"]
    save(synthetic.build(shape, synthetic.cycle(shape.vocab, 0)), folder)
    return folder


@pytest.fixture(scope="module")
def done(folder: Path, tmp_path_factory: pytest.TempPathFactory, run_bench: Bench) -> subprocess.CompletedProcess[str]:
    place = tmp_path_factory.mktemp("run")
    (place / "poor.toml").write_text(STUDY)
    (place / "p.jsonl").write_text('"one two"\n"two three"\n"three four"\n')
    arguments = ("--study", place / "poor.toml", "--model", folder, "--prompts", place / "p.jsonl", "-p", "stopping")
    return run_bench(
        *(*arguments, "--results", folder.parent / "run.jsonl"),
        PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
        PYTHONPATH=str(ROOT / "tests" / "end_to_end"),
        HF_HUB_OFFLINE="1",
        **ASCII,
    )


@pytest.fixture(scope="module")
def run(done: subprocess.CompletedProcess[str], folder: Path) -> Run:
    assert done.returncode == 1, done.stdout + done.stderr
    return read_run(folder.parent / "run.jsonl")


def test_a_case_that_a_plugin_ends_is_in_the_run_file_with_what_it_measured(run: Run) -> None:
    status = {case.point.strategy: (case.status, len(case.samples)) for case in run.cases}
    assert status == {"plain": ("ok", 3), "prompt_lookup": ("timeout", 2)}
    assert run.finished[run.cases[1].id].reason == "interrupted (Failed: Timeout (>6.0s) from a plugin.)"
    assert run.complete


def test_a_model_in_another_script_has_its_name(run: Run) -> None:
    assert {case.engine.pair for case in run.cases} == {"模型"}
    assert str(run.cases[0].facts["revisions"]["target"]).startswith("folder ")


def test_the_run_file_tells_no_place(run: Run, folder: Path) -> None:
    assert str(folder.parent) not in run.path.read_text() and "/p.jsonl" not in run.path.read_text()
    assert run.header["study"]["pairs"][0]["target"] == "./模型"
    assert run.header["study"]["workload"]["prompts"] == "p.jsonl"


def test_the_summary_names_what_failed_and_shows_no_stack(done: subprocess.CompletedProcess[str], run: Run) -> None:
    named = [line for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    assert len(named) == 1 and named[0].startswith("FAILED perf_tests/test_speculative_decoding.py::")
    assert done.stdout.isascii() and "\\u6a21\\u578b" in done.stdout
    assert len(done.stdout.splitlines()) < 60
    assert "Traceback" not in done.stdout + done.stderr
