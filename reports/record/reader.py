"""Reading run files: line by line, checked by the types of `lines`, older schemas migrated, newer ones refused.

Knows how a run is laid out in a file, and nothing of how it was measured or what its figures mean.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson

from reports.record.checked import Misfit, cut, fitted, refuse_not_finite, unknown_to
from reports.record.lines import LINES, SCHEMA, CaseLine, CompletionLine, RoundLine, VerdictLine
from reports.record.plain_text import cleaned, shortened
from reports.record.run import INTERRUPTED, CaseResult, Completion, Round, Run, RunFileError
from reports.record.settings import PARTS, current_id
from reports.record.unfinished import Left, Unfinished

_SAMPLES = b'"samples":[{'
_SAMPLES_OF_ROUND = b',"samples":{'
_DAMAGED = "the file is damaged, measure again"
_ANOTHER_KIND = "not a run file; expected the .jsonl that `pytest perf_tests` writes"
RUNS = Path(__file__).resolve().parents[1] / "runs"
"""Where runs are written that name no file, which `last` means."""
_NOT_SHOWN = ("samples", "repeats", "warm_ups", "completion")
"""Keys of figures, and of a model's own words, which are kept as they are."""
_REASONS = {"reason", "detail", "disturbed"}
T = TypeVar("T")


@dataclass(frozen=True)
class Outline:
    """A run file whose cases are read without their samples.

    offsets[i]: where the lines start that hold the samples of case i, in bytes: its own line, or those of its rounds.
    """

    run: Run
    offsets: tuple[tuple[int, ...], ...]


def read_run(path: Path | str) -> Run:
    """Read a run file; a folder, or `last` for reports/runs, stands for the newest run in it.

    A torn last line is dropped with a warning, and so is everything of an older schema that is unknown here.
    Raises RunFileError for a file that is missing, not a run file, damaged before its last line, without a
    `run` line, of a newer schema, or with a key that holds something else than it must.
    """
    return _Reading(Path(path), with_samples=True).outline().run


def read_outline(path: Path | str) -> Outline:
    """Read a run file as `read_run` does, but leave the samples where they are, unchecked: most of a large file."""
    return _Reading(Path(path), with_samples=False).outline()


def named_run(path: Path) -> Path:
    """The run file that a name stands for: itself, or the newest in a folder; raises RunFileError for one without."""
    folder = RUNS if str(path) == "last" and not path.exists() else path
    if not os.path.isdir(folder):  # pathlib's own raises for a name that is too long
        return path
    runs = [file for file in folder.glob("*.jsonl") if _begins_as_run(file)]
    if not runs:
        raise RunFileError(f"{path}: cannot be read: no run file (.jsonl) in {folder}; `make bench` writes one")
    return max(runs, key=lambda file: (file.stat().st_mtime_ns, file.name))


def _begins_as_run(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            line = orjson.loads(file.readline())
    except (OSError, ValueError):
        return False
    return isinstance(line, dict) and line.get("kind") == "run"


class _Reading:
    """A run file while it is read: what its lines have told so far."""

    def __init__(self, path: Path, *, with_samples: bool) -> None:
        self.path, self.with_samples = named_run(path), with_samples
        self.header: dict[str, Any] | None = None
        self.sessions: list[dict[str, Any]] = []
        self.cases: list[CaseResult] = []
        self.offsets: list[tuple[int, ...]] = []
        self.rounds: list[Round] = []
        self.completions: dict[tuple[str, str, int], Completion] = {}
        self.end: dict[str, Any] = {}
        self.warnings: list[str] = []
        self.unfinished = Unfinished()

    def outline(self) -> Outline:
        parse = parse_line if self.with_samples else _parse_without_samples
        for number, offset, line in _lines(self.path, self.warnings, parse):
            kind = line.get("kind")
            if not isinstance(kind, str) or kind not in LINES:
                known = ", ".join(LINES).replace(", end", " or end")
                raise RunFileError(f"{self.path}: line {number}: kind is {cut(kind)}, not {known}; {self._what_it_is}")
            if kind != "run" and self.header is None:
                raise RunFileError(
                    f"{self.path}: line {number}: a {kind} before any line of kind 'run'; {_ANOTHER_KIND}"
                )
            try:
                self._take(kind, offset, line)
            except _Newer as error:
                raise RunFileError(f"{self.path}: {error}") from None
            except ValueError as error:
                plain = kind in ("run", "session") or (isinstance(error, Misfit) and error.key == "status")
                what = "" if plain else f"not a {kind} of schema {SCHEMA}: "
                raise RunFileError(f"{self.path}: line {number}: {what}{error}; {_DAMAGED}") from None
        if self.header is None:
            empty = "the file is empty or not a run file; measure again"
            raise RunFileError(f"{self.path}: no line of kind 'run': {_ANOTHER_KIND if self.warnings else empty}")
        for name, left in self.unfinished.left.items():
            self._put_together(name, left)
        self._tell_unknown()
        run = Run(
            self.path,
            self.header,
            tuple(self.cases),
            bool(self.end),
            self.end,
            tuple(self.warnings),
            tuple(self.completions.values()),
            tuple(self.sessions),
            tuple(self.rounds),
        )
        return Outline(run, tuple(self.offsets))

    @property
    def _what_it_is(self) -> str:
        """A file in which something is wrong before it has shown to be a run file, or after."""
        return _ANOTHER_KIND if self.header is None else _DAMAGED

    def _take(self, kind: str, offset: int, line: dict[str, Any]) -> None:
        """Take up a line; raises ValueError for one that is not of its kind."""
        if kind == "run":
            _check_schema(line)
        if kind in ("run", "session", "end"):
            fitted(line, LINES[kind])
        self.end = line if kind == "end" else self.end if kind in ("completion", "verdict") else {}
        if kind == "run":
            self.header = self.header or _without_serial(line)
        elif kind == "session":
            self.sessions.append(line)
        elif kind == "case":
            line["session"] = len(self.sessions)
            self.cases.append(_case(line if self.with_samples else {**line, "samples": ()}))
            self.offsets.append((offset,))
            self.unfinished.over(self.cases[-1].id)
        elif kind == "round":
            self.rounds.append(_round(line, len(self.sessions)))
            self.unfinished.take(line, len(self.sessions), offset)
        elif kind == "completion":
            self._generated(fitted(line, CompletionLine))
        elif kind == "verdict":
            self._judged(fitted(line, VerdictLine))

    def _generated(self, line: CompletionLine) -> None:
        case = current_id(line.case)
        self.completions[case, line.task_id, line.sample] = Completion(
            case, line.task_id, line.sample, line.completion, line.tokens, line.seconds, rows=line.rows
        )

    def _judged(self, line: VerdictLine) -> None:
        place = current_id(line.case), line.task_id, line.sample
        if place not in self.completions:
            raise ValueError(f"no completion {line.sample} of {cut(line.task_id)} stands before it")
        self.completions[place] = dataclasses.replace(self.completions[place], status=line.status, detail=line.detail)

    def _put_together(self, name: str, left: Left) -> None:
        """A case of which only rounds are there; the samples of a line that it was stopped with come first.

        A baseline that was measured before is measured again.
        """
        if not left.known:
            self.warnings.append(
                f"{self.path}: {name}: no line says what it is, so its rounds were left out; measure it again"
            )
            return
        known = list(zip(self.cases, self.offsets, strict=True))
        earlier, places = next(((case, at) for case, at in reversed(known) if case.id == name), (None, ()))
        if earlier is not None and earlier.measured and not self._has_samples(name, left):
            return
        count = len(left.rounds)
        line = {
            **left.line,
            "id": name,
            "status": "failed",
            "reason": f"{INTERRUPTED} (the run ended {count} round{'' if count == 1 else 's'} after it began)",
            "again": earlier is not None and earlier.measured,
        }
        try:
            case = _case(line)
        except ValueError as error:
            raise RunFileError(f"{self.path}: the rounds of {name}: {error}; {_DAMAGED}") from None
        if earlier is not None and earlier.stopped:
            samples = {sample.prompt: sample for sample in (*earlier.samples, *case.samples)}
            repeats = (*earlier.repeats, *case.repeats)
            case = dataclasses.replace(case, samples=tuple(samples.values()), repeats=repeats)
        else:
            places = ()
        self.cases.append(case)
        self.offsets.append((*places, *left.offsets))

    def _has_samples(self, name: str, left: Left) -> bool:
        """Whether a baseline's rounds of a later session hold samples of its own, which outlines leave unread."""
        if self.with_samples:
            return True
        with self.path.open("rb") as file:
            for offset in left.offsets:
                file.seek(offset)
                if name in map(current_id, parse_line(file.readline()).get("samples", {})):
                    return True
        return False

    def _tell_unknown(self) -> None:
        unknown = dict.fromkeys(name for case in self.cases for name in case.unknown_settings)
        if unknown:
            self.warnings.append(
                f"{self.path}: settings of a newer version: {', '.join(unknown)}; they are kept, and cases told apart "
                "by their ids; update decodebench"
            )


class _Newer(ValueError):
    """The file was written by a version that this one does not know, or by another program."""


def _check_schema(line: Mapping[str, Any]) -> None:
    schema = line.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool):
        raise _Newer(f"schema is {cut(schema)}, not a number; not a run file of decodebench")
    if schema > SCHEMA:
        raise _Newer(f"schema {schema} is newer than {SCHEMA}, the newest known here; update decodebench")


def _without_serial(line: dict[str, Any]) -> dict[str, Any]:
    """A run line without the serial of the GPU, which files from before hold."""
    line.get("environment", {}).get("hardware", {}).pop("gpu_uuid", None)
    return line


_READ_APART = {"id", "kind", "session", "metrics", "facts", "telemetry", "unknown", "unstated", *PARTS}
_AS_WRITTEN = [item.name for item in dataclasses.fields(CaseResult) if item.name not in _READ_APART]


def _case(line: Mapping[str, Any]) -> CaseResult:
    """A case from its line. What its facts and telemetry hold beyond their types is kept."""
    given = {**line, **_migrated(line)}
    made = fitted(given, CaseLine)
    point = _whole(made.point)
    unknown = {part: unknown_to(given[part], kind) for part, kind in PARTS.items()}
    return CaseResult(
        id=current_id(made.id),
        **{name: getattr(made, name) for name in _AS_WRITTEN},
        engine=_whole(made.engine).of_case(point),
        point=point,
        workload=_whole(made.workload),
        kind=made.case_kind,
        metrics=line.get("metrics", {}),
        facts=line.get("facts", {}),
        telemetry=line.get("telemetry", {}),
        session=line["session"],
        unknown={part: beyond for part, beyond in unknown.items() if beyond},
    )


def _whole(settings: T) -> T:
    """Settings with all their fields in the object: msgspec leaves defaults to the class."""
    return type(settings)(**vars(settings))


def _migrated(line: Mapping[str, Any]) -> dict[str, Any]:
    """Engine, point and workload of a case as today's versions write them.

    Versions that loaded a draft for every case named its quantization where no draft was used; it is left out later.
    """
    given: dict[str, Any] = {part: line.get(part, {}) for part in PARTS}
    if isinstance(given["engine"], dict):
        given["engine"] = {"pair": "", **given["engine"]}
    if line.get("case_kind") == "humaneval" and isinstance(given["workload"], dict):
        workload = given["workload"] = {"eos_stops": True, **given["workload"]}  # what goes without saying there
        problems, samples = workload.get("problems"), workload.get("samples")
        if isinstance(problems, int) and isinstance(samples, int):
            workload.setdefault("num_samples", problems * samples)
    return given


def _round(line: dict[str, Any], session: int) -> Round:
    """A round without its samples; the ids of its line are spelled as today."""
    made = fitted(line, RoundLine)
    line["order"] = tuple(map(current_id, made.order))
    for key in ("cases", "samples"):
        line[key] = {current_id(name): value for name, value in line.get(key, {}).items()}
    return Round(session, made.block, made.visit, made.round, line["order"], made.disturbed, made.machine)


def parse_line(raw: bytes) -> Any:
    """The content of one line. Misfit for what is JSON to Python only, ValueError for what is not JSON at all.

    Halves of letters (surrogates), which a file name or a model may hold, are kept as they are.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        try:
            line = json.loads(raw)
            refuse_not_finite(line)
        except RecursionError:
            raise Misfit("a line", raw[:100], f"JSON ({str(error).partition(':')[0]})") from None
        return line


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
        next_offset, what = 0, _ANOTHER_KIND
        for number, raw in enumerate(file, start=1):
            offset, next_offset = next_offset, next_offset + len(raw)
            if not raw.strip():
                continue
            try:
                line = parse(raw)
            except Misfit as error:
                raise RunFileError(f"{path}: line {number}: {error}; {what}") from None
            except ValueError:  # not JSON, or not UTF-8
                if raw.endswith(b"\n"):
                    raise RunFileError(f"{path}: line {number} is not JSON; {what}") from None
                warnings.append(f"{path}: line {number} is cut off and was dropped (the run was killed while writing)")
                return
            if not isinstance(line, dict):
                raise RunFileError(f"{path}: line {number} is not a JSON object; {what}")
            what = _DAMAGED
            try:
                line = cleaned(line, but=_NOT_SHOWN)
            except RecursionError:
                raise RunFileError(f"{path}: line {number} is nested too deeply; {_DAMAGED}") from None
            for key in _REASONS & line.keys():
                line[key] = shortened(line[key]) if isinstance(line[key], str) else line[key]
            yield number, offset, line
