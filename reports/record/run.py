"""What a run is: samples, cases, completions, rounds and sessions, as the program works with them.

Knows nothing of files, of how a run was measured, or of what its figures mean.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from reports.record.checked import Count, Duration, Positive, TimeTaken
from reports.record.repeats import completed
from reports.record.settings import DecodingPoint, EngineKey, WorkloadDone, baseline_settings, decided_by

Status = Literal["ok", "failed", "oom", "timeout", "crashed", "skipped", "dropped"]
STATUSES: tuple[Status, ...] = ("ok", "failed", "oom", "timeout", "crashed", "skipped", "dropped")
Kind = Literal["decode", "humaneval"]
Order = Literal["rounds", "blocks"]
INTERRUPTED = "interrupted"
"""How the reason of a case begins that was stopped from outside; what it has measured stands."""


class RunFileError(ValueError):
    """A run file cannot be used; the message names the file, the key or line, and the remedy."""


class RunWriteError(RunFileError):
    """A run file cannot be written, or not any more: what is to be measured would be lost."""


@dataclass(frozen=True)
class Sample:
    """One prompt, one generation, with all its raw figures. Times in seconds (float64), the rest are counts.

    drafted = accepted + rejected + censored, where censored tokens lay past the end of the output, so that
    nobody checked them. steps holds (proposed, accepted) of every step in order. proposed_at[i] and
    accepted_at[i] count the steps that proposed, and accepted, a token at draft position i (0 is the first).
    first_tokens is how many tokens the first forward of the target yielded (their time is ttft_seconds).
    round, turn: which round of its block, counted over all visits, and the place in it over all cases; None where
    cases did not take turns. visit: which visit of the block. started: seconds since its session began, monotonic.
    next_assist_toks: tokens that an adaptive schedule drafts first in the case's next generation.
    """

    prompt: Count
    seconds: TimeTaken
    new_tokens: Positive
    target_forwards: Count
    output_sha256: str
    ttft_seconds: Duration | None = None
    first_tokens: Count = 1
    draft_forwards: Count = 0
    drafted: Count = 0
    accepted: Count = 0
    rejected: Count = 0
    censored: Count = 0
    rollbacks: Count = 0
    proposed_at: tuple[Count, ...] = ()
    accepted_at: tuple[Count, ...] = ()
    steps: tuple[tuple[Count, Count], ...] = ()
    draft_seconds: Duration = 0.0
    verify_seconds: Duration = 0.0
    other_seconds: Duration = 0.0
    output_tokens: tuple[Count, ...] = ()
    round: Count | None = None
    turn: Count | None = None
    visit: Count = 0
    started: Duration | None = None
    next_assist_toks: Duration | None = None


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
        return self.status in ("timeout", "crashed") or self.reason.startswith(INTERRUPTED)

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
    the order of the file, the later counts of one that was measured again; none where cases did not take turns. A case
    that has rounds and no line of its own, since the run was killed, is among the cases as interrupted, after those
    that have one.
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
