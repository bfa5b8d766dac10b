"""Times without the interruptions by other programs, told by repeated measurements of the same prompts. Numbers only.

A machine that is shared stops a program now and then for as long as a generation takes; one such time can outweigh the
slowdown of a whole run that a gate looks for. Measured repeatedly, a prompt tells which times are out of line.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reports.evidence import Series

FEWEST_RUNS = 4
REACH = 3.0  # robust standard deviations
_ROUNDS = 3  # of the median polish; more change nothing
_NORMAL = 1.4826  # standard deviations in the median absolute deviation of a normal distribution


def without_interruptions(runs: Sequence[Series]) -> list[Series]:
    """The same measurements, with times that are out of line moved to the edge of what is usual, up or down.

    runs: the same prompts decoded by the same code, at least FEWEST_RUNS times, else they are returned as they are.
    A time is out of line if neither its run nor its prompt explains it: log(time) = run + prompt + rest by medians, and
    a rest beyond REACH robust standard deviations of all rests. Source: Tukey 1977, median polish; Huber 1964, who
    moves outliers instead of leaving them out. What a prompt takes in all runs, and what a run takes in all prompts,
    stays; a time that some run lacks stays as well.
    """
    prompts = [prompt for prompt in runs[0] if all(prompt in run for run in runs)] if runs else []
    if len(runs) < FEWEST_RUNS or not prompts:
        return list(runs)
    logs = np.log([[run[prompt][0] / run[prompt][1] for prompt in prompts] for run in runs])
    rest = logs.copy()
    for _ in range(_ROUNDS):
        rest -= np.median(rest, axis=1, keepdims=True)
        rest -= np.median(rest, axis=0, keepdims=True)
    edge = REACH * _NORMAL * float(np.median(np.abs(rest)))
    factors = np.exp(np.clip(rest, -edge, edge) - rest) if edge > 0 else np.ones_like(rest)
    return [
        {**run, **{prompt: (run[prompt][0] * by, run[prompt][1]) for prompt, by in zip(prompts, row, strict=True)}}
        for run, row in zip(runs, factors.tolist(), strict=True)
    ]
