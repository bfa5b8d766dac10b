"""Samples as columns, fetched case by case, so that comparing two large run files holds two cases at a time.

Knows where a run file keeps the samples of a case, and nothing of what they mean.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, get_type_hints

import msgspec
import numpy as np
import numpy.typing as npt

from reports.record.checked import fitted
from reports.record.published import read_any
from reports.record.reader import Outline, parse_line, read_outline
from reports.record.run import CaseResult, Run, RunFileError, Sample
from reports.record.settings import current_id

Column = npt.NDArray[np.float64]

_ROW = msgspec.defstruct(
    "_ROW",
    [
        (item.name, hint) if item.default is dataclasses.MISSING else (item.name, hint, item.default)
        for item in dataclasses.fields(Sample)
        for hint in [get_type_hints(Sample, include_extras=True)[item.name]]
    ],
    frozen=True,
    gc=False,
)
"""A sample with the same fields and checks, which is read several times faster."""


class _Lines(msgspec.Struct):
    """What a line that holds samples has of them: those of its case, or of all cases of its round."""

    samples: list[_ROW] | dict[str, list[_ROW]] = []  # type: ignore[valid-type]


class _Explained(msgspec.Struct):
    """As samples of one case that do not fit are told."""

    samples: tuple[Sample, ...] = ()


_LINES = msgspec.json.Decoder(_Lines)


class Samples:
    """The samples of one case, one array per figure that is asked for; prompts: their numbers, in ascending order.

    rows: the samples in the order of the run file.
    """

    def __init__(self, rows: Sequence[Sample]) -> None:
        prompts = np.array([row.prompt for row in rows], dtype=np.int64)
        if np.any(prompts[1:] <= prompts[:-1]):
            last = {int(prompt): place for place, prompt in enumerate(prompts)}  # of a prompt given twice, the last
            rows = [rows[last[prompt]] for prompt in sorted(last)]
            prompts = np.array(sorted(last), dtype=np.int64)
        self.prompts = prompts
        self._rows = rows
        self._columns: dict[str, Column] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def column(self, name: str) -> Column:
        """One figure of every sample, NaN where it was not measured. Kept: do not write into it."""
        if name not in self._columns:
            self._columns[name] = np.array([getattr(row, name) for row in self._rows], dtype=np.float64)
        return self._columns[name]

    def hashes(self) -> list[str]:
        """The hash of every output."""
        return [row.output_sha256 for row in self._rows]

    def tokens(self, place: int) -> Sequence[int]:
        """The tokens that sample `place` put out, empty if they were not kept."""
        return self._rows[place].output_tokens

    def of(self, prompts: npt.NDArray[np.int64]) -> Samples:
        """The samples of these prompts, which must be among its own."""
        if len(prompts) == len(self):
            return self
        places = np.searchsorted(self.prompts, prompts)
        return Samples([self._rows[place] for place in places])


class SampleColumns:
    """The samples of one case that are in memory, one array per figure that is asked for, in the order of samples."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples
        self._columns: dict[str, Column] = {}

    def column(self, name: str) -> Column:
        """One figure of every sample, NaN where it was not measured. Kept: do not write into it."""
        if name not in self._columns:
            self._columns[name] = np.array([getattr(sample, name) for sample in self._samples], dtype=np.float64)
        return self._columns[name]


class Journal:
    """A run whose samples are read from its file when asked for. Closes the file when left as a context.

    run.cases have no samples; a reference has none to give.
    """

    def __init__(self, outline: Outline) -> None:
        self.run: Run = outline.run
        self._offsets = {id(case): offset for case, offset in zip(outline.run.cases, outline.offsets, strict=False)}
        self._file = outline.run.path.open("rb")

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def samples(self, case: CaseResult) -> Samples:
        """The samples of one of the run's cases; RunFileError if the file holds something else in their place."""
        if id(case) not in self._offsets:
            return Samples([])
        parts: list[Sequence[Sample]] = []
        for offset in self._offsets[id(case)]:
            self._file.seek(offset)
            raw = self._file.readline()
            try:
                parts.append(_samples_of(raw, case.id))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise RunFileError(
                    f"{self.run.path}: line {self._line(offset)}: {case.id}: its samples cannot be used: {error}; "
                    "measure again"
                ) from None
        return Samples(parts[0] if len(parts) == 1 else [row for part in parts for row in part])

    def _line(self, offset: int) -> int:
        """The number of a line, counted when it is asked for."""
        with self.run.path.open("rb") as file:
            return file.read(offset).count(b"\n") + 1


def _samples_of(raw: bytes, case: str) -> Sequence[Sample]:
    """The samples that a line holds of a case, the repeats of a baseline aside; raises ValueError for what is none."""
    try:
        samples: Any = _LINES.decode(raw).samples
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # told in our words; or it has half letters
        line = parse_line(raw)
        samples = line.get("samples", [])
        rows = _of_round(samples, case) if line.get("kind") == "round" else samples
        return fitted({"samples": rows}, _Explained).samples
    return _of_round(samples, case) if isinstance(samples, dict) else list(samples)


def _of_round(samples: Mapping[str, Any], case: str) -> list[Any]:
    return next((list(rows[:1]) for name, rows in samples.items() if current_id(name) == case), [])


def unusable(case: CaseResult, error: Exception, *runs: Run) -> RunFileError:
    """What to raise where the samples of a case turn out not to be samples, in one of these runs."""
    where = " or ".join(dict.fromkeys(str(run.path) for run in runs))
    return RunFileError(
        f"{where}: {case.id}: its samples cannot be used ({type(error).__name__}: {error}); measure again"
    )


def open_journal(path: Path | str) -> Journal:
    """Open a run file, or a reference (`reports.record.published`); raises RunFileError as reading either does."""
    path = Path(path)
    return Journal(Outline(read_any(path), ()) if path.suffix == ".csv" else read_outline(path))
