"""Times that are out of line, on measurements whose interruptions are known."""

from __future__ import annotations

import numpy as np
import pytest

from reports.evidence import level
from reports.interruptions import without_interruptions


def measured(seconds: np.ndarray) -> list[dict[int, tuple[float, float]]]:
    """Runs of prompts, (runs, prompts) seconds of 10 tokens each."""
    return [{prompt: (float(one), 10.0) for prompt, one in enumerate(row)} for row in seconds]


@pytest.fixture
def seconds() -> np.ndarray:
    """Six runs of thirty prompts: run and prompt decide, and 1% of noise."""
    random = np.random.default_rng(1)
    runs = np.array([1.0, 1.3, 0.8, 1.0, 2.0, 1.1])[:, None]
    return runs * np.linspace(0.5, 2.0, 30) * np.exp(random.normal(0.0, 0.01, size=(6, 30)))


def test_an_interruption_is_moved_to_the_edge_and_nothing_else_by_much(seconds: np.ndarray) -> None:
    interrupted = seconds.copy()
    interrupted[2, 7] *= 3.0
    interrupted[4, 0] *= 0.5
    found = without_interruptions(measured(interrupted))
    assert found[2][7][0] == pytest.approx(seconds[2, 7], rel=0.06), "3 times 1%, and the noise of the time itself"
    assert found[4][0][0] == pytest.approx(seconds[4, 0], rel=0.06)
    others = [
        found[run][prompt][0] / interrupted[run, prompt]
        for run in range(6)
        for prompt in range(30)
        if (run, prompt) not in ((2, 7), (4, 0))
    ]
    assert min(others) > 0.97 and max(others) < 1.03
    assert sum(ratio != 1.0 for ratio in others) < 0.05 * len(others)
    calm, plain = (level(one[2]) - level(measured(seconds)[2]) for one in (found, measured(interrupted)))
    assert abs(calm) < 0.002 < 0.04 < plain


def test_a_slow_run_and_a_slow_prompt_stay_as_they_are(seconds: np.ndarray) -> None:
    slow = seconds.copy()
    slow[3] *= 2.0
    slow[:, 5] *= 4.0
    found = without_interruptions(measured(slow))
    kept = [found[run][prompt][0] for run in range(6) for prompt in range(30) if run == 3 or prompt == 5]
    expected = [slow[run, prompt] for run in range(6) for prompt in range(30) if run == 3 or prompt == 5]
    assert kept == pytest.approx(expected, rel=0.03)


def test_three_runs_do_not_tell_and_a_time_that_a_run_lacks_stays(seconds: np.ndarray) -> None:
    seconds[0, 0] *= 9.0
    few = measured(seconds[:3])
    assert without_interruptions(few) == few
    holed = measured(seconds)
    del holed[1][0]
    found = without_interruptions(holed)
    assert found[0][0] == holed[0][0]
    assert 0 not in found[1]
    exact = measured(np.ones((6, 30)))
    assert without_interruptions(exact) == exact
