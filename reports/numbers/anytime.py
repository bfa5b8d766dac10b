"""Intervals that hold however often one looks: for runs that stop when they are precise enough, and for races.

Pure functions of numbers. An interval at 95% that is looked at after every round, until it says what one hopes for,
misses far more often than in 5%; one of a confidence sequence misses in at most 5% of all runs at any time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]

PRIOR_ROUNDS = 0.05
"""How many rounds the prior of the effect counts for. The interval is at most a tenth wider than with the best choice
for any number of rounds from 5 to 300."""

LEAST_ROUNDS = 3  # below this no interval is narrow enough to be told
SUSPECT = 1.645  # correlation beyond this many standard errors, one-sided 5%, is taken for true
SHORTEST_SERIES = 8  # rounds below which a correlation cannot be told from luck
LARGEST_CORRELATION = 0.9


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
    columns: list[tuple[Sequence[float], float]] = [(base, 1.0), (case, -1.0)]
    if base_tokens is not None and case_tokens is not None:
        columns += [(base_tokens, -1.0), (case_tokens, 1.0)]
    elif base_tokens is not None or case_tokens is not None:
        raise ValueError("tokens are given for both or for neither")
    total, moved = 0.0, np.zeros(len(base))
    for values, sign in columns:
        column = np.asarray(values, dtype=np.float64)
        if column.shape != moved.shape or not column.size:
            raise ValueError(f"rounds differ or there are none: {column.size} and {moved.size}")
        if not np.isfinite(column).all() or column.min() <= 0:
            raise ValueError("seconds and tokens of a round must be positive")
        mean = float(column.mean())
        total += sign * math.log(mean)
        moved += sign * (column / mean - 1.0)
    return total + moved


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
    """Return how many independent rounds these count for: n over the length of the blocks that belong together."""
    vector = np.asarray(values, dtype=np.float64)
    return vector.size / block_length(float(correlation(vector)), vector.size)


def correlation(values: Vector) -> float:
    """Return the correlation of each value with the next one; 0 where they do not vary."""
    centred = values - values.mean()
    spread = float(centred @ centred)
    return float(centred[1:] @ centred[:-1]) / spread if spread > 0 else 0.0


def block_length(neighbours: float, rounds: int) -> float:
    """Return how many consecutive rounds say as much as one independent one; 1 where they are not correlated.

    neighbours: the correlation of each round with the next. (1 + r) / (1 - r) is the length for which the mean of
    rounds whose correlation fades geometrically varies as that of independent ones. r is corrected for its bias in
    short series (Marriott and Pope 1954), and taken for 0 unless chance gives less in 95%: a length guessed from noise
    would only make intervals jump. A round is already paired, so that correlation is the exception: something
    slow that hits one of the two cases only.
    """
    if rounds < SHORTEST_SERIES or neighbours <= SUSPECT / math.sqrt(rounds) - 1 / rounds:
        return 1.0
    corrected = min(LARGEST_CORRELATION, (neighbours + 1 / rounds) / (1 - 3 / rounds))
    return min((1 + corrected) / (1 - corrected), rounds / 2)


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
