"""One name, one quantity, one formula: table, comparison, gate and claims give the same figure, from the samples."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable

import pytest
from planted_runs import assisted, case, plain

from reports.claims.material import compare, material_of
from reports.compare.changes import chosen_metrics, compare_runs
from reports.gate.evidence import level, quantile_change, series, share_of
from reports.numbers.metrics import METRICS, derive
from reports.numbers.reading import read_measured
from reports.record.columns import open_journal
from reports.record.run import CaseResult, Run, Sample

Plant = Callable[..., Run]
TTFT = (0.1, 0.1, 0.7)


def first_tokens_at(times: tuple[float | None, ...]) -> list[Sample]:
    return [dataclasses.replace(plain(i, 1.0 + i / 10), ttft_seconds=time) for i, time in enumerate(times)]


def shown(metric: str, one: CaseResult, planted: Plant) -> dict[str, float]:
    """The metric of a case by each reader that has it."""
    run = planted(one, name="one.jsonl")
    other = planted(one, name="other.jsonl")
    found = {
        "stored": derive(one.samples, speculative=False)[metric],
        "read": read_measured(run.path).cases[0].metrics[metric],
    }
    found["gate"] = math.exp(level(series([one], metric), share_of(metric)))
    with open_journal(run.path) as first, open_journal(other.path) as second:
        [change] = compare_runs(first, second, chosen_metrics([metric])).cases[0].changes
    return found | {"compare": change.base}


@pytest.mark.parametrize(("metric", "wanted"), [("ttft_seconds", 0.1), ("ttft_mean_seconds", 0.3)])
def test_a_median_and_a_mean_have_a_name_each(metric: str, wanted: float, planted: Plant) -> None:
    found = shown(metric, case("p/a", first_tokens_at(TTFT)), planted)
    assert found == {reader: pytest.approx(wanted) for reader in ("stored", "read", "gate", "compare")}


def test_a_prompt_without_its_first_token_s_time_counts_nowhere(planted: Plant) -> None:
    samples = [plain(0, 1.0), dataclasses.replace(plain(1, 2.0), ttft_seconds=None)]
    found = shown("decode_latency_tok", case("p/a", samples), planted)
    assert found == {reader: pytest.approx(0.9 / 9) for reader in found}


@pytest.mark.parametrize(
    ("metric", "times", "wanted"),
    [
        ("decode_latency_tok", (0.1, None, 0.1) * 8, 2.0),
        ("ttft_seconds", TTFT * 8, 2.0),
        ("ttft_mean_seconds", TTFT * 8, 2.0),
    ],
)
def test_a_claim_compares_what_the_table_shows(
    metric: str, times: tuple[float | None, ...], wanted: float, planted: Plant
) -> None:
    slow = [
        dataclasses.replace(s, seconds=2 * s.seconds, ttft_seconds=s.ttft_seconds and 2 * s.ttft_seconds)
        for s in first_tokens_at(times)
    ]
    base = case("p/a", first_tokens_at(times))
    head = case("p/b", slow, point={"strategy": "prompt_lookup"})
    material = material_of(planted(base, head))
    found = compare(material, "slower", metric, material.cases[1], material.cases[0])
    assert found is not None and found.estimate == pytest.approx(wanted)


def test_the_gate_s_error_of_a_median_covers_what_other_prompts_would_have_shown() -> None:
    base = {i: (1.0 + (i % 7) / 10, 1.0) for i in range(40)}
    head = {i: (2 * value * (1 + (i % 3 - 1) / 50), 1.0) for i, (value, _) in base.items()}
    change = quantile_change(base, head, 0.5)
    assert change.log == pytest.approx(math.log(2), abs=0.05)
    assert 0 < change.error < 0.2
    assert quantile_change({0: (1.0, 1.0)}, {0: (2.0, 1.0)}, 0.5).error == math.inf
    with pytest.raises(ValueError, match="no prompt in common"):
        quantile_change({0: (1.0, 1.0)}, {1: (2.0, 1.0)}, 0.5)


def test_stored_metrics_serve_only_where_there_are_no_samples(planted: Plant) -> None:
    wrong = {"assisted_latency_tok": 9.0, "utilization_mean_percent": 50.0}
    point = {"strategy": "assisted"}
    run = planted(
        case("p/a", [assisted(0, 0.5)], point=point, metrics=wrong),
        case("p/bare", [], point=point, metrics={"assisted_latency_tok": 0.25}),
    )
    read = read_measured(run.path)
    assert read.cases[0].metrics["assisted_latency_tok"] == pytest.approx(0.05)
    assert read.cases[0].metrics["utilization_mean_percent"] == 50.0, "samples do not hold it"
    assert read.cases[1].metrics == {"assisted_latency_tok": 0.25}
    [warning] = read.warnings
    assert "no samples of p/bare: figures as stored" in warning


def test_every_metric_that_samples_hold_has_a_formula() -> None:
    derived = {*derive([plain(0, 1.0)], speculative=False), *derive([assisted(0, 1.0)], speculative=True)}
    assert derived == {name for name, metric in METRICS.items() if metric.formula is not None}
    assert json.dumps(derive([assisted(0, 1.0)], speculative=True)["accepted"]) == "6", "a count stays a whole number"
