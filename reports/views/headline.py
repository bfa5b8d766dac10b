"""The answer in words: which setting to use, by how much it is faster, what it is not told apart from.

Puts into words what `numbers.decision` decides, for the terminal, the page, claims and comments alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from reports.numbers import humaneval
from reports.numbers.answers import answers_text
from reports.numbers.cases import of_full_length, seconds_per_token, short_names
from reports.numbers.decision import Contender, Decision, decision, decisions, lossless_instead, quantized_faster
from reports.numbers.speedups import Drift, drifts, speedup
from reports.numbers.statistics import Interval
from reports.record.run import CaseResult, Run

Choice = Literal["deploy", "plain", "unmeasured"]


@dataclass(frozen=True)
class Solved:
    """HumanEval of the model that the setting decodes with. difference: in shares, against `base`; None: no base."""

    case: str
    solved: int
    problems: int
    difference: Interval | None
    base: str
    statement: str


@dataclass(frozen=True)
class Headline:
    """The decision with what belongs beside it. decision: a setting that is shown to be faster; plain decoding, for
    want of one; or no speed. case: the setting, or the baseline.

    alone: nothing but baselines was measured. lossless_instead: where the setting's own output is not plain decoding's
    on every prompt, the fastest one that is shown both faster and lossless. quantized_faster: the fastest quantized
    setting, where it is faster still. drifts: of the baselines; empty if none was measured again. others: decisions for
    further targets of the run.
    """

    decision: Choice
    found: Decision | None
    tokens_per_second: float | None
    answers: str
    alone: bool
    lossless_instead: Contender | None
    quantized_faster: Contender | None
    drifts: tuple[Drift, ...]
    solved: Solved | None
    others: tuple[Decision, ...] = ()

    @property
    def case(self) -> CaseResult | None:
        return None if self.found is None else self.found.recommended

    @property
    def speedup(self) -> Interval | None:
        """None where plain decoding is recommended."""
        return None if self.found is None or self.found.speedup is None else self.found.speedup.interval

    @property
    def faster_unproven(self) -> Contender | None:
        """The setting of the largest ratio, where its interval contains 1 and it was passed over for that."""
        return None if self.found is None else self.found.faster_unproven

    @property
    def rivals(self) -> int:
        """How many settings could have been picked, which makes the estimate of the one that was a little too good."""
        return 0 if self.found is None else len(self.found.standings)

    @property
    def stable(self) -> bool | None:
        """Whether every baseline measured twice stayed within its limit; None if none was measured twice."""
        return all(not drift.unstable for drift in self.drifts) if self.drifts else None


def headline(run: Run) -> Headline:
    """The decision for the run's target, with what a reader wants to know beside it."""
    found = decision(run)
    case = None if found is None else found.recommended
    per_token = None if case is None else seconds_per_token(case)
    plain = found is not None and found.speedup is None
    return Headline(
        decision="unmeasured" if case is None else "plain" if plain else "deploy",
        found=found,
        tokens_per_second=1 / per_token if per_token else None,
        answers="" if case is None else "is the reference itself" if plain else answers_text(case, run),
        alone=all(run.is_own_baseline(each) for each in of_full_length(run)),
        lossless_instead=None if found is None else lossless_instead(found, run),
        quantized_faster=None if found is None or case is None else quantized_faster(found, run),
        drifts=tuple(drifts(run)),
        solved=None if case is None else _solved(case, run),
        others=tuple(one for one in decisions(run) if found is not None and one.target != found.target),
    )


def interval_text(interval: Interval) -> str:
    """`1.32 [1.28, 1.37]`."""
    return f"{interval.estimate:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def names_of(run: Run) -> dict[str, str]:
    """Case id -> the short name under which views show it."""
    return short_names(case for case in run.finished.values() if case.kind == "decode")


def recommendation(found: Decision, run: Run) -> str:
    """The decision in one sentence, with ratio and interval as they are printed everywhere."""
    if found.recommended is None:
        return "nothing to recommend: no plain decoding was measured to compare with"
    name = names_of(run).get(found.recommended.id, found.recommended.id)
    if found.speedup is None:
        return "plain decoding: no setting that keeps its model is shown to be faster"
    return f"{name}: {interval_text(found.speedup.interval)} times as fast as plain decoding"


def tie_text(found: Decision, run: Run) -> str:
    """Which settings are not told apart from the recommended one; empty where all are."""
    if found.recommended is None or not found.tie:
        return ""
    names = names_of(run)
    count = len(found.tie)
    text = f"{count} setting{' is' if count == 1 else 's are'} not told apart from it"
    ends = {"simplest": found.simplest, "smallest": found.smallest}
    own = [end for end, case in ends.items() if case is found.recommended]
    if own:
        text += f"; it is the {' and the '.join(own)}"
    for end, case in ends.items():
        if case is not None and end not in own:
            text += f"; the {end} is {names[case.id]}"
    return text


def recommended_lines(run: Run) -> Iterator[str]:
    """The decision for every target, its tie, and what was passed over, a line each."""
    several = decisions(run)
    for found in several:
        target = f" for {found.target}" if len(several) > 1 else ""
        tie = tie_text(found, run)
        yield f"recommended{target}: {recommendation(found, run)}{f'; {tie}' if tie else ''}"
        passed = found.faster_unproven
        if passed is not None and found.recommended is not None:
            name = names_of(run)[passed.case.id]
            yield f"passed over{target}: {name}, {interval_text(passed.speedup.interval)}, whose interval contains 1"


def recommended_data(run: Run) -> list[dict[str, Any]]:
    """The decision for every target as plain data; no ratio where plain decoding is recommended."""
    return [
        {
            "target": found.target,
            "case": found.recommended.id if found.recommended else None,
            "ratio": found.speedup.interval.estimate if found.speedup else None,
            "low": found.speedup.interval.low if found.speedup else None,
            "high": found.speedup.interval.high if found.speedup else None,
            "not_told_apart": [case.id for case in found.tie],
        }
        for found in decisions(run)
    ]


def _solved(case: CaseResult, run: Run) -> Solved | None:
    """The HumanEval case of the same target: with the same strategy if it was measured, else plain decoding's."""
    fit = [
        other
        for other in run.finished.values()
        if other.kind == "humaneval"
        and other.status == "ok"
        and "solved" in other.metrics
        and run.target_of(other) == run.target_of(case)
        and (other.engine.target_quant, other.engine.dtype) == (case.engine.target_quant, case.engine.dtype)
        and other.point.strategy in (case.point.strategy, "plain")
    ]
    if not fit:
        return None
    chosen = min(fit, key=lambda other: other.point.strategy != case.point.strategy)
    paired, p_value = (humaneval.comparisons(run) if run.completions else {}).get(chosen.id, (None, None))
    return Solved(
        case=chosen.id,
        solved=round(chosen.metrics["solved"]),
        problems=round(chosen.metrics["problems"]),
        difference=None if paired is None else paired.difference,
        base="" if paired is None else paired.base,
        statement="" if paired is None else paired.statement(p_value),
    )


def speedup_text(case: CaseResult, run: Run) -> str:
    """As printed beside a case: its ratio with the interval; `baseline` of what others are compared with."""
    if run.is_own_baseline(case):
        return "baseline"
    found = speedup(case, run)
    return "" if found is None else interval_text(found.interval)
