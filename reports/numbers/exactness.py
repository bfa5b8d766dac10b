"""What does not depend on the clock, compared exactly: counts, outputs, solved problems, bytes; and where that holds.

In fp32 without quantization, and with synthetic pairs, greedy decoding gives the same tokens on every machine. In
bf16, fp16 and quantized, two tokens can be so close that another processor's kernels choose the other one (a near
tie), and sampling draws differ with the versions: there exact means exact on the same hardware and versions.

Improved: fewer forwards of target or draft, fewer rejected tokens or rollbacks, in every prompt that differs; more
HumanEval problems solved and none lost. Any other difference counts as a regression, because only a person can say
whether it was meant: another output or completion, more or fewer tokens, drafted or accepted, more or fewer bytes.

Knows run files and metrics; nothing of timing or rendering.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.numbers.humaneval import different_batches, verdicts_of
from reports.numbers.metrics import METRICS
from reports.record.run import CaseResult, Completion, Run, Sample

COUNTS: dict[str, Callable[[Sample], int]] = {
    "new_tokens": lambda sample: sample.new_tokens,
    "target_forwards": lambda sample: sample.target_forwards,
    "draft_forwards": lambda sample: sample.draft_forwards,
    "drafted": lambda sample: sample.drafted,
    "accepted": lambda sample: sample.accepted,
    "rejected": lambda sample: sample.rejected,
    "total_rollbacks": lambda sample: sample.rollbacks,
}
PER_STEP = {"drafted": 0, "accepted": 1}
"""Counts that are compared step by step, and their place in a step: one less and, later, one more make the same sum."""
OUTPUT = "output_sha256"
PASS = "pass@1"
COMPLETIONS = "completions"
BYTES = ("weight_bytes", "cache_bytes")


@dataclass(frozen=True)
class ExactComparison:
    """One exact metric of a case in two runs: totals as text, whether it got worse or better, the first difference."""

    metric: str
    base: str
    head: str
    equal: bool
    better: bool = False
    first: str = ""


@dataclass(frozen=True)
class Scope:
    """Whether a case's exact metrics are gated between two runs, and why not where they are not."""

    gated: bool
    reason: str = ""


def scope(base: CaseResult, head: CaseResult, run: Run, *, same_machine: bool) -> Scope:
    """Where a case's counts and outputs must agree: everywhere, or only on the same hardware and versions."""
    if base.workload.seed != head.workload.seed:
        return Scope(False, "another seed")
    batches = different_batches(base, head)
    if batches and not (_is_synthetic(head, run) or _is_full_precision(head)):
        together = f"completions decoded {batches[0]} and {batches[1]} at a time"
        return Scope(False, f"{together}: near ties can fall the other way")
    if same_machine:
        return Scope(True)
    if head.point.do_sample:
        return Scope(False, "sampled tokens differ between hardware and versions")
    if _is_synthetic(head, run) or _is_full_precision(head):
        return Scope(True)
    kind = "quantized" if is_quantized(head) else str(head.engine.dtype)
    return Scope(False, f"{kind} on other hardware or versions: near ties can fall the other way{_near_ties(head)}")


def compare_counts(base: CaseResult, head: CaseResult) -> list[ExactComparison]:
    """Output and counts of a decoding case, prompt by prompt, over the prompts that both have."""
    before = {sample.prompt: sample for sample in base.samples}
    pairs = [(before[sample.prompt], sample) for sample in head.samples if sample.prompt in before]
    changed = [(one, other) for one, other in pairs if one.output_sha256 != other.output_sha256]
    found = [
        ExactComparison(
            OUTPUT,
            f"{len(pairs)} outputs",
            f"{len(changed)} differ" if changed else "equal",
            not changed,
            first=_first_token(*changed[0]) if changed else "",
        )
    ]
    for metric, count in COUNTS.items():
        if metric not in ("new_tokens", "target_forwards") and head.point.strategy == "plain":
            continue
        differing = [
            (one, other) for one, other in pairs if count(one) != count(other) or _steps_differ(metric, one, other)
        ]
        totals = sum(count(one) for one, _ in pairs), sum(count(other) for _, other in pairs)
        better = (
            bool(differing) and METRICS[metric].better == "lower" and all(count(b) <= count(a) for a, b in differing)
        )
        first = _first_step(*differing[0], count) if differing else ""
        found.append(ExactComparison(metric, str(totals[0]), str(totals[1]), not differing, better, first))
    return found


def compare_bytes(base: CaseResult, head: CaseResult) -> list[ExactComparison]:
    """Bytes of weights and cache, where both runs know them; fewer are a change too, since nothing says why."""
    first, second = bytes_of(base), bytes_of(head)
    return [
        ExactComparison(
            metric, str(count), str(second[metric]), count == second[metric], first=_changed(count, second[metric])
        )
        for metric, count in first.items()
        if metric in second
    ]


def bytes_of(case: CaseResult) -> dict[str, int]:
    """The bytes that a case knows of its weights and cache: `weight_bytes.target`, `cache_bytes`, ...

    A draft model counts only where it drafts: that one is loaded beside other cases is no property of theirs.
    """
    drafts = case.point.strategy == "assisted"
    return {
        f"{name}.{part}" if part else name: count
        for name in BYTES
        for part, count in _flat(case.facts.get(name)).items()
        if part != "draft" or drafts
    }


def compare_problems(base: Sequence[Completion], head: Sequence[Completion]) -> list[ExactComparison]:
    """HumanEval problem by problem: solved before and not now is worse, the reverse better, and both are named."""
    before, now = verdicts_of(base), verdicts_of(head)
    lost = [task for task in before if task in now and sum(now[task]) < sum(before[task])]
    gained = [task for task in before if task in now and sum(now[task]) > sum(before[task])]
    named = [f"no longer solved: {', '.join(lost)}"] if lost else []
    named += [f"newly solved: {', '.join(gained)}"] if gained else []
    return [
        ExactComparison(PASS, _solved(before), _solved(now), not lost and not gained, not lost, "; ".join(named)),
    ]


def compare_completions(base: Sequence[Completion], head: Sequence[Completion]) -> list[ExactComparison]:
    """Text and tokens of the HumanEval completions that both have; the tasks whose completion changed are named."""
    before = {(one.task_id, one.sample): one for one in base}
    pairs = [(before[place], one) for one in head if (place := (one.task_id, one.sample)) in before]
    changed = list(dict.fromkeys(one.task_id for one, other in pairs if one.completion != other.completion))
    longer = [(one, other) for one, other in pairs if one.tokens != other.tokens]
    tokens = sum(one.tokens for one, _ in pairs), sum(other.tokens for _, other in pairs)
    return [
        ExactComparison(
            COMPLETIONS,
            f"{len(pairs)} completions",
            f"{len(changed)} tasks differ" if changed else "equal",
            not changed,
            first=f"changed output: {', '.join(changed)}" if changed else "",
        ),
        ExactComparison(
            "new_tokens",
            str(tokens[0]),
            str(tokens[1]),
            not longer,
            first=f"{longer[0][0].task_id}: {longer[0][0].tokens} -> {longer[0][1].tokens}" if longer else "",
        ),
    ]


def missing_tasks(base: Sequence[Completion], head: Sequence[Completion]) -> list[str]:
    """The HumanEval tasks that base attempted and head did not, or not as often, in the order of base."""
    had = Counter(one.task_id for one in base)
    has = Counter(one.task_id for one in head)
    return [task for task in had if has[task] < had[task]]


def is_quantized(case: CaseResult) -> bool:
    """Whether anything that decides on tokens is quantized: target, draft where one is used, or cache."""
    drafts = case.point.strategy == "assisted" and case.engine.draft_quant not in (None, "none")
    return case.engine.target_quant != "none" or drafts or case.point.cache == "quantized"


def _changed(base: int, head: int) -> str:
    return "" if base == head else f"changed by {head - base:+d} bytes"


def _solved(verdicts: Mapping[str, Sequence[bool]]) -> str:
    return f"{sum(map(sum, verdicts.values()))} of {sum(map(len, verdicts.values()))}"


def _first_token(base: Sample, head: Sample) -> str:
    """Prompt and position, counted from 0 as in the run file, from which on two outputs differ."""
    one, other = base.output_tokens, head.output_tokens
    if not one or not other:
        return f"prompt {base.prompt}; the tokens were not kept"
    place = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    tokens = [str(tokens[place]) if place < len(tokens) else "no token" for tokens in (one, other)]
    return f"prompt {base.prompt}, token {place}: {tokens[0]} -> {tokens[1]}"


def _steps_differ(metric: str, base: Sample, head: Sample) -> bool:
    """Whether a count that steps have differs in one of them; only where both samples know their steps."""
    if metric not in PER_STEP or not (base.steps and head.steps):
        return False
    place = PER_STEP[metric]
    return [step[place] for step in base.steps] != [step[place] for step in head.steps]


def _first_step(base: Sample, head: Sample, count: Callable[[Sample], int]) -> str:
    """Prompt and step, counted from 0, at which drafted or accepted tokens differ first."""
    for step in range(max(len(base.steps), len(head.steps))):
        one, other = (steps[step] if step < len(steps) else None for steps in (base.steps, head.steps))
        if one != other:
            told = [f"accepted {each[1]} of {each[0]}" if each else "no such step" for each in (one, other)]
            return f"prompt {base.prompt}, step {step}: {told[0]} -> {told[1]}"
    return f"prompt {base.prompt}: {count(base)} -> {count(head)}"


def _is_synthetic(case: CaseResult, run: Run) -> bool:
    study = run.header.get("study")
    pairs = study.get("pairs", ()) if isinstance(study, Mapping) else ()
    named = [pair for pair in pairs if isinstance(pair, Mapping) and pair.get("name") == case.engine.pair]
    return any(pair.get("source") == "synthetic" for pair in named) and not is_quantized(case)


def _is_full_precision(case: CaseResult) -> bool:
    return case.engine.dtype == "fp32" and not is_quantized(case)


def _near_ties(case: CaseResult) -> str:
    found = case.facts.get("losslessness")
    ties = found.get("near_ties") if isinstance(found, Mapping) else None
    return "" if ties is None else f" ({ties} found in this case)"


def _flat(value: Any) -> dict[str, int]:
    if isinstance(value, Mapping):
        return {str(part): int(count) for part, count in value.items() if count is not None}
    return {} if value is None else {"": int(value)}
