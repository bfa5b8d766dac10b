"""What a model's authors wrote beside its weights, and what its weights do in fp16, seen by a whole run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from reports.numbers.cases import is_measured
from reports.numbers.decision import decisions
from reports.record.reader import read_run
from tests.unit import checkpoints

STUDY = """\
pair = "synthetic-tiny"
warmup = 0
drift_limit = 1000.0
[workload]
prompts = "embedded"
num_samples = 2
max_prompt = 16
gen_toks = 8
[[sweep]]
experiment = "baseline"
dtype = ["fp32", "fp16"]
[[sweep]]
experiment = "speculative_decoding"
dtype = ["fp32", "fp16"]
strategy = "prompt_lookup"
assist_toks = 3
"""
AUTHORS = {"num_beams": 4, "prompt_lookup_num_tokens": 10, "max_time": 0.001, "stop_strings": ["t1"]}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "files.toml"
    path.write_text(STUDY, encoding="utf-8")
    return path


def test_a_models_own_settings_are_told_once_and_its_overflow_fails_the_engine(
    tmp_path: Path, study: Path, run_bench: Any
) -> None:
    model = checkpoints.llama()
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.mul_(1e7)  # beyond fp16, fine in fp32
    folder = checkpoints.save(tmp_path / "model", model, generation=AUTHORS | {"eos_token_id": 0})
    results = tmp_path / "run.jsonl"
    ran = run_bench("--study", study, "--model", folder, "--results", results, HF_HUB_OFFLINE="1")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert ran.stdout.count("./model: generation_config.json asks for") == 1
    cases = read_run(results).cases
    for case in cases:
        assert case.facts["generation_config_put_aside"] == {"target": AUTHORS}
        if case.engine.dtype == "fp32":
            assert case.status == "ok", case.reason
            plain = case.point.strategy == "plain"
            assert not plain or all(sample.target_forwards == sample.new_tokens == 8 for sample in case.samples)
        else:
            assert (case.status, case.reason) == (
                "failed",
                "fp16 overflows: logits are not finite; use --dtype bf16 (or fp32)",
            )
            assert not case.samples
    assert {case.engine.dtype for case in cases if is_measured(case)} == {"fp32"}
    assert {found.recommended.engine.dtype for found in decisions(read_run(results))} == {"fp32"}
    assert "PytestBenchmarkWarning" not in ran.stdout and "another exception" not in ran.stdout


def test_a_run_of_which_nothing_can_be_measured_is_refused_in_one_line(
    tmp_path: Path, study: Path, run_bench: Any
) -> None:
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=64, n_positions=20, n_embd=32, n_layer=2, n_head=4, eos_token_id=0)
    folder = checkpoints.save(tmp_path / "gpt", transformers.GPT2LMHeadModel(config))
    results = tmp_path / "run.jsonl"
    ran = run_bench("--study", study, "--model", folder, "--results", results, HF_HUB_OFFLINE="1")
    assert ran.returncode == 4
    (error,) = [line for line in (ran.stdout + ran.stderr).splitlines() if line.startswith("ERROR")]
    assert "16 + 8 > 20" in error and error.endswith("lower --max-prompt or --gen-toks")
    assert not results.exists()
