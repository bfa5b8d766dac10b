"""Advice on planted runs: the fastest under constraints, what it is separated from, and the Pareto front."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from planted_runs import ENGINE, assisted, case, plain

from reports.__main__ import main
from reports.advice.candidates import Constraints, advise, candidates, pareto_front
from reports.commands.advise import parse_bytes
from reports.record.run import CaseResult, Completion, Run, RunFileError
from reports.views.advice_text import as_json, markdown

MIB = 2**20
POINT = {"strategy": "plain", "do_sample": False, "cache": "dynamic"}


def one(name: str, seconds: list[float], *, weights: int = 100, draft: int = 0, **changes: Any) -> CaseResult:
    """Plain decoding of 10 tokens per prompt in so many seconds; weights in MiB."""
    facts = {"weight_bytes": {"target": weights * MIB, "draft": draft * MIB}} | changes.pop("facts", {})
    return case(name, [plain(i, value) for i, value in enumerate(seconds)], facts=facts, **changes)


def setting(name: str, seconds: list[float], k: int = 3, **changes: Any) -> CaseResult:
    """A setting that looks k tokens up."""
    return one(name, seconds, point={**POINT, "strategy": "prompt_lookup", "assist_toks": k}, **changes)


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
        setting("p/wrong", [0.1, 0.1], facts={"losslessness": {"verdict": "wrong"}}),
        one("p/short", [0.1, 0.1], workload={"prompts_sha256": "abc", "gen_toks": 5}),
        scored(0.5),
        scored(0.3, "4bit"),
    )


def best(run: Run, **constraints: Any) -> str:
    (found,) = advise(run, Constraints(**constraints))
    return found.best.id


def test_the_fastest_greedy_case_of_the_same_model_of_full_length_and_right_output_wins(run: Run) -> None:
    assert best(run) == "p/assisted"
    assert best(run, sampled=True) == "p/sampled"
    (found,) = advise(run)
    assert found.quantized_faster is not None and found.quantized_faster.case.id == "p/4bit"
    assert "- faster still, but quantized, which may change the answers: p/4bit, 2.00 [2.00, 2.00]" in markdown([found])


def test_a_bound_on_memory_or_quality_lets_quantized_settings_compete(run: Run) -> None:
    assert best(run, min_pass_at_1=0.2) == "p/4bit"
    assert best(run, max_memory=120 * MIB) == "p/4bit"
    assert best(run, max_memory=120 * MIB, same_model=True) == "p/plain"


def test_constraints_rule_out_what_does_not_meet_them(run: Run) -> None:
    assert best(run, lossless=True) == "p/assisted"
    assert best(run, min_pass_at_1=0.4) == "p/assisted"
    assert best(run, lossless=True, max_memory=120 * MIB) == "p/plain"
    (found,) = advise(run, Constraints(same_model=True, max_memory=120 * MIB))
    assert found.excluded == {"--max-memory": 1, "--same-model": 1}


def test_lossless_means_every_output_and_same_model_the_weaker(planted: Callable[..., Run]) -> None:
    lookup = {**POINT, "strategy": "prompt_lookup"}
    rounded = one(
        "p/rounded", [0.5, 0.5], point=lookup, facts={"losslessness": {"verdict": "near_ties", "near_ties": 1}}
    )
    other = dataclasses.replace(rounded.samples[1], output_sha256="other")
    rounded = dataclasses.replace(rounded, samples=(rounded.samples[0], other))
    equal = one("p/equal", [0.8, 0.8], point={**lookup, "assist_toks": 3})
    found = planted(one("p/plain", [1.0, 1.0]), rounded, equal)
    assert best(found) == best(found, same_model=True) == "p/rounded"
    assert best(found, lossless=True) == "p/equal"
    text = markdown(advise(found))
    assert "- same model, same output 1/2; 1 of the 1 others examined: rounding (--lossless leaves it out)" in text
    assert "- lossless: same output 2/2" in markdown(advise(found, Constraints(lossless=True)))


def test_nothing_is_recommended_whose_interval_contains_1_and_the_tie_is_told(planted: Callable[..., Run]) -> None:
    lookup = {**POINT, "strategy": "prompt_lookup"}
    found = planted(one("p/plain", [1.0, 1.0, 1.0]), one("p/lookup", [0.6, 0.9, 1.2], point=lookup))
    (advice,) = advise(found)
    assert (advice.best.id, advice.speedup) == ("p/plain", None)
    assert [case.id for case in advice.decision.tie] == ["p/lookup"]
    text = markdown([advice])
    assert "plain decoding: no setting that keeps its model is shown to be faster" in text
    assert "1 setting is not told apart from it" in text
    assert "passed over: p/lookup, 1.11 [" in text


def test_where_plain_decoding_does_not_meet_the_constraints_the_best_that_does_is_told_as_that(
    planted: Callable[..., Run],
) -> None:
    small = one("p/4bit", [2.0, 2.0], weights=30, engine=ENGINE | {"target_quant": "4bit"})
    (advice,) = advise(planted(one("p/plain", [1.0, 1.0]), small), Constraints(max_memory=50 * MIB))
    assert advice.best.id == "p/4bit"
    assert "0.50 [0.50, 0.50] times p/plain (plain decoding does not meet the constraints)" in markdown([advice])


def test_what_a_race_dropped_is_told_with_round_and_reason_and_is_never_advised(planted: Callable[..., Run]) -> None:
    lost = setting("p/lost", [0.1, 0.1], 9, status="dropped", dropped_round=11, reason="slower than p/a by 1.30")
    (advice,) = advise(planted(one("p/plain", [1.0, 1.0]), setting("p/a", [0.5, 0.5]), lost))
    assert advice.best.id == "p/a"
    assert "- dropped from the race after round 11: p/lost: slower than p/a by 1.30" in markdown([advice])
    told = {"case": "p/lost", "round": 11, "reason": "slower than p/a by 1.30"}
    assert as_json([advice])[0]["dropped"] == [told]


def test_an_unstable_run_is_told_first(planted: Callable[..., Run]) -> None:
    found = planted(one("p/plain", [1.0, 1.0]), one("p/plain", [1.5, 1.5], again=True))
    (advice,) = advise(found)
    assert markdown([advice]).splitlines()[2].startswith("- UNSTABLE: p/plain changed by +50.0%")
    assert as_json([advice])[0]["unstable"] == ["p/plain"]


def test_without_plain_decoding_nothing_is_recommended(planted: Callable[..., Run]) -> None:
    with pytest.raises(RunFileError, match="no plain decoding was measured to compare with"):
        advise(planted(one("p/lookup", [1.0, 1.0], point={**POINT, "strategy": "prompt_lookup"})))


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


def test_the_front_obeys_the_constraints(run: Run) -> None:
    (found,) = advise(run, Constraints(min_pass_at_1=0.4))
    assert [each.id for each in found.front] == ["p/assisted", "p/plain"], "4-bit solves too few"
    (found,) = advise(run, Constraints(max_memory=120 * MIB))
    assert [each.id for each in found.front] == ["p/4bit", "p/plain"], "target and draft are too large"


def solved(case_id: str, passed: Sequence[int]) -> list[Completion]:
    return [
        Completion(case_id, f"HumanEval/{task}", 0, "", 10, 0.5, "passed" if one else "failed", "")
        for task, one in enumerate(passed)
    ]


@pytest.mark.parametrize(
    ("plain_solves", "quantized_solves", "front"),
    [
        ([1] * 6 + [0] * 154, [1] * 8 + [0] * 152, ["p/4bit", "p/plain"]),  # 3.8% and 5.0%: not told apart
        ([1] * 6 + [0] * 154, [1] * 60 + [0] * 100, ["p/4bit"]),  # 3.8% and 37.5%: told apart
    ],
)
@pytest.mark.parametrize("published", [False, True])
def test_scores_that_are_not_told_apart_rank_nothing(
    planted: Callable[..., Run],
    plain_solves: list[int],
    quantized_solves: list[int],
    front: list[str],
    published: bool,
) -> None:
    """4-bit is faster and smaller; only if its score were truly higher would nothing be left for plain decoding."""
    shares = [sum(passed) / len(passed) for passed in (plain_solves, quantized_solves)]
    run = planted(
        one("p/plain", [1.0, 1.0], facts={"perplexity": 10.0}),
        one("p/4bit", [0.5, 0.5], weights=30, engine=ENGINE | {"target_quant": "4bit"}, facts={"perplexity": 12.0}),
        scored(shares[0]),
        scored(shares[1], "4bit"),
    )
    if not published:
        completions = [*solved("p/none/humaneval", plain_solves), *solved("p/4bit/humaneval", quantized_solves)]
        run = dataclasses.replace(run, completions=tuple(completions))
    (found,) = advise(run, Constraints(min_pass_at_1=0.01))
    assert [each.id for each in found.front] == front


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
    plain_decoding = one("p/plain", [4 * value for value in base])
    run = planted(plain_decoding, setting("p/a", base), setting("p/b", near, 4), setting("p/c", far, 5))
    (found,) = advise(run)
    assert found.best.id == "p/a"
    (near_one,) = found.against  # the third is separated and not the runner-up
    assert (near_one.other, near_one.separated) == ("p/b", False)
    assert near_one.ratio.estimate == pytest.approx(sum(near) / sum(base))
    reach = math.log(near_one.ratio.high / near_one.ratio.estimate)
    assert near_one.prompts_needed == math.ceil(6 * (reach / math.log(sum(near) / sum(base))) ** 2)
    assert f"--num-samples {near_one.prompts_needed}" in [each.setting for each in found.suggestions]
    assert "not separated from the runner-up p/b" in markdown([found])
    assert [case.id for case in found.decision.tie] == ["p/b"]


def test_a_separated_runner_up_is_told_as_slower(planted: Callable[..., Run]) -> None:
    times = ("p/plain", [4.0, 4.4, 4.8]), ("p/a", [1.0, 1.1, 1.2]), ("p/b", [2.0, 2.2, 2.4])
    (found,) = advise(planted(one(*times[0]), setting(*times[1]), setting(*times[2], 4)))
    (second,) = found.against
    assert second.separated
    assert second.ratio.estimate == pytest.approx(2.0)
    assert "faster than the runner-up p/b: 2.00 [2.00, 2.00] over 3 prompts" in markdown([found])


def test_cases_without_common_prompts_are_not_judged_and_count_as_tied(planted: Callable[..., Run]) -> None:
    elsewhere = {"prompts_sha256": "other", "gen_toks": 10}
    run = planted(
        one("p/plain", [4.0, 4.0]),
        one("p/plain elsewhere", [4.0, 4.0], workload=elsewhere),
        setting("p/a", [1.0, 1.0]),
        setting("p/b", [1.5, 1.5], 4),
        setting("p/c", [1.2, 1.2], 5, workload=elsewhere),
    )
    (found,) = advise(run)
    assert found.best.id == "p/a"
    assert next(each.id for each in found.front) == "p/a"
    assert [each.other for each in found.against] == ["p/b"], "the other baseline's are another group"


def test_each_target_gets_its_own_advice(planted: Callable[..., Run]) -> None:
    pairs = [{"name": name, "target": target} for name, target in (("p", "A"), ("q", "A"), ("r", "B"))]
    cases = [
        one(f"{name}/plain", [seconds], engine=ENGINE | {"pair": name})
        for name, seconds in (("p", 1.0), ("q", 0.5), ("r", 2.0))
    ]
    found = advise(planted(*cases, study={"pairs": pairs}))
    assert [(each.target, each.best.id) for each in found] == [("A", "q/plain"), ("B", "r/plain")], "the faster of A's"


def test_json_holds_the_advice_and_no_unknown_figure(run: Run) -> None:
    (found,) = json.loads(json.dumps(as_json(advise(run, Constraints(lossless=True))), allow_nan=False))
    assert found["best"] == {
        "case": "p/assisted",
        "tokens_per_second": pytest.approx(16.0),
        "memory_bytes": 150 * MIB,
        "memory_kind": "weights, and cache where known",
        "pass_at_1": 0.5,
        "perplexity": 10.0,
        "same_model": True,
        "lossless": True,
        "same_output": 2,
        "compared_outputs": 2,
    }
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
