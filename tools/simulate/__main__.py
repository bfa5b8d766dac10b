"""`python -m tools.simulate [RUN]`: how often intervals and races are wrong, on a machine that drifts as recorded.

Writes reports/published/simulations.json, which docs/statistics.md shows. RUN: a run by rounds with at least 60 rounds
of every case, whose race is replayed; without it, a simulated one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reports.record.reader import read_run
from reports.record.run import RunFileError
from reports.views.sheet import Align, markdown, plain_sheet
from tools.simulate.equal_cases import WINDOWS, coverage
from tools.simulate.equal_races import equal_races
from tools.simulate.gate_rates import gate_rates
from tools.simulate.race_replay import replayed
from tools.simulate.recorded_machine import RECORDED, ROOT, recorded_machine

RESULTS = ROOT / "reports/published/simulations.json"
SEED = 20261125
SETTINGS = ("plain,greedy,dynamic", "assisted,k=3,p=0.4,greedy,dynamic", "prompt_lookup,k=3,greedy,dynamic")


def simulated(
    run: Path | None, *, runs: int = 1_000, races: int = 2_000, replays: int = 200, pairs: int = 1_000
) -> dict[str, Any]:
    """All figures, and what they say for a reader."""
    machine = recorded_machine()
    settings = [next(name for name in machine.prompts if name.endswith(f"bf16/{setting}")) for setting in SETTINGS]
    random = np.random.default_rng(SEED)
    recorded = machine.long_run(60, random) if run is None else read_run(run)
    figures: dict[str, Any] = {
        "machine": RECORDED.name,
        "seed": SEED,
        "equal_settings": coverage(machine, settings, runs, random),
        "races": [equal_races(machine, settings[1], races, random, better=better) for better in (0.0, 0.02, 0.05)],
        "replay": replayed(recorded, replays, random),
        "gate": gate_rates(machine, pairs, random),
    }
    return {"says": _said(figures), **figures}


def _said(figures: dict[str, Any]) -> str:
    shares = figures["equal_settings"]
    windows = [
        [way, *(f"{100 * found[str(window)]['contain_1']:.1f}%" for window in WINDOWS)] for way, found in shares.items()
    ]
    races = []
    for race in figures["races"]:
        better = f"one {race['better_by']:.0%} better" if race["better_by"] else "two equal settings"
        races.append(
            [
                f"{better}, {race['races']} races of {race['rounds']} rounds",
                f"{100 * race['better_one_dropped']:.1f}%",
                f"{100 * race['better_one_leads']:.1f}%",
                f"{race['generations_of_a_full_run']:.0%}",
            ]
        )
    looked = "races, looked at after every round"
    lines = [
        _shares("equal settings, 95% interval contains 1", [f"{window} rounds" for window in WINDOWS], windows),
        "",
        _shares(looked, ["better one dropped", "better one leads", "generations"], races),
    ]
    replay = figures["replay"]
    lines += [
        "",
        f"{replay['replays']} races over the shuffled rounds of {replay['run']} ({replay['cases']} cases, "
        f"{replay['candidates']} candidates, {replay['rounds']} rounds): the winner is the full run's best, or not "
        f"told apart from it, in {100 * replay['winner_is_one_of_these']:.1f}%, with "
        f"{100 * replay['generations_of_the_full_run']:.0f}% of its generations.",
        "",
    ]
    judged = []
    for rate in figures["gate"]:
        code = f"{rate['slower_by']:.0%} slower" if rate["slower_by"] else "the same code"
        cells = [rate["gates_regressed"], rate["regressed"], rate["inconclusive"], rate["pass"]]
        judged.append(
            [f"{code}, {rate['pairs']} pairs of runs of 30 rounds", *(f"{100 * cell:.1f}%" for cell in cells)]
        )
    of = "gate by rounds without a calibration, one of four speedups"
    lines.append(_shares(of, ["any regressed", "it regressed", "inconclusive", "passed"], judged))
    return "\n".join(lines)


def _shares(of: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Shares in Markdown, a row each; of: what the rows are."""
    columns: dict[str, Align] = {of: "left"}
    return markdown(plain_sheet(columns | dict.fromkeys(names, "right"), rows))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.simulate", description=__doc__)
    parser.add_argument("run", nargs="?", type=Path, help="a run by rounds with at least 60 rounds of every case")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    try:
        figures = simulated(options.run)
    except (RunFileError, ValueError) as error:
        print(f"tools.simulate: {error}", file=sys.stderr)
        return 2
    options.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(figures["says"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
