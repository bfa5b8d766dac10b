"""The gate's answer as data: one judgement per case and metric, faults of cases, and the verdict over all of them.

Terminal, Markdown, JUnit, SARIF and the exit code are views of it. Computes no statistics, renders nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reports.numbers.statistics import Interval

Verdict = Literal["pass", "regressed", "improved", "inconclusive", "not gated"]
Overall = Literal["pass", "regressed", "faulty", "inconclusive"]
FaultKind = Literal[
    "missing",
    "renamed",
    "skipped",
    "failed",
    "oom",
    "timeout",
    "crashed",
    "dropped",
    "unmeasured",
    "not examined",
    "no baseline",
    "nothing measured",
]


UNTOLD = 10.0
"""Noise floor, as a relative change, above which a number says nothing: a spread over two or three prompts."""


@dataclass(frozen=True)
class Judgement:
    """One metric of one case. base, head: as shown, with unit. ratio: head / base, above 1 slower, with its interval.

    threshold: smallest relative change that counts; floor: smallest measured one that noise would not explain (both
    None for exact metrics). Where the floor is above the threshold, it takes its place. p_value: Holm-adjusted over all
    timings, of the case being slower. detail: the first difference, or why it is not gated or not known.
    """

    case: str
    metric: str
    verdict: Verdict
    exact: bool
    base: str
    head: str
    ratio: Interval | None = None
    threshold: float | None = None
    floor: float | None = None
    p_value: float | None = None
    detail: str = ""

    @property
    def raised(self) -> bool:
        """Whether noise is larger than the threshold."""
        return self.threshold is not None and self.floor is not None and self.floor > self.threshold

    @property
    def untold(self) -> bool:
        """Whether the prompts are too few to tell any change: noise would explain one of ten times the time."""
        return self.floor is not None and self.floor > UNTOLD


@dataclass(frozen=True)
class Fault:
    """A case that could not be judged, which is a failure of its own kind unless it was allowed."""

    case: str
    kind: FaultKind
    reason: str
    allowed: bool = False


@dataclass(frozen=True)
class Gate:
    """The verdict on head against base. notes: what the reader must know; timing_reason: why no timing was gated.

    interleaved: base and head are blocks that were measured by turns; by_turns: after every prompt, not every run.
    """

    base: str
    head: str
    judgements: tuple[Judgement, ...]
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()
    timing_reason: str = ""
    strict: bool = False
    interleaved: bool = False
    by_turns: bool = False

    @property
    def verdict(self) -> Overall:
        verdicts = {one.verdict for one in self.judgements}
        if "regressed" in verdicts:
            return "regressed"
        if self.failures:
            return "faulty"
        if "inconclusive" in verdicts or not verdicts - {"not gated"}:
            return "inconclusive"
        return "pass"

    @property
    def exit_code(self) -> int:
        """0 or 1: inconclusive, and timings that could not be gated, are failures only if strict."""
        if self.verdict in ("regressed", "faulty"):
            return 1
        return int(self.strict and (self.verdict == "inconclusive" or bool(self.timing_reason)))

    def fails_strictly(self, one: Judgement) -> bool:
        """Whether a judgement that is no regression fails because the gate is strict, as the exit code does."""
        if not self.strict:
            return False
        ungated = one.verdict == "not gated" and (not one.exact or self.verdict == "inconclusive")
        return one.verdict == "inconclusive" or ungated

    @property
    def failures(self) -> tuple[Fault, ...]:
        return tuple(fault for fault in self.faults if not fault.allowed)

    @property
    def regressions(self) -> tuple[Judgement, ...]:
        return self.of("regressed")

    def of(self, verdict: Verdict) -> tuple[Judgement, ...]:
        """The judgements of one verdict, in the order of the run."""
        return tuple(one for one in self.judgements if one.verdict == verdict)
