"""How the time per token of head moved against base, block by block. Pure; measures and renders nothing.

The verdict, with intervals and tests, is the gate's (gate/judging.py); this shows whether a ratio is steady over the
blocks or one block's alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reports.gate.evidence import latency_name, level, measurements, series
from reports.record.matching import identity, match
from reports.record.run import CaseResult, Run


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

    A case measured repeatedly within a run counts with the mean of its times per prompt.
    """
    found: dict[str, str] = {}
    ratios: list[dict[str, float]] = []
    for first, second in zip(base, head, strict=True):
        of_block = {}
        for one, other in match(first, second).pairs:
            levels = _level(one, first), _level(other, second)
            if levels[0] is not None and levels[1] is not None:
                of_block[identity(one)] = math.exp(levels[1] - levels[0])
                found.setdefault(identity(one), one.id)
        ratios.append(of_block)
    return tuple(BlockRatios(name, tuple(block.get(key) for block in ratios)) for key, name in found.items())


def _level(case: CaseResult, run: Run) -> float | None:
    """log of the case's seconds per token in its run, None if it was not measured."""
    measured = series(measurements(case, run), latency_name(case))
    return level(measured) if measured else None
