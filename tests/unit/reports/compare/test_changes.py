"""What changed between runs and between settings: every figure against another way of computing it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted_runs import ENGINE, WORKLOAD, assisted, case, plain
from scipy import stats

from reports.compare.changes import (
    Change,
    Comparison,
    Outputs,
    chosen_metrics,
    compare_runs,
    compare_settings,
    direction_of,
)
from reports.numbers.metrics import METRICS, derive
from reports.numbers.statistics import Interval
from reports.record.columns import open_journal
from reports.record.run import CaseResult, Completion, Run, RunFileError, Sample
from reports.record.writer import RunWriter
from reports.views.changes_text import markdown
from reports.views.tables import notes

Plant = Callable[..., Run]
PUBLISHED = Path(__file__).parents[4] / "reports" / "published"
PLAIN = {"strategy": "plain", "do_sample": False, "cache": "dynamic"}
ASSISTED = {"strategy": "assisted", "assist_toks": 3, "do_sample": False, "cache": "dynamic"}


def compared(base: Path, head: Path, metrics: Sequence[str] | None = None) -> Comparison:
    with open_journal(base) as one, open_journal(head) as other:
        return compare_runs(one, other, chosen_metrics(metrics))


def by(run: Path, key: str, metrics: Sequence[str] | None = None) -> Comparison:
    with open_journal(run) as journal:
        return compare_settings(journal, key, chosen_metrics(metrics))


@pytest.fixture
def two(planted: Plant) -> Callable[..., Comparison]:
    """`two(base case, head case, metrics=None)`: two runs of one case each, compared."""

    def plant(one: CaseResult, other: CaseResult, metrics: Sequence[str] | None = None) -> Comparison:
        return compared(planted(one, name="base.jsonl").path, planted(other, name="head.jsonl").path, metrics)

    return plant


def change(found: Comparison, name: str) -> Change:
    return next(each for each in found.cases[0].changes if each.metric.name == name)


def random_pair(count: int) -> tuple[list[Sample], list[Sample]]:
    """Assisted samples of differing counts and correlated times on both sides."""
    random = np.random.default_rng(11)
    sides = []
    common = random.lognormal(0, 0.4, count)
    for speed in (1.0, 0.8):
        samples = []
        for prompt in range(count):
            seconds = float(common[prompt] * speed * random.lognormal(0, 0.1))
            accepted, rejected = int(random.integers(1, 9)), int(random.integers(1, 5))
            made = dataclasses.replace(
                assisted(prompt, seconds),
                new_tokens=int(random.integers(8, 16)),
                target_forwards=int(random.integers(4, 9)),
                ttft_seconds=seconds * float(random.uniform(0.1, 0.3)),
                accepted=accepted,
                rejected=rejected,
                drafted=accepted + rejected,
                rollbacks=int(random.integers(1, rejected + 1)),
                draft_seconds=seconds * float(random.uniform(0.2, 0.4)),
            )
            samples.append(made)
        sides.append(samples)
    return sides[0], sides[1]


BY_HAND: dict[str, Callable[[Sequence[Sample]], float]] = {
    "assisted_latency_tok": lambda s: sum(x.seconds for x in s) / sum(x.new_tokens for x in s),
    "assisted_thr": lambda s: sum(x.new_tokens for x in s) / sum(x.seconds for x in s),
    "decode_latency_tok": lambda s: (
        sum(x.seconds - (x.ttft_seconds or 0) for x in s) / sum(x.new_tokens - x.first_tokens for x in s)
    ),
    "draft_share": lambda s: sum(x.draft_seconds for x in s) / sum(x.seconds for x in s),
    "ttft_seconds": lambda s: float(np.median([x.ttft_seconds for x in s])),
    "latency_tok_p50": lambda s: float(np.median([x.seconds / x.new_tokens for x in s])),
    "latency_tok_p90": lambda s: float(np.percentile([x.seconds / x.new_tokens for x in s], 90)),
    "accept_rate": lambda s: sum(x.accepted for x in s) / sum(x.accepted + x.rejected for x in s),
    "alpha": lambda s: sum(x.accepted for x in s) / sum(x.accepted + x.rollbacks for x in s),
    "tokens_per_step": lambda s: sum(x.new_tokens for x in s) / sum(x.target_forwards for x in s),
    "total_rollbacks": lambda s: sum(x.rollbacks for x in s),
    "new_tokens": lambda s: sum(x.new_tokens for x in s),
    "rejected": lambda s: sum(x.rejected for x in s),
}


def test_every_value_is_what_the_raw_samples_give(two: Callable[..., Comparison]) -> None:
    first, second = random_pair(40)
    found = two(case("p/a", first, point=ASSISTED), case("p/a", second, point=ASSISTED), list(BY_HAND))
    assert [each.metric.name for each in found.cases[0].changes] == list(BY_HAND)
    for each in found.cases[0].changes:
        base, head = BY_HAND[each.metric.name](first), BY_HAND[each.metric.name](second)
        assert (each.base, each.head) == pytest.approx((base, head), rel=1e-12)
        assert each.ratio == pytest.approx(head / base, rel=1e-12)
        assert (each.interval is None) == (METRICS[each.metric.name].exact)


@pytest.mark.parametrize("name", [name for name in BY_HAND if not METRICS[name].exact and name != "latency_tok_p90"])
@pytest.mark.parametrize("count", [12, 150])
def test_every_interval_is_scipys_bootstrap_of_the_raw_samples(
    two: Callable[..., Comparison], name: str, count: int
) -> None:
    """Log ratio +- t * bootstrap standard error * sqrt(n / (n - 1)), the error by SciPy's paired bootstrap."""
    first, second = random_pair(count)
    interval = change(
        two(case("p/a", first, point=ASSISTED), case("p/a", second, point=ASSISTED), [name]), name
    ).interval
    assert interval is not None

    def log_ratio(places: np.ndarray) -> float:
        base, head = [first[i] for i in places], [second[i] for i in places]
        return math.log(BY_HAND[name](head) / BY_HAND[name](base))

    drawn = stats.bootstrap(
        (np.arange(count),), log_ratio, n_resamples=800, vectorized=False, method="percentile", rng=5
    )
    reach = stats.t.ppf(0.975, count - 1) * drawn.standard_error * math.sqrt(count / (count - 1))
    centre = log_ratio(np.arange(count))
    assert math.log(interval.estimate) == pytest.approx(centre, abs=1e-12)
    assert math.log(interval.high) - centre == pytest.approx(reach, rel=0.12)
    assert centre - math.log(interval.low) == pytest.approx(reach, rel=0.12)


def test_an_extreme_quantile_of_few_prompts_has_no_interval(two: Callable[..., Comparison]) -> None:
    samples = [plain(i, 1.0 + i / 10) for i in range(30)]
    found = two(case("p/a", samples), case("p/a", samples), ["latency_tok_p50", "latency_tok_p90", "latency_tok_p99"])
    assert [each.interval is None for each in found.cases[0].changes] == [False, True, True]


@pytest.mark.parametrize(
    ("name", "base", "head", "interval", "expected"),
    [
        ("latency_tok", 1.0, 0.8, Interval(0.8, 0.7, 0.9), "better"),
        ("latency_tok", 1.0, 1.2, Interval(1.2, 1.1, 1.3), "worse"),
        ("latency_tok", 1.0, 1.2, Interval(1.2, 0.9, 1.6), "none shown"),
        ("thr", 1.0, 1.2, Interval(1.2, 1.1, 1.3), "better"),
        ("thr", 1.0, 0.8, Interval(0.8, 0.7, 0.9), "worse"),
        ("thr", 1.0, 0.8, None, "none shown"),
        ("utilization_mean_percent", 1.0, 0.8, None, "none shown"),
        ("accept_rate", 0.5, 0.5, None, "same"),
        ("accept_rate", 0.5, 0.6, None, "better"),
        ("total_rollbacks", 5, 6, None, "worse"),
        ("new_tokens", 5, 6, None, "changed"),
    ],
)
def test_direction(name: str, base: float, head: float, interval: Interval | None, expected: str) -> None:
    assert direction_of(METRICS[name], base, head, interval) == expected


def test_a_base_of_zero_has_no_ratio(two: Callable[..., Comparison]) -> None:
    none, some = dataclasses.replace(assisted(0, 1.0), rollbacks=0), assisted(0, 1.0)
    found = two(case("p/a", [none], point=ASSISTED), case("p/a", [some], point=ASSISTED), ["total_rollbacks"])
    assert (found.cases[0].changes[0].ratio, found.cases[0].changes[0].direction) == (None, "worse")


def test_only_prompts_that_both_sides_have_count(two: Callable[..., Comparison]) -> None:
    found = two(
        case("p/a", [plain(0, 1.0), plain(1, 2.0), plain(2, 9.0)]),
        case("p/a", [plain(3, 50.0), plain(1, 1.0), plain(0, 0.5)]),
    )
    latency = change(found, "latency_tok")
    assert (latency.base, latency.head, latency.ratio) == pytest.approx((3.0 / 20, 1.5 / 20, 0.5))
    assert (found.cases[0].prompts, found.cases[0].of_prompts) == (2, 4)


def with_output(prompt: int, *tokens: int) -> Sample:
    return dataclasses.replace(plain(prompt, 1.0), output_sha256=str(tokens), output_tokens=tokens)


def test_the_first_prompt_and_token_that_differ_are_named(two: Callable[..., Comparison]) -> None:
    base = [with_output(0, 1, 2, 3), with_output(1, 1, 2, 3), with_output(2, 1, 2, 3), with_output(3, 7)]
    head = [with_output(0, 1, 2, 3), with_output(1, 1, 2, 4), with_output(2, 9, 9, 9), with_output(3, 7, 8)]
    assert two(case("p/a", base), case("p/a", head)).cases[0].outputs == Outputs(4, 3, 1, 2)
    assert two(case("p/a", base[3:]), case("p/a", head[3:])).cases[0].outputs == Outputs(1, 1, 3, 1)
    assert two(case("p/a", base), case("p/a", base)).cases[0].outputs == Outputs(4, 0)
    unkept = [dataclasses.replace(each, output_tokens=()) for each in head]
    assert two(case("p/a", base), case("p/a", unkept)).cases[0].outputs == Outputs(4, 3, 1, None)


def test_sampled_outputs_are_not_held_against_each_other(two: Callable[..., Comparison]) -> None:
    point = {**PLAIN, "do_sample": True}
    found = two(case("p/a", [with_output(0, 1)], point=point), case("p/a", [with_output(0, 2)], point=point))
    assert found.cases[0].outputs is None


def test_figures_of_a_whole_case_have_a_ratio_and_no_interval(two: Callable[..., Comparison]) -> None:
    def one(perplexity: float, weights: int, utilization: float) -> CaseResult:
        facts = {"perplexity": perplexity, "weight_bytes": {"target": weights, "draft": 7}}
        return case("p/a", [plain(0, 1.0)], facts=facts, metrics={"utilization_mean_percent": utilization})

    names = ["perplexity", "target_weight_bytes", "draft_weight_bytes", "utilization_mean_percent", "power_mean_watts"]
    changes = two(one(10.0, 400, 80.0), one(12.0, 100, 40.0), names).cases[0].changes
    assert [(each.metric.name, each.ratio, each.interval, each.direction) for each in changes] == [
        ("perplexity", 1.2, None, "none shown"),
        ("target_weight_bytes", 0.25, None, "better"),
        ("draft_weight_bytes", 1.0, None, "same"),
        ("utilization_mean_percent", 0.5, None, "none shown"),
    ]


def test_new_gone_failed_and_renamed_cases(planted: Plant) -> None:
    def at(name: str, toks: int, **changes: Any) -> CaseResult:
        return case(name, [assisted(0, 1.0)], point={**ASSISTED, "assist_toks": toks}, **changes)

    base = planted(at("p/1", 1), at("p/2", 2), at("p/3", 3), at("p/4", 4), at("p/5", 5), name="base.jsonl")
    head = planted(
        at("p/6", 6),
        case("p/4", [], point={**ASSISTED, "assist_toks": 4}, status="oom", reason="no memory left"),
        at("p/three", 3),
        at("p/1", 1),
        at("p/5", 5),
        name="head.jsonl",
    )
    found = compared(base.path, head.path)
    assert [(each.base, each.head) for each in found.cases] == [("p/1", "p/1"), ("p/5", "p/5"), ("p/3", "p/three")]
    assert (found.new, found.gone, found.renamed) == (("p/6",), ("p/2",), (("p/3", "p/three"),))
    (one,) = found.unmeasured
    assert (one.id, one.side, one.status, one.reason) == ("p/4", "head", "oom", "no memory left")


def test_solved_problems_are_paired(planted: Plant, tmp_path: Path) -> None:
    paths = []
    for name, passed in (("base", "110100"), ("head", "111110")):
        path = tmp_path / f"{name}.jsonl"
        writer = RunWriter(path)
        writer.run({"study": {"name": "s"}, "environment": {}})
        for task, verdict in enumerate(passed):
            one = Completion("p/h", f"HumanEval/{task}", 0, "pass", 5, 1.0)
            writer.completion(one)
            writer.verdict(dataclasses.replace(one, status="passed" if verdict == "1" else "failed"))
        score = {"pass_at_1": passed.count("1") / 6}
        rows = {"base": 32, "head": 64}[name]
        writer.case(case("p/h", [], kind="humaneval", metrics=score, facts={"batch_rows": rows}))
        writer.close()
        paths.append(path)
    found = compared(*paths)
    assert "(p 0.5) (32 and 64 rows at a time)" in markdown([found]), "other batches may be why completions differ"
    assert "rows at a time" not in markdown([compared(paths[0], paths[0])])
    solved = found.cases[0].solved
    assert solved is not None and (solved.problems, solved.only_base, solved.only_head) == (6, 0, 2)
    assert solved.difference.estimate == pytest.approx(2 / 6)
    assert solved.p_value == pytest.approx(stats.binomtest(0, 2, 0.5).pvalue)
    score = change(found, "pass_at_1")
    assert (score.base, score.head, score.direction) == (0.5, pytest.approx(5 / 6), "none shown")


def test_settings_of_one_run_are_compared_with_the_one_most_like_a_baseline() -> None:
    found = by(PUBLISHED / "embedded.jsonl", "target_quant")
    assert {each.values for each in found.cases} == {("none", "8bit"), ("none", "4bit")}
    assert all(each.base.replace("t=none", f"t={each.values[1]}") == each.head for each in found.cases if each.values)
    decoded = [each for each in found.cases if "/humaneval" not in each.head]
    assert len(decoded) == 8 and all(each.prompts == each.of_prompts == 20 for each in decoded)
    assert len(found.cases) - len(decoded) == 2, "HumanEval in 8bit and in 4bit"


@pytest.mark.parametrize(
    ("key", "values", "base"),
    [
        ("target_quant", ["8bit", "none", "4bit"], "none"),
        ("cache", ["none", "static", "dynamic"], "dynamic"),
        ("dtype", ["fp32", "bf16"], "bf16"),
        ("compile", [True, False], False),
        ("gen_toks", [24, 6, 12], 6),
        ("assist_toks", [10, 3, 5], 3),
        ("confidence_threshold", [0.4, 0.0, 0.2], 0.0),
    ],
)
def test_the_base_of_each_setting(planted: Plant, key: str, values: list[Any], base: Any) -> None:
    def at(value: Any) -> CaseResult:
        parts = {"engine": dict(ENGINE), "point": dict(ASSISTED), "workload": dict(WORKLOAD)}
        holder = next((part for part in parts.values() if key in part), parts["point"])
        holder[key] = value
        return case(f"p/{value}", [assisted(0, 1.0)], **parts)

    found = by(planted(*map(at, values)).path, key)
    assert {each.base for each in found.cases} == {f"p/{base}"}
    assert {each.head for each in found.cases} == {f"p/{value}" for value in values if value != base}


def test_strategies_and_sampling_are_compared_in_spite_of_settings_of_their_own(planted: Plant) -> None:
    drawn = {**PLAIN, "do_sample": True, "temperature": 1.0, "top_p": 1.0}
    run = planted(
        case("p/assisted", [assisted(0, 0.5), assisted(1, 0.6)], point=ASSISTED),
        case("p/plain", [plain(0, 1.0), plain(1, 1.0)], point=PLAIN),
        case("p/drawn", [plain(0, 2.0), plain(1, 2.0)], point=drawn),
    )
    (strategies,) = by(run.path, "strategy").cases
    assert (strategies.base, strategies.head, strategies.values) == ("p/plain", "p/assisted", ("plain", "assisted"))
    latency = strategies.changes[0]
    assert (latency.metric.name, latency.ratio) == ("latency_tok", pytest.approx(1.1 / 2))
    assert "accept_rate" not in {each.metric.name for each in strategies.changes}
    (sampling,) = by(run.path, "do_sample").cases
    assert (sampling.base, sampling.head) == ("p/plain", "p/drawn")


def test_a_setting_that_failed_is_told(planted: Plant) -> None:
    run = planted(
        case("p/none", [plain(0, 1.0)]),
        case("p/4bit", [], engine={**ENGINE, "target_quant": "4bit"}, status="skipped", reason="no kernel"),
    )
    found = by(run.path, "target_quant")
    assert not found.cases
    assert [(each.id, each.side, each.reason) for each in found.unmeasured] == [("p/4bit", "head", "no kernel")]


def test_unstable_baselines_are_told(planted: Plant) -> None:
    def measured(latency: float, **changes: Any) -> CaseResult:
        return case("p/a", [plain(0, latency * 10)], metrics={"latency_tok": latency}, **changes)

    steady = planted(measured(0.1), measured(0.104, again=True), name="base.jsonl")
    shaky = planted(measured(0.1), measured(0.12, again=True), name="head.jsonl")
    assert [each.ratio for each in compared(steady.path, shaky.path).unstable] == [pytest.approx(1.2)]


def test_a_slow_drift_is_as_stable_here_as_where_the_run_is_shown(planted: Plant) -> None:
    def measured(latency: float, **changes: Any) -> CaseResult:
        return case("p/a", [plain(0, latency * 10)], metrics={"latency_tok": latency}, **changes)

    creeping = (measured(0.1), measured(0.104, again=True), measured(0.108, again=True))
    run = planted(*creeping, name="base.jsonl")
    assert compared(run.path, run.path).unstable == () and not any("UNSTABLE" in note for note in notes(run))
    jumping = planted(*creeping, measured(0.12, again=True), measured(0.14, again=True), name="head.jsonl")
    (found,) = compared(run.path, jumping.path).unstable
    assert found.ratio == pytest.approx(0.14 / 0.12), "one entry: the largest of 1.04, 1.038, 1.111 and 1.167"


def test_the_published_table_against_a_run_is_matched_by_settings(planted: Plant) -> None:
    engine = {"pair": "llama3-8b-1b", "target_quant": "none", "draft_quant": "none", "dtype": "bf16", "compile": False}
    point = {**ASSISTED, "confidence_threshold": 0.2, "assist_schedule": "constant"}
    workload = {"prompts": "wikitext", "num_samples": 500, "max_prompt": 128, "gen_toks": 128, "prompts_sha256": "a"}
    run = planted(
        case(
            "llama3-8b-1b/any",
            [assisted(0, 0.5)],
            engine=engine,
            point=point,
            workload={**workload, "seed": 0},
            metrics=derive([assisted(0, 0.5)], speculative=True),
        ),
        environment={"hardware": {"gpu": "NVIDIA L4"}},
    )
    found = compared(PUBLISHED / "seed_study_l4.csv", run.path)
    (one,) = found.cases
    assert one.base == "llama3-8b-1b/t=none,d=none,bf16/assisted,k=3,p=0.2,greedy,dynamic"
    latency = one.changes[0]
    assert (latency.base, latency.head) == (pytest.approx(0.04815, abs=1e-5), pytest.approx(0.05))
    assert all(each.interval is None for each in one.changes)
    assert found.same_hardware is None
    other = planted(
        case("x", [assisted(0, 0.5)], engine=engine, point=point, workload={**workload, "gen_toks": 64}), name="o.jsonl"
    )
    with pytest.raises(RunFileError, match="gen_toks 128 != 64"):
        compared(PUBLISHED / "seed_study_l4.csv", other.path)


def test_settings_of_one_run_carry_what_its_machine_changed_by_as_every_view_of_it(planted: Plant) -> None:
    """The machine needs 1.1 times as long when plain decoding is measured again: 1.25 is then not told from noise."""
    base = [plain(prompt, 1.0 + prompt / 10) for prompt in range(8)]
    slower = [plain(prompt, 1.1 * (1.0 + prompt / 10)) for prompt in range(8)]
    fast = [assisted(prompt, 0.8 * (1.0 + prompt / 10)) for prompt in range(8)]
    cases = case("base", base, metrics=derive(base, speculative=False)), case("fast", fast, point=ASSISTED)
    again = case("base", slower, again=True, metrics=derive(slower, speculative=False))
    once = by(planted(*cases, name="once.jsonl").path, "strategy", ["latency_tok", "new_tokens"])
    run = planted(*cases, again, name="twice.jsonl")
    twice = by(run.path, "strategy", ["latency_tok", "new_tokens"])
    assert change(once, "latency_tok").direction == "better"
    assert change(once, "latency_tok").interval.high == pytest.approx(0.8)
    assert change(twice, "latency_tok").ratio == pytest.approx(0.8)
    assert change(twice, "latency_tok").interval.high > 0.9
    assert change(twice, "new_tokens") == change(once, "new_tokens")
