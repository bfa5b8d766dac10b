"""`make power`: what the gate finds on this machine, from runs of a study of which some are slower by a known share.

A trial is four runs close in time: two of the code as it is, and one slowed by each of two shares (slowdown.py, a real
sleep inside the clock); every second trial in the opposite order, so that drift favours neither side. Each slowed run
is gated against a run beside it, and the two plain runs against each other, with the noise floors of the plain pairs
of all other trials: no trial is judged by a calibration that saw it. Blocks of consecutive trials are judged by turns
as well, as `reports ab` does. Interrupted, the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reports.blocks import Block, announce, find_study, finished, folder_of, in_pairs, runs_folder
from reports.calibration import Noise, measure_noise
from reports.environments import environments, parse_spec
from reports.gate import gate
from reports.measuring import measure_all, stopped_by_termination
from reports.run import Run
from reports.thresholds import PYPROJECT, GateRules, read_rules
from reports.verdicts import Gate

HERE = Path(__file__).resolve().parent
PLAIN = ("plain1", "plain2")
SLOWED = {"slower5": 0.05, "slower10": 0.10}
ORDER = ("plain1", "slower5", "plain2", "slower10")
PAIRS = {"the same code": PLAIN, "5% slower": ("plain1", "slower5"), "10% slower": ("plain2", "slower10")}
BLOCKS = 5  # trials that are judged together, by turns

Trial = dict[str, Run]


def main() -> int:
    """Measure what is missing, judge every trial, print the table and write the figures."""
    parser = argparse.ArgumentParser(prog="make power", description=__doc__)
    parser.add_argument("--study", default="smoke", help="(%(default)s)")
    parser.add_argument("--trials", type=int, default=20, help="(%(default)s)")
    parser.add_argument("--at", default="HEAD", help="revision (%(default)s)")
    parser.add_argument("--turns", choices=("run", "prompt"), default="run", help="as of reports ab (%(default)s)")
    parser.add_argument("--runs", type=Path, help="for the run files (reports/runs/power-TURNS-STUDY)")
    parser.add_argument("-o", "--output", type=Path, help="a JSON file that keeps the figures and the machine")
    parser.add_argument("arguments", nargs="*", metavar="-- OPTION", help="further options for pytest, after --")
    options = parser.parse_args()
    figures = judged(measured(options))
    print(figures["says"])
    if options.output is not None:
        options.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


def measured(options: argparse.Namespace) -> list[Trial]:
    """The runs of every trial, those that are in the folder already taken from there."""
    os.environ |= {"PYTHONPATH": str(HERE), "SLOWDOWN": ",".join(f"{side}-={by}" for side, by in SLOWED.items())}
    spec = parse_spec("at", options.at)
    with stopped_by_termination(), environments([spec]) as (environment,):
        study = find_study(options.study, environment, environment)
        asked = {"study": study.digest, "options": " ".join(options.arguments), "turns": options.turns}
        name = f"power-{options.turns}-{Path(options.study).stem}"
        folder = folder_of("--runs", options.runs or runs_folder(name), asked)
        sides = {side: replace(environment, spec=replace(spec, side=side)) for side in ORDER}
        blocks = [
            Block(sides[side], trial, folder / f"{side}-{trial}.jsonl")
            for trial in range(1, options.trials + 1)
            for side in (ORDER if trial % 2 else ORDER[::-1])
        ]
        done = finished(blocks, announce)
        announce(f"{len(blocks) - len(done)} runs to go, {len(done)} there; {folder}")
        arguments = ("-p", "slowdown", *options.arguments)
        runs = measure_all(blocks, study.path, arguments, announce, done, together=options.turns == "prompt")
    paired = iter(in_pairs(blocks, runs, ORDER))
    return [dict(zip(ORDER, four, strict=True)) for four in zip(paired, paired, paired, paired, strict=True)]


def judged(trials: Sequence[Trial]) -> dict[str, Any]:
    """Every verdict with its ratios and floors, and `says`, a table for a reader."""
    rules = read_rules(PYPROJECT)
    noise = [_noise([other for other in trials if other is not trial]) for trial in trials]
    single = {
        kind: [gate([trial[base]], [trial[head]], rules, known) for trial, known in zip(trials, noise, strict=True)]
        for kind, (base, head) in PAIRS.items()
    }
    turns = {kind: _by_turns(trials, base, head, rules) for kind, (base, head) in PAIRS.items()}
    header = trials[0]["plain1"].header
    return {
        "says": _table(single, turns),
        "study": header["study"],
        "environment": header["environment"],
        "noise": dict(_noise(trials).floor),
        "one run each": {kind: [_figures(one) for one in gates] for kind, gates in single.items()},
        "by turns": {kind: [_figures(one) for one in gates] for kind, gates in turns.items()},
    }


def _noise(trials: Sequence[Trial]) -> Noise:
    return measure_noise([trial[side] for trial in trials for side in PLAIN])


def _by_turns(trials: Sequence[Trial], base: str, head: str, rules: GateRules) -> list[Gate]:
    groups = [trials[start : start + BLOCKS] for start in range(0, len(trials) - BLOCKS + 1, BLOCKS)]
    return [
        gate([trial[base] for trial in group], [trial[head] for trial in group], rules, interleaved=True)
        for group in groups
    ]


def _figures(found: Gate) -> dict[str, Any]:
    timings = [one for one in found.judgements if not one.exact]
    return {
        "base": found.base,
        "head": found.head,
        "verdict": found.verdict,
        "timings": [
            {
                "case": one.case,
                "metric": one.metric,
                "ratio": None if one.ratio is None else round(one.ratio.estimate, 4),
                "floor": None if one.floor is None else round(one.floor, 4),
                "verdict": one.verdict,
            }
            for one in timings
        ],
    }


def _table(single: dict[str, list[Gate]], turns: dict[str, list[Gate]]) -> str:
    """Verdicts by kind of trial, as Markdown."""
    rows = ["| head against base | judged | regressed | inconclusive | passed |", "|:---|:---|---:|---:|---:|"]
    for how, gates_of in (("one run each", single), (f"{BLOCKS} runs each, by turns", turns)):
        for kind, gates in gates_of.items():
            counts = Counter(one.verdict for one in gates)
            told = " | ".join(f"{counts[verdict]}" for verdict in ("regressed", "inconclusive", "pass"))
            rows.append(f"| {kind} | {how}, {len(gates)} times | {told} |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
