"""How the time per token of head moved against base, block by block. Pure; measures and renders nothing.

The verdict, with intervals and tests, is the gate's (reports/gate.py); this shows whether a ratio is steady over the
blocks or one block's alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reports.evidence import Series, latency_name, level, measurements, series
from reports.interruptions import without_interruptions
from reports.matching import identity, match
from reports.run import CaseResult, Run


@dataclass(frozen=True)
class BlockRatios:
    """One case: seconds per token, head / base, in every block; None where a side has none. Above 1 head is slower."""

    case: str
    blocks: tuple[float | None, ...]

    @property
    def mean(self) -> float | None:
        """Geometric mean over the blocks, which the gate judges."""
        logs = [math.log(ratio) for ratio in self.blocks if ratio is not None]
        return math.exp(math.fsum(logs) / len(logs)) if logs else None


def block_ratios(base: Sequence[Run], head: Sequence[Run]) -> tuple[BlockRatios, ...]:
    """Compare block i of base with block i of head for every case that both measured in some block, in base's order.

    A case measured repeatedly within a run counts with the mean of its times per prompt; what the gate takes for an
    interruption does not count.
    """
    found: dict[str, str] = {}
    sides: list[tuple[dict[str, Series], dict[str, Series]]] = []
    for first, second in zip(base, head, strict=True):
        of_block: tuple[dict[str, Series], dict[str, Series]] = ({}, {})
        for one, other in match(first, second).pairs:
            measured = _times(one, first), _times(other, second)
            if all(measured):
                found.setdefault(identity(one), one.id)
                for side, times in zip(of_block, measured, strict=True):
                    side[identity(one)] = times
        sides.append(of_block)
    return tuple(BlockRatios(name, _ratios(key, sides)) for key, name in found.items())


def _ratios(key: str, sides: Sequence[tuple[dict[str, Series], dict[str, Series]]]) -> tuple[float | None, ...]:
    there = [block for block in sides if key in block[0]]
    calm = [without_interruptions([block[side][key] for block in there]) for side in (0, 1)]
    logs = iter([level(second) - level(first) for first, second in zip(*calm, strict=True)])
    return tuple(math.exp(next(logs)) if key in block[0] else None for block in sides)


def _times(case: CaseResult, run: Run) -> Series:
    """Seconds and tokens of the case by prompt, empty if it was not measured."""
    return series(measurements(case, run), latency_name(case))
