"""What only a GPU can show: the true-size synthetic pairs, quantized and compiled, with live NVML telemetry.

`pytest tests -m gpu` on a machine with a CUDA device of at least 24 GB; it takes some minutes and no downloads.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.run import read_run

pytestmark = pytest.mark.gpu

NEEDED_BYTES = 24e9


@pytest.fixture
def big_gpu() -> None:
    """Skip unless there is a CUDA device that holds an 8B and a 3B model in bf16."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device with 24 GB of memory; this machine has none")
    memory = torch.cuda.get_device_properties(0).total_memory
    if memory < NEEDED_BYTES:
        pytest.skip(f"needs a CUDA device with 24 GB of memory; this one has {memory / 1e9:.0f} GB")


def test_true_size_synthetic_pairs(big_gpu, run_bench, tmp_path: Path) -> None:
    results = tmp_path / "synthetic.jsonl"
    done = run_bench("--study", "synthetic", "--num-samples", "3", "--gen-toks", "32", "--results", str(results))
    assert done.returncode == 0, done.stdout + done.stderr
    run = read_run(results)
    assert run.complete
    assert {case.status for case in run.finished.values()} == {"ok"}
    plain = run.finished["synthetic-llama3-8b-1b/t=none,bf16/plain,greedy,dynamic"]
    values = plain.telemetry["nvml"]["values"]
    assert values["utilization_mean_percent"] > 0
    assert values["memory_max_bytes"] > 16e9, "an 8B model in bf16 is on the device"
    assert plain.facts["memory_allocated_bytes"] > 16e9
    quantized = run.finished["synthetic-llama3-8b-1b/t=4bit,bf16/plain,greedy,dynamic"]
    assert quantized.facts["weight_bytes"]["target"] < plain.facts["weight_bytes"]["target"] / 2


def test_compiled_plain_decoding_at_true_size(big_gpu, run_bench, tmp_path: Path) -> None:
    study = tmp_path / "compiled.toml"
    study.write_text(
        'pair = "synthetic-llama3-8b-1b"\nwarmup = 2\n'
        '[workload]\nprompts = "synthetic"\nnum_samples = 2\ngen_toks = 32\n'
        '[[sweep]]\nexperiment = "compile"\ncompile = true\ncache = "static"\n'
    )
    results = tmp_path / "compiled.jsonl"
    done = run_bench("--study", str(study), "--results", str(results))
    assert done.returncode == 0, done.stdout + done.stderr
    compiled = next(case for case in read_run(results).finished.values() if case.engine.compile)
    assert compiled.facts["compiled_graphs"] > 0
    assert compiled.facts["recompiles"] == 0
