"""Intervals that hold however often one looks: for runs that stop when they are precise enough, and for races.

Pure functions of numbers. An interval at 95% that is looked at after every round, until it says what one hopes for,
misses far more often than in 5%; one of a confidence sequence misses in at most 5% of all runs at any time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reports.numbers.influence import Vector, correlation_length, log_and_influence

PRIOR_ROUNDS = 0.05
"""How many rounds the prior of the effect counts for. The interval is at most a seventh wider than with the best
choice for any number of rounds from 5 to 300."""

LEAST_ROUNDS = 3  # below this no interval is narrow enough to be told


@dataclass(frozen=True, slots=True)
class HalfWidth:
    """How far the interval of one case's log ratio reaches to either side, and what more rounds would make of it.

    rounds: how many it rests on. with_more: the half-width after further rounds (see `half_widths`).
    """

    case: str
    rounds: int
    half_width: float
    with_more: float

    @property
    def percent(self) -> float:
        """The reach upwards in percent of the ratio."""
        return 100 * math.expm1(min(self.half_width, 700.0))


def log_ratios(
    base: Sequence[float],
    case: Sequence[float],
    base_tokens: Sequence[int] | None = None,
    case_tokens: Sequence[int] | None = None,
) -> Vector:
    """Return what every round says of log(base's seconds per token / case's), a ratio of totals: (rounds,).

    Their mean is the log of the ratio of totals, base over case; their spread is what every round moves it by (the
    influence function of the ratio, which the delta method rests on). A mean of the rounds' own log ratios would be
    another quantity: drafting is fast on some prompts and slow on others, and the mean of logs promises time that
    nobody saves. Entry i of all belongs to round i. base, case: seconds per token of a round, or seconds where
    tokens are given. Raises ValueError on empty, unequal, non-finite or non-positive input.
    """
    sides: list[Sequence[float] | Sequence[int]] = [base, case]
    powers = [1.0, -1.0]
    if base_tokens is not None and case_tokens is not None:
        sides, powers = [*sides, base_tokens, case_tokens], [*powers, -1.0, 1.0]
    elif base_tokens is not None or case_tokens is not None:
        raise ValueError("tokens are given for both or for neither")
    if len({len(side) for side in sides}) > 1 or not len(base):
        raise ValueError(f"rounds differ or there are none: {', '.join(str(len(side)) for side in sides)}")
    columns = np.array(sides, dtype=np.float64)
    if not np.isfinite(columns).all() or columns.min() <= 0:
        raise ValueError("seconds and tokens of a round must be positive")
    log, moved = log_and_influence(columns, np.array(powers))
    return log + moved


def anytime(values: Sequence[float] | Vector, alpha: float = 0.05) -> tuple[float, float]:
    """Return (mean, half-width) of an interval that holds at all numbers of rounds at once with 1 - alpha.

    values: one for each round, such as `log_ratios`. The interval inverts the t-test martingale with a normal prior of
    the effect (Lai 1976; Wang and Ramdas 2025, arXiv 2310.03722): exact from the second round on for normal values of
    any unknown spread, where the asymptotic sequence of Waudby-Smith et al. (arXiv 2103.06476) is only right once
    there are many, and where a fixed spending of alpha would have to know the last round beforehand, which a time
    budget does not. Correlated rounds count for fewer, see `independent_rounds`. The half-width is infinite while
    nothing can be said.
    """
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or not vector.size:
        raise ValueError("there is no round")
    rounds = independent_rounds(vector)
    return float(vector.mean()), _half_width(rounds, float(vector.std()), alpha)


def anytime_reach(rounds: float, alpha: float) -> float:
    """Return the half-width of `anytime` over `rounds` independent rounds, in standard deviations of divisor n."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, not {alpha}")
    if rounds <= 1:
        return math.inf
    together = rounds + PRIOR_ROUNDS
    exponent = 2 / rounds * (math.log(together / PRIOR_ROUNDS) / 2 - math.log(alpha))
    if exponent > 50:
        return math.inf
    bound = math.exp(exponent)
    left = together - bound * PRIOR_ROUNDS
    return math.sqrt(together * (bound - 1) / left) if left > 0 else math.inf


def independent_rounds(values: Sequence[float] | Vector) -> float:
    """Return how many independent rounds these count for: n over the length of the blocks that go together."""
    vector = np.asarray(values, dtype=np.float64)
    return vector.size / correlation_length(vector)


def precision_reached(ratios: Mapping[str, Sequence[float] | Vector], target: float, alpha: float = 0.05) -> bool:
    """Return whether the interval of every case's log ratio is at most `target` to either side, and may stop the run.

    ratios: case -> `log_ratios` against its baseline; cases without any round are passed over.
    """
    if not target > 0:
        raise ValueError(f"precision must be positive, not {target}")
    return all(
        len(values) >= LEAST_ROUNDS and anytime(values, alpha)[1] <= target for values in ratios.values() if len(values)
    )


def half_widths(
    ratios: Mapping[str, Sequence[float] | Vector], more_rounds: int = 0, alpha: float = 0.05
) -> list[HalfWidth]:
    """Return the half-width of every case's interval, the widest first, and what `more_rounds` would bring it to.

    A half-width falls with the square root of the rounds, and a little faster while there are few: the spread is taken
    to stay as it is.
    """
    told = []
    for case, values in ratios.items():
        if not len(values):
            continue
        vector = np.asarray(values, dtype=np.float64)
        rounds = independent_rounds(vector)
        spread = float(vector.std())
        grown = rounds * (1 + more_rounds / vector.size)
        told.append(
            HalfWidth(
                case=case,
                rounds=vector.size,
                half_width=_half_width(rounds, spread, alpha),
                with_more=_half_width(grown, spread, alpha),
            )
        )
    return sorted(told, key=lambda width: (-width.half_width, width.case))


def _half_width(rounds: float, spread: float, alpha: float) -> float:
    """Infinite where nothing can be said, also of rounds that happen to be equal."""
    reach = anytime_reach(rounds, alpha)
    return math.inf if math.isinf(reach) else reach * spread
