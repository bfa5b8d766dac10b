"""`reports calibrate --study smoke --pairs 12`: how far two runs of the same code differ on this machine.

Runs A/A pairs of one revision and writes the noise floor of every timing metric. An interrupted calibration goes on
where it was: finished pairs in its folder are used again, those of another revision or of other versions are put
aside. `--from RUN...` computes from run files that are there.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reports.commands.warning import warn
from reports.numbers.reading import read_measured
from reports.record.run import Run, RunFileError

INTERRUPTED = 130
BUSY = 0.25  # of a log ratio


def register(commands: Any) -> None:
    command = commands.add_parser("calibrate", help="measure this machine's noise", description=__doc__)
    command.add_argument("--study", default="smoke", help="study, or .toml file (default: smoke)")
    command.add_argument("--pairs", type=int, default=12, help="A/A pairs (default: 12)")
    command.add_argument("--at", default="HEAD", metavar="SPEC", help="revision, or . for the working tree (HEAD)")
    command.add_argument("--from", dest="files", metavar="RUN", type=Path, nargs="+", help="run files, each two a pair")
    command.add_argument("--runs", metavar="DIR", type=Path, help="for the run files (reports/runs/noise-STUDY)")
    command.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="(reports/baselines/noise/STUDY/HARDWARE.json)"
    )
    command.add_argument("arguments", nargs="*", metavar="-- OPTION", help="further options for pytest, after --")
    command.set_defaults(run=calibrate)


def calibrate(options: argparse.Namespace) -> int:
    """Measure or read the pairs, write the floors, print them."""
    from reports.gate.calibration import measure_noise, noise_path, write_noise

    if options.pairs < 1:
        raise RunFileError(f"--pairs {options.pairs}: at least 1 is needed; 12 or more tell the noise well")
    try:
        runs = _read(options.files) if options.files else _measured(options)
    except KeyboardInterrupt:
        print("interrupted: the finished runs are kept; the same command goes on with them")
        return INTERRUPTED
    warn(runs)
    noise = measure_noise(runs)
    path = options.output or noise_path(noise.hardware, noise.study)
    write_noise(noise, path)
    print(f"{noise.pairs} A/A pairs of {noise.study} on {noise.hardware}; 95th percentile of their differences")
    print("(the largest one of fewer than 19):")
    for metric, floor in noise.floor.items():
        print(f"  {metric:<22} {100 * math.expm1(floor):7.2f}%  ({noise.counts[metric]} ratios)")
    if max(noise.floor.values()) > BUSY:
        print("Differences this large say that the machine was busy: calibrate again when nothing else runs.")
    print(f"wrote {path}")
    return 0


def _read(files: Sequence[Path]) -> list[Run]:
    runs = [read_measured(file) for file in files]
    for run in runs:
        if run.header.get("by_turns"):
            raise RunFileError(
                f"{run.path}: measured by turns with another run, which differs less than runs apart do; name others"
            )
    return runs


def _measured(options: argparse.Namespace) -> list[Run]:
    from dataclasses import replace

    from reports.launch.block_runs import measure_all, stopped_by_termination
    from reports.launch.blocks import announce, find_study, finished, folder_of, in_pairs, interleaved, runs_folder
    from reports.launch.environments import environments, parse_spec, state_of

    spec = parse_spec("at", options.at)
    with stopped_by_termination(), environments([spec]) as (environment,):
        first, second = (replace(environment, spec=replace(spec, side=side)) for side in "ab")
        study = find_study(options.study, first, second)
        asked = {"study": study.digest, "options": " ".join(options.arguments)}
        asked |= {} if spec.commit else {"state": state_of(spec)}
        folder = folder_of("--runs", options.runs or runs_folder(f"noise-{Path(options.study).stem}"), asked)
        blocks = interleaved(first, second, options.pairs, folder)
        done = finished(blocks, announce)
        left = len(blocks) - len(done)
        announce(f"calibrating {spec.label} with {study.path.name}: {left} runs to go, {len(done)} there; {folder}")
        runs = measure_all(blocks, study.path, options.arguments, announce, done)
    return in_pairs(blocks, runs, "ab")
