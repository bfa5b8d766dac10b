"""Advice on planted runs: the fastest under constraints, what it is separated from, and the Pareto front."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from planted_runs import ENGINE, assisted, case, plain

from reports.__main__ import main
from reports.advice.candidates import Constraints, advise, candidates, pareto_front
from reports.commands.advise import parse_bytes
from reports.record.run import CaseResult, Run, RunFileError
from reports.views.advice_text import as_json, markdown

MIB = 2**20
POINT = {"strategy": "plain", "do_sample": False, "cache": "dynamic"}


def one(name: str, seconds: list[float], *, weights: int = 100, draft: int = 0, **changes: Any) -> CaseResult:
    """Plain decoding of 10 tokens per prompt in so many seconds; weights in MiB."""
    facts = {"weight_bytes": {"target": weights * MIB, "draft": draft * MIB}} | changes.pop("facts", {})
    return case(name, [plain(i, value) for i, value in enumerate(seconds)], facts=facts, **changes)


def scored(share: float, quant: str = "none") -> CaseResult:
    engine = ENGINE | {"target_quant": quant}
    return case(f"p/{quant}/humaneval", [], kind="humaneval", engine=engine, metrics={"pass_at_1": share})


@pytest.fixture
def run(planted: Callable[..., Run]) -> Run:
    """Plain at 10 tokens/s (100 MiB), 4-bit at 20 (30 MiB), and assisted at 16 with its draft of 50 MiB."""
    return planted(
        one("p/plain", [1.0, 1.0], facts={"perplexity": 10.0}),
        one("p/4bit", [0.5, 0.5], weights=30, engine=ENGINE | {"target_quant": "4bit"}, facts={"perplexity": 12.0}),
        dataclasses.replace(
            one("p/assisted", [1.0], draft=50, point=POINT | {"strategy": "assisted"}),
            samples=(assisted(0, 0.625), assisted(1, 0.625)),
        ),
        one("p/sampled", [0.1, 0.1], point=POINT | {"do_sample": True}),
        one("p/wrong", [0.1, 0.1], facts={"losslessness": {"verdict": "wrong"}}),
        one("p/short", [0.1, 0.1], workload={"prompts_sha256": "abc", "gen_toks": 5}),
        scored(0.5),
        scored(0.3, "4bit"),
    )


def best(run: Run, **constraints: Any) -> str:
    (found,) = advise(run, Constraints(**constraints))
    return found.best.id


def test_the_fastest_greedy_case_of_full_length_and_right_output_wins(run: Run) -> None:
    assert best(run) == "p/4bit"
    assert best(run, sampled=True) == "p/sampled"


def test_constraints_rule_out_what_does_not_meet_them(run: Run) -> None:
    assert best(run, lossless=True) == "p/assisted"
    assert best(run, min_pass_at_1=0.4) == "p/assisted"
    assert best(run, lossless=True, max_memory=120 * MIB) == "p/plain"
    (found,) = advise(run, Constraints(lossless=True, max_memory=120 * MIB))
    assert found.excluded == {"--max-memory": 1, "--lossless": 1}


def test_a_draft_counts_into_memory_only_where_it_drafts(run: Run) -> None:
    memory = {each.id: each.memory.bytes // MIB for each in candidates(run) if each.memory}
    assert memory == {"p/plain": 100, "p/4bit": 30, "p/assisted": 150}


def test_quality_is_pass_at_1_of_the_same_target_and_perplexity_beside_it(run: Run) -> None:
    found = {each.id: (each.pass_at_1, each.perplexity) for each in candidates(run)}
    assert found == {"p/plain": (0.5, 10.0), "p/4bit": (0.3, 12.0), "p/assisted": (0.5, 10.0)}


def test_the_front_holds_what_nothing_else_beats_in_speed_memory_and_quality(run: Run) -> None:
    assert [each.id for each in pareto_front(candidates(run))] == ["p/4bit", "p/assisted", "p/plain"]


def test_the_front_drops_what_is_slower_and_no_better(planted: Callable[..., Run]) -> None:
    slow = one("p/slow", [2.0, 2.0], weights=101)  # memory that differs by 1% counts as equal
    small = one("p/small", [2.0, 2.0], weights=50)
    assert [e.id for e in pareto_front(candidates(planted(one("p/plain", [1.0, 1.0]), slow, small)))] == [
        "p/plain",
        "p/small",
    ]


def test_nothing_that_meets_the_constraints_names_them_and_what_would_do(run: Run) -> None:
    with pytest.raises(RunFileError, match=r"--max-memory excludes 3 of 3 \(the least is 30 MiB\)") as raised:
        advise(run, Constraints(max_memory=10 * MIB, min_pass_at_1=0.9))
    assert "--min-pass-at-1 excludes 3 of 3 (the highest is 0.500)" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_pass_at_1_that_was_not_measured_says_how_to_measure_it(planted: Callable[..., Run]) -> None:
    with pytest.raises(RunFileError, match="pytest perf_tests -m humaneval"):
        advise(planted(one("p/plain", [1.0])), Constraints(min_pass_at_1=0.1))


def test_a_run_without_cases_is_refused(planted: Callable[..., Run]) -> None:
    with pytest.raises(RunFileError, match="no sampled case was measured"):
        advise(planted(one("p/plain", [1.0])), Constraints(sampled=True))


def test_a_runner_up_within_the_noise_is_told_with_the_prompts_that_would_separate_it(
    planted: Callable[..., Run],
) -> None:
    base = [1.0, 2.0, 1.5, 1.2, 1.8, 1.1]
    near = [value * factor for value, factor in zip(base, [1.3, 0.8, 1.2, 0.9, 1.1, 1.0], strict=True)]
    far = [2 * value for value in base]
    (found,) = advise(planted(one("p/a", base), one("p/b", near), one("p/c", far)))
    (near_one,) = found.against  # the third is separated and not the runner-up
    assert (near_one.other, near_one.separated) == ("p/b", False)
    assert near_one.ratio.estimate == pytest.approx(sum(near) / sum(base))
    reach = math.log(near_one.ratio.high / near_one.ratio.estimate)
    assert near_one.prompts_needed == math.ceil(6 * (reach / math.log(sum(near) / sum(base))) ** 2)
    assert f"--num-samples {near_one.prompts_needed}" in [each.setting for each in found.suggestions]
    assert "not separated from the runner-up p/b" in markdown([found])


def test_a_separated_runner_up_is_told_as_slower(planted: Callable[..., Run]) -> None:
    (found,) = advise(planted(one("p/a", [1.0, 1.1, 1.2]), one("p/b", [2.0, 2.2, 2.4])))
    (second,) = found.against
    assert second.separated
    assert second.ratio.estimate == pytest.approx(2.0)
    assert "faster than the runner-up p/b: 2.00 [2.00, 2.00] over 3 prompts" in markdown([found])


def test_a_baseline_measured_twice_counts_with_both(planted: Callable[..., Run]) -> None:
    again = one("p/b", [4.0, 4.0], again=True)
    (found,) = advise(planted(one("p/a", [1.0, 1.0]), one("p/b", [2.0, 2.0]), again))
    assert found.against[0].ratio.estimate == pytest.approx(3.0)


def test_cases_without_common_prompts_are_not_judged(planted: Callable[..., Run]) -> None:
    other = one("p/b", [1.5, 1.5], workload={"prompts_sha256": "other", "gen_toks": 10})
    (found,) = advise(planted(one("p/a", [1.0, 1.0]), other))
    assert not found.against
    assert "cannot be told from the runner-up p/b" in markdown([found])


def test_each_target_gets_its_own_advice(planted: Callable[..., Run]) -> None:
    pairs = [{"name": name, "target": target} for name, target in (("p", "A"), ("q", "A"), ("r", "B"))]
    cases = [
        one(f"{name}/plain", [seconds], engine=ENGINE | {"pair": name})
        for name, seconds in (("p", 1.0), ("q", 0.5), ("r", 2.0))
    ]
    found = advise(planted(*cases, study={"pairs": pairs}))
    assert [(each.target, each.best.id) for each in found] == [("A", "q/plain"), ("B", "r/plain")]


def test_json_holds_the_advice_and_no_unknown_figure(run: Run) -> None:
    (found,) = json.loads(json.dumps(as_json(advise(run, Constraints(lossless=True))), allow_nan=False))
    assert found["best"] == {
        "case": "p/assisted",
        "tokens_per_second": pytest.approx(16.0),
        "memory_bytes": 150 * MIB,
        "memory_kind": "weights, and cache where known",
        "pass_at_1": 0.5,
        "perplexity": 10.0,
        "lossless": True,
    }
    assert found["runner_up"] == "p/plain"
    assert found["excluded"] == {"--lossless": 1}
    assert "speedup" not in as_json(advise(run, Constraints(sampled=True)))[0]  # plain decoding is the baseline
    assert any("assistant_model=assistant" in line for line in found["lines"])


@pytest.mark.parametrize(
    ("text", "count"), [("1024", 1024), ("12GiB", 12 * 2**30), ("1.5 gb", 1.5e9), ("800MiB", 800 * MIB)]
)
def test_sizes(text: str, count: float) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "GiB", "-1", "12 parsecs", "0", "nan"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(RunFileError, match="--max-memory"):
        parse_bytes(text)


def test_the_command_prints_every_format_and_says_what_it_cannot_use(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = str(run.path)
    for form in ("terminal", "markdown", "json"):
        assert main(["advise", path, "--lossless", "--format", form]) == 0
        assert "p/assisted" in capsys.readouterr().out
    assert main(["advise", path, "--max-memory", "1KiB"]) == 2
    assert main(["advise", path, "--min-pass-at-1", "60"]) == 2
    assert main(["advise", str(tmp_path / "none.jsonl")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 3
    assert "--max-memory excludes 3 of 3" in told[0]
    assert "write a number from 0 to 1" in told[1]


def test_a_target_that_no_case_meets_the_constraints_for_is_told_with_the_constraint(
    planted: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    large = [one(f"large/{i}", [1.0, 1.0], weights=900 + i, engine=ENGINE | {"pair": "large"}) for i in range(2)]
    path = str(planted(one("p/plain", [1.0, 1.0]), *large).path)
    why = "no case meets the constraints: --max-memory excludes 2 of 2 (the least is 900 MiB); loosen one"

    assert main(["advise", path, "--max-memory", "200MiB"]) == 0
    assert f"large: {why}" in capsys.readouterr().out
    assert main(["advise", path, "--max-memory", "200MiB", "--format", "markdown"]) == 0
    assert f"### large\n\n- {why}" in capsys.readouterr().out
    assert main(["advise", path, "--max-memory", "200MiB", "--format", "json"]) == 0
    met, unmet = json.loads(capsys.readouterr().out)
    assert met["best"]["case"] == "p/plain"
    assert unmet == {"target": "large", "candidates": 2, "excluded": {"--max-memory": 2}, "why": why}

    assert main(["advise", path, "--max-memory", "2GiB"]) == 0
    assert "no case meets" not in capsys.readouterr().out
