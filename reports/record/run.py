"""The run file: an append-only JSON Lines journal of one run of the suite; writing, reading, merging.

Knows the shape of a run and nothing of how it was measured or what it means. Each line is flushed and
fsynced, so a killed run keeps every finished case.

Format history
  1  first: lines of kind run, case, completion, verdict, end
  2  lines of kind session: one for each further process that wrote, with its environment and start, before its cases.
     Migration from 1: the run line tells of the one session that there was; of a file that was resumed or merged
     before, the sessions cannot be told apart.
     Added since, without a new number, as a file that lacks them means their defaults: lines of kind round; order,
     order_seed and blocks in the run line; round, turn, visit and started in a sample; warm_ups, repeats, block and
     dropped_round in a case; the statuses crashed and dropped.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TextIO

import orjson

from reports.record.checked import converted, unknown_to
from reports.record.repeats import completed
from reports.record.run_checks import check_case, check_header, check_round, check_samples, check_times
from reports.record.settings import (
    PARTS,
    DecodingPoint,
    EngineKey,
    WorkloadDone,
    baseline_settings,
    current_id,
    decided_by,
)
from reports.record.unfinished import Left, Unfinished

SCHEMA = 2
_SAMPLES = b'"samples":[{'
_SAMPLES_OF_ROUND = b',"samples":{'

Status = Literal["ok", "failed", "oom", "timeout", "crashed", "skipped", "dropped"]
STATUSES: tuple[Status, ...] = ("ok", "failed", "oom", "timeout", "crashed", "skipped", "dropped")
Kind = Literal["decode", "humaneval"]
Order = Literal["rounds", "blocks"]
INTERRUPTED = "interrupted"
"""How the reason of a case begins that was stopped from outside; what it has measured stands."""


class RunFileError(ValueError):
    """A run file cannot be used; the message names the file, the key or line, and the remedy."""


@dataclass(frozen=True)
class Sample:
    """One prompt, one generation, with all its raw figures. Times in seconds (float64), the rest are counts.

    drafted = accepted + rejected + censored, where censored tokens lay past the end of the output, so that
    nobody checked them. steps holds (proposed, accepted) of every step in order. proposed_at[i] and
    accepted_at[i] count the steps that proposed, and accepted, a token at draft position i (0 is the first).
    first_tokens is how many tokens the first forward of the target yielded (their time is ttft_seconds).
    round, turn: which round of its block, counted over all visits, and the place in it over all cases; None where
    cases did not take turns. visit: which visit of the block. started: seconds since its session began, monotonic.
    """

    prompt: int
    seconds: float
    new_tokens: int
    target_forwards: int
    output_sha256: str
    ttft_seconds: float | None = None
    first_tokens: int = 1
    draft_forwards: int = 0
    drafted: int = 0
    accepted: int = 0
    rejected: int = 0
    censored: int = 0
    rollbacks: int = 0
    proposed_at: tuple[int, ...] = ()
    accepted_at: tuple[int, ...] = ()
    steps: tuple[tuple[int, int], ...] = ()
    draft_seconds: float = 0.0
    verify_seconds: float = 0.0
    other_seconds: float = 0.0
    output_tokens: tuple[int, ...] = ()
    round: int | None = None
    turn: int | None = None
    visit: int = 0
    started: float | None = None


@dataclass(frozen=True)
class CaseResult:
    """One case of a run: what was asked (engine, point, workload), how it ended, and what was measured.

    again marks the second measurement of a baseline, at the end of its engine's block. facts holds figures
    that are not per sample (memory, load seconds, compile seconds...), each a number with its unit in its name.
    session: which process of those that wrote the file measured it, counted from 0; see `Run.sessions`.
    unknown: settings of a newer version, by part and name, kept as they are. unstated: settings that the source does
    not tell, as published figures do not; they hold their default and say nothing.
    warm_ups: generations before the clock counted. repeats: further ones of a baseline in rounds in which it had its
    first; they tell how fast the machine was. block: in which of the run's blocks it took turns, None if it did not.
    dropped_round: the last round of a case that was dropped from the race; its samples and metrics stay.
    """

    id: str
    status: Status
    kind: Kind = "decode"
    experiment: str = ""
    engine: EngineKey = field(default_factory=lambda: EngineKey(""))
    point: DecodingPoint = field(default_factory=DecodingPoint)
    workload: WorkloadDone = field(default_factory=WorkloadDone)
    reason: str = ""
    again: bool = False
    started_at: str = ""
    samples: tuple[Sample, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    telemetry: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    session: int = 0
    unknown: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    unstated: frozenset[str] = frozenset()
    warm_ups: tuple[Sample, ...] = ()
    repeats: tuple[Sample, ...] = ()
    block: int | None = None
    dropped_round: int | None = None

    @property
    def measured(self) -> bool:
        """Whether its figures stand: it ended well, or was dropped from a race after rounds that count."""
        return self.status in ("ok", "dropped")

    @property
    def stopped(self) -> bool:
        """Whether it ended before it was done, so that its samples stand and a resumed run decodes what is left."""
        return self.status == "timeout" or self.reason.startswith(INTERRUPTED)

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting that decides what the case does, by name, as far as it is known; see `decided_by`."""
        known = decided_by(self.engine, self.point, self.workload)
        if self.unstated:
            known = {name: value for name, value in known.items() if name not in self.unstated}
        return known | self.unknown_settings

    @property
    def unknown_settings(self) -> dict[str, Any]:
        """The settings of a newer version, under `part.name`."""
        return {f"{part}.{name}": value for part, values in self.unknown.items() for name, value in values.items()}


@dataclass(frozen=True)
class Completion:
    """One HumanEval completion of one case. tokens: new tokens generated; seconds: its share of its batch's time; rows:
    how many were decoded at a time at most, which in 16 bits decides on tokens; None in files that do not tell.

    Written in two lines, so that neither generating nor judging is repeated after an interruption: `completion` when it
    was generated, then `verdict` with status and detail. status is empty until then; only "passed" counts as solved.
    """

    case: str
    task_id: str
    sample: int
    completion: str
    tokens: int
    seconds: float
    status: str = ""
    detail: str = ""
    rows: int | None = None

    @property
    def passed(self) -> bool:
        return self.status == "passed"


@dataclass(frozen=True)
class Round:
    """One round of a block: every case still in the race decoded one prompt, each after the other. Its samples apart.

    session, block: counted from 0; round: of its block, counted over all visits. order: ids as decoded, a baseline
    perhaps several times. disturbed: why its times are doubtful, empty if they are not. machine: readings during it.
    """

    session: int
    block: int
    visit: int
    round: int
    order: tuple[str, ...]
    disturbed: str = ""
    machine: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """A whole run file. header: study, environment and settings as written; complete: its end line is there.

    completions: those of HumanEval cases, finished or not, each with its verdict if it has one. later_sessions: what is
    known of the processes that went on with the file, or whose files were merged into it, after the first. rounds: in
    the order of the file; none where cases did not take turns. A case that has rounds and no line of its own, since the
    run was killed, is among the cases as interrupted, after those that have one.
    """

    path: Path
    header: Mapping[str, Any]
    cases: tuple[CaseResult, ...]
    complete: bool
    end: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    completions: tuple[Completion, ...] = ()
    later_sessions: tuple[Mapping[str, Any], ...] = ()
    rounds: tuple[Round, ...] = ()

    @property
    def order(self) -> Order:
        """Whether cases took turns in every round or were measured one after the other, as older versions did."""
        return "rounds" if self.header.get("order") == "rounds" else "blocks"

    @property
    def block_count(self) -> int:
        """How many blocks were planned, as far as the file tells it."""
        used = [done.block for done in self.rounds] + [case.block for case in self.cases if case.block is not None]
        return max(len(self.header.get("blocks", ())), 1 + max(used, default=-1))

    @property
    def sessions(self) -> tuple[Mapping[str, Any], ...]:
        """Environment and start of every process that wrote the file; of the first, the header."""
        return (self.header, *self.later_sessions)

    def like(self, session: int, other: int) -> bool:
        """Whether times of two sessions may be compared at all: one session, or machines of the same hardware."""
        if session == other:
            return True
        found = [dict(self.sessions[place].get("environment") or {}) for place in (session, other)]
        return bool(found[0].get("hardware")) and found[0].get("hardware") == found[1].get("hardware")

    @property
    def finished(self) -> dict[str, CaseResult]:
        """The last result of every case, by id; repeats of baselines are not in it."""
        return {case.id: case for case in self.cases if not case.again}

    @cached_property
    def results(self) -> Mapping[str, tuple[CaseResult, ...]]:
        """All results of every case in their order, by id; repeats of baselines are in it."""
        by_id: dict[str, list[CaseResult]] = {}
        for case in self.cases:
            by_id.setdefault(case.id, []).append(case)
        return {name: tuple(cases) for name, cases in by_id.items()}

    @cached_property
    def places(self) -> Mapping[int, int]:
        """Where each case, by its `id()`, stands among the cases."""
        return {id(case): place for place, case in enumerate(self.cases)}

    @cached_property
    def targets(self) -> Mapping[str, str]:
        """Pair -> its target model and where that comes from, as far as the header tells it."""
        pairs = self.header.get("study", {}).get("pairs", ())
        return {
            str(pair.get("name")): f"{pair.get('source', 'hub')}: {pair['target']}"
            for pair in pairs
            if pair.get("target")
        }

    def target_of(self, case: CaseResult) -> str:
        """What identifies the target that a case decodes with; the pair's name where the header does not know it."""
        return self.targets.get(case.engine.pair, case.engine.pair)

    @cached_property
    def plain_measurements(self) -> Mapping[Hashable, tuple[tuple[int, CaseResult], ...]]:
        """The measurements of plain decoding that ended well with their places, by what they decode and with what."""
        measured: dict[Hashable, list[tuple[int, CaseResult]]] = {}
        for place, case in enumerate(self.cases):
            if case.kind == "decode" and case.status == "ok" and case.point.strategy == "plain":
                measured.setdefault(self._asked(case, case.engine, case.point), []).append((place, case))
        return {asked: tuple(cases) for asked, cases in measured.items()}

    @cached_property
    def completed_measurements(self) -> Mapping[Hashable, tuple[tuple[int, CaseResult], ...]]:
        """As `plain_measurements`, each with all prompts of the first of its kind; see `completed`."""
        return {
            asked: tuple(
                one
                for session in dict.fromkeys(case.session for _, case in cases)
                for one in completed([(place, case) for place, case in cases if case.session == session])
            )
            for asked, cases in self.plain_measurements.items()
        }

    def baseline_measurements(
        self, case: CaseResult, *, same_engine: bool = False, completed: bool = False
    ) -> tuple[tuple[int, CaseResult], ...]:
        """The measurements of the case's baseline with their places, under whichever pair of its target they were made.

        Those of the case's own session; where that has none, those of sessions on like machines. completed: each with
        all prompts of the first.
        """
        engine, point = baseline_settings(case.engine, case.point, same_engine=same_engine)
        measured = self.completed_measurements if completed else self.plain_measurements
        every = measured.get(self._asked(case, engine, point), ())
        own = tuple((place, other) for place, other in every if other.session == case.session)
        return own or tuple((place, other) for place, other in every if self.like(case.session, other.session))

    def is_own_baseline(self, case: CaseResult, *, same_engine: bool = False) -> bool:
        """Whether the case is what its baseline would be."""
        engine, point = baseline_settings(case.engine, case.point, same_engine=same_engine)
        return case.kind == "decode" and self._asked(case, engine, point) == self._asked(case, case.engine, case.point)

    def _asked(self, case: CaseResult, engine: EngineKey, point: DecodingPoint) -> Hashable:
        """What is asked of a target: the same for pairs that share it, and for a draft that is loaded but not used."""
        known = dataclasses.replace(engine.of_case(point), pair=self.target_of(case)), point, case.workload
        return (*known, repr(sorted(case.unknown_settings.items()))) if case.unknown else known


class RunWriter:
    """Appends lines to a run file; every line is on disk when the call returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        drop_torn_tail(path)
        self._file: TextIO = path.open("a", encoding="utf-8")
        self._told: set[str] = set()

    def run(self, header: Mapping[str, Any]) -> None:
        self._append({"kind": "run", "schema": SCHEMA, **header})

    def session(self, environment: Mapping[str, Any]) -> None:
        """Another process goes on with the file; what follows is its own."""
        self._append({"kind": "session", **environment})

    def case(self, result: CaseResult) -> None:
        self._append(case_line(result))

    def round(self, done: Round, samples: Mapping[str, Sequence[Sample]], cases: Iterable[CaseResult] = ()) -> None:
        """A round is over. samples: by case, the one that counts and then the repeats of a baseline.

        cases: what is known of its cases by now, by which a reader understands one that never gets a line of its own;
        written once for each case.
        """
        known = [case for case in cases if case.id not in self._told]
        self._told |= {case.id for case in known}
        self._append(round_line(done, samples, known))

    def completion(self, generated: Completion) -> None:
        self._append(completion_line(generated))

    def verdict(self, judged: Completion) -> None:
        self._append(verdict_line(judged))

    def end(self, summary: Mapping[str, Any]) -> None:
        self._append({"kind": "end", **summary})

    def close(self) -> None:
        self._file.close()

    def _append(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def case_line(result: CaseResult) -> dict[str, Any]:
    """A case as a JSON line; the line's `kind` is `case`, what was measured is under `case_kind`."""
    line = _without_defaults(result)
    for name in ("kind", "session", "unknown", "unstated"):
        line.pop(name, None)
    for part in PARTS:
        line[part] = {**vars(getattr(result, part)), **result.unknown.get(part, {})}
    for name in ("warm_ups", "repeats", "samples"):
        if name in line:
            line[name] = [_without_defaults(sample) for sample in line.pop(name)]
    return {"kind": "case", "case_kind": result.kind, **line}


def round_line(done: Round, samples: Mapping[str, Sequence[Sample]], cases: Iterable[CaseResult]) -> dict[str, Any]:
    """A round as a JSON line. Its samples stand last, where `read_outline` can leave them out unread."""
    line: dict[str, Any] = {"kind": "round", **_without_defaults(done)}
    if known := {case.id: _as_known(case) for case in cases}:
        line["cases"] = known
    return line | {"samples": {name: [_without_defaults(one) for one in those] for name, those in samples.items()}}


def _as_known(case: CaseResult) -> dict[str, Any]:
    """A case before it is over."""
    line = case_line(case)
    return {name: value for name, value in line.items() if name not in ("kind", "id", "status", "samples", "metrics")}


def completion_line(generated: Completion) -> dict[str, Any]:
    """What was generated, without the verdict."""
    line = {"kind": "completion", **dataclasses.asdict(generated)}
    del line["status"], line["detail"]
    return {name: value for name, value in line.items() if value is not None}


def verdict_line(judged: Completion) -> dict[str, Any]:
    """The verdict on a completion that an earlier line holds."""
    names = ("case", "task_id", "sample", "status", "detail")
    return {"kind": "verdict", **{name: getattr(judged, name) for name in names}}


@dataclass(frozen=True)
class Outline:
    """A run file whose cases are read without their samples.

    offsets[i]: where the lines start that hold the samples of case i, in bytes: its own line, or those of its rounds.
    """

    run: Run
    offsets: tuple[tuple[int, ...], ...]


def read_run(path: Path | str) -> Run:
    """Read a run file.

    A torn last line is dropped with a warning, and so is everything of an older schema that is unknown here.
    Raises RunFileError for a file that is missing, not a run file, damaged before its last line, without a
    `run` line, of a newer schema, or with a key that holds something else than it must.
    """
    return _read(Path(path), with_samples=True).run


def read_outline(path: Path | str) -> Outline:
    """Read a run file as `read_run` does, but leave the samples where they are, unchecked: most of a large file."""
    return _read(Path(path), with_samples=False)


def _read(path: Path, *, with_samples: bool) -> Outline:
    header: dict[str, Any] | None = None
    cases: list[CaseResult] = []
    offsets: list[tuple[int, ...]] = []
    completions: dict[tuple[Any, ...], Completion] = {}
    end: dict[str, Any] = {}
    warnings: list[str] = []
    sessions: list[dict[str, Any]] = []
    rounds: list[Round] = []
    unfinished = Unfinished()
    for number, offset, line in _lines(path, warnings, parse_line if with_samples else _parse_without_samples):
        kind = line.get("kind")
        if kind == "run":
            _check_schema(path, line)
            if header is None:
                header = line
                _check_header(path, number, line)
                line.get("environment", {}).get("hardware", {}).pop("gpu_uuid", None)  # a serial, in files from before
            end = {}
        elif kind == "case":
            if header is None:
                raise RunFileError(f"{path}: line {number}: a case before any line of kind 'run'; not a run file")
            line["session"] = len(sessions)
            cases.append(_case(path, number, line if with_samples else {**line, "samples": ()}))
            offsets.append((offset,))
            unfinished.over(cases[-1].id)
            end = {}
        elif kind == "round":
            if header is None:
                raise RunFileError(f"{path}: line {number}: a round before any line of kind 'run'; not a run file")
            rounds.append(_round(path, number, line, len(sessions)))
            unfinished.take(line, len(sessions), offset)
            end = {}
        elif kind == "session":
            if header is None:
                raise RunFileError(f"{path}: line {number}: a session before any line of kind 'run'; not a run file")
            _check_header(path, number, line)
            sessions.append(line)
            end = {}
        elif kind in ("completion", "verdict"):
            _completion(path, number, line, completions)
        elif kind == "end":
            end = line
        else:
            raise RunFileError(
                f"{path}: line {number}: kind is {kind!r}, not run, session, case, round, completion, verdict or end; "
                "not a run file"
            )
    if header is None:
        raise RunFileError(f"{path}: no line of kind 'run': the file is empty or not a run file; measure again")
    for name, left in unfinished.left.items():
        if not left.known:
            warnings.append(f"{path}: {name}: no line says what it is, so its rounds were left out; measure it again")
            continue
        case, places = _interrupted(path, name, left, list(zip(cases, offsets, strict=True)))
        cases.append(case)
        offsets.append(places)
    unknown = dict.fromkeys(name for case in cases for name in case.unknown_settings)
    if unknown:
        warnings.append(
            f"{path}: settings of a newer version: {', '.join(unknown)}; they are kept, and cases told apart by their "
            "ids; update decodebench"
        )
    run = Run(
        path,
        header,
        tuple(cases),
        bool(end),
        end,
        tuple(warnings),
        tuple(completions.values()),
        tuple(sessions),
        tuple(rounds),
    )
    return Outline(run, tuple(offsets))


def _interrupted(
    path: Path, name: str, left: Left, before: Sequence[tuple[CaseResult, tuple[int, ...]]]
) -> tuple[CaseResult, tuple[int, ...]]:
    """A case of which only rounds are there, and where its samples are; those of a line it was stopped with come first.

    A baseline that was measured before is measured again.
    """
    earlier, places = next(((case, at) for case, at in reversed(before) if case.id == name), (None, ()))
    count = len(left.offsets)
    line = {
        **left.line,
        "id": name,
        "status": "failed",
        "reason": f"{INTERRUPTED} (the run ended {count} round{'' if count == 1 else 's'} after it began)",
        "again": earlier is not None and earlier.measured,
        "samples": left.samples,
    }
    case = _case(path, None, line)
    if earlier is None or not earlier.stopped:
        return case, tuple(left.offsets)
    samples = {sample.prompt: sample for sample in (*earlier.samples, *case.samples)}
    case = dataclasses.replace(case, samples=tuple(samples.values()), repeats=(*earlier.repeats, *case.repeats))
    return case, (*places, *left.offsets)


def _round(path: Path, number: int, line: dict[str, Any], session: int) -> Round:
    """A round without its samples; cases and samples of its line are checked, and ids spelled as today."""
    try:
        check_round(line)
        line["order"] = tuple(map(current_id, line["order"]))
        for key in ("cases", "samples"):
            line[key] = {current_id(name): value for name, value in line.get(key, {}).items()}
        values = {item.name: line[item.name] for item in dataclasses.fields(Round) if item.name in line}
        return Round(**(values | {"session": session}))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunFileError(f"{path}: line {number}: not a round of schema {SCHEMA}: {error}") from None


def write_merged(runs: Iterable[Run], path: Path) -> None:
    """Concatenate the cases of several runs into a new run file under the first one's header."""
    runs = list(runs)
    if path.exists():
        raise RunFileError(f"{path}: exists already; name a new file for the merged run")
    writer = RunWriter(path)
    header = {key: value for key, value in runs[0].header.items() if key not in ("kind", "schema")}
    header["study"] = _with_all_pairs(header.get("study", {}), runs)
    if any(run.header.get("blocks") for run in runs):
        header["blocks"] = [block for run in runs for block in run.header.get("blocks", ())]
    first_block = 0
    writer.run({**header, "merged_from": [str(run.path.name) for run in runs]})
    for number, run in enumerate(runs):
        for one in run.completions:
            writer.completion(one)
            if one.status:
                writer.verdict(one)
        for session, environment in enumerate(run.sessions):
            if number or session:
                writer.session({name: environment[name] for name in _OF_A_SESSION if name in environment})
            for done in run.rounds:
                if done.session == session:
                    writer.round(dataclasses.replace(done, block=first_block + done.block), {})
            for case in run.cases:
                if case.session == session:
                    block = None if case.block is None else first_block + case.block
                    writer.case(dataclasses.replace(case, block=block))
        first_block += run.block_count
    if all(run.complete for run in runs):
        writer.end({"merged": True})
    writer.close()


_OF_A_SESSION = ("environment", "limit", "argv", "started_at", "by_turns", "card", "dtype_auto", "order", "order_seed")
"""Keys of a run line that tell of the process that wrote it; the others tell of the study."""


def _with_all_pairs(study: Mapping[str, Any], runs: Iterable[Run]) -> dict[str, Any]:
    """The study of a merged run: that of the first, with the pairs of all, by whose targets baselines are found."""
    pairs: dict[str, Any] = {}
    for run in runs:
        for pair in run.header.get("study", {}).get("pairs", ()):
            pairs.setdefault(str(pair.get("name")), pair)
    return {**study, "pairs": list(pairs.values())} if pairs else dict(study)


def drop_torn_tail(path: Path) -> None:
    """Cut a torn last line off, so that appending after a crash cannot join two lines.

    A last line that lacks only its line break is whole: `read_run` counts it, so it is completed and kept.
    """
    if not path.exists():
        return
    with path.open("rb+") as file:
        data = file.read()
        if not data or data.endswith(b"\n"):
            return
        start = data.rfind(b"\n") + 1
        try:
            json.loads(data[start:])
        except ValueError:
            file.truncate(start)
        else:
            file.write(b"\n")


def parse_line(raw: bytes) -> Any:
    """The content of one line; ValueError if it is not JSON. NaN, which JSON lacks and Python writes, is taken."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return json.loads(raw)


def _parse_without_samples(raw: bytes) -> Any:
    """As `parse_line`, but skip the samples of a case or round unread; lines of another layout are read whole."""
    if raw.startswith(b'{"kind":"round"') and (start := raw.rfind(_SAMPLES_OF_ROUND)) > 0 and raw.endswith(b"}}\n"):
        try:
            return orjson.loads(raw[:start] + b"}")
        except orjson.JSONDecodeError:
            pass
    start = raw.find(_SAMPLES)
    end = raw.find(b"}]", start) if start >= 0 and raw.endswith(b"\n") else -1
    if end >= 0:
        try:  # cut at the wrong place, the brackets no longer match
            return orjson.loads(raw[: start + len(_SAMPLES) - 1] + raw[end + 1 :])
        except orjson.JSONDecodeError:
            pass
    return parse_line(raw)


def _lines(path: Path, warnings: list[str], parse: Callable[[bytes], Any]) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Number, offset in bytes and content of every line."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise RunFileError(f"{path}: no such file; `make bench` writes one under reports/runs/") from None
    except OSError as error:
        raise RunFileError(f"{path}: cannot be read: {error.strerror}") from None
    with file:
        next_offset = 0
        for number, raw in enumerate(file, start=1):
            offset, next_offset = next_offset, next_offset + len(raw)
            if not raw.strip():
                continue
            try:
                line = parse(raw)
            except ValueError:  # not JSON, or not UTF-8
                if not raw.endswith(b"\n"):
                    warnings.append(
                        f"{path}: line {number} is cut off and was dropped (the run was killed while writing)"
                    )
                    return
                raise RunFileError(f"{path}: line {number} is not JSON; the file is damaged, measure again") from None
            if not isinstance(line, dict):
                raise RunFileError(f"{path}: line {number} is not a JSON object; not a run file")
            yield number, offset, line


def _check_schema(path: Path, line: Mapping[str, Any]) -> None:
    schema = line.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool):
        raise RunFileError(f"{path}: schema is {schema!r}, not a number; not a run file of decodebench")
    if schema > SCHEMA:
        raise RunFileError(f"{path}: schema {schema} is newer than {SCHEMA}, the newest known here; update decodebench")


def _check_header(path: Path, number: int, line: Mapping[str, Any]) -> None:
    try:
        check_header(line)
    except ValueError as error:
        raise RunFileError(f"{path}: line {number}: {error}; the file is damaged, measure again") from None


_CASE_FIELDS = {item.name: item for item in dataclasses.fields(CaseResult)}
_SAMPLE_FIELDS = {item.name: item for item in dataclasses.fields(Sample)}


def _case(path: Path, number: int | None, line: Mapping[str, Any]) -> CaseResult:
    """A case from its line; number: None for one that is put together from its rounds."""
    where = f"{path}: " + ("its rounds" if number is None else f"line {number}")
    status = line.get("status")
    if status not in STATUSES:
        raise RunFileError(f"{where}: status is {status!r}, not one of {', '.join(STATUSES)}")
    values = {key: value for key, value in line.items() if key in _CASE_FIELDS and key != "kind"}
    values["kind"] = line.get("case_kind", "decode")
    try:
        check_case(line)
        values |= _settings(line)
        for name in ("samples", "repeats", "warm_ups"):
            check_samples(line.get(name, ()), name)
            values[name] = tuple(_sample(sample) for sample in line.get(name, ()))
        values["notes"] = tuple(line.get("notes", ()))
        if isinstance(values.get("id"), str):
            values["id"] = current_id(values["id"])
        return CaseResult(**values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunFileError(f"{where}: not a case of schema {SCHEMA}: {error}") from None


def _settings(line: Mapping[str, Any]) -> dict[str, Any]:
    """Engine, point and workload of a case as types, those that the line lacks at their defaults, and what is unknown.

    Versions that loaded a draft for every case named its quantization where no draft was used; it is left out.
    """
    given: dict[str, dict[str, Any]] = {part: {**line.get(part, {})} for part in PARTS}
    given["engine"].setdefault("pair", "")
    if line.get("case_kind") == "humaneval":  # what its lines left out goes without saying there
        workload = given["workload"]
        problems, samples = workload.get("problems"), workload.get("samples")
        if isinstance(problems, int) and isinstance(samples, int):
            workload.setdefault("num_samples", problems * samples)
        workload.setdefault("eos_stops", True)
    settings: dict[str, Any] = {part: converted(given[part], kind, part) for part, kind in PARTS.items()}
    settings["engine"] = settings["engine"].of_case(settings["point"])
    unknown = {part: unknown_to(given[part], kind) for part, kind in PARTS.items()}
    return settings | {"unknown": {part: values for part, values in unknown.items() if values}}


_COMPLETION_FIELDS = {item.name for item in dataclasses.fields(Completion)}


def _completion(
    path: Path, number: int, line: Mapping[str, Any], completions: dict[tuple[Any, ...], Completion]
) -> None:
    """Take up a completion, or the verdict on one that came before."""
    values = {key: value for key, value in line.items() if key in _COMPLETION_FIELDS}
    if isinstance(values.get("case"), str):
        values["case"] = current_id(values["case"])
    place = tuple(values.get(key) for key in ("case", "task_id", "sample"))
    try:
        check_times("seconds", [line.get("seconds", 0.0)])
        if line["kind"] == "completion":
            completions[place] = Completion(**values)
        else:
            completions[place] = dataclasses.replace(completions[place], status=line["status"], detail=line["detail"])
    except (TypeError, KeyError, ValueError) as error:
        raise RunFileError(f"{path}: line {number}: not a {line['kind']} of schema {SCHEMA}: {error}") from None


def _sample(values: Mapping[str, Any]) -> Sample:
    known = (
        dict(values)
        if values.keys() <= _SAMPLE_FIELDS.keys()
        else {k: values[k] for k in _SAMPLE_FIELDS if k in values}
    )
    for name in ("proposed_at", "accepted_at", "output_tokens"):
        if name in known:
            known[name] = tuple(known[name])
    if "steps" in known:
        known["steps"] = tuple((proposed, accepted) for proposed, accepted in known["steps"])
    return Sample(**known)


def _without_defaults(item: Sample | CaseResult | Round) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults, one level deep."""
    kept = {}
    for each in dataclasses.fields(item):
        value = getattr(item, each.name)
        default = each.default_factory() if each.default_factory is not dataclasses.MISSING else each.default
        if value != default:
            kept[each.name] = value
    return kept
