"""Changes of timings and the decision on them, against values worked out by hand and by SciPy."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from simulated_runs import QUIET, simulated

from reports.gate.calibration import Noise
from reports.gate.evidence import LogChange, change, correlation_length
from reports.gate.judging import gate, suspects
from reports.gate.thresholds import GateRules
from reports.gate.timing import TimingTest, judge_timings
from reports.numbers.statistics import paired_ratio
from reports.record.run import Run, RunFileError
from reports.views.gate_text import remarks, threshold_text

NOISE = Noise(
    "cpu-a-processor-2c", "python=unknown,torch=2.13.0", "planted", 12, dict.fromkeys(GateRules().thresholds, 0.0196)
)  # 1% deviation


def test_a_change_is_the_ratio_of_totals_and_a_control_takes_its_own_off():
    base, head = {0: (1.0, 10.0), 1: (3.0, 10.0)}, {0: (2.0, 10.0), 1: (3.0, 10.0)}
    assert change(base, head).log == pytest.approx(math.log(5 / 4))
    slower = {prompt: (1.25 * top, bottom) for prompt, (top, bottom) in base.items()}
    controlled = change(base, head, base_control=base, head_control=slower)
    assert controlled.log == pytest.approx(0.0)


def test_only_prompts_that_all_have_count_and_one_prompt_has_no_known_error():
    assert change({0: (1.0, 1.0), 1: (9.0, 1.0)}, {0: (2.0, 1.0), 5: (7.0, 1.0)}) == LogChange(math.log(2), math.inf, 1)
    with pytest.raises(ValueError, match="no prompt in common"):
        change({0: (1.0, 1.0)}, {1: (1.0, 1.0)})


def test_the_error_agrees_with_the_bootstraps():
    random = np.random.default_rng(1)
    seconds = [random.lognormal(0.0, 0.1, size=60) for _ in range(2)]
    base, head = ({i: (float(value), 10.0) for i, value in enumerate(each)} for each in seconds)
    interval = paired_ratio(seconds[0], [10] * 60, seconds[1], [10] * 60)
    reach = math.log(interval.high / interval.estimate) / stats.t.ppf(0.975, 59)
    assert change(base, head).error == pytest.approx(reach, rel=0.1)


def test_correlated_rounds_go_together_and_independent_ones_do_not():
    random = np.random.default_rng(2)
    wave = np.zeros(4000)
    for place in range(1, wave.size):
        wave[place] = 0.8 * wave[place - 1] + random.normal()
    assert correlation_length(wave) in (8, 9, 10), "(1 + 0.8) / (1 - 0.8) = 9"
    assert correlation_length(random.normal(size=4000)) == 1
    assert correlation_length(np.linspace(0.0, 1.0, 40)) == 10, "at least four units remain"
    assert correlation_length(np.zeros(30)) == 1


def slower(percent: float, error: float, degrees: float = 11.0, **changes: object) -> TimingTest:
    log = math.log1p(percent / 100)
    values = {"case": "c", "metric": "latency_tok", "threshold": 0.03, "base": 0.01, "head": 0.01, "calibrated": True}
    return TimingTest(**{**values, "log": log, "error": error, "degrees": degrees, **changes})


@pytest.mark.parametrize(
    ("percent", "error", "verdict"),
    [
        (10.0, 0.01, "regressed"),
        (4.0, 0.001, "regressed"),
        (2.9, 0.001, "inconclusive"),  # certainly slower, but by less than the threshold, which is not excluded
        (2.0, 0.001, "pass"),
        (10.0, 0.05, "inconclusive"),
        (0.0, 0.05, "inconclusive"),
        (0.0, 0.005, "pass"),
        (-10.0, 0.01, "improved"),
        (-4.0, 0.02, "pass"),  # shown not to be slower, not shown to be faster
        (-2.0, 0.001, "pass"),
    ],
)
def test_effect_and_significance_decide_together(percent: float, error: float, verdict: str):
    (found,) = judge_timings([slower(percent, error)], 0.005)
    assert found.verdict == verdict


def test_p_floor_and_interval_are_students():
    tests = [slower(5.0, 0.02), slower(0.0, 0.02)]
    first, second = judge_timings(tests, 0.005)
    p = stats.t.sf(math.log(1.05) / 0.02, 11)
    assert first.p_value == pytest.approx(2 * p)  # Holm: two tests
    assert second.p_value == pytest.approx(0.5)
    assert first.floor == pytest.approx(math.expm1(stats.t.ppf(1 - 0.005 / 2, 11) * 0.02))
    assert first.ratio.high == pytest.approx(1.05 * math.exp(stats.t.ppf(0.99, 11) * 0.02))
    assert first.raised


@pytest.mark.parametrize(("percent", "error"), [(200.0, 0.08), (-60.0, 0.08), (0.0, 0.001)])
def test_what_was_not_calibrated_neither_regresses_nor_improves_nor_passes(percent: float, error: float):
    (calibrated,) = judge_timings([slower(percent, error)], 0.005)
    assert calibrated.verdict != "inconclusive"
    (found,) = judge_timings([slower(percent, error, calibrated=False)], 0.005)
    assert found.verdict == "inconclusive"
    assert "never measured" in found.detail


def test_a_suspicion_that_the_second_measurement_does_not_share_is_not_confirmed():
    both = (math.log(1.30), math.log(1.20))
    (found,) = judge_timings([slower(25.0, 0.02, singles=both)], 0.005)
    assert found.verdict == "regressed" and found.detail == "confirmed when measured again: +30.0% and +20.0%"
    (found,) = judge_timings([slower(14.0, 0.02, singles=(math.log(1.30), math.log(1.0)))], 0.005)
    assert found.verdict == "inconclusive" and "not confirmed" in found.detail


def test_a_floor_that_says_nothing_is_told_as_too_few_prompts():
    """Two prompts have one degree of freedom, whose t makes billions of percent of any spread."""
    (found,) = judge_timings([slower(1.0, 0.2, degrees=1.0)], 0.005)
    assert found.untold and threshold_text(found) == "3% -> too few prompts"
    (known,) = judge_timings([slower(1.0, 0.02)], 0.005)
    assert known.raised and not known.untold and threshold_text(known).endswith("% (noise)")
    few = gate(
        [simulated(seconds(1)[:, :2], "base")],
        [simulated(seconds(2)[:, :2] * np.array([1.0, 3.0]), "head")],
        GateRules(),
    )
    told = remarks(few)
    assert any(line.startswith("latency_tok: too few prompts to tell a change from noise, in ") for line in told)
    assert not re.search(r"\d{5,}(\.\d)?%", " ".join([*told, *(threshold_text(one) for one in few.judgements)]))


def seconds(seed: int, slow: float = 0.0) -> np.ndarray:
    found = QUIET.seconds(3, 30, np.random.default_rng(seed))
    found[2] *= 1 + slow
    return found


def on_other_versions(found: Run) -> Run:
    environment = found.header["environment"]
    return replace(found, header={**found.header, "environment": {**environment, "versions": {"torch": "2.14.0"}}})


def run(seed: int, slow: float = 0.0) -> Run:
    return simulated(seconds(seed, slow), f"run{seed}")


def test_a_head_measured_again_clears_or_confirms_a_suspect():
    first = gate([run(1)], [run(2, 0.3)], GateRules(), NOISE)
    assert suspects(first) == (run(2).cases[2].id,)
    assert gate([run(1)], [run(2, 0.3), run(3, 0.3)], GateRules(), NOISE).verdict == "regressed"
    assert gate([run(1)], [run(2, 0.3), run(4)], GateRules(), NOISE).verdict == "inconclusive"


def test_blocks_find_what_single_runs_of_a_drifting_machine_cannot():
    """Head 10% slower while the machine drifts by half: each block sees both states of it alike."""
    drift = np.linspace(1.0, 1.5, 6)
    bases = [simulated(each * seconds(number), f"base{number}") for number, each in enumerate(drift)]
    heads = [simulated(each * seconds(10 + number, 0.1), f"head{number}") for number, each in enumerate(drift)]
    found = gate(bases, heads, GateRules(), interleaved=True)
    assert {one.case for one in found.regressions} == {heads[0].cases[2].id}
    assert gate(bases[:1], heads[-1:], GateRules()).verdict == "inconclusive"


def test_blocks_of_two_versions_are_judged_and_single_runs_are_not():
    bases = [run(number) for number in range(4)]
    heads = [on_other_versions(run(10 + number, 0.3)) for number in range(4)]
    assert gate(bases, heads, GateRules(), interleaved=True).verdict == "regressed"
    single = gate(bases[:1], heads[:1], GateRules(), NOISE)
    assert single.verdict == "pass" and "other versions: torch 2.13.0 -> 2.14.0" in single.timing_reason


def started(each: Run, clock: str) -> Run:
    return replace(each, header={**each.header, "started_at": f"2026-01-01T{clock}:00+00:00"})


@pytest.mark.parametrize(
    ("clocks", "said"),
    [
        (("10:00", "10:03", "10:01", "10:02"), ""),
        (("10:00", "10:01", "10:02", "10:03"), "all runs of head were measured after those of base"),
        (("10:02", "10:03", "10:00", "10:01"), "all runs of base were measured after those of head"),
    ],
    ids=["by turns", "base first", "head first"],
)
def test_blocks_must_have_been_measured_by_turns(clocks: tuple[str, ...], said: str):
    runs = [started(run(number), clock) for number, clock in enumerate(clocks)]
    if said:
        with pytest.raises(RunFileError, match=said):
            gate(runs[:2], runs[2:], GateRules(), NOISE, interleaved=True)
    else:
        assert gate(runs[:2], runs[2:], GateRules(), NOISE, interleaved=True).verdict == "pass"


def test_the_blocks_of_one_side_must_have_the_same_versions():
    with pytest.raises(RunFileError, match=r"other versions than .*; name blocks of one head only"):
        gate([run(1), run(2)], [run(3), on_other_versions(run(4))], GateRules(), NOISE, interleaved=True)


def test_a_run_by_turns_is_not_timed_against_one_that_ran_alone():
    turning = run(2)
    turning = replace(turning, header={**turning.header, "by_turns": True})
    found = gate([run(1)], [turning], GateRules(), NOISE)
    assert "by turns with another run on one side only" in found.timing_reason
    assert gate([turning], [replace(run(3), header=turning.header)], GateRules(), NOISE).timing_reason == ""


@pytest.mark.parametrize(
    ("noise", "said"),
    [
        (replace(NOISE, study="another"), "of another on cpu"),
        (replace(NOISE, hardware="gpu-another"), "on gpu-another, not of"),
        (replace(NOISE, versions="python=unknown,torch=2.12.0"), "of other versions (torch=2.12.0) than run2"),
        (None, "no calibration"),
    ],
    ids=str,
)
def test_the_calibration_of_something_else_is_not_used(noise: Noise | None, said: str):
    assert gate([run(1)], [run(2, 0.3)], GateRules(), NOISE).verdict == "regressed"
    found = gate([run(1)], [run(2, 0.3)], GateRules(), noise)
    assert found.verdict == "inconclusive"
    assert any("make calibrate" in note and said in note for note in found.notes)


def test_a_run_noisier_than_its_calibration_is_judged_by_its_own_noise():
    noisy = seconds(2)
    noisy[:, ::5] *= 3.0
    found = gate([run(1)], [simulated(noisy, "noisy")], GateRules(), NOISE)
    assert found.verdict == "inconclusive", "40% slower, by six rounds of thirty"
    timing = next(one for one in found.judgements if one.metric == "latency_tok")
    own = change(*({i: (float(each), 10.0) for i, each in enumerate(row)} for row in (seconds(1)[0], noisy[0])))
    assert timing.ratio.high == pytest.approx(timing.ratio.estimate * math.exp(stats.t.ppf(0.99, 29) * own.error))


def test_the_median_of_a_rolling_base_has_its_own_error():
    """One head run against the median of four: half of the pair's variance each, the base's times pi / 2 over 4."""
    found = gate([run(number) for number in range(1, 5)], [run(9)], GateRules(), NOISE)
    timing = next(one for one in found.judgements if one.metric == "latency_tok")
    totals = [seconds(number)[0].sum() for number in range(1, 5)]
    deviation = 0.0196 / stats.norm.ppf(0.975)
    error = deviation * math.sqrt((1 + math.pi / 2 / 4) / 2)
    assert timing.ratio.estimate == pytest.approx(seconds(9)[0].sum() / math.exp(np.median(np.log(totals))))
    assert timing.ratio.high / timing.ratio.estimate == pytest.approx(math.exp(stats.t.ppf(0.99, 12) * error), rel=1e-5)


def test_with_few_blocks_the_calibration_is_pooled_with_their_spread():
    """Two blocks: one degree of freedom of their own and twelve of the calibration."""
    found = gate([run(1), run(2)], [run(3), run(4)], GateRules(), NOISE, interleaved=True)
    noisy = replace(NOISE, floor=dict.fromkeys(NOISE.floor, 1.0))
    unknown = gate([run(1), run(2)], [run(3), run(4)], GateRules(), noisy, interleaved=True)
    assert any(line.endswith("more blocks or more prompts, or by --turns prompt") for line in remarks(unknown))
    turning = [replace(one, header={**one.header, "by_turns": True}) for one in map(run, range(1, 5))]
    by_turns = gate(turning[:2], turning[2:], GateRules(), noisy, interleaved=True)
    assert any(line.endswith("more blocks or more prompts") for line in remarks(by_turns))
    assert any("`python -m reports ab`" in line for line in remarks(gate([run(1)], [run(3)], GateRules(), noisy)))
    timing = next(one for one in found.judgements if one.metric == "latency_tok")
    logs = [
        math.log(head.sum() / base.sum())
        for base, head in ((seconds(1)[0], seconds(3)[0]), (seconds(2)[0], seconds(4)[0]))
    ]
    variance = (np.var(logs, ddof=1) + 12 * (0.0196 / stats.norm.ppf(0.975)) ** 2) / 13
    reach = stats.t.ppf(0.99, 13) * math.sqrt(variance / 2)
    assert timing.ratio.estimate == pytest.approx(math.exp(np.mean(logs)))
    assert timing.ratio.high == pytest.approx(math.exp(np.mean(logs) + reach), rel=1e-5)
