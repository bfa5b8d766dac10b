"""Which setting to use under constraints, by the rule of `numbers.decision`; what it was chosen over; the Pareto front.

Pure: from a run file to frozen dataclasses. What limits the chosen case and what to try next is in bottleneck.py, the
Python lines that set it in transformers_lines.py, rendering in advice_text.py.

Candidates are measured cases with the study's own number of new tokens, all greedy or all sampled (the two answer
different questions). A case whose greedy output was found wrong is never one.

memory: the peak that the allocator handed out on a GPU; elsewhere the weights of what the setting needs, see cases.py.

Without constraints the answer is that of every other view: a setting that decodes the same model. A bound on memory or
on pass@1 says what else is wanted of the answers, so quantized settings compete there, too, unless the same model or
losslessness is asked for.

quality: pass@1 of the same target (pair, quantization, dtype, cache) where the run holds it, else its perplexity, else
whether it decodes the same model. Two cases are compared by the best of the three that both have and that tells them
apart: two scores whose problems do not (McNemar) are as good as one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from reports.advice.bottleneck import Bottleneck, Suggestion, bottleneck, suggestions
from reports.advice.transformers_lines import transformers_lines, weights_of
from reports.numbers import humaneval
from reports.numbers.answers import SameOutput, is_lossless, is_same_model, is_wrong, same_output
from reports.numbers.cases import GIB, Memory, memory_of, of_full_length, pays_off_after, seconds_per_token
from reports.numbers.decision import (
    Contender,
    Decision,
    Separation,
    decisions,
    quantized_faster,
    separation,
    separation_from_plain,
)
from reports.numbers.speedups import Drift, Speedup, drifts
from reports.record.run import CaseResult, Run, RunFileError

SAME_MEMORY, SAME_PERPLEXITY = 1.02, 1.01  # what differs by less counts as equal on the front
NOTHING_TO_COMPARE = "nothing to recommend: no plain decoding was measured to compare with; measure it (-k plain)"
PROBLEMS, TOLD_APART = 164, 1.96  # of HumanEval; standard errors between two shares that tell them apart
MOST_PROMPTS = 1_000  # more are never suggested: settings that close are equal in practice


@dataclass(frozen=True)
class Constraints:
    """What a setting must meet. max_memory: bytes; min_pass_at_1: share; lossless: plain decoding's very output on
    every prompt; same_model: nothing that decides on tokens is quantized, and outputs part where rounding explains
    it; sampled: advise on sampling cases instead of greedy ones."""

    max_memory: float | None = None
    min_pass_at_1: float | None = None
    lossless: bool = False
    same_model: bool = False
    sampled: bool = False

    @property
    def own_model(self) -> bool:
        """Whether only settings that decode the same model compete."""
        return self.same_model or self.lossless or (self.max_memory is None and self.min_pass_at_1 is None)


@dataclass(frozen=True)
class Candidate:
    """A measured case with what it is judged by. tokens_per_second: totals, prefill included; memory, scored (the
    HumanEval case of its target), perplexity: None where the run does not hold them. same_model, lossless, output: see
    `numbers.answers`."""

    case: CaseResult
    tokens_per_second: float
    memory: Memory | None
    scored: CaseResult | None
    perplexity: float | None
    same_model: bool
    lossless: bool
    output: SameOutput | None

    @property
    def id(self) -> str:
        return self.case.id

    @property
    def pass_at_1(self) -> float | None:
        """The share of HumanEval problems that its target solves at the first try."""
        return None if self.scored is None else float(self.scored.metrics["pass_at_1"])


@dataclass(frozen=True)
class Advice:
    """The advice for one target model.

    front: Pareto-optimal candidates (speed, memory, quality), fastest first, of those that meet the constraints.
    runner_up: the setting of the next largest ratio that meets the constraints. against: the runner-up first, then
    every further one that the best is not separated from; those without common prompts cannot be judged and are not in
    it.
    excluded: how many candidates each constraint rules out. unstable: baselines that changed more than they may.
    pays_off_after: generated tokens that earn compiling and warming up back. dropped: by a race, before its end.
    """

    target: str
    best: Candidate
    decision: Decision
    candidates: int
    excluded: dict[str, int]
    front: tuple[Candidate, ...]
    runner_up: Candidate | None
    against: tuple[Separation, ...]
    bottleneck: Bottleneck
    suggestions: tuple[Suggestion, ...]
    lines: tuple[str, ...]
    quantized_faster: Contender | None = None
    unstable: tuple[Drift, ...] = ()
    pays_off_after: int | None = None
    dropped: tuple[CaseResult, ...] = ()

    @property
    def speedup(self) -> Speedup | None:
        """None where plain decoding is the best."""
        return self.decision.speedup


@dataclass(frozen=True)
class NoAdvice:
    """A target of which no candidate meets the constraints. excluded: how many each of them rules out; why: in words,
    with what would be enough."""

    target: str
    candidates: int
    excluded: dict[str, int]
    why: str


def advise(run: Run, constraints: Constraints | None = None) -> list[Advice]:
    """The advice for every target of the run that has a case under the constraints, in the order of the run file.

    The other targets are in `without_advice`.

    Raises RunFileError if the run holds no candidate, or none meets the constraints; the message says which
    constraint excludes how many, and what would be enough.
    """
    constraints = constraints or Constraints()
    everyone = candidates(run, sampled=_sampled(run, constraints))
    if not everyone:
        kind, remedy = ("sampled", "drop --sampled") if constraints.sampled else ("greedy", "add --sampled")
        raise RunFileError(f"{run.path}: no {kind} case was measured at the study's length; measure some, or {remedy}")
    advised = [_advice(group, run, constraints) for group in _by_target(everyone, run).values()]
    found = [one for one in advised if isinstance(one, Advice)]
    if not found:
        raise RunFileError(
            f"{run.path}: {'; '.join(dict.fromkeys(one.why for one in advised if isinstance(one, NoAdvice)))}"
        )
    return found


def without_advice(run: Run, constraints: Constraints) -> list[NoAdvice]:
    """The targets of the run that have candidates of which none can be recommended, in the order of the run file."""
    everyone = candidates(run, sampled=_sampled(run, constraints))
    advised = [_advice(group, run, constraints) for group in _by_target(everyone, run).values()]
    return [one for one in advised if isinstance(one, NoAdvice)]


def _sampled(run: Run, constraints: Constraints) -> bool:
    """Sampled cases where they are asked for, or nothing else was measured."""
    return constraints.sampled or not candidates(run)


def candidates(run: Run, *, sampled: bool = False) -> list[Candidate]:
    """The measured cases that compete, in the order of the run file."""
    scored: dict[tuple[Any, ...], list[CaseResult]] = {}
    perplexities: dict[tuple[Any, ...], float] = {}
    for case in run.finished.values():
        if case.kind == "humaneval" and "pass_at_1" in case.metrics:
            scored.setdefault(_target_key(case, run), []).append(case)
        if "perplexity" in case.facts:
            perplexities.setdefault(_target_key(case, run), float(case.facts["perplexity"]))
    place = {case.id: number for number, case in enumerate(run.cases)}
    return [
        Candidate(
            case=case,
            tokens_per_second=1 / seconds,
            memory=memory_of(case),
            scored=_scored(case, scored.get(_target_key(case, run), ())),
            perplexity=perplexities.get(_target_key(case, run)),
            same_model=is_same_model(case),
            lossless=is_lossless(case, run),
            output=same_output(case, run),
        )
        for case in sorted(of_full_length(run), key=lambda case: place[case.id])
        if (seconds := seconds_per_token(case)) and not is_wrong(case)
        if case.point.do_sample == sampled
    ]


def pareto_front(everyone: Iterable[Candidate], run: Run | None = None) -> tuple[Candidate, ...]:
    """Those that no other is at least as good as in speed, memory and quality and better in one, fastest first.

    run: where the completions are by which HumanEval scores are told apart; without it they are by their errors alone.
    """
    fastest_first = sorted(everyone, key=lambda one: -one.tokens_per_second)
    scores = _Scores(run)
    return tuple(one for one in fastest_first if not any(_dominates(other, one, scores) for other in fastest_first))


def _by_target(everyone: Iterable[Candidate], run: Run) -> dict[str, list[Candidate]]:
    """Target model -> its candidates, in the order of the run file."""
    found: dict[str, list[Candidate]] = {}
    for one in everyone:
        found.setdefault(run.target_of(one.case), []).append(one)
    return found


def _advice(group: list[Candidate], run: Run, constraints: Constraints) -> Advice | NoAdvice:
    """Of one target; group: all its candidates."""
    tests = _tests(constraints)
    named = {one.id: one for one in group}
    fit = [one for one in group if all(test(one) for test in tests.values())]
    excluded = {name: sum(not test(one) for one in group) for name, test in tests.items()}
    target = weights_of(run, group[0].case.engine.pair).target
    if not fit:
        return NoAdvice(target, len(group), excluded, _nothing_meets(group, constraints))
    competing = {one.id for one in fit if one.same_model or not constraints.own_model}
    found = next(
        one
        for one in decisions(run, sampled=group[0].case.point.do_sample, fits=lambda case: case.id in competing)
        if one.target == run.target_of(group[0].case)
    )
    if found.recommended is None:
        return NoAdvice(target, len(group), excluded, NOTHING_TO_COMPARE)
    best = named[found.recommended.id]
    others = [one for one in found.standings if one.case.id != best.id]
    if found.speedup is None:
        compared = [separation_from_plain(best.case, one) for one in others]
    else:
        compared = [one for other in others if (one := separation(best.case, other.case, run)) is not None]
    second = others[0].case.id if others else ""
    against = [one for one in compared if one.other == second or not one.separated]
    limits = bottleneck(best.case)
    return Advice(
        target=target,
        best=best,
        decision=found,
        candidates=len(group),
        excluded=excluded,
        front=pareto_front(fit, run),
        runner_up=named[second] if second else None,
        against=tuple(against),
        bottleneck=limits,
        suggestions=tuple(
            suggestions(best.case, [one.case for one in fit], [one.case for one in group], run, limits)
            + _more_prompts(against)
        ),
        lines=tuple(transformers_lines(best.case, run)),
        quantized_faster=quantized_faster(found, run) if constraints.own_model else None,
        unstable=tuple(drift for drift in drifts(run) if drift.unstable),
        pays_off_after=pays_off_after(best.case, run),
        dropped=tuple(
            case
            for case in run.finished.values()
            if case.status == "dropped" and run.target_of(case) == run.target_of(best.case)
        ),
    )


def _more_prompts(against: list[Separation]) -> list[Suggestion]:
    """How many prompts would tell the best from the fastest of those that it is not separated from."""
    for one in against:
        if one.prompts_needed is not None and one.prompts_needed <= MOST_PROMPTS:
            because = (
                f"so many prompts would tell it from {one.other}, if the ratio {one.ratio.estimate:.2f} over "
                f"{one.prompts} prompts holds"
            )
            return [Suggestion(f"--num-samples {one.prompts_needed}", because)]
    return []


def _tests(constraints: Constraints) -> dict[str, Callable[[Candidate], bool]]:
    """Option as the user wrote it -> whether a candidate meets it."""
    tests: dict[str, Callable[[Candidate], bool]] = {}
    memory, share = constraints.max_memory, constraints.min_pass_at_1
    if memory is not None:
        tests["--max-memory"] = lambda one: one.memory is not None and one.memory.bytes <= memory
    if share is not None:
        tests["--min-pass-at-1"] = lambda one: one.pass_at_1 is not None and one.pass_at_1 >= share
    if constraints.lossless:
        tests["--lossless"] = lambda one: one.lossless
    if constraints.same_model:
        tests["--same-model"] = lambda one: one.same_model
    return tests


def _nothing_meets(everyone: list[Candidate], constraints: Constraints) -> str:
    parts = []
    for name, test in _tests(constraints).items():
        out = sum(not test(one) for one in everyone)
        if not out:
            continue
        text = f"{name} excludes {out} of {len(everyone)}"
        if name == "--max-memory":
            known = [one.memory.bytes for one in everyone if one.memory is not None]
            text += f" (the least is {gibibytes(min(known))})" if known else " (memory was not measured)"
        elif name == "--min-pass-at-1":
            shares = [one.pass_at_1 for one in everyone if one.pass_at_1 is not None]
            text += (
                f" (the highest is {max(shares):.3f})"
                if shares
                else " (the run holds no HumanEval: pytest perf_tests -m humaneval, then reports merge)"
            )
        parts.append(text)
    return f"no case meets the constraints: {'; '.join(parts)}; loosen one"


def gibibytes(count: float) -> str:
    """`1.25 GiB`, or MiB below one."""
    return f"{count / GIB:.2f} GiB" if count >= GIB else f"{count / 2**20:.0f} MiB"


class _Scores:
    """Which of two HumanEval cases solves more, as far as their problems tell; each pair is compared once."""

    def __init__(self, run: Run | None) -> None:
        self._run = run
        self._known: dict[tuple[str, str], int] = {}

    def compare(self, one: CaseResult, other: CaseResult) -> int:
        """1 if the first solves more, -1 if the second does, 0 where they are not told apart."""
        pair = (one.id, other.id)
        if pair not in self._known:
            self._known[pair] = self._compared(one, other)
        return self._known[pair]

    def _compared(self, one: CaseResult, other: CaseResult) -> int:
        if one.id == other.id:
            return 0
        run = self._run
        first, second = (humaneval.completions_of(run, case.id) if run else [] for case in (one, other))
        if first and second:
            try:
                paired = humaneval.compare(second, first)
            except ValueError:  # no problem in common
                return 0
            if paired.p_value >= humaneval.LEVEL:
                return 0
            return 1 if paired.difference.estimate > 0 else -1
        shares = [float(case.metrics["pass_at_1"]) for case in (one, other)]  # published without completions
        counts = [float(case.metrics.get("problems", PROBLEMS)) for case in (one, other)]
        error = math.sqrt(sum(share * (1 - share) / count for share, count in zip(shares, counts, strict=True)))
        apart = abs(shares[0] - shares[1]) > TOLD_APART * error
        return (shares[0] > shares[1]) - (shares[0] < shares[1]) if apart else 0


def _dominates(one: Candidate, other: Candidate, scores: _Scores) -> bool:
    quality = _quality(one, other, scores)
    memory = 0
    if one.memory is not None and other.memory is not None:
        first, second = one.memory.bytes, other.memory.bytes
        memory = (first * SAME_MEMORY < second) - (second * SAME_MEMORY < first)
    speed = (one.tokens_per_second > other.tokens_per_second) - (one.tokens_per_second < other.tokens_per_second)
    return min(speed, memory, quality) >= 0 and max(speed, memory, quality) > 0


def _quality(one: Candidate, other: Candidate, scores: _Scores) -> int:
    """1 if the first is better, -1 if the second is, by the best figure that both have and that tells them apart."""
    if one.scored is not None and other.scored is not None and (better := scores.compare(one.scored, other.scored)):
        return better
    if one.perplexity is not None and other.perplexity is not None:
        better = one.perplexity * SAME_PERPLEXITY < other.perplexity
        return better - (other.perplexity * SAME_PERPLEXITY < one.perplexity)
    return int(one.same_model) - int(other.same_model)


def _target_key(case: CaseResult, run: Run) -> tuple[Any, ...]:
    """What decides on the answers: target, its quantization and dtype, and whether its cache is quantized."""
    return (run.target_of(case), case.engine.target_quant, case.engine.dtype, case.point.cache == "quantized")


def _scored(case: CaseResult, scored: Sequence[CaseResult]) -> CaseResult | None:
    """Of the same strategy where that was scored too, else of plain decoding, else of the first.

    scored: HumanEval cases of the same target.
    """
    for strategy in (case.point.strategy, "plain"):
        for other in scored:
            if other.point.strategy == strategy:
                return other
    return scored[0] if scored else None
