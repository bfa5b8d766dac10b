"""Trends over many run files: one series per hardware, case and metric, with the places where its level changed.

Pure; renders nothing. A change point must pass two tests:
1. PELT with the squared-error cost (Killick et al. 2012, arXiv 1101.1438; the package ruptures) places it, on the
   logarithms of latencies and on shares as they are, with segments of at least SHORTEST runs and a penalty of
   PENALTY x sigma^2 x log(runs) for each change; sigma is estimated from the differences of neighbours, so that a
   change of level does not enter it.
2. Welch's t-test between the two neighbouring segments, its p multiplied by the number of places where the change
   could have been put (it was chosen as the best of them), then adjusted over all changes of the report by Holm's
   method, is below LEVEL.
Series of fewer than FEWEST runs are shown and not judged: three runs on either side are the least that can tell a
change of level from one bad run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from reports.numbers.cases import seconds_per_token
from reports.numbers.metrics import METRICS, Direction
from reports.numbers.reading import read_measured
from reports.numbers.statistics import Interval, bootstrap_ratio, holm
from reports.record.matching import Difference, environment_differences, hardware_key, identity
from reports.record.run import CaseResult, Run, RunFileError

FEWEST, SHORTEST = 6, 3
PENALTY, LEVEL = 3.0, 0.05
SMALLEST_SIGMA = 1e-6  # of a series whose values are all but equal, so that its penalty is not zero
LATENCY = "latency_tok"


@dataclass(frozen=True)
class Source:
    """A run file that was read. number: its place in time within its hardware, from 1; commit, started_at: "" where
    the file does not say."""

    path: Path
    hardware: str
    number: int
    started_at: str
    commit: str
    study: str


@dataclass(frozen=True)
class Unreadable:
    """A file that was left out, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Point:
    """One value of a series; interval: over prompts, where the samples are there."""

    source: Source
    value: float
    interval: Interval | None


@dataclass(frozen=True)
class LevelChange:
    """The level of a series changed at `at`, the first run of the new level. before, after: means of the segments
    (geometric for latencies); p_value: adjusted, see above; environment: what else differs between the two runs on
    either side."""

    at: Source
    before: float
    after: float
    p_value: float
    environment: tuple[Difference, ...]


@dataclass(frozen=True)
class Trend:
    """One metric of one case on one hardware, oldest run first."""

    hardware: str
    case: str
    identity: str
    metric: str
    unit: str
    better: Direction
    points: tuple[Point, ...]
    changes: tuple[LevelChange, ...] = ()

    def is_better(self, change: LevelChange) -> bool | None:
        """Whether a change is an improvement; None where the metric has no direction."""
        if self.better == "same":
            return None
        return (change.after < change.before) == (self.better == "lower")


@dataclass(frozen=True)
class History:
    """All series below a folder. sources: the run files used, by hardware and time; warnings: what of them was not."""

    folder: Path
    sources: tuple[Source, ...]
    series: tuple[Trend, ...]
    unreadable: tuple[Unreadable, ...]
    warnings: tuple[str, ...] = ()

    @property
    def changes(self) -> list[tuple[Trend, LevelChange]]:
        """All changes, the most recent first."""
        found = [(series, change) for series in self.series for change in series.changes]
        return sorted(found, key=lambda pair: pair[1].at.started_at, reverse=True)


def history(folder: Path) -> History:
    """Read every run file (*.jsonl) below a folder; raises RunFileError if the folder holds none that can be used."""
    if not folder.is_dir():
        raise RunFileError(f"{folder}: not a folder; name one that holds run files, such as reports/runs")
    runs, unreadable = _read(sorted(folder.rglob("*.jsonl")))
    if not runs:
        told = f"; {len(unreadable)} cannot be read, the first: {unreadable[0].reason}" if unreadable else ""
        raise RunFileError(f"{folder}: holds no usable run file (*.jsonl){told}; `make bench` writes one")
    sources = _sources(runs)
    series = _series(runs, sources)
    judged = tuple(_judged(series, dict(zip(sources, runs, strict=True))))
    warnings = tuple(one for run in runs for one in run.warnings)
    return History(folder, tuple(sources), judged, unreadable, warnings)


def change_places(values: Sequence[float]) -> list[tuple[int, float]]:
    """Where the level of equally spaced values changes: (index of the first value of the new level, Welch's p times
    the number of places it could have been at, at most 1). Values are taken as they are; see the rule above."""
    import ruptures

    signal = np.asarray(values, dtype=np.float64)
    count = signal.size
    if count < FEWEST:
        return []
    penalty = PENALTY * _sigma(signal) ** 2 * math.log(count)
    cost = ruptures.KernelCPD(kernel="linear", min_size=SHORTEST).fit(signal.reshape(-1, 1))
    bounds = [0, *cost.predict(pen=penalty)]
    found = []
    for start, place, end in zip(bounds, bounds[1:], bounds[2:], strict=False):
        places = end - start - 2 * SHORTEST + 1
        found.append((place, min(1.0, places * _welch_p(signal[start:place], signal[place:end]))))
    return found


def _read(paths: Iterable[Path]) -> tuple[list[Run], tuple[Unreadable, ...]]:
    """Runs, oldest first; copies of a file count once."""
    runs: list[Run] = []
    unreadable: list[Unreadable] = []
    seen: dict[str, Path] = {}
    for path in paths:
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if digest in seen:
                unreadable.append(Unreadable(path, f"a copy of {seen[digest].name}"))
                continue
            runs.append(read_measured(path))
            seen[digest] = path
        except RunFileError as error:
            unreadable.append(Unreadable(path, str(error).removeprefix(f"{path}: ")))
        except OSError as error:
            unreadable.append(Unreadable(path, f"cannot be read: {error.strerror}"))
    return sorted(runs, key=_when), tuple(unreadable)


def _when(run: Run) -> tuple[datetime, str, str]:
    return (_time(str(run.header.get("started_at", ""))), _commit(run), str(run.path))


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _commit(run: Run) -> str:
    return str((run.header.get("environment") or {}).get("git_commit") or "")


def _sources(runs: Sequence[Run]) -> list[Source]:
    counts: dict[str, int] = {}
    found = []
    for run in runs:
        hardware = hardware_key(run)
        counts[hardware] = counts.get(hardware, 0) + 1
        study = run.header.get("study") or {}
        found.append(
            Source(
                path=run.path,
                hardware=hardware,
                number=counts[hardware],
                started_at=str(run.header.get("started_at", "")),
                commit=_commit(run),
                study=str(study.get("name", "")),
            )
        )
    return found


def _series(runs: Sequence[Run], sources: Sequence[Source]) -> list[Trend]:
    """Series in the order in which their cases first appear, by hardware."""
    points: dict[tuple[str, str, str], list[Point]] = {}
    names: dict[tuple[str, str, str], str] = {}
    for run, source in zip(runs, sources, strict=True):
        for case in run.finished.values():
            for metric, value, interval in _values(case):
                key = (source.hardware, identity(case), metric)
                points.setdefault(key, []).append(Point(source, value, interval))
                names[key] = case.id
    return [
        Trend(
            hardware=hardware,
            case=names[hardware, same, metric],
            identity=same,
            metric=metric,
            unit="share" if metric == "pass_at_1" else METRICS[metric].unit,
            better="higher" if metric == "pass_at_1" else METRICS[metric].better,
            points=tuple(found),
        )
        for (hardware, same, metric), found in sorted(points.items(), key=lambda item: item[0][0])
    ]


def _values(case: CaseResult) -> list[tuple[str, float, Interval | None]]:
    """What of a case is followed over time: latency and acceptance of decoding, pass@1 of HumanEval."""
    if case.status != "ok":
        return []
    found: list[tuple[str, float, Interval | None]] = []
    if case.kind == "decode" and (latency := seconds_per_token(case)):
        seconds = [sample.seconds for sample in case.samples]
        tokens = [sample.new_tokens for sample in case.samples]
        found.append((LATENCY, latency, bootstrap_ratio(seconds, tokens) if len(seconds) > 1 else None))
    for name in ("accept_rate", "pass_at_1"):
        value = case.metrics.get(name)
        if value is not None and math.isfinite(value):
            found.append((name, float(value), None))
    return found


def _judged(series: Sequence[Trend], runs: dict[Source, Run]) -> list[Trend]:
    """The series with their changes, adjusted over all of them."""
    found: list[tuple[int, int, float, float, float]] = []
    for number, one in enumerate(series):
        logarithmic = one.metric == LATENCY
        values = [math.log(point.value) if logarithmic else point.value for point in one.points]
        places = change_places(values)
        bounds = [0, *(place for place, _ in places), len(values)]
        for i, (place, p_value) in enumerate(places):
            means = [float(np.mean(values[bounds[j] : bounds[j + 1]])) for j in (i, i + 1)]
            before, after = (math.exp(mean) if logarithmic else mean for mean in means)
            found.append((number, place, before, after, p_value))
    adjusted = holm([p_value for *_, p_value in found]) if found else []
    changes: dict[int, list[LevelChange]] = {}
    for (number, place, before, after, _), p_value in zip(found, adjusted, strict=True):
        if p_value < LEVEL:
            earlier, at = series[number].points[place - 1].source, series[number].points[place].source
            differences = environment_differences(runs[earlier], runs[at])
            changes.setdefault(number, []).append(LevelChange(at, before, after, p_value, differences))
    return [dataclasses.replace(one, changes=tuple(changes.get(number, ()))) for number, one in enumerate(series)]


def _sigma(signal: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """Noise of one value, from the median of the differences of neighbours: a few changes of level do not move it."""
    differences = np.diff(signal)
    spread = float(np.median(np.abs(differences - np.median(differences))))
    return max(1.4826 * spread / math.sqrt(2.0), SMALLEST_SIGMA)


def _welch_p(
    first: np.ndarray[tuple[int], np.dtype[np.float64]], second: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> float:
    """Welch's p; 0 or 1 where neither segment varies."""
    from scipy.stats import ttest_ind

    if np.ptp(first) == 0 and np.ptp(second) == 0:
        return 0.0 if first[0] != second[0] else 1.0
    return float(ttest_ind(first, second, equal_var=False).pvalue)
