"""The race: which cases can no longer be the best, so that the following rounds pass them over.

Pure: told the seconds of every round, it says who is dropped. Its state follows from the recorded rounds alone, in
their order, so that a resumed run goes on with the same race. Measures nothing, reads no file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reports.numbers.anytime import anytime_reach
from reports.numbers.influence import block_length, least_correlation
from reports.record.settings import DecodingPoint, EngineKey

Matrix = npt.NDArray[np.float64]

RACE_ALPHA = 0.05
RACE_LEAST_ROUNDS = 5
FUTILE_ROUNDS = 15  # before these the estimates are too rough to say what will not be decided


@dataclass(frozen=True, slots=True)
class Objective:
    """What the race looks for: the fastest that keeps the answers.

    dtype: the one that answers are kept in; None where any will do. compiled: whether the best must be (True), must
    not be (False), or may be compiled (None). quantized: whether quantizing what decides on tokens is allowed.
    """

    dtype: str | None = None
    compiled: bool | None = None
    quantized: bool = False

    def why_no_candidate(self, engine: EngineKey, point: DecodingPoint) -> str:
        """Why a case cannot win, however fast it is; empty if it can."""
        if not self.quantized and engine.target_quant != "none":
            return f"no candidate: the target is quantized ({engine.target_quant}), so answers may change"
        if not self.quantized and point.cache == "quantized":
            return "no candidate: the cache is quantized, so answers may change"
        if self.dtype is not None and engine.dtype != self.dtype:
            return f"no candidate: it decodes in {engine.dtype}, not in {self.dtype}"
        if self.compiled is not None and engine.compile != self.compiled:
            return f"no candidate: it is {'compiled' if engine.compile else 'not compiled'}"
        return ""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A case that the following rounds pass over, the round after which that was decided, and why."""

    case: str
    round: int
    reason: str


@dataclass(frozen=True, slots=True)
class RaceStanding:
    """Where a case stands against the leader: log(its seconds per token / the leader's), and the interval's half-width
    that holds at all times. `rounds`: those that both have."""

    case: str
    rounds: int
    behind: float
    half_width: float


class Race:
    """Told every round, drops what cannot be the best.

    A case is dropped once some other one is faster beyond the anytime interval of their ratio of totals over the
    rounds that both have. The best case is dropped by mistake in at most `alpha` of all races, however many rounds
    there are: that needs one of its comparisons with the others to fail, so each is made at alpha / (cases - 1)
    (Bonferroni over the comparisons of one case, not over all pairs). Baselines are measured to the end and compete. A
    case that a round lacks has failed, or is not asked for any more: it is out and is not reported.

    competing: ids of the cases that may win, baselines among them. baselines: ids that are never dropped. excluded:
    case -> why it cannot win; dropped after `least_rounds`. joining: how many cases may still `join`.
    """

    def __init__(
        self,
        competing: Iterable[str],
        *,
        baselines: Iterable[str],
        excluded: Mapping[str, str] | None = None,
        alpha: float = RACE_ALPHA,
        least_rounds: int = RACE_LEAST_ROUNDS,
        joining: int = 0,
    ) -> None:
        if not 0 < alpha < 1:
            raise ValueError(f"alpha must be between 0 and 1, not {alpha}")
        if least_rounds < 1:
            raise ValueError(f"least rounds must be at least 1, not {least_rounds}")
        self._excluded = dict(excluded or {})
        self._names = [case for case in dict.fromkeys(competing) if case not in self._excluded]
        self._baselines = frozenset(baselines)
        self._least = least_rounds
        self._joining = joining
        self._alpha = alpha / max(1, len(self._names) + joining - 1)
        self._rounds = 0
        self._seconds: Matrix = np.full((64, len(self._names)), np.nan)
        self._starts = [0] * len(self._names)
        self._out: set[str] = set()
        self.dropped: list[Dropped] = []

    @property
    def running(self) -> tuple[str, ...]:
        """The cases that compete still, in the order given."""
        return tuple(case for case in self._names if case not in self._out)

    @property
    def leader(self) -> str | None:
        """The fastest of those that compete still, over the rounds that each has; None before the first round."""
        places = self._measured()
        if not places:
            return None
        behind = self._behind(places)[0]
        return self._names[places[int(np.argmin(behind.max(axis=1)))]]

    def decided(self, indifference: float = 0.0) -> bool:
        """Whether nothing is left to find out: every other case that competes still is slower than the leader beyond
        its interval (a baseline), or surely within `indifference` of it, such as 0.01 for one percent."""
        if self._rounds < self._least:
            return False
        equal = math.log1p(indifference)
        return all(
            standing.behind > standing.half_width or abs(standing.behind) + standing.half_width <= equal
            for standing in self.standings()
            if standing.case != self.leader
        )

    def over(self, rounds: int | None = None) -> bool:
        """Whether to end the race: it is decided, or nothing more will be until it has had `rounds` rounds.

        The second is asked from FUTILE_ROUNDS on, and true where every case that may still be dropped lies closer
        behind the leader than its interval would reach by then if all goes on as so far. To end a race for that drops
        nobody, so that it makes no mistake more likely: what is left is not told apart.
        """
        if self.decided():
            return True
        if rounds is None or self._rounds < max(self._least, FUTILE_ROUNDS):
            return False
        return all(
            standing.case in self._baselines
            or standing.behind <= standing.half_width * self._shrunk(standing.rounds, rounds)
            for standing in self.standings()
            if standing.case != self.leader
        )

    def _shrunk(self, rounds: int, until: int) -> float:
        """What becomes of the half-width over so many rounds when the race goes on until that round."""
        more = max(0, until - self._rounds)
        reach = anytime_reach(rounds, self._alpha)
        return anytime_reach(rounds + more, self._alpha) / reach if math.isfinite(reach) else 1.0

    def join(self, case: str, *, baseline: bool = False) -> None:
        """Let a further case compete from the next round on; it is compared over the rounds that it has."""
        if case in self._names or case in self._excluded:
            raise ValueError(f"{case} is in the race already")
        if not self._joining:
            raise ValueError(f"{case} cannot join: the race was not told of any that may")
        self._joining -= 1
        self._names.append(case)
        self._starts.append(self._rounds)
        self._baselines |= {case} if baseline else set()
        self._seconds = np.column_stack([self._seconds, np.full(len(self._seconds), np.nan)])

    def add(self, round_number: int, seconds: Mapping[str, float]) -> list[Dropped]:
        """Return the cases that this round decides against. seconds: per token, by case; a baseline's own mean."""
        if self._rounds == len(self._seconds):
            self._seconds = np.vstack([self._seconds, np.full_like(self._seconds, np.nan)])
        for place, case in enumerate(self._names):
            if case in self._out:
                continue
            value = seconds.get(case)
            if value is None:
                self._out.add(case)
                continue
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{case} took {value} seconds per token in round {round_number}")
            self._seconds[self._rounds, place] = value
        self._rounds += 1
        if self._rounds < self._least:
            return []
        told = [*self._no_candidates(round_number, seconds), *self._slower(round_number)]
        self._out |= {drop.case for drop in told}
        self.dropped += told
        return told

    def standings(self) -> list[RaceStanding]:
        """Where every case that competes still stands against the leader, the fastest first."""
        places = self._measured()
        leader = self.leader
        if leader is None:
            return []
        behind, half_widths, rounds = self._behind(places)
        first = places.index(self._names.index(leader))
        told = [
            RaceStanding(
                case=self._names[place],
                rounds=int(rounds[i, first]),
                behind=float(behind[i, first]),
                half_width=float(half_widths[i, first]),
            )
            for i, place in enumerate(places)
        ]
        return sorted(told, key=lambda standing: standing.behind)

    def _no_candidates(self, round_number: int, seconds: Mapping[str, float]) -> list[Dropped]:
        return [
            Dropped(case, round_number, reason)
            for case, reason in self._excluded.items()
            if case in seconds and case not in self._baselines and case not in self._out
        ]

    def _slower(self, round_number: int) -> list[Dropped]:
        places = self._measured()
        if len(places) < 2:
            return []
        behind, half_widths, rounds = self._behind(places)
        least_behind = np.where(rounds >= self._least, behind - half_widths, -np.inf)
        told = []
        for i, place in enumerate(places):
            best = int(np.argmax(least_behind[i]))
            if least_behind[i, best] > 0 and self._names[place] not in self._baselines:
                ratio, least = (math.exp(value) for value in (behind[i, best], least_behind[i, best]))
                reason = (
                    f"cannot be the best: {self._names[places[best]]} is {ratio:.2f}x as fast over {rounds[i, best]} "
                    f"rounds, at least {least:.2f}x"
                )
                told.append(Dropped(self._names[place], round_number, reason))
        return told

    def _measured(self) -> list[int]:
        """Places of the cases that compete still and have a round."""
        return [
            place
            for place, case in enumerate(self._names)
            if case not in self._out and self._starts[place] < self._rounds
        ]

    def _behind(self, places: list[int]) -> tuple[Matrix, Matrix, npt.NDArray[np.int_]]:
        """Of every case against every other, (cases, cases): log(its seconds / the other's), half-width, rounds."""
        starts = np.array([self._starts[place] for place in places])
        together = np.maximum(starts[:, None], starts[None, :])
        behind, half_widths = np.zeros(together.shape), np.full(together.shape, np.inf)
        for start in np.unique(together):
            ratio, reach = _pairwise(self._seconds[start : self._rounds, places], self._alpha)
            chosen = together == start
            behind[chosen], half_widths[chosen] = ratio[chosen], reach[chosen]
        np.fill_diagonal(half_widths, 0.0)
        return behind, half_widths, self._rounds - together


def _pairwise(seconds: Matrix, alpha: float) -> tuple[Matrix, Matrix]:
    """log ratios of totals and their anytime half-widths of all pairs of columns of (rounds, cases), all at once.

    The influence of a round on the log ratio of two columns is the difference of what it does to the log of each, so
    that one product of the matrix with itself gives the spread of every pair.
    """
    count = len(seconds)
    means = seconds.mean(axis=0)
    moved = seconds / means - 1.0
    logs = np.log(means)
    variances = _of_differences(moved.T @ moved / count)
    later = moved[1:].T @ moved[:-1] / count
    with np.errstate(divide="ignore", invalid="ignore"):
        neighbours = np.where(variances > 0, _of_differences(later) / variances, 0.0)
    reaches = np.full(variances.shape, anytime_reach(count, alpha))
    for i, j in np.argwhere(neighbours > least_correlation(count)):
        reaches[i, j] = anytime_reach(count / block_length(float(neighbours[i, j]), count), alpha)
    spreads = np.sqrt(np.maximum(variances, 0.0))
    half_widths = np.multiply(reaches, spreads, out=np.full(reaches.shape, np.inf), where=np.isfinite(reaches))
    return logs[:, None] - logs[None, :], half_widths


def _of_differences(products: Matrix) -> Matrix:
    """Products of columns -> those of the differences of every two columns."""
    own = np.diag(products)
    return own[:, None] + own[None, :] - products - products.T
