"""What speculation should gain and what the hardware could do at best: predicted speedups, residuals, roofline limits.

Pure functions of measured figures. Must not know run files, models, torch or rendering.

Speculation's model, and what it assumes (Leviathan et al. 2023, arXiv 2211.17192, section 3):
- A step drafts g tokens with g draft forwards, one after the other, and verifies them in one target forward of g + 1
  positions; it emits the accepted tokens plus one of the target's own.
- Acceptance is independent from step to step, and within a step either equal at every position (alpha) or given per
  position, on condition that all positions before were accepted.
- Costs are multiples of T_target(1), the time of a plain decoding step, and do not depend on the length of the cache.
  The paper sets verification to 1 and overhead to 0; here both are measured, since g + 1 positions cost more than one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True, slots=True)
class SpeculationCosts:
    """Costs of a speculative step in units of T_target(1), one plain decoding step.

    draft: c = T_draft(1) / T_target(1), per drafted token. verify: from p = g + 1 positions to T_target(p) /
    T_target(1). overhead: everything else, per step.
    """

    draft: float
    verify: Mapping[int, float]
    overhead: float = 0.0

    def __post_init__(self) -> None:
        _check_non_negative(draft=self.draft, overhead=self.overhead)
        if any(positions < 1 or not (math.isfinite(cost) and cost > 0) for positions, cost in self.verify.items()):
            raise ValueError(f"verify must map positions >= 1 to positive costs, not {self.verify}")

    def verification(self, positions: float) -> float:
        """Return T_target(positions) / T_target(1).

        Linear between measured points, with 1 at one position unless measured; beyond the last it goes on with the
        slope of the last two. A fractional number of positions is a mean over steps.
        """
        if positions < 1:
            raise ValueError(f"a forward has at least one position, not {positions}")
        points = sorted({1: 1.0, **self.verify}.items())
        if positions > points[-1][0] and len(points) > 1:
            (x0, y0), (x1, y1) = points[-2:]
            return y1 + (y1 - y0) / (x1 - x0) * (positions - x1)
        return float(np.interp(positions, [x for x, _ in points], [y for _, y in points]))

    def step(self, drafted: float) -> float:
        """Return the cost of a step that drafts `drafted` tokens (on average) and verifies them."""
        _check_non_negative(drafted=drafted)
        return self.draft * drafted + self.verification(drafted + 1) + self.overhead


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """What k drafted tokens per step should give: emitted tokens per step and speedup over plain decoding."""

    k: int
    tokens_per_step: float
    speedup: float


@dataclass(frozen=True, slots=True)
class Limit:
    """The least seconds that the hardware needs for one forward, and which side binds."""

    seconds: float
    bound: Literal["bandwidth", "compute"]


def emitted_per_step(conditional_rates: Sequence[float]) -> float:
    """Return the expected emitted tokens per step, the target's own included.

    conditional_rates: per position, the chance that its token is proposed and accepted once all before it were. With
    the same alpha at k positions this is the paper's (1 - alpha^(k+1)) / (1 - alpha).
    """
    if any(not 0 <= rate <= 1 for rate in conditional_rates):
        raise ValueError(f"acceptance must be between 0 and 1, not {list(conditional_rates)}")
    return 1.0 + float(np.cumprod(conditional_rates, dtype=np.float64).sum())


def residual(predicted: float, measured: float) -> float:
    """Return predicted / measured - 1: positive where the model promised more than was measured."""
    _check_positive(predicted=predicted, measured=measured)
    return predicted / measured - 1.0


def hardware_limit(
    bytes_per_step: float, operations_per_step: float, copy_bytes_per_second: float, operations_per_second: float
) -> Limit:
    """Return the roofline limit of one forward: the longer of moving its bytes and doing its operations.

    copy_bytes_per_second counts the bytes read plus the bytes written by the device's measured copy. Assumes that
    moving and computing overlap fully and that nothing is served from a cache (Williams et al. 2009, roofline model).
    """
    _check_positive(copy_bytes_per_second=copy_bytes_per_second, operations_per_second=operations_per_second)
    _check_positive(bytes_per_step=bytes_per_step)
    _check_non_negative(operations_per_step=operations_per_step)
    bandwidth, compute = bytes_per_step / copy_bytes_per_second, operations_per_step / operations_per_second
    return Limit(max(bandwidth, compute), "bandwidth" if bandwidth >= compute else "compute")


def _check_positive(**named: float) -> None:
    for name, value in named.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be positive, not {value}")


def _check_non_negative(**named: float) -> None:
    for name, value in named.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must not be negative, not {value}")
