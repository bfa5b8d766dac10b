"""The noise between two runs as the gate uses it: a standard deviation and how well it is known; pure.

The prompts of one run cannot tell it: a machine that is slower today shifts them all alike. It comes from a machine's
calibration (gate/calibration.py). Where there is none a wide default gives the reader an interval, but no verdict
rests on it.

A speedup whose cases took turns with their baseline in both runs needs no calibration: what the machine does to its
speed hits both within a round, and the rounds themselves show what is left. What they cannot show is what two processes
differ by in how fast one case is against another (where memory lies, for instance): for that ROUNDS_DEVIATION is
allowed, and held to the gate's error rates by simulation.
"""

from __future__ import annotations

from dataclasses import dataclass

from reports.gate.calibration import Noise

NORMAL_95 = 1.959964
ASSUMED = 0.08
ASSUMED_SPEEDUP = 0.05  # of a ratio of two cases of one run, in which the machine's speed cancels
ASSUMED_DEGREES = 10.0
ROUNDS_DEVIATION = 0.01


@dataclass(frozen=True, slots=True)
class Between:
    """Standard deviation of ln(head / base) between two single runs of the same code, and its degrees of freedom.

    apart: it is only what rounds cannot show, so that their own error is added; calibrated noise holds it already.
    """

    deviation: float
    degrees: float
    measured: bool
    apart: bool = False


def between_runs(noise: Noise | None, metric: str, *, by_rounds: bool = False) -> Between:
    """The noise of a metric between runs of this machine; assumed where it was not calibrated.

    by_rounds: a speedup's case and its baseline took turns in all runs; then a calibration counts only if its runs did.

    The floor, which 95 in 100 pairs of runs stay within, is taken for that point of a normal distribution; how well a
    few pairs know it is left to Student's t.
    """
    if by_rounds and (noise is None or noise.order != "rounds"):
        return Between(ROUNDS_DEVIATION, ASSUMED_DEGREES, True, apart=True)
    floor = None if noise is None else noise.floor.get(metric)
    if noise is None or floor is None:
        return Between(ASSUMED_SPEEDUP if metric == "speedup" else ASSUMED, ASSUMED_DEGREES, False)
    return Between(floor / NORMAL_95, float(noise.pairs), True)
