"""The simulations behind docs/statistics.md: that they can fail, and that the committed figures meet their bars."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tools.simulate.__main__ import RESULTS, _said
from tools.simulate.equal_cases import coverage
from tools.simulate.equal_races import equal_races, raced
from tools.simulate.gate_rates import gate_rates
from tools.simulate.race_replay import recorded_rounds, replayed
from tools.simulate.recorded_machine import RecordedMachine, recorded_machine

PLAIN = "embedded/t=none,bf16/plain,greedy,dynamic"
LOOKUP = "embedded/t=none,bf16/prompt_lookup,k=3,greedy,dynamic"


@pytest.fixture(scope="module")
def machine() -> RecordedMachine:
    return recorded_machine()


def test_the_committed_figures_meet_the_bars_and_are_what_the_document_says() -> None:
    figures = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert figures["says"] == _said(figures)
    for window in figures["equal_settings"]["rounds"].values():
        assert 0.92 <= window["contain_1"] <= 0.98
        assert window["pairs"] >= 3_000
    equal, *better = figures["races"]
    assert equal["races"] == 2_000
    assert equal["better_one_dropped"] <= equal["alpha"] == 0.05
    assert better[-1]["better_by"] == 0.05
    assert better[-1]["better_one_leads"] >= 0.95
    assert all(race["better_one_dropped"] <= 0.05 for race in better)
    assert figures["replay"]["replays"] == 200
    assert figures["replay"]["rounds"] >= 60
    assert figures["replay"]["winner_is_one_of_these"] >= 0.95
    assert figures["replay"]["generations_of_the_full_run"] <= 1 / 3
    same, slower, slowest = figures["gate"]
    assert same["pairs"] >= 1_000
    assert same["slower_by"] == 0
    assert same["gates_regressed"] <= 0.01
    assert slower["pass"] == slowest["pass"] == 0
    assert slowest["slower_by"] == 0.1
    assert slowest["regressed"] >= 0.95


def test_the_gate_by_rounds_finds_what_is_slower(machine: RecordedMachine) -> None:
    same, _, slowest = gate_rates(machine, 8, np.random.default_rng(5))
    assert same["gates_regressed"] == 0
    assert slowest["regressed"] > 0.8


def test_turns_cancel_the_recorded_drift_and_blocks_do_not(machine: RecordedMachine) -> None:
    found = coverage(machine, [PLAIN, LOOKUP], 15, np.random.default_rng(0))
    assert found["rounds"]["10"]["pairs"] == 15 * 2 * 6
    assert found["rounds"]["10"]["contain_1"] > 0.9
    assert found["blocks"]["20"]["contain_1"] < 0.8
    assert found["blocks, baseline again"]["20"]["contain_1"] > 0.9


def test_races_count_what_they_say(machine: RecordedMachine) -> None:
    seconds = np.ones((30, 3)) * [1.0, 1.5, 2.0] * np.random.default_rng(1).lognormal(0, 0.01, (30, 3))
    outcome = raced(seconds, "1", ["2"])
    assert (outcome.leader, outcome.dropped) == ("0", True)
    assert 30 * 2 + 4 <= outcome.generations <= 30 * 2 + 6
    found = equal_races(machine, LOOKUP, 40, np.random.default_rng(2), better=0.1)
    assert found["better_one_leads"] == 1.0
    assert found["better_one_dropped"] == 0.0


def test_a_recorded_run_is_raced_over_the_rounds_that_all_cases_have(machine: RecordedMachine) -> None:
    run = machine.long_run(61, np.random.default_rng(3))
    short = [replace(case, samples=case.samples[:60]) if case.id == LOOKUP else case for case in run.cases]
    run = replace(run, cases=tuple(short))
    recorded = recorded_rounds(run)
    assert recorded.seconds.shape == (60, len(run.cases))
    assert recorded.baseline == PLAIN
    assert "target is quantized" in recorded.why_not["embedded/t=4bit,bf16/plain,greedy,dynamic"]
    assert "another baseline" in recorded.why_not["embedded/t=none,fp32/plain,greedy,dynamic"]
    found = replayed(run, 5, np.random.default_rng(4))
    assert found["winner_is_one_of_these"] == 1.0
    assert found["generations_of_the_full_run"] < 0.5
    with pytest.raises(ValueError, match="59 rounds are shared"):
        recorded_rounds(replace(run, cases=tuple(replace(case, samples=case.samples[1:]) for case in short)))
