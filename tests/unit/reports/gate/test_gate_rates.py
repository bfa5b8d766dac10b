"""How often the whole gate is wrong, on machines whose noise is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from simulated_runs import MACHINES, QUIET, Machine, simulated, with_metrics

from reports.gate.calibration import Noise, measure_noise
from reports.gate.judging import gate
from reports.gate.thresholds import GateRules
from reports.gate.timing import PASS_CONFIDENCE, MeasuredCase, Sides, judge_timings, timing_tests
from reports.gate.verdicts import Gate, Judgement

CASES = 10
PROMPTS = 30
RULES = GateRules()


def calibrated(machine: Machine, random: np.random.Generator, cases: int = CASES) -> Noise:
    """The noise floor from twelve A/A pairs, as `make calibrate` works it out."""
    runs = [simulated(machine.seconds(cases, PROMPTS, random), f"aa{number}.jsonl") for number in range(24)]
    return measure_noise([with_metrics(run) for run in runs])


def judged(
    machine: Machine, noise: Noise | None, random: np.random.Generator, slower: float = 0.0, cases: int = CASES
) -> Gate:
    """One pair of runs, the last case of head slower by this share."""
    base, head = machine.seconds(cases, PROMPTS, random), machine.seconds(cases, PROMPTS, random)
    head[-1] *= 1 + slower
    return gate([simulated(base, "base.jsonl")], [simulated(head, "head.jsonl")], RULES, noise)


def test_at_most_one_in_a_hundred_of_a_thousand_pairs_of_the_same_code_regressed():
    random = np.random.default_rng(20)
    verdicts = []
    for machine in MACHINES.values():
        for _ in range(2):  # another calibration, as lucky or unlucky as twelve pairs can be
            noise = calibrated(machine, random)
            verdicts += [judged(machine, noise, random).verdict for _ in range(84)]
    assert len(verdicts) >= 1000
    assert sum(verdict == "regressed" for verdict in verdicts) <= 0.01 * len(verdicts)
    assert sum(verdict == "pass" for verdict in verdicts) > 0.1 * len(verdicts), "the quiet machine's pass"


def test_without_a_calibration_no_slowdown_is_a_regression_and_nothing_passes():
    random = np.random.default_rng(3)
    loaded = QUIET.seconds(4, PROMPTS, random), 2 * QUIET.seconds(4, PROMPTS, random)
    base, head = (simulated(seconds, name) for seconds, name in zip(loaded, ("base", "head"), strict=True))
    assert gate([base], [head], RULES).verdict == "inconclusive", "as if another program had taken half the machine"
    verdicts = [judged(MACHINES["drift"], None, random, cases=4).verdict for _ in range(60)]
    assert set(verdicts) == {"inconclusive"}


def test_interleaved_blocks_know_their_own_noise():
    machine = Machine(run=0.03, round=0.02, drift=0.02)
    random = np.random.default_rng(5)
    wrong = 0
    for _ in range(100):
        base, head = (
            [simulated(machine.seconds(4, 8, random), f"{side}{number}") for number in range(4)] for side in "bh"
        )
        wrong += gate(base, head, RULES, interleaved=True).verdict == "regressed"
    assert wrong <= 1


def test_a_slowdown_of_five_percent_is_found_where_the_noise_allows_it():
    random = np.random.default_rng(11)
    noise = calibrated(QUIET, random)
    assert max(noise.floor[metric] for metric in RULES.thresholds) < 0.015
    verdicts = [judged(QUIET, noise, random, slower=0.05) for _ in range(200)]
    found = [one for one in verdicts if one.verdict == "regressed"]
    assert len(found) >= 0.95 * len(verdicts)
    slow_case = verdicts[0].judgements[-1].case
    assert {one.case for gated in found for one in gated.regressions} == {slow_case}
    assert all(one.verdict in ("regressed", "inconclusive") for one in verdicts), "never a pass"


@pytest.mark.parametrize("spread", [0.004, 0.006, 0.008])
def test_a_slowdown_of_ten_percent_is_always_found_where_the_floor_is_below_five(spread):
    machine = Machine(run=spread / 2, round=0.01, drift=spread)
    random = np.random.default_rng(int(1000 * spread))
    noise = calibrated(machine, random)
    found = [judged(machine, noise, random, slower=0.10) for _ in range(60)]
    allowed = [one for one in found if max(each.floor or 0.0 for each in one.judgements if not each.exact) < 0.05]
    assert len(allowed) > 50
    assert {one.verdict for one in allowed} == {"regressed"}


@pytest.mark.parametrize("name", ["heavy tails", "drift", "autocorrelated", "bimodal", "everything"])
def test_a_slowdown_on_a_noisy_machine_never_passes(name):
    random = np.random.default_rng(13)
    noise = calibrated(MACHINES[name], random, cases=4)
    verdicts = {judged(MACHINES[name], noise, random, slower=0.05, cases=4).verdict for _ in range(60)}
    assert "pass" not in verdicts


def test_a_pass_excludes_the_threshold_and_a_raised_threshold_is_told():
    random = np.random.default_rng(17)
    quiet = judged(QUIET, calibrated(QUIET, random), random)
    timings = [one for one in quiet.judgements if not one.exact and one.verdict == "pass"]
    assert timings and all(one.ratio.high < 1.03 for one in timings)
    assert timings[0].ratio.confidence == pytest.approx(2 * PASS_CONFIDENCE - 1)
    noisy = judged(MACHINES["drift"], calibrated(MACHINES["drift"], random), random)
    assert any("raised to the noise floor" in note and "times the noise file's" in note for note in noisy.notes)
    assert sum("why more than the noise file says" in note for note in noisy.notes) == 1
    assert all(one.raised for one in noisy.judgements if one.threshold)


def test_a_run_slower_as_a_whole_regresses_in_latency_and_not_against_its_own_baseline():
    random = np.random.default_rng(19)
    noise = calibrated(QUIET, random)
    base, head = QUIET.seconds(CASES, PROMPTS, random), 1.2 * QUIET.seconds(CASES, PROMPTS, random)
    found = gate([simulated(base, "base.jsonl")], [simulated(head, "head.jsonl")], RULES, noise)
    assert {one.metric for one in found.regressions} == {"latency_tok", "assisted_latency_tok"}
    assert len(found.regressions) == CASES
    assert any("`python -m reports ab` tells which" in note for note in found.notes)


def judged_by_rounds(
    machine: Machine, random: np.random.Generator, slower: float = 0.0, cases: int = 4
) -> list[Judgement]:
    """The timings of one pair of runs by rounds without a calibration, the last case of head slower by this share."""
    base, head = machine.by_rounds(cases, PROMPTS, random), machine.by_rounds(cases, PROMPTS, random)
    head[-1] *= 1 + slower
    first, second = (simulated(seconds, name, order="rounds") for seconds, name in ((base, "base"), (head, "head")))
    sides = [
        Sides((MeasuredCase(one, first),), (MeasuredCase(other, second),))
        for one, other in zip(first.cases, second.cases, strict=True)
    ]
    tests, lost = timing_tests(sides, RULES, None)
    assert not lost
    return judge_timings(tests, RULES.alpha)


PROCESSES = {name: replace(machine, process=0.005) for name, machine in MACHINES.items()}


def test_speedups_by_rounds_need_no_calibration_and_are_as_seldom_wrong():
    random = np.random.default_rng(23)
    wrong, passed, pairs = 0, 0, 0
    for name, machine in PROCESSES.items():
        for _ in range(50):
            found = judged_by_rounds(machine, random)
            speedups = [one.verdict for one in found if one.metric == "speedup"]
            assert all(one.verdict == "inconclusive" for one in found if one.metric != "speedup"), "not calibrated"
            wrong += "regressed" in speedups
            passed += name != "everything" and "pass" in speedups
            pairs += 1
    assert pairs == 300, "`python -m tools.simulate` has more"
    assert wrong <= 0.01 * pairs
    assert passed > 0.1 * pairs


@pytest.mark.parametrize("name", ["quiet", "drift", "bimodal"])
def test_a_slowdown_of_ten_percent_is_found_by_rounds_on_machines_that_change_their_speed(name):
    random = np.random.default_rng(29)
    verdicts = []
    for _ in range(40):
        found = judged_by_rounds(PROCESSES[name], random, slower=0.10)
        verdicts.append(next(one for one in reversed(found) if one.metric == "speedup").verdict)
    assert "pass" not in verdicts
    assert verdicts.count("regressed") >= 38, "95%"


def test_what_the_figures_decided_or_one_side_measured_otherwise_is_not_judged_by_rounds():
    random = np.random.default_rng(31)
    seconds = QUIET.by_rounds(3, PROMPTS, random), QUIET.by_rounds(3, PROMPTS, random)
    runs = [simulated(each, f"{number}.jsonl", order="rounds") for number, each in enumerate(seconds)]
    speedups = gate(runs[:1], runs[1:], RULES).judgements
    assert {one.verdict for one in speedups if one.metric == "speedup"} == {"pass"}
    notes = gate(runs[:1], runs[1:], RULES).notes
    assert any("judged without a calibration" in note for note in notes)
    assert any("seconds per token stay inconclusive" in note for note in notes)
    stopped = [replace(run, header={**run.header, "stopping": "precision"}) for run in runs]
    assert {one.verdict for one in gate(stopped[:1], stopped[1:], RULES).judgements if not one.exact} == {
        "inconclusive"
    }
    apart = simulated(seconds[0], "apart.jsonl")
    assert "took turns on one side only" in gate([apart], runs[1:], RULES).timing_reason
