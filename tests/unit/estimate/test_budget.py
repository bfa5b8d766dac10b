"""A time budget: after every case the rest is forecast, and prompts are fewer where it is too much, never below 3."""

from __future__ import annotations

import math
import re

import pytest

from fixtures.estimate.budget import Budget, Taken
from fixtures.estimate.costs import Costs
from fixtures.estimate.devices import native_dtype, profile
from fixtures.measuring.allowance import ENOUGH_SAMPLES, Allowance
from fixtures.study.study import Case, Study
from fixtures.study.study_file import load_study

SAMPLES = 20


def begun(budget: float | None) -> tuple[Budget, list[Case]]:
    study: Study = load_study("smoke", {"num_samples": str(SAMPLES)}, lambda _: native_dtype("l4"))
    cases = study.cases()
    made = Budget(Costs(study, profile("l4")), cases, budget)
    made.loaded(cases[0].engine, 1.0)
    return made, cases


def test_after_the_first_case_the_rest_is_told() -> None:
    budget, cases = begun(None)
    fewer, said = budget.done(cases[0], 100.0, Taken([1.0] * SAMPLES, 1.0))
    assert fewer == 0
    assert re.fullmatch(rf"about \d+ \w+ to go for {len(cases) - 1} cases, \d loads, up to \d\.\d\d GiB", said), said
    assert budget.prompts == SAMPLES
    assert budget.done(cases[1], 100.0, Taken([1.0] * SAMPLES, 1.0)) == (0, "")


def test_a_slow_machine_gets_as_many_prompts_as_fit() -> None:
    slow, cases = begun(400.0)
    fewer, said = slow.done(cases[0], 100.0, Taken([8.0] * SAMPLES, 1.0))
    assert ENOUGH_SAMPLES < slow.prompts < SAMPLES
    assert fewer == (SAMPLES - slow.prompts) * (len(cases) - 1)
    assert f"the time budget of 7 min leaves {slow.prompts} of 20 prompts a case" in said
    allowed = slow.allow(cases[1], Allowance(slow.prompts, 600.0, ""), 100.0)
    assert allowed.note == f"{slow.prompts} of 20 prompts: time budget of 7 min"
    quick, cases = begun(400.0)
    quick.done(cases[0], 10.0, Taken([0.1] * SAMPLES, 0.1))
    assert quick.prompts == SAMPLES
    assert quick.allow(cases[1], Allowance(SAMPLES, 600.0, ""), 10.0).note == ""


def test_prompts_are_never_fewer_than_three_nor_raised_again() -> None:
    budget, cases = begun(10.0)
    budget.done(cases[0], 100.0, Taken([4.0] * SAMPLES, 1.0))
    assert budget.prompts == ENOUGH_SAMPLES
    budget.done(cases[1], 100.0, Taken([0.001] * SAMPLES, 0.0))
    assert budget.prompts == ENOUGH_SAMPLES


def test_a_case_may_take_what_the_others_do_not_need_and_the_first_a_fifth() -> None:
    budget, cases = begun(1000.0)
    first = budget.allow(cases[0], Allowance(SAMPLES, 5000.0, ""), 0.0)
    assert first.spare == pytest.approx(200.0)
    assert first.seconds == 5000.0
    budget.done(cases[0], 150.0, Taken([1.0] * SAMPLES, 1.0))
    second = budget.allow(cases[1], Allowance(SAMPLES, 5000.0, ""), 150.0)
    assert 200.0 < second.spare < 850.0
    unlimited, cases = begun(None)
    assert unlimited.allow(cases[0], Allowance(SAMPLES, 5000.0, ""), 0.0).spare == math.inf


def test_a_case_that_could_not_be_measured_gives_its_time_to_the_others() -> None:
    with_all, cases = begun(300.0)
    without, _ = begun(300.0)
    for case in cases[1:3]:
        without.done(case, 0.0)
    for budget in (with_all, without):
        budget.done(cases[0], 100.0, Taken([8.0] * SAMPLES, 1.0))
    assert without.prompts > with_all.prompts
