"""The items of a run: in the study's order when they are collected, in that of their blocks when they run."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

STUDY = """
name = "ordered"
pair = "synthetic-tiny"
[workload]
prompts = "synthetic"
num_samples = 2
max_prompt = 8
gen_toks = 8
[[sweep]]
experiment = "speculative_decoding"
strategy = "assisted"
assist_toks = [1, 2, 3, 4, 5]
[[sweep]]
experiment = "kv_cache"
cache = "static"
"""


def test_every_case_is_one_item_and_a_selection_has_its_baselines(
    tmp_path: Path, run_bench: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    study = tmp_path / "ordered.toml"
    study.write_text(STUDY)

    def listed(*options: str) -> list[str]:
        done = run_bench("--study", study, "--collect-only", "-q", *options)
        names = [line.partition("[")[2][:-1] for line in done.stdout.splitlines() if "::test_" in line]
        return [name.partition("/")[2].partition("/")[2] or name for name in names]

    plain, drafted = "plain,greedy,dynamic", "assisted,k={},p=0.4,greedy,dynamic"
    assert listed() == [plain, "plain,greedy,static", *(drafted.format(k) for k in (1, 2, 3, 4, 5))]
    assert listed("-m", "kv_cache") == [plain, "plain,greedy,static"]
    assert listed("--shard", "1/2") == [plain, *(drafted.format(k) for k in (1, 2, 3, 4, 5))]
