"""Which setting to use: the fastest case that meets constraints, what it was chosen over, and the Pareto front.

Pure: from a run file to frozen dataclasses. What limits the chosen case and what to try next is in bottleneck.py, the
Python lines that set it in transformers_lines.py, rendering in advice_text.py.

Candidates are measured cases with the study's own number of new tokens, all greedy or all sampled (the two answer
different questions). A case whose greedy output was found wrong is never one.

memory: the peak that the allocator handed out on a GPU; elsewhere the weights of what the setting needs, see cases.py.

quality: pass@1 of the same target (pair, quantization, dtype, cache) where the run holds it, else its perplexity, else
whether the case keeps the baseline's answers. Two cases are compared by the best of the three that both have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.advice.bottleneck import Bottleneck, Suggestion, bottleneck, suggestions
from reports.advice.transformers_lines import transformers_lines, weights_of
from reports.numbers.cases import GIB, Memory, memory_of, of_full_length, seconds_per_token
from reports.numbers.speedups import Speedup, is_lossless, is_wrong, speedup
from reports.numbers.statistics import Interval, paired_ratio
from reports.record.run import CaseResult, Run, RunFileError, Sample

SAME_MEMORY, SAME_PERPLEXITY = 1.02, 1.01  # what differs by less counts as equal on the front
MOST_PROMPTS = 1_000  # more are never suggested: settings that close are equal in practice


@dataclass(frozen=True)
class Constraints:
    """What a setting must meet. max_memory: bytes; min_pass_at_1: share; lossless: no quantization that decides on
    tokens, and the output compared with plain decoding's; sampled: advise on sampling cases instead of greedy ones."""

    max_memory: float | None = None
    min_pass_at_1: float | None = None
    lossless: bool = False
    sampled: bool = False


@dataclass(frozen=True)
class Candidate:
    """A measured case with what it is judged by. tokens_per_second: totals, prefill included; memory, pass_at_1,
    perplexity: None where the run does not hold them."""

    case: CaseResult
    tokens_per_second: float
    memory: Memory | None
    pass_at_1: float | None
    perplexity: float | None
    lossless: bool

    @property
    def id(self) -> str:
        return self.case.id


@dataclass(frozen=True)
class Separation:
    """The best against another candidate: seconds per token of the other over the best's, on common prompts.

    prompts_needed: how many would shrink the interval so far that it excludes 1, if the estimate stays; None where
    it is separated, or no number of prompts would do.
    """

    other: str
    ratio: Interval
    prompts: int
    prompts_needed: int | None

    @property
    def separated(self) -> bool:
        return self.ratio.excludes(1.0)


@dataclass(frozen=True)
class Advice:
    """The advice for one target model.

    front: Pareto-optimal candidates (speed, memory, quality), fastest first, of all candidates, constrained or not.
    runner_up: the second fastest that meets the constraints. against: the runner-up first, then every further
    candidate that the best is not separated from; those without common prompts cannot be judged and are not in it.
    excluded: how many candidates each constraint rules out.
    """

    target: str
    best: Candidate
    speedup: Speedup | None
    candidates: int
    excluded: dict[str, int]
    front: tuple[Candidate, ...]
    runner_up: Candidate | None
    against: tuple[Separation, ...]
    bottleneck: Bottleneck
    suggestions: tuple[Suggestion, ...]
    lines: tuple[str, ...]


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
    everyone = candidates(run, sampled=constraints.sampled)
    if not everyone:
        kind, remedy = ("sampled", "drop --sampled") if constraints.sampled else ("greedy", "add --sampled")
        raise RunFileError(f"{run.path}: no {kind} case was measured at the study's length; measure some, or {remedy}")
    advised = [_advice(target, group, run, constraints) for target, group in _by_target(everyone, run).items()]
    found = [one for one in advised if one is not None]
    if not found:
        raise RunFileError(f"{run.path}: {_nothing_meets(everyone, constraints)}")
    return found


def without_advice(run: Run, constraints: Constraints) -> list[NoAdvice]:
    """The targets of the run that have candidates of which none meets the constraints, in the order of the run file."""
    tests = _tests(constraints)
    return [
        NoAdvice(
            target,
            len(group),
            {name: sum(not test(one) for one in group) for name, test in tests.items()},
            _nothing_meets(group, constraints),
        )
        for target, group in _by_target(candidates(run, sampled=constraints.sampled), run).items()
        if not any(all(test(one) for test in tests.values()) for one in group)
    ]


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
            pass_at_1=_pass_at_1(case, scored.get(_target_key(case, run), ())),
            perplexity=perplexities.get(_target_key(case, run)),
            lossless=is_lossless(case),
        )
        for case in sorted(of_full_length(run), key=lambda case: place[case.id])
        if (seconds := seconds_per_token(case)) and not is_wrong(case)
        if case.point.do_sample == sampled
    ]


def pareto_front(everyone: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """Those that no other is at least as good as in speed, memory and quality and better in one, fastest first."""
    fastest_first = sorted(everyone, key=lambda one: -one.tokens_per_second)
    return tuple(one for one in fastest_first if not any(_dominates(other, one) for other in fastest_first))


def separation(best: CaseResult, other: CaseResult, again: Mapping[str, Sequence[CaseResult]]) -> Separation | None:
    """How surely the best is faster than another case; None if they share no prompt.

    again: the repeated measurements by case id; a baseline counts with the mean of all its times per prompt.
    """
    if best.workload.prompts_sha256 != other.workload.prompts_sha256:
        return None
    mine, theirs = _per_prompt(best, again), _per_prompt(other, again)
    prompts = sorted(mine.keys() & theirs.keys())
    if not prompts:
        return None
    columns = [[values[prompt][i] for prompt in prompts] for values in (theirs, mine) for i in (0, 1)]
    ratio = paired_ratio(*columns)
    needed = None
    if not ratio.excludes(1.0) and math.isfinite(ratio.high) and abs(math.log(ratio.estimate)) > 0.005:
        reach = math.log(ratio.high / ratio.estimate)
        needed = math.ceil(len(prompts) * (reach / math.log(ratio.estimate)) ** 2)
    return Separation(other.id, ratio, len(prompts), needed)


def _by_target(everyone: Iterable[Candidate], run: Run) -> dict[str, list[Candidate]]:
    """Target model -> its candidates, in the order of the run file."""
    found: dict[str, list[Candidate]] = {}
    for one in everyone:
        found.setdefault(weights_of(run, one.case.engine.pair).target, []).append(one)
    return found


def _advice(target: str, group: list[Candidate], run: Run, constraints: Constraints) -> Advice | None:
    tests = _tests(constraints)
    fit = [one for one in group if all(test(one) for test in tests.values())]
    if not fit:
        return None
    best, *others = sorted(fit, key=lambda one: -one.tokens_per_second)
    again: dict[str, list[CaseResult]] = {}
    for case in run.cases:
        if case.again and case.status == "ok":
            again.setdefault(case.id, []).append(case)
    compared = [(other, separation(best.case, other.case, again)) for other in others]
    against = [one for place, (_, one) in enumerate(compared) if one and (place == 0 or not one.separated)]
    limits = bottleneck(best.case)
    return Advice(
        target=target,
        best=best,
        speedup=speedup(best.case, run),
        candidates=len(group),
        excluded={name: sum(not test(one) for one in group) for name, test in tests.items()},
        front=pareto_front(group),
        runner_up=others[0] if others else None,
        against=tuple(against),
        bottleneck=limits,
        suggestions=tuple(
            suggestions(best.case, [one.case for one in fit], [one.case for one in group], run, limits)
            + _more_prompts(against)
        ),
        lines=tuple(transformers_lines(best.case, run)),
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


def _dominates(one: Candidate, other: Candidate) -> bool:
    quality = _quality(one, other)
    memory = 0
    if one.memory is not None and other.memory is not None:
        first, second = one.memory.bytes, other.memory.bytes
        memory = (first * SAME_MEMORY < second) - (second * SAME_MEMORY < first)
    speed = (one.tokens_per_second > other.tokens_per_second) - (one.tokens_per_second < other.tokens_per_second)
    return min(speed, memory, quality) >= 0 and max(speed, memory, quality) > 0


def _quality(one: Candidate, other: Candidate) -> int:
    """1 if the first is better, -1 if the second is, by the best figure that both have."""
    if one.pass_at_1 is not None and other.pass_at_1 is not None:
        return (one.pass_at_1 > other.pass_at_1) - (one.pass_at_1 < other.pass_at_1)
    if one.perplexity is not None and other.perplexity is not None:
        better = one.perplexity * SAME_PERPLEXITY < other.perplexity
        return better - (other.perplexity * SAME_PERPLEXITY < one.perplexity)
    return int(one.lossless) - int(other.lossless)


def _target_key(case: CaseResult, run: Run) -> tuple[Any, ...]:
    """What decides on the answers: target, its quantization and dtype, and whether its cache is quantized."""
    return (run.target_of(case), case.engine.target_quant, case.engine.dtype, case.point.cache == "quantized")


def _pass_at_1(case: CaseResult, scored: Sequence[CaseResult]) -> float | None:
    """Of the same strategy where that was scored too, else of plain decoding, else of the first.

    scored: HumanEval cases of the same target.
    """
    for strategy in (case.point.strategy, "plain"):
        for other in scored:
            if other.point.strategy == strategy:
                return float(other.metrics["pass_at_1"])
    return float(scored[0].metrics["pass_at_1"]) if scored else None


def _per_prompt(case: CaseResult, again: Mapping[str, Sequence[CaseResult]]) -> dict[int, tuple[float, int]]:
    """Prompt -> mean seconds and tokens over the case's measurements."""
    found: dict[int, list[Sample]] = {}
    for one in [case, *again.get(case.id, ())]:
        for sample in one.samples:
            found.setdefault(sample.prompt, []).append(sample)
    return {
        prompt: (sum(s.seconds for s in samples) / len(samples), samples[0].new_tokens)
        for prompt, samples in found.items()
    }
