"""`make power`: what the gate finds on this machine, from runs of a study of which some are slower by a known share.

A trial is three blocks of base and head close in time: of the same code, and of head slowed by each of two shares
(slowdown.py, a real sleep inside the clock). Single runs are gated with the noise floors of the blocks of the same code
in all other trials, so that no trial is judged by a calibration that saw it. As the blocks of one `reports ab` several
trials are judged together, in every choice of so many of them. Interrupted, the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reports.gate.calibration import Noise, measure_noise
from reports.gate.judging import gate
from reports.gate.thresholds import PYPROJECT, GateRules, read_rules
from reports.gate.verdicts import Gate
from reports.launch.block_runs import measure_all, stopped_by_termination
from reports.launch.blocks import Block, announce, find_study, finished, folder_of, in_pairs, runs_folder
from reports.launch.environments import environments, parse_spec
from reports.record.run import Run
from reports.views.sheet import Align, markdown, plain_sheet

HERE = Path(__file__).resolve().parent
SLOWED = {"same": 0.0, "slower5": 0.05, "slower10": 0.10}
HEADS = {"same": "the same code", "slower5": "5% slower", "slower10": "10% slower"}
TOGETHER = (5, 8)  # blocks of one comparison
MOST_CHOICES = 252
ALONE = "1, with the noise of the others"

Trial = dict[str, tuple[Run, Run]]
"""Base and head by kind."""


def main() -> int:
    """Measure what is missing, judge every trial, print the table and write the figures."""
    parser = argparse.ArgumentParser(prog="make power", description=__doc__)
    parser.add_argument("--study", default="smoke", help="(%(default)s)")
    parser.add_argument("--trials", type=int, default=10, help="(%(default)s)")
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
    os.environ |= {"PYTHONPATH": str(HERE), "SLOWDOWN": ",".join(f"head-{kind}-={by}" for kind, by in SLOWED.items())}
    spec = parse_spec("at", options.at)
    with stopped_by_termination(), environments([spec]) as (environment,):
        study = find_study(options.study, environment, environment)
        asked = {"study": study.digest, "options": " ".join(options.arguments), "turns": options.turns}
        name = f"power-{options.turns}-{Path(options.study).stem}"
        folder = folder_of("--runs", options.runs or runs_folder(name), asked)
        base, head = (replace(environment, spec=replace(spec, side=side)) for side in ("base", "head"))
        places = [(trial, kind) for trial in range(1, options.trials + 1) for kind in SLOWED]
        blocks = [
            Block(side, number, folder / f"{side.spec.side}-{kind}-{trial}.jsonl")
            for number, (trial, kind) in enumerate(places, start=1)
            for side in ((base, head) if number % 2 else (head, base))
        ]
        done = finished(blocks, announce)
        announce(f"{len(blocks) - len(done)} runs to go, {len(done)} there; {folder}")
        arguments = ("-p", "slowdown", *options.arguments)
        runs = measure_all(blocks, study.path, arguments, announce, done, together=options.turns == "prompt")
    pairs = iter(in_pairs(blocks, runs, ("base", "head")))
    found: list[Trial] = [{} for _ in range(options.trials)]
    for (trial, kind), first, second in zip(places, pairs, pairs, strict=True):
        found[trial - 1][kind] = (first, second)
    return found


def judged(trials: Sequence[Trial]) -> dict[str, Any]:
    """Every verdict on a single block with its ratios and floors, the verdicts on several, and `says`, a table."""
    rules = read_rules(PYPROJECT)
    noise = [_noise([other for other in trials if other is not trial]) for trial in trials]
    single = {
        kind: [gate([each[kind][0]], [each[kind][1]], rules, known) for each, known in zip(trials, noise, strict=True)]
        for kind in SLOWED
    }
    counts: dict[tuple[str, str], Counter[str]] = {
        (ALONE, kind): Counter(one.verdict for one in found) for kind, found in single.items()
    }
    for number in TOGETHER:
        for kind in SLOWED:
            counts[f"{number} of {len(trials)}", kind] = Counter(
                _of_blocks(each, kind, rules) for each in _choices(trials, number)
            )
    header = trials[0]["same"][0].header
    return {
        "says": _table(counts),
        "study": header["study"],
        "environment": header["environment"],
        "noise": dict(_noise(trials).floor),
        "blocks": {kind: [_figures(one) for one in found] for kind, found in single.items()},
        "verdicts": [{"blocks": blocks, "head": HEADS[kind], **found} for (blocks, kind), found in counts.items()],
    }


def _noise(trials: Sequence[Trial]) -> Noise:
    return measure_noise([run for trial in trials for run in trial["same"]])


def _choices(trials: Sequence[Trial], number: int) -> list[Sequence[Trial]]:
    """Every choice of so many trials, or at most MOST_CHOICES of them by lot; they overlap, unlike trials."""
    if number > len(trials):
        return []
    if math.comb(len(trials), number) <= MOST_CHOICES:
        return list(itertools.combinations(trials, number))
    lot = random.Random(0)
    return [lot.sample(trials, number) for _ in range(MOST_CHOICES)]


def _of_blocks(trials: Sequence[Trial], kind: str, rules: GateRules) -> str:
    bases, heads = zip(*(trial[kind] for trial in trials), strict=True)
    return gate(bases, heads, rules, interleaved=True).verdict


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


def _table(counts: Mapping[tuple[str, str], Mapping[str, int]]) -> str:
    """Verdicts by kind of trial, as Markdown."""
    columns: dict[str, Align] = {"head against base": "left", "blocks": "left"}
    columns |= dict.fromkeys(("judged", "regressed", "inconclusive", "passed"), "right")
    rows = [
        [
            HEADS[kind],
            blocks,
            f"{sum(found.values())} times",
            *(f"{found.get(verdict, 0)}" for verdict in ("regressed", "inconclusive", "pass")),
        ]
        for (blocks, kind), found in counts.items()
        if found
    ]
    return markdown(plain_sheet(columns, rows))


if __name__ == "__main__":
    sys.exit(main())
