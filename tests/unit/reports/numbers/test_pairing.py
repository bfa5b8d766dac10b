"""What the interval of a speedup pairs and carries: rounds, visits, and the machine between measurements in blocks."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted_runs import case as planted_case
from scipy import stats

from reports.numbers import anytime as at
from reports.numbers.pairing import ASSUMED_DEGREES, ASSUMED_DEVIATION, meaning, wandering
from reports.numbers.speedups import drifts, speedup
from reports.record.run import CaseResult, Run, Sample

TOKENS = 64
DRAFTED = {"strategy": "assisted", "do_sample": False, "cache": "dynamic"}


def sample(prompt: int, seconds: float, round_: int | None = None, visit: int = 0) -> Sample:
    return Sample(prompt, seconds, TOKENS, TOKENS, "x", round=round_, visit=visit)


def by_rounds(
    name: str, seconds: np.ndarray | list[float], *, block: int = 0, visits: int = 1, **more: Any
) -> CaseResult:
    """A case whose rounds follow each other, spread evenly over visits."""
    count = len(seconds)
    samples = [sample(i, float(value), i, i * visits // count) for i, value in enumerate(seconds)]
    point = {} if name == "plain" else {"point": DRAFTED}
    return dataclasses.replace(planted_case(name, samples, **point), block=block, **more)


def run_of(*cases: CaseResult, order: str = "rounds", **header: Any) -> Run:
    return Run(Path("run.jsonl"), {"order": order, "study": {}, **header}, cases, True)


def test_a_round_pairs_prompt_and_time_and_a_baseline_counts_with_all_its_generations() -> None:
    generator = np.random.default_rng(0)
    machine = np.exp(np.cumsum(generator.normal(0, 0.1, 12)))
    base, fast = 2.0 * machine, machine * generator.normal(1, 0.01, 12)
    repeats = tuple(sample(i, float(3 * base[i]), i) for i in (2, 5))
    run = run_of(by_rounds("plain", base, repeats=repeats), by_rounds("fast", fast))
    found = speedup(run.finished["fast"], run)
    assert found is not None
    counted = base.copy()
    counted[[2, 5]] *= 2  # the mean of one and three times as long
    assert found.interval.estimate == pytest.approx(counted.sum() / fast.sum())
    assert found.pairs == "rounds"
    moved = counted / counted.mean() - fast / fast.mean()
    reach = stats.t.ppf(0.975, 11) * moved.std(ddof=1) / math.sqrt(12)
    assert math.log(found.interval.high / found.interval.estimate) == pytest.approx(reach)
    assert math.log(found.interval.estimate / found.interval.low) == pytest.approx(reach)


def test_only_rounds_that_both_have_count() -> None:
    base, fast = np.linspace(1, 2, 10), np.linspace(1, 2, 10) / 2
    dropped = by_rounds("fast", fast[:4], status="dropped", dropped_round=3)
    run = run_of(by_rounds("plain", base), dropped)
    found = speedup(dropped, run)
    assert found is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((2.0, 2.0))
    alone = run_of(by_rounds("plain", base[:1]), by_rounds("fast", fast[:1]))
    interval = speedup(alone.cases[1], alone).interval
    assert (interval.low, interval.high) == (0.0, math.inf)


def test_a_case_that_left_before_an_interruption_is_paired_with_the_baseline_of_the_resumed_run() -> None:
    hardware = {"environment": {"hardware": {"cpu": "one"}}}
    base, fast = np.linspace(1, 2, 12), np.linspace(1, 2, 12) / 2
    left = by_rounds("fast", fast[:6], status="dropped", dropped_round=5)
    resumed = dataclasses.replace(
        run_of(left, by_rounds("plain", base, session=1), **hardware), later_sessions=(hardware,)
    )
    found = speedup(left, resumed)
    assert found is not None
    assert found.pairs == "rounds"
    assert found.interval.high == pytest.approx(2.0)
    again = by_rounds("plain", base * 3, session=1, again=True)  # of other rounds, whose numbers are the same
    later = dataclasses.replace(run_of(left, again, **hardware), later_sessions=(hardware,))
    assert speedup(left, later).pairs == "visits"


def test_what_decided_when_to_stop_is_shown_with_the_interval_that_allows_it() -> None:
    generator = np.random.default_rng(1)
    base, fast = generator.lognormal(0, 0.05, 30), generator.lognormal(-0.3, 0.05, 30)
    cases = by_rounds("plain", base), by_rounds("fast", fast)
    once = [speedup(cases[1], run_of(*cases, stopping=stopping)).interval for stopping in ("none", "time")]
    always = [speedup(cases[1], run_of(*cases, stopping=stopping)).interval for stopping in ("precision", "race")]
    assert {each.method for each in once} == {"t"}
    assert {each.method for each in always} == {"anytime"}
    centre, half_width = at.anytime(at.log_ratios(base, fast))
    for each in always:
        assert math.log(each.estimate) == pytest.approx(centre)
        assert math.log(each.high / each.estimate) == pytest.approx(half_width)
        assert each.high > once[0].high


def test_rounds_that_go_together_count_once() -> None:
    generator = np.random.default_rng(2)
    slow = np.repeat(generator.normal(0, 0.1, 10), 6)  # something slow that hits one of the two
    cases = by_rounds("plain", np.exp(slow)), by_rounds("fast", np.full(60, 0.5))
    found = speedup(cases[1], run_of(*cases)).interval
    naive = stats.t.ppf(0.975, 59) * slow.std(ddof=1) / math.sqrt(60)
    assert math.log(found.high / found.estimate) > 1.8 * naive


def test_visits_of_a_block_bring_their_own_variation() -> None:
    generator = np.random.default_rng(3)
    noise = generator.normal(1, 0.01, 40)
    shifted = np.where(np.arange(40) < 20, 1.1, 1.0)
    base = by_rounds("plain", np.ones(40), visits=2)
    steady, moving = (by_rounds("fast", noise * shift, visits=2) for shift in (1.0, shifted))
    narrow, wide = (speedup(each, run_of(base, each)).interval for each in (steady, moving))
    assert math.log(narrow.high / narrow.low) < 0.05
    assert math.log(wide.high / wide.low) > 0.3


def test_across_blocks_visits_are_compared_and_vary_as_the_machine_does() -> None:
    generator = np.random.default_rng(4)
    base = by_rounds("plain", generator.normal(1, 0.01, 40), visits=4)
    other = [
        by_rounds("fast", generator.normal(0.5, 0.005, 40) * np.repeat(wander, 10), block=1, visits=4)
        for wander in ([1.0, 1.0, 1.0, 1.0], [1.2, 0.9, 1.1, 0.8])
    ]
    steady, wandering_ = (speedup(each, run_of(base, each)) for each in other)
    assert steady.pairs == wandering_.pairs == "visits"
    assert steady.interval.estimate == pytest.approx(2.0, rel=0.02)
    variance = ASSUMED_DEGREES * ASSUMED_DEVIATION**2 / (3 + ASSUMED_DEGREES) / 4
    reach = stats.t.ppf(0.975, 3 + ASSUMED_DEGREES) * math.sqrt(variance)
    assert math.log(steady.interval.high / steady.interval.estimate) == pytest.approx(reach, rel=0.1)
    assert wandering_.interval.high / wandering_.interval.low > 1.3


def in_blocks(name: str, seconds: list[float], **more: Any) -> CaseResult:
    point = {} if name == "plain" else {"point": DRAFTED}
    return planted_case(name, [sample(i, value) for i, value in enumerate(seconds)], **point, **more)


def test_in_blocks_the_interval_carries_what_the_baseline_changed_by() -> None:
    prompts = np.random.default_rng(5).lognormal(0, 0.05, 20)
    fast = in_blocks("fast", list(prompts / 2))
    changes = [1.0, 1.1, 0.95, 1.05]
    base = [in_blocks("plain", list(prompts * change), again=i > 0) for i, change in enumerate(changes)]
    once, often = run_of(base[0], fast, order="blocks"), run_of(base[0], fast, *base[1:], order="blocks")
    assert speedup(fast, once).interval.high == pytest.approx(2.0)
    assert wandering(once, 0).measured == 0
    squares = sum(math.log(later / earlier) ** 2 for earlier, later in pairwise(changes))
    variance = (squares + ASSUMED_DEGREES * ASSUMED_DEVIATION**2) / (3 + ASSUMED_DEGREES)
    assert wandering(often, 0).deviation == pytest.approx(math.sqrt(variance))
    found = speedup(fast, often).interval
    assert found.estimate == pytest.approx(2.0 * 1.05), "the mean of the one before and the one after"
    reach = stats.t.ppf(0.975, 3 + ASSUMED_DEGREES) * math.sqrt(variance * (1 / 2 + 1) / 2)
    assert math.log(found.high / found.estimate) == pytest.approx(reach)


def test_a_reader_is_told_what_the_intervals_pair_and_carry() -> None:
    prompts = [1.0, 1.1, 1.2]
    base, fast = in_blocks("plain", prompts), in_blocks("fast", prompts)
    again = in_blocks("plain", prompts, again=True)
    assert meaning(run_of(base, fast, order="blocks")).endswith("the machine is not in them")
    twice = meaning(run_of(base, fast, again, again, order="blocks"))
    assert twice.endswith("carry the 2 changes between measurements of a baseline")
    assert meaning(run_of(base)) == "95% intervals pair generations of the same round"
    assert "hold however often one looks: cases left the race" in meaning(run_of(base, stopping="race"))
    assert "the run ended when they were narrow enough" in meaning(run_of(base, stopping="precision"))


def test_equal_cases_on_a_drifting_machine_are_told_equal_as_often_as_stated() -> None:
    generator = np.random.default_rng(6)
    kept = {"rounds": 0, "blocks": 0}
    trials = 400
    for _ in range(trials):
        machine = np.exp(np.cumsum(generator.normal(0, 0.02, 40)))
        prompts = np.exp(generator.normal(0, 0.1, 20))
        turns = machine.reshape(20, 2)
        turns = np.where(generator.random((20, 1)) < 0.5, turns, turns[:, ::-1])
        seconds = prompts[:, None] * turns * np.exp(generator.normal(0, 0.02, (20, 2)))
        cases = by_rounds("plain", seconds[:, 0]), by_rounds("fast", seconds[:, 1])
        kept["rounds"] += not speedup(cases[1], run_of(*cases)).interval.excludes(1.0)
        after = machine.reshape(2, 20) * prompts * np.exp(generator.normal(0, 0.02, (2, 20)))
        one, other = in_blocks("plain", list(after[0])), in_blocks("fast", list(after[1]))
        kept["blocks"] += not speedup(other, run_of(one, other, order="blocks")).interval.excludes(1.0)
    assert 0.92 <= kept["rounds"] / trials <= 0.98
    assert kept["blocks"] / trials < 0.7


def test_drift_of_a_run_by_rounds_is_told_and_no_speedup_rests_on_it() -> None:
    machine = np.where(np.arange(30) < 18, 1.0, 1.3)
    run = run_of(by_rounds("plain", machine), by_rounds("fast", machine / 2))
    (found,) = drifts(run)
    assert found.paired
    assert not found.unstable
    assert "no speedup rests on it" in found.between
    assert found.ratio == pytest.approx(1.3)
    assert speedup(run.cases[1], run).interval.high == pytest.approx(2.0)
    assert drifts(run_of(by_rounds("plain", machine[:8]))) == []
