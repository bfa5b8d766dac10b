"""What each round moves a ratio of totals by, and how many rounds in a row go together. Pure functions of numbers.

The log of a ratio of totals is, but for terms that fade with the number of rounds, the mean of one figure per round:
its influence (the delta method). Intervals for one look, for all looks, races and the gate rest on it alike.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]

FEWEST_FOR_BLOCKS = 8
"""Rounds below which a correlation cannot be told from luck."""


def log_and_influence(columns: Vector, powers: Vector) -> tuple[float, Vector]:
    """Return log prod(column total ** power), and what each round moves it by, times the rounds: it adds up to 0.

    columns: (terms, rounds), none of which adds up to 0; powers: 1 or -1 of each term, as many of either, so that the
    number of rounds cancels.
    """
    totals = columns.sum(axis=1)
    return float(powers @ np.log(totals)), powers @ (columns / totals[:, None]) * columns.shape[1]


def neighbours(values: Vector) -> float:
    """Return the correlation of each value with the next one; 0 where they do not vary."""
    centred = values - values.mean()
    spread = float(centred @ centred)
    return float(centred[1:] @ centred[:-1]) / spread if spread > 0 else 0.0


def least_correlation(rounds: int) -> float:
    """Return the correlation with the next round up to which rounds are taken for independent: what chance shows."""
    return 2 / math.sqrt(rounds) if rounds >= FEWEST_FOR_BLOCKS else 1.0


def block_length(correlation: float, rounds: int) -> int:
    """Return how many consecutive rounds go together, and say as much as one that is independent.

    (1 + r) / (1 - r) of the correlation r with the next round, rounded up; 1 where r is within what independent rounds
    show (2 / sqrt(n)), and at most a quarter of the rounds, so that at least four units remain. Source: the integrated
    autocorrelation time of a first-order process.
    """
    if correlation <= least_correlation(rounds):
        return 1
    if correlation >= 1:
        return rounds // 4
    return min(math.ceil((1 + correlation) / (1 - correlation) - 1e-9), rounds // 4)


def correlation_length(values: Vector) -> int:
    """Return the `block_length` of these rounds."""
    return block_length(neighbours(values), values.size)
