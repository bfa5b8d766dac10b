"""Trends over many run files: one series per hardware, case and metric, with the places where its level changed.

Pure; renders nothing. A change point must pass two tests:
1. PELT with the squared-error cost (Killick et al. 2012, arXiv 1101.1438; the package ruptures) places it, on the
   logarithms of latencies and on shares as they are, with segments of at least SHORTEST runs and a penalty of
   PENALTY x sigma^2 x log(runs) for each change; sigma is estimated from the differences of neighbours, so that a
   change of level does not enter it.
2. Welch's t-test between the two neighbouring segments, its p multiplied by the number of places where the change
   could have been put (it was chosen as the best of them), then adjusted by Holm's method, is below LEVEL. What does
   not depend on how fast the machine is that day is tested first and adjusted among itself: speedups over plain
   decoding of the same run, accept rates, shares of problems solved. Times are adjusted over all changes.
And it must be larger than the noise of the machine, where that was measured: what two runs of the same code differ by.
A time that changes between two runs of the same commit and versions is a change of the machine, and told as such.
Series of fewer than FEWEST runs are shown and not judged: three runs on either side are the least that can tell a
change of level from one bad run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from reports.numbers.cases import seconds_per_token
from reports.numbers.metrics import METRICS, Direction
from reports.numbers.reading import read_measured
from reports.numbers.speedups import speedup
from reports.numbers.statistics import Interval, bootstrap_ratio, holm
from reports.record.matching import Difference, environment_differences, hardware_key, identity
from reports.record.run import CaseResult, Run, RunFileError

FEWEST, SHORTEST = 6, 3
PENALTY, LEVEL = 3.0, 0.05
SMALLEST_SIGMA = 1e-6  # of a series whose values are all but equal, so that its penalty is not zero
LATENCY = "latency_tok"
RATIO = "speedup"
FOLLOWED = (RATIO, LATENCY, "accept_rate", "pass_at_1")
"""What is followed over time, in the order in which it is shown."""


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
    versions: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class KnownNoise:
    """What two runs of the same code differ by on one machine: |ln(b / a)| by metric, and the file that says so."""

    floors: Mapping[str, float]
    file: str


FindNoise = Callable[[Run], KnownNoise | None]
"""The noise of a run's machine and study, or None where nobody measured it."""


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
    (geometric for times and speedups); p_value: adjusted, see above; environment: what else differs between the two
    runs on either side; floor: the noise of the machine as |ln|, None where it is not known."""

    at: Source
    before: float
    after: float
    p_value: float
    environment: tuple[Difference, ...]
    floor: float | None = None


@dataclass(frozen=True)
class Trend:
    """One metric of one case on one hardware, oldest run first. of_machine: changes of time between two runs of one and
    the same code; within_noise: how many changes were found that are no larger than the noise of the machine."""

    hardware: str
    case: str
    identity: str
    metric: str
    unit: str
    better: Direction
    points: tuple[Point, ...]
    changes: tuple[LevelChange, ...] = ()
    of_machine: tuple[LevelChange, ...] = ()
    drafting: bool = False
    within_noise: int = 0

    @property
    def by_clock(self) -> bool:
        """Whether its values depend on how fast the machine is, or, as speedups do, on how its speed varies."""
        return self.metric in (LATENCY, RATIO)

    def is_better(self, change: LevelChange) -> bool | None:
        """Whether a change is an improvement; None where the metric has no direction."""
        if self.better == "same":
            return None
        return (change.after < change.before) == (self.better == "lower")


@dataclass(frozen=True)
class History:
    """All series below a folder. sources: the run files used, by hardware and time; warnings: what of them was not;
    noise: by hardware and study."""

    folder: Path
    sources: tuple[Source, ...]
    series: tuple[Trend, ...]
    unreadable: tuple[Unreadable, ...]
    warnings: tuple[str, ...] = ()
    noise: Mapping[tuple[str, str], KnownNoise | None] = field(default_factory=dict)

    @property
    def changes(self) -> list[tuple[Trend, LevelChange]]:
        """All changes, the most recent first."""
        found = [(series, change) for series in self.series for change in series.changes]
        return sorted(found, key=lambda pair: pair[1].at.started_at, reverse=True)


def history(folder: Path, find_noise: FindNoise = lambda run: None) -> History:
    """Read every run file (*.jsonl) below a folder; raises RunFileError if the folder holds none that can be used."""
    if not folder.is_dir():
        raise RunFileError(f"{folder}: not a folder; name one that holds run files, such as reports/runs")
    runs, unreadable = _read(sorted(folder.rglob("*.jsonl")))
    if not runs:
        told = f"; {len(unreadable)} cannot be read, the first: {unreadable[0].reason}" if unreadable else ""
        raise RunFileError(f"{folder}: holds no usable run file (*.jsonl){told}; `make bench` writes one")
    sources = _sources(runs)
    series = _series(runs, sources)
    noise = {(source.hardware, source.study): find_noise(run) for source, run in zip(sources, runs, strict=True)}
    judged = tuple(_judged(series, dict(zip(sources, runs, strict=True)), noise))
    warnings = tuple(warning for run in runs for warning in run.warnings)
    return History(folder, tuple(sources), judged, unreadable, warnings, noise)


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
                versions=_versions(run),
            )
        )
    return found


def _versions(run: Run) -> dict[str, str]:
    """The software that decides speed and rounding, those first that readers know."""
    environment = run.header.get("environment") or {}
    versions = {str(name): str(version) for name, version in dict(environment.get("versions") or {}).items()}
    if environment.get("python"):
        versions["python"] = str(environment["python"])
    known = [name for name in ("torch", "transformers") if name in versions]
    return {name: versions[name] for name in [*known, *sorted(versions.keys() - set(known))]}


def _series(runs: Sequence[Run], sources: Sequence[Source]) -> list[Trend]:
    """Series in the order in which their cases first appear, by hardware."""
    points: dict[tuple[str, str, str], list[Point]] = {}
    latest: dict[tuple[str, str, str], CaseResult] = {}
    for run, source in zip(runs, sources, strict=True):
        for case in run.finished.values():
            for metric, value, interval in _values(case, run):
                key = (source.hardware, identity(case), metric)
                points.setdefault(key, []).append(Point(source, value, interval))
                latest[key] = case
    return [
        Trend(
            hardware=hardware,
            case=latest[hardware, same, metric].id,
            identity=same,
            metric=metric,
            unit=METRICS[metric].unit if metric in METRICS else {RATIO: "times"}.get(metric, "share"),
            better=METRICS[metric].better if metric in METRICS else "higher",
            points=tuple(values),
            drafting=latest[hardware, same, metric].point.speculative,
        )
        for (hardware, same, metric), values in sorted(points.items(), key=lambda item: item[0][0])
    ]


def _values(case: CaseResult, run: Run) -> list[tuple[str, float, Interval | None]]:
    """What of a case is followed over time: speedup, time and acceptance of decoding, pass@1 of HumanEval."""
    if case.status != "ok":
        return []
    values: list[tuple[str, float, Interval | None]] = []
    if case.kind == "decode" and (latency := seconds_per_token(case)):
        if gained := speedup(case, run):
            values.append((RATIO, gained.interval.estimate, gained.interval))
        seconds = [sample.seconds for sample in case.samples]
        tokens = [sample.new_tokens for sample in case.samples]
        values.append((LATENCY, latency, bootstrap_ratio(seconds, tokens) if len(seconds) > 1 else None))
    for name in ("accept_rate", "pass_at_1"):
        value = case.metrics.get(name)
        if value is not None and math.isfinite(value):
            values.append((name, float(value), None))
    return values


@dataclass(frozen=True)
class _ChangePlace:
    """A place where the level of a series may have changed; p_value: not yet adjusted over series."""

    series: int
    at: int
    before: float
    after: float
    p_value: float


def _judged(
    series: Sequence[Trend], runs: Mapping[Source, Run], noise: Mapping[tuple[str, str], KnownNoise | None]
) -> list[Trend]:
    """The series with their changes: significant, and larger than the noise of their machine where that is known."""
    places = [place for number, trend in enumerate(series) for place in _places(number, trend)]
    changes: dict[tuple[int, bool], list[LevelChange]] = {}
    within: dict[int, int] = {}
    for place, p_value in zip(places, _adjusted(places, series), strict=True):
        trend = series[place.series]
        earlier, at = trend.points[place.at - 1].source, trend.points[place.at].source
        floor = _floor(trend, noise.get((at.hardware, at.study)))
        if p_value >= LEVEL:
            continue
        if floor is not None and abs(math.log(place.after / place.before)) <= floor:
            within[place.series] = within.get(place.series, 0) + 1
            continue
        differences = environment_differences(runs[earlier], runs[at])
        of_machine = trend.metric == LATENCY and not differences and bool(earlier.commit and earlier.versions)
        change = LevelChange(at, place.before, place.after, p_value, differences, floor)
        changes.setdefault((place.series, of_machine), []).append(change)
    return [
        dataclasses.replace(
            trend,
            changes=tuple(changes.get((number, False), ())),
            of_machine=tuple(changes.get((number, True), ())),
            within_noise=within.get(number, 0),
        )
        for number, trend in enumerate(series)
    ]


def _places(number: int, trend: Trend) -> list[_ChangePlace]:
    """Where the level of one series may have changed, with the means of the segments on either side."""
    values = [math.log(point.value) if trend.by_clock else point.value for point in trend.points]
    places = change_places(values)
    bounds = [0, *(place for place, _ in places), len(values)]
    candidates = []
    for i, (place, p_value) in enumerate(places):
        means = [float(np.mean(values[bounds[j] : bounds[j + 1]])) for j in (i, i + 1)]
        before, after = (math.exp(mean) if trend.by_clock else mean for mean in means)
        candidates.append(_ChangePlace(number, place, before, after, p_value))
    return candidates


def _adjusted(places: Sequence[_ChangePlace], series: Sequence[Trend]) -> list[float]:
    """Holm's p: of what does not hang on the machine's speed among itself, of times over all places."""
    first = [place for place in places if series[place.series].metric != LATENCY]
    alone = dict(zip(map(id, first), holm([place.p_value for place in first]) if first else [], strict=True))
    over_all = holm([place.p_value for place in places]) if places else []
    return [alone.get(id(place), p_value) for place, p_value in zip(places, over_all, strict=True)]


def _floor(trend: Trend, known: KnownNoise | None) -> float | None:
    """The noise of a series as |ln|; None where it is not known, and for counts, which have none."""
    if known is None or not trend.by_clock:
        return None
    name = f"assisted_{LATENCY}" if trend.metric == LATENCY and trend.drafting else trend.metric
    return known.floors.get(name)


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
