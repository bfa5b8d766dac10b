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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Acceptance = float | Sequence[float]  # alpha, or the conditional rate of each position


@dataclass(frozen=True, slots=True)
class Costs:
    """Costs of a speculative step in units of T_target(1), one plain decoding step.

    draft: c = T_draft(1) / T_target(1), per drafted token. verify: T_target(p) / T_target(1), either one number for
    every p > 1 or a mapping from p = g + 1 to it. overhead: everything else, per step.
    """

    draft: float
    verify: float | Mapping[int, float] = 1.0
    overhead: float = 0.0

    def __post_init__(self) -> None:
        _check_non_negative(draft=self.draft, overhead=self.overhead)
        points = self.verify if isinstance(self.verify, Mapping) else {2: self.verify}
        if any(positions < 1 or not (math.isfinite(cost) and cost > 0) for positions, cost in points.items()):
            raise ValueError(f"verify must map positions >= 1 to positive costs, not {self.verify}")

    def verification(self, positions: float) -> float:
        """Return T_target(positions) / T_target(1).

        Linear between measured points, with 1 at one position unless measured; beyond the last it goes on with the
        slope of the last two. A fractional number of positions is a mean over steps.
        """
        if positions < 1:
            raise ValueError(f"a forward has at least one position, not {positions}")
        if not isinstance(self.verify, Mapping):
            return 1.0 + (self.verify - 1.0) * min(positions - 1, 1.0)
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
class Prediction:
    """What k drafted tokens per step should give: emitted tokens per step and speedup over plain decoding."""

    k: int
    tokens_per_step: float
    speedup: float


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One published measurement: accepted / drafted tokens, tokens drafted in every step, seconds (or ms) per token."""

    accept_rate: float
    k: int
    latency: float


@dataclass(frozen=True, slots=True)
class Limit:
    """The least seconds that the hardware needs for one forward, and which side binds."""

    seconds: float
    bandwidth_seconds: float
    compute_seconds: float
    bound: Literal["bandwidth", "compute"]

    def tokens_per_second(self, tokens_per_step: float = 1.0) -> float:
        """Return the highest rate at `tokens_per_step` emitted tokens per forward, drafting taken as free."""
        return tokens_per_step / self.seconds


@dataclass(frozen=True, slots=True)
class Achieved:
    """Bytes per second that a forward moved, and its share of the limit (1 is the limit itself)."""

    bytes_per_second: float
    share_of_limit: float


def expected_tokens_per_step(alpha: float, k: int) -> float:
    """Return the expected emitted tokens per step, (1 - alpha^(k+1)) / (1 - alpha), the target's own token included.

    alpha: chance that a drafted token is accepted, the same at every position. k: tokens drafted in every step.
    """
    return expected_from_positions([alpha] * _check_k(k))


def expected_from_positions(conditional_rates: Sequence[float]) -> float:
    """Return the expected emitted tokens per step when position i is accepted with rate i once all before it were."""
    if any(not 0 <= rate <= 1 for rate in conditional_rates):
        raise ValueError(f"acceptance must be between 0 and 1, not {list(conditional_rates)}")
    return 1.0 + float(np.cumprod(conditional_rates, dtype=np.float64).sum())


def expected_accept_rate(alpha: float, k: int) -> float:
    """Return the expected accepted / drafted tokens; below alpha, since a rejection discards the tokens after it."""
    return (expected_tokens_per_step(alpha, k) - 1.0) / k


def alpha_from_counts(accepted: int, rejection_events: int) -> float:
    """Return the maximum-likelihood alpha, accepted tokens / (accepted tokens + steps that ended in a rejection)."""
    _check_non_negative(accepted=accepted, rejection_events=rejection_events)
    if accepted + rejection_events == 0:
        raise ValueError("alpha needs at least one accepted or rejected token")
    return accepted / (accepted + rejection_events)


def alpha_from_accept_rate(accept_rate: float, k: int) -> float:
    """Return the alpha whose `expected_accept_rate` at k drafted tokens per step is `accept_rate`."""
    if not 0 <= accept_rate <= 1:
        raise ValueError(f"accept_rate must be between 0 and 1, not {accept_rate}")
    _check_k(k)
    low, high = 0.0, 1.0
    for _ in range(60):  # the rate grows with alpha: halving reaches float precision
        middle = (low + high) / 2
        low, high = (middle, high) if expected_accept_rate(middle, k) < accept_rate else (low, middle)
    return (low + high) / 2


def tokens_per_step(acceptance: Acceptance, k: int) -> float:
    """Return the expected tokens per step at k drafted from alpha or from per-position conditional rates.

    Positions beyond those given are taken to accept like the last one given.
    """
    if isinstance(acceptance, int | float):
        return expected_tokens_per_step(acceptance, k)
    if not acceptance:
        raise ValueError("acceptance holds no position")
    rates = list(acceptance[: _check_k(k)])
    return expected_from_positions(rates + rates[-1:] * (k - len(rates)))


def speedup_of_steps(tokens_per_step: float, drafted_per_step: float, costs: Costs) -> float:
    """Return the predicted speedup from measured steps: their mean emitted and their mean drafted tokens.

    For schedules and confidence thresholds, which draft fewer than k tokens in some steps: the mean number actually
    drafted is what the step pays for. Exact where verification costs are linear in positions over the range drafted.
    """
    if not tokens_per_step >= 1:
        raise ValueError(f"a step emits at least one token, not {tokens_per_step}")
    return tokens_per_step / costs.step(drafted_per_step)


def predicted_speedup(acceptance: Acceptance, k: int, costs: Costs) -> float:
    """Return the predicted speedup over plain decoding when every step drafts k tokens.

    tokens per step / (k c + T(k+1)/T(1) + overhead); with verify 1 and overhead 0 this is theorem 3.8 of the paper.
    """
    return speedup_of_steps(tokens_per_step(acceptance, k), k, costs)


def predicted_latency(plain_latency: float, tokens_per_step: float, drafted_per_step: float, costs: Costs) -> float:
    """Return the predicted time per token, in the unit of `plain_latency`, plain decoding's time per token."""
    _check_positive(plain_latency=plain_latency)
    return plain_latency / speedup_of_steps(tokens_per_step, drafted_per_step, costs)


def curve(ks: Iterable[int], acceptance: Acceptance, costs: Costs) -> list[Prediction]:
    """Return the prediction for every number of drafted tokens in ks, also for those never run."""
    return [Prediction(k, tokens_per_step(acceptance, k), predicted_speedup(acceptance, k, costs)) for k in ks]


def best_k(ks: Iterable[int], acceptance: Acceptance, costs: Costs) -> Prediction:
    """Return the fastest prediction among ks, the smallest k among equals; below 1, plain decoding is faster."""
    predictions = curve(sorted(ks), acceptance, costs)
    if not predictions:
        raise ValueError("ks is empty")
    return max(predictions, key=lambda prediction: prediction.speedup)


def residual(predicted: float, measured: float) -> float:
    """Return predicted / measured - 1: positive where the model promised more than was measured."""
    _check_positive(predicted=predicted, measured=measured)
    return predicted / measured - 1.0


def fit(rows: Sequence[PublishedRow], plain_latency: float) -> Costs:
    """Return the draft cost c and one verification cost v that fit rows of the same pair best, by least squares.

    A row's steps emit accept_rate * k + 1 tokens if all of them draft k, so a step costs that many times
    latency / plain_latency, which the model says is c k + v. Holds for a constant schedule with the confidence
    threshold off (or near 0). Overhead can not be told from v and is part of it. Raises ValueError unless two values
    of k are given.
    """
    _check_positive(plain_latency=plain_latency)
    if len({row.k for row in rows}) < 2:
        raise ValueError("fitting a draft and a verification cost needs rows with at least two values of k")
    for row in rows:
        _check_positive(k=row.k, latency=row.latency)
        if not 0 <= row.accept_rate <= 1:
            raise ValueError(f"accept_rate must be between 0 and 1, not {row.accept_rate}")
    steps = [(row.accept_rate * row.k + 1) * row.latency / plain_latency for row in rows]
    draft, verify = np.polyfit([row.k for row in rows], steps, 1)
    if draft < 0 or verify <= 0:
        raise ValueError(f"the rows do not follow the model: fitted draft cost {draft:.3f}, verification {verify:.3f}")
    return Costs(float(draft), float(verify))


def decode_step_bytes(weight_bytes: float, kv_bytes_per_position: float, positions: float) -> float:
    """Return the bytes that one forward must move: every weight once as stored, and the cache of `positions` once.

    weight_bytes: the layers and the output head; of an input embedding table that is not also the head only single rows
    are read, so leave it out. Activations are left out: small at batch 1.
    """
    _check_non_negative(weight_bytes=weight_bytes, kv_bytes_per_position=kv_bytes_per_position, positions=positions)
    return weight_bytes + kv_bytes_per_position * positions


def decode_step_operations(matrix_parameters: float, positions: float = 1) -> float:
    """Return the operations of one forward: a multiplication and an addition per matrix parameter and position.

    Attention over the cache is left out: small against the matrices at the lengths measured here.
    """
    _check_non_negative(matrix_parameters=matrix_parameters, positions=positions)
    return 2.0 * matrix_parameters * positions


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
    return Limit(max(bandwidth, compute), bandwidth, compute, "bandwidth" if bandwidth >= compute else "compute")


def achieved(bytes_per_step: float, seconds: float, limit: Limit) -> Achieved:
    """Return the bytes per second that a forward of `seconds` moved and its share of the limit."""
    _check_positive(bytes_per_step=bytes_per_step, seconds=seconds)
    return Achieved(bytes_per_step / seconds, limit.seconds / seconds)


def _check_k(k: int) -> int:
    if k < 1 or k != int(k):
        raise ValueError(f"k, the tokens drafted per step, must be a whole number of at least 1, not {k}")
    return int(k)


def _check_positive(**named: float) -> None:
    for name, value in named.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be positive, not {value}")


def _check_non_negative(**named: float) -> None:
    for name, value in named.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must not be negative, not {value}")
