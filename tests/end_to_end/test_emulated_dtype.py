"""A run on a processor without bf16, by the limit that oneDNN is told: what `auto` takes, and what is told of bf16."""

from __future__ import annotations

from pathlib import Path

from reports.run import read_run
from tests.conftest import Run


def test_auto_is_native_and_an_emulated_dtype_is_told_loudly(tiny_study: Path, run_bench: Run, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    done = run_bench(
        "--study", tiny_study, "--dtype", "auto,bf16", "--strategy", "plain", "--results", path,
        ONEDNN_MAX_CPU_ISA="AVX2",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    run = read_run(path)
    assert run.header["dtype_auto"]["dtype"] == "fp32"
    reason = run.header["dtype_auto"]["reason"]
    assert done.stdout.count(f"dtype auto is fp32: {reason}") == 1
    assert done.stdout.count("WARNING: bf16: ") == 1
    notes = {case.engine["dtype"]: case.notes for case in run.cases}
    assert set(notes) == {"fp32", "bf16"}
    assert [note for note in notes["bf16"] if "is emulated" in note and "--dtype auto" in note]
    assert not [note for note in notes["fp32"] if "emulated" in note]
