"""A run on a processor without bf16, by the limit that oneDNN is told: what `auto` takes, and what is told of bf16.

One of its engines asks for what only a GPU has.
"""

from __future__ import annotations

from pathlib import Path

from reports.record.reader import read_run
from tests.conftest import TINY, Run

SWEEPS = """
[[sweep]]
experiment = "kv_cache"
attention = ["eager", "flash_attention_2"]
"""


def test_auto_is_native_and_an_emulated_dtype_is_told_loudly(run_bench: Run, tmp_path: Path) -> None:
    study, path = tmp_path / "tiny.toml", tmp_path / "run.jsonl"
    study.write_text(TINY.replace("assist_toks = [1, 3]", "assist_toks = 1") + SWEEPS)
    command = ("--study", study, "--dtype", "auto,bf16", "-m", "baseline or kv_cache", "--results", path)
    done = run_bench(*command, ONEDNN_MAX_CPU_ISA="AVX2")
    assert done.returncode == 0, done.stdout + done.stderr
    run = read_run(path)
    assert run.header["dtype_auto"]["dtype"] == "fp32"
    reason = run.header["dtype_auto"]["reason"]
    assert done.stdout.count(f"dtype auto is fp32: {reason}") == 1
    assert done.stdout.count("WARNING: bf16: ") == 1
    measured = [case for case in run.cases if case.status == "ok"]
    assert {case.engine.dtype for case in measured} == {"fp32", "bf16"}
    for case in measured:
        told = [note for note in case.notes if "is emulated" in note and "--dtype auto" in note]
        assert bool(told) == (case.engine.dtype == "bf16")
        assert case.facts["attention"] == case.engine.attention
    skipped = {case.engine.dtype: case.reason for case in run.cases if case.status == "skipped"}
    assert "use --dtype bf16" in skipped["fp32"], "flash attention has no fp32"
    assert "flash_attention_2 runs on a CUDA device only, and this runs on cpu" in skipped["bf16"]
    assert {case.engine.attention for case in measured} == {"sdpa", "eager"}
    environment = run.header["environment"]
    assert environment["matmul"]["float32_matmul_precision"] == "highest"
    assert set(environment["kernel_packages"]) <= {"optimum-quanto", "triton", "hqq", "torchao", "kernels"}
