"""How often the whole gate is wrong, on machines whose noise is known."""

from __future__ import annotations

import numpy as np
import pytest
from simulated_runs import MACHINES, QUIET, Machine, simulated, with_metrics

from reports.gate.calibration import Noise, measure_noise
from reports.gate.judging import gate
from reports.gate.thresholds import GateRules
from reports.gate.timing import PASS_CONFIDENCE
from reports.gate.verdicts import Gate

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
    assert any("raised to the noise floor" in note for note in noisy.notes)
    assert all(one.raised for one in noisy.judgements if one.threshold)


def test_a_run_slower_as_a_whole_regresses_in_latency_and_not_against_its_own_baseline():
    random = np.random.default_rng(19)
    noise = calibrated(QUIET, random)
    base, head = QUIET.seconds(CASES, PROMPTS, random), 1.2 * QUIET.seconds(CASES, PROMPTS, random)
    found = gate([simulated(base, "base.jsonl")], [simulated(head, "head.jsonl")], RULES, noise)
    assert {one.metric for one in found.regressions} == {"latency_tok", "assisted_latency_tok"}
    assert len(found.regressions) == CASES
    assert any("`python -m reports ab` tells which" in note for note in found.notes)
