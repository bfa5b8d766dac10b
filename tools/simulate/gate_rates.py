"""How often the gate calls equal code slower, and finds what is slower, from runs by rounds without a calibration."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from reports.gate.thresholds import GateRules
from reports.gate.timing import MeasuredCase, Sides, judge_timings, timing_tests
from reports.record.run import Run
from tools.simulate.recorded_machine import RecordedMachine, measured_case, run_of

PROCESS = 0.005
"""Standard deviation of the log of what one case differs by from process to process, beside the others."""
CASES = 5
ROUNDS = 30


def gate_rates(machine: RecordedMachine, pairs: int, random: np.random.Generator) -> list[dict[str, Any]]:
    """Of pairs of runs, the verdicts on the speedup of one case, which is slower in head by some share or by nothing;
    `gates_regressed`: pairs of which any speedup was called slower."""
    rates = []
    for slower in (0.0, 0.05, 0.10):
        verdicts: Counter[str] = Counter()
        regressed = 0
        for _ in range(pairs):
            judged = _judged(machine, random, slower)
            verdicts[judged[-1]] += 1
            regressed += "regressed" in judged
        shares = {verdict: verdicts[verdict] / pairs for verdict in ("regressed", "inconclusive", "pass", "improved")}
        rates.append({"slower_by": slower, "pairs": pairs, "gates_regressed": regressed / pairs, **shares})
    return rates


def _judged(machine: RecordedMachine, random: np.random.Generator, slower: float) -> list[str]:
    base, head = (_run(machine, random, name, by) for name, by in (("base", 0.0), ("head", slower)))
    sides = [
        Sides((MeasuredCase(one, base),), (MeasuredCase(other, head),))
        for one, other in zip(base.cases, head.cases, strict=True)
    ]
    rules = GateRules()
    tests, _ = timing_tests(sides, rules, None)
    return [one.verdict for one in judge_timings(tests, rules.alpha) if one.metric == "speedup"]


def _run(machine: RecordedMachine, random: np.random.Generator, name: str, slower: float) -> Run:
    """A run of plain decoding and of four other cases; the last one is slower by this share."""
    plain = next(iter(machine.prompts))
    others = [each for each in machine.prompts if each != plain][: CASES - 1]
    seconds = machine.by_rounds([plain, *others], ROUNDS, random, fixed=True)
    seconds *= np.exp(PROCESS * random.normal(size=CASES))
    seconds[:, -1] *= 1 + slower
    cases = [
        measured_case(each, seconds[:, place], by_rounds=True, plain=place == 0, drafted=place)
        for place, each in enumerate([plain, *others])
    ]
    run = run_of(cases, order="rounds")
    return Run(Path(name), run.header, run.cases, True)
