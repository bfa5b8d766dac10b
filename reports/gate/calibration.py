"""How far two runs of the same code differ on one machine: the noise floor of every timing metric, from A/A pairs.

Pure, and it renders nothing: runs in, floors out, and the file that keeps them (reports/baselines/noise/). Must not
know how runs are measured, nor what a gate makes of a floor.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from reports.gate.evidence import level, measurements, share_of, timing_series
from reports.numbers.metrics import METRICS
from reports.numbers.speedups import speedup
from reports.record.checked import Count, fitted, refuse_not_finite
from reports.record.matching import environment_differences, hardware_key, match, refuse_other_workloads, versions_key
from reports.record.plain_text import as_file_name
from reports.record.run import CaseResult, Order, Run, RunFileError

SCHEMA = 1
PERCENTILE = 0.95
SPEEDUP = "speedup"  # derived from two cases, so no metric of one
FOLDER = Path(__file__).resolve().parents[1] / "baselines" / "noise"
RULE = (
    f"per metric, over all cases and pairs: the smallest |ln(b / a)| that at least {PERCENTILE:.0%} of further pairs "
    "stay within, order statistic number ceil(0.95 (n + 1)) of n, the largest where n is under 19"
)


@dataclass(frozen=True)
class Noise:
    """The noise floors of one machine and set of versions.

    floor: metric -> |ln(b / a)| that A/A pairs seldom exceed (0.05: about 5%). counts: how many ratios each is from.
    runs: names of the run files, in order, each two in a row one pair. order: whether their cases took turns.
    """

    hardware: str
    versions: str
    study: str
    pairs: int
    floor: Mapping[str, float]
    counts: Mapping[str, int] = field(default_factory=dict)
    runs: tuple[str, ...] = ()
    order: Order = "blocks"


def measure_noise(runs: Sequence[Run]) -> Noise:
    """Return the floors from A/A runs, each two in a row one pair: |ln(b / a)| per case, pair and timing metric.

    Raises RunFileError where the runs are no pairs of one study, code, machine and set of versions, or have no timing.
    """
    if not runs or len(runs) % 2:
        raise RunFileError(f"{len(runs)} run files: A/A pairs need an even number of runs, each two in a row one pair")
    for run in runs:
        _refuse_unlike(runs[0], run)
    found: dict[str, list[float]] = defaultdict(list)
    for base, head in zip(runs[::2], runs[1::2], strict=True):
        for metric, value in _differences(base, head):
            found[metric].append(value)
    if not found:
        raise RunFileError(f"{runs[0].path}: no case with timing metrics in both runs of a pair; measure again")
    ordered = [metric for metric in (*METRICS, SPEEDUP) if metric in found]
    return Noise(
        hardware=hardware_key(runs[0]),
        versions=versions_key(runs[0]),
        study=_study(runs[0]),
        pairs=len(runs) // 2,
        floor={metric: conservative_percentile(found[metric]) for metric in ordered},
        counts={metric: len(found[metric]) for metric in ordered},
        runs=tuple(run.path.name for run in runs),
        order=runs[0].order,
    )


def conservative_percentile(values: Sequence[float], share: float = PERCENTILE) -> float:
    """Return order statistic number ceil(share (n + 1)) of n values, the largest where that is beyond n.

    A further value of the same kind exceeds it with a chance of at most 1 - share, for n >= share / (1 - share)
    (Wilks 1941, distribution-free tolerance limits).
    """
    rank = math.ceil(share * (len(values) + 1) - 1e-9)
    return sorted(values)[min(rank, len(values)) - 1]


def noise_path(hardware: str, study: str) -> Path:
    """Where the noise of a machine is kept for a study, by its name; `hardware` as of `matching.hardware_key`."""
    return FOLDER / as_file_name(study) / f"{as_file_name(hardware, 150)}.json"


def find_noise(run: Run) -> Noise | None:
    """The noise of the run's machine and study in its place, or None; raises RunFileError if it is damaged."""
    path = noise_path(hardware_key(run), _study(run))
    return read_noise(path) if path.is_file() else None


def write_noise(noise: Noise, path: Path) -> None:
    """Write the floors as JSON, rounded up to six digits after the point; RunFileError if it cannot be written."""
    floor = {metric: math.ceil(value * 1e6) / 1e6 for metric, value in noise.floor.items()}
    content = {
        "schema": SCHEMA,
        "hardware": noise.hardware,
        "versions": noise.versions,
        "study": noise.study,
        "pairs": noise.pairs,
        "rule": RULE,
        "floor": floor,
        "counts": dict(noise.counts),
        "runs": list(noise.runs),
        "order": noise.order,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise RunFileError(f"{path}: cannot be written ({error.strerror}); name a file in a folder you own") from None


class _NoiseFile(Struct):
    """What `write_noise` writes."""

    schema: int
    floor: dict[str, Annotated[float, Meta(ge=0, le=1e9, description="no noise")]]
    hardware: str
    versions: str
    study: str
    pairs: Count
    counts: dict[str, Count] = {}
    runs: tuple[str, ...] = ()
    order: Order = "blocks"


def read_noise(path: Path) -> Noise:
    """Read what `write_noise` wrote; raises RunFileError for a file that is missing, damaged or newer."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and isinstance(content.get("schema"), int) and content["schema"] > SCHEMA:
            raise RunFileError(f"{path}: schema {content['schema']} is newer than {SCHEMA}; update decodebench")
        refuse_not_finite(content)
        made = fitted(content, _NoiseFile)
    except FileNotFoundError:
        raise RunFileError(f"{path}: no such file; `make calibrate` writes it") from None
    except OSError as error:
        raise RunFileError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, RunFileError):
            raise
        raise RunFileError(f"{path}: not a noise file ({error}); run `make calibrate` again") from None
    return Noise(**{name: getattr(made, name) for name in made.__struct_fields__ if name != "schema"})


def _differences(base: Run, head: Run) -> list[tuple[str, float]]:
    """(metric, |ln(head / base)|) of every timing metric that has a better direction, over the matched cases."""
    found = []
    for case, other in match(base, head).pairs:
        first, second = _timings(case, base), _timings(other, head)
        found += [
            (name, abs(math.log(second[name] / value)))
            for name, value in first.items()
            if value > 0 and second.get(name, 0) > 0
        ]
    return found


def _timings(case: CaseResult, run: Run) -> dict[str, float]:
    """The case's metrics that depend on the clock, and its speedup; empty where it did not end well.

    What the gate judges is worked out as the gate does, over all measurements of the case in its run.
    """
    if case.status != "ok":
        return {}
    found = {name: float(value) for name, value in case.metrics.items() if _is_timing(name)}
    found |= {
        name: math.exp(level(values, share_of(name))) for name, values in timing_series(measurements(case, run)).items()
    }
    gained = speedup(case, run)
    return found if gained is None else {**found, SPEEDUP: gained.interval.estimate}


def _is_timing(name: str) -> bool:
    metric = METRICS.get(name)
    return metric is not None and not metric.exact and metric.better != "same"


def _refuse_unlike(first: Run, run: Run) -> None:
    if not run.complete:
        raise RunFileError(f"{run.path}: no end line: the run was stopped; measure it again")
    if _study(run) != _study(first):
        raise RunFileError(f"{run.path}: study is {_study(run)!r}, not {_study(first)!r} as in {first.path}")
    if run.order != first.order:
        raise RunFileError(
            f"{run.path}: its order is {run.order}, not {first.order} as in {first.path}; measure it again"
        )
    refuse_other_workloads(first, run)
    differing = environment_differences(first, run)
    if differing:
        told = ", ".join(f"{one.key} {one.base or 'absent'} != {one.head or 'absent'}" for one in differing)
        raise RunFileError(f"{run.path}: not measured like {first.path}: {told}; calibrate on one code and machine")


def _study(run: Run) -> str:
    return str(dict(run.header.get("study") or {}).get("name", ""))
