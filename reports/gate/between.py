"""The noise between two runs as the gate uses it: a standard deviation and how well it is known; pure.

The prompts of one run cannot tell it: a machine that is slower today shifts them all alike. It comes from a machine's
calibration (gate/calibration.py). Where there is none a wide default gives the reader an interval, but no verdict
rests on it.
"""

from __future__ import annotations

from dataclasses import dataclass

from reports.gate.calibration import Noise

NORMAL_95 = 1.959964
ASSUMED = 0.08
ASSUMED_SPEEDUP = 0.05  # of a ratio of two cases of one run, in which the machine's speed cancels
ASSUMED_DEGREES = 10.0


@dataclass(frozen=True, slots=True)
class Between:
    """Standard deviation of ln(head / base) between two single runs of the same code, and its degrees of freedom."""

    deviation: float
    degrees: float
    measured: bool


def between_runs(noise: Noise | None, metric: str) -> Between:
    """The noise of a metric between runs of this machine; assumed where it was not calibrated.

    The floor, which 95 in 100 pairs of runs stay within, is taken for that point of a normal distribution; how well a
    few pairs know it is left to Student's t.
    """
    floor = None if noise is None else noise.floor.get(metric)
    if noise is None or floor is None:
        return Between(ASSUMED_SPEEDUP if metric == "speedup" else ASSUMED, ASSUMED_DEGREES, False)
    return Between(floor / NORMAL_95, float(noise.pairs), True)
