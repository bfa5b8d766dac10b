"""Writing run files: one writer at a time, a line at a time, each on disk when the call returns.

A line that cannot be written whole is cut off again, so that a full disk costs what follows and nothing of what is
there. Knows the shape of a run and nothing of how it was measured.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any
from weakref import WeakSet

from reports.record.lines import SCHEMA
from reports.record.private import discreet
from reports.record.run import CaseResult, Completion, Round, RunWriteError, Sample
from reports.record.settings import PARTS


class RunWriter:
    """Appends lines to a run file, which no other process can write meanwhile. Raises RunWriteError where it cannot.

    After a line that could not be written every further one is refused, too: the file ends with its last whole line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._told: set[str] = set()
        self._failure = ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab+", buffering=0)
        except OSError as error:
            raise RunWriteError(f"{path}: cannot be written: {error.strerror}; name another file") from None
        self._lock()
        try:
            _drop_torn_tail(self._file)
        except OSError as error:
            raise self._failed(error) from None

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
        self._append(round_line(done, samples, known))
        self._told |= {case.id for case in known}

    def completion(self, generated: Completion) -> None:
        self._append(completion_line(generated))

    def verdict(self, judged: Completion) -> None:
        self._append(verdict_line(judged))

    def end(self, summary: Mapping[str, Any]) -> None:
        self._append({"kind": "end", **summary})

    def close(self) -> None:
        self._file.close()

    def _append(self, line: Mapping[str, Any]) -> None:
        """Raises ValueError, before anything is written, for a figure that is not finite."""
        data = (json.dumps(as_told(line), separators=(",", ":"), allow_nan=False) + "\n").encode()
        if self._failure:
            raise RunWriteError(self._failure)
        try:
            self._write_whole(data)
        except OSError as error:
            raise self._failed(error) from None

    def _write_whole(self, data: bytes) -> None:
        """All of it or nothing, whatever comes in between."""
        before, written = os.fstat(self._file.fileno()).st_size, 0
        try:
            while written < len(data):
                written += os.write(self._file.fileno(), data[written:])
            os.fsync(self._file.fileno())
        except BaseException as error:
            if written < len(data) or isinstance(error, OSError):  # some file systems tell only now that they are full
                with suppress(OSError):  # what cannot be cut off now is when the run goes on
                    os.ftruncate(self._file.fileno(), before)
            raise

    def _failed(self, error: OSError) -> RunWriteError:
        self._failure = (
            f"{self.path}: cannot be written: {error.strerror or error}; the lines before are kept: make room and go "
            f"on with --resume {self.path}"
        )
        return RunWriteError(self._failure)

    def _lock(self) -> None:
        """Take the file for this process; the system frees it when the process ends, in whatever way it does."""
        try:
            fcntl.flock(self._file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(self._file)
            self._file.close()
            raise RunWriteError(f"{self.path}: {holder} writes it; wait for its end or write another file") from None
        except OSError:  # a file system without locks: better no lock than no measurement
            return
        _OPEN.add(self)


_OPEN: WeakSet[RunWriter] = WeakSet()


def _close_in_child() -> None:
    """A forked child must not hold the lock of a parent that was killed."""
    for writer in list(_OPEN):
        writer.close()


os.register_at_fork(after_in_child=_close_in_child)


def _holder(file: IO[bytes]) -> str:
    """Who has locked a file, as far as the system tells it."""
    status = os.fstat(file.fileno())
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    with suppress(OSError):
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            fields = line.split()
            if len(fields) > 5 and fields[1] == "FLOCK" and fields[5] == place:
                return f"process {fields[4]}"
    return "another process"


def _drop_torn_tail(file: IO[bytes]) -> None:
    """Cut a torn last line off, so that appending after a crash cannot join two lines.

    A last line that lacks only its line break is whole: readers count it, so it is completed and kept.
    """
    file.seek(0)
    data = file.read()
    if not data or data.endswith(b"\n"):
        return
    start = data.rfind(b"\n") + 1
    try:
        json.loads(data[start:])
    except (ValueError, RecursionError):
        file.truncate(start)
    else:
        file.write(b"\n")


_SAID_BY_MODELS = ("completion", "samples", "repeats", "warm_ups")


def as_told(value: Any) -> Any:
    """A line's value as a run file tells it: texts without secrets and without where this machine keeps things.

    What a model said stays to the letter.
    """
    if isinstance(value, str):
        return discreet(value)
    if isinstance(value, Mapping):
        return {name: one if name in _SAID_BY_MODELS else as_told(one) for name, one in value.items()}
    return [as_told(one) for one in value] if isinstance(value, list | tuple) else value


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


def _without_defaults(item: Sample | CaseResult | Round) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults, one level deep."""
    kept = {}
    for each in dataclasses.fields(item):
        value = getattr(item, each.name)
        default = each.default_factory() if each.default_factory is not dataclasses.MISSING else each.default
        if value != default:
            kept[each.name] = value
    return kept
