"""How often the interval of two equal settings contains 1: taking turns, and one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from reports.numbers.pairing import compared
from reports.numbers.speedups import PER_TOKEN, speedup
from tools.simulate.recorded_machine import Array, RecordedMachine, measured_case, run_of

WINDOWS = (10, 20, 60)
ROUNDS = 60


def coverage(machine: RecordedMachine, settings: list[str], runs: int, random: np.random.Generator) -> dict[str, Any]:
    """Per window of rounds, the share of equal pairs whose 95% interval contains 1.

    Each setting decodes under two names. rounds: by turns. blocks: the second name decodes after the first, with the
    interval over prompts alone; blocks, baseline again: between measurements of the baseline, which the interval
    carries.
    """
    found: dict[str, dict[int, list[bool]]] = {
        way: {window: [] for window in WINDOWS} for way in ("rounds", "blocks", "blocks, baseline again")
    }
    for _ in range(runs):
        seconds = machine.by_rounds([*settings, *settings], ROUNDS, random)
        for window in WINDOWS:
            for start in range(0, ROUNDS, window):
                part = seconds[start : start + window]
                found["rounds"][window] += [_by_rounds(part, i, i + len(settings)) for i in range(len(settings))]
            blocks = machine.in_blocks([settings[0]] * 7, window, random)  # base, a, base, b, base, c, base
            found["blocks"][window] += [_in_blocks(blocks[:, :2], 1)]
            found["blocks, baseline again"][window] += [_in_blocks(blocks, place) for place in (1, 3, 5)]
    return {
        way: {str(window): {"pairs": len(hits), "contain_1": float(np.mean(hits))} for window, hits in windows.items()}
        for way, windows in found.items()
    }


def _by_rounds(seconds: Array, one: int, other: int) -> bool:
    cases = [measured_case(name, seconds[:, place], by_rounds=True) for name, place in (("a", one), ("b", other))]
    ratio = compared(cases[:1], cases[1:], run_of(cases, order="rounds"), PER_TOKEN)
    assert ratio is not None
    return not ratio.interval.excludes(1.0)


def _in_blocks(seconds: Array, place: int) -> bool:
    """Whether the case at `place` is told equal to the baseline, which stands at every even place."""
    cases = [
        measured_case("plain", seconds[:, column], by_rounds=False, again=column > 0)
        if column % 2 == 0
        else measured_case(f"case {column}", seconds[:, column], by_rounds=False, plain=False)
        for column in range(seconds.shape[1])
    ]
    found = speedup(cases[place], run_of(cases, order="blocks"))
    assert found is not None
    return not found.interval.excludes(1.0)
