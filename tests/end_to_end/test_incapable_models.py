"""What a model cannot do, as a user meets it: skipped or refused with the reason, before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from reports.record.reader import read_run
from reports.record.run import Run
from tools.tiny_families import FAMILIES

STUDY = """\
name = "families"
description = "What a family can and cannot do"
pair = "synthetic-tiny"
warmup = 0
drift_limit = 1000.0

[workload]
prompts = "embedded"
num_samples = 2
max_prompt = 24
gen_toks = 8

[defaults]
dtype = "fp32"

[[sweep]]
experiment = "baseline"

[[sweep]]
experiment = "kv_cache"
cache = ["none", "static"]

[[sweep]]
experiment = "speculative_decoding"
strategy = ["assisted", "prompt_lookup"]
assist_toks = 3

[[sweep]]
experiment = "speculative_decoding"
strategy = "early_exit"
exit_layer = 2
assist_toks = 3
"""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, run_bench: Callable[..., Any]) -> Callable[[str], Any]:
    """`measured(family)`: the run of the study with that family as target and draft, and its output."""
    folder = tmp_path_factory.mktemp("families")
    (folder / "study.toml").write_text(STUDY, encoding="utf-8")

    def measure(family: str) -> Any:
        model = FAMILIES[family].save(folder)
        results = folder / f"{family}.jsonl"
        return results, run_bench(
            "--study", folder / "study.toml", "--model", model, "--aux-model", model, "--results", results,
            HF_HUB_OFFLINE="1",
        )  # fmt: skip

    return measure


def by_point(run: Run) -> dict[str, Any]:
    return {f"{case.point.strategy} {case.point.cache}": case for case in run.finished.values()}


def test_a_model_with_a_state_decodes_plainly_and_nothing_else(measured: Callable[[str], Any]) -> None:
    results, ended = measured("mamba")
    assert ended.returncode == 0, ended.stdout
    cases = by_point(read_run(results))
    assert {name for name, case in cases.items() if case.status == "ok"} == {"plain dynamic", "plain none"}
    for name, case in cases.items():
        if case.status != "ok":
            assert case.status == "skipped" and ("rolled back" in case.reason or "no keys" in case.reason), name
            assert not case.samples
    assert cases["plain dynamic"].facts["cache_tokens"] == 0 < cases["plain dynamic"].facts["cache_bytes"]


def test_a_model_that_continues_no_text_is_refused_before_it_is_loaded(
    measured: Callable[[str], Any],
) -> None:
    results, ended = measured("t5")
    assert ended.returncode == 4
    [line] = [
        line for line in ended.stderr.splitlines() + ended.stdout.splitlines() if "no causal language model" in line
    ]
    assert line.startswith("ERROR: ") and "t5 holds a T5Config" in line and len(line) < 400
    assert not results.exists()
