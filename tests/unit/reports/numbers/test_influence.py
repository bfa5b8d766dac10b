"""What each round moves a ratio by, and how many rounds go together, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reports.numbers.influence import block_length, correlation_length, log_and_influence, neighbours


def test_influence_is_what_a_round_moves_the_log_by() -> None:
    columns = np.random.default_rng(0).lognormal(0, 0.3, (4, 50))
    powers = np.array([1.0, -1.0, -1.0, 1.0])
    log, influence = log_and_influence(columns, powers)
    totals = columns.sum(axis=1)
    assert log == pytest.approx(math.log(totals[0] * totals[3] / totals[1] / totals[2]))
    assert influence.sum() == pytest.approx(0, abs=1e-12)
    heavier = columns.copy()
    heavier[:, 7] *= 1 + 1e-6  # the round counts a millionth more
    assert (log_and_influence(heavier, powers)[0] - log) * 50 / 1e-6 == pytest.approx(influence[7], rel=1e-4)


def test_rounds_go_together_as_far_as_their_correlation_reaches() -> None:
    assert block_length(0.9, 7) == 1, "too few rounds to tell"
    assert block_length(0.25, 60) == 1, "chance shows as much"
    assert block_length(-0.4, 60) == 1
    assert block_length(0.6, 100) == 4
    assert block_length(0.99, 20) == 5, "at least four units remain"
    assert neighbours(np.array([1.0, 2.0, 3.0])) == pytest.approx(0.0)
    assert neighbours(np.ones(5)) == 0.0
    assert correlation_length(np.linspace(0.0, 1.0, 40)) == 10
