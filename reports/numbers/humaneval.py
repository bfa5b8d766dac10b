"""HumanEval: from completions with verdicts to pass@k, and the paired comparison of cases.

Pure: knows run files, not how completions were made or judged. Two cases are compared problem by problem, because one
greedy run of 164 problems has a standard error near 3.7 points, which hides most differences between two totals.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from reports.numbers.shares import mcnemar_exact, mean_pass_at_k, paired_difference
from reports.numbers.statistics import Interval, holm
from reports.record.run import CaseResult, Completion, Run
from reports.record.settings import baseline_settings

LEVEL = 0.05
DERIVED = frozenset(
    {
        "problems",
        "completions",
        "solved",
        "generated_tokens",
        "generation_thr",
        "seconds_per_problem",
        "tokens_per_completion",
    }
)
"""Metrics that `derive` gives beside pass@k."""
NO_EVIDENCE = "no evidence of a difference"


@dataclass(frozen=True)
class Paired:
    """Head against base, problem by problem. difference: share solved by head less base's; p_value: see `compare`.

    only_base, only_head: problems that only one of them solved, with several samples those that it solved more often.
    batches: how many rows were decoded at a time, where that differs; in 16 bits it decides on tokens.
    """

    base: str
    head: str
    problems: int
    only_base: int
    only_head: int
    difference: Interval
    p_value: float
    batches: tuple[int, int] | None = None

    @property
    def caution(self) -> str:
        """What else differs between the two cases and may be why they do; empty where nothing is known to."""
        return f" ({self.batches[0]} and {self.batches[1]} rows at a time)" if self.batches else ""

    def statement(self, p_value: float | None = None) -> str:
        """What the comparison shows, at a p-value adjusted for other comparisons if one is given."""
        if (self.p_value if p_value is None else p_value) >= LEVEL:
            return NO_EVIDENCE
        return "solves more" if self.difference.estimate > 0 else "solves fewer"


def derive(completions: Sequence[Completion], ks: Iterable[int]) -> dict[str, float]:
    """Metrics of one case from its judged completions; those without a verdict do not count.

    pass_at_k (unbiased, Chen et al. 2021), problems, completions, solved (problems with a passing completion),
    generated_tokens, generation_thr (tokens/s), seconds_per_problem, tokens_per_completion.
    """
    judged = [completion for completion in completions if completion.status]
    if not judged:
        return {}
    verdicts = list(verdicts_of(judged).values())
    tokens, seconds = sum(made.tokens for made in judged), sum(made.seconds for made in judged)
    correct, samples = [sum(row) for row in verdicts], [len(row) for row in verdicts]
    return {
        **{f"pass_at_{k}": mean_pass_at_k(correct, samples, k) for k in ks if k <= min(samples)},
        "problems": len(verdicts),
        "completions": len(judged),
        "solved": sum(count > 0 for count in correct),
        "generated_tokens": tokens,
        **({"generation_thr": tokens / seconds} if seconds > 0 else {}),
        "seconds_per_problem": seconds / len(verdicts),
        "tokens_per_completion": tokens / len(judged),
    }


def is_derived(name: str) -> bool:
    """Whether a metric is one that completions give."""
    return name.startswith("pass_at_") or name in DERIVED


def verdicts_of(completions: Iterable[Completion]) -> dict[str, list[bool]]:
    """task_id -> whether each of its judged completions passed, in the order of the samples."""
    found: dict[str, list[bool]] = {}
    for one in sorted((one for one in completions if one.status), key=lambda one: one.sample):
        found.setdefault(one.task_id, []).append(one.passed)
    return found


def compare(base: Sequence[Completion], head: Sequence[Completion]) -> Paired:
    """Compare two cases over the problems that both have; ValueError if there are none.

    One completion a problem: McNemar's exact test and Tango's interval. Several: Student's paired test on
    the shares of passes per problem and its interval of their mean difference; sample i of one has nothing to do with
    sample i of the other, so they are not paired.
    """
    first, second = verdicts_of(base), verdicts_of(head)
    common = [task for task in first if task in second]
    if not common:
        raise ValueError("the two cases have no problem in common")
    shares = [(sum(first[t]) / len(first[t]), sum(second[t]) / len(second[t])) for t in common]
    only_base, only_head = sum(a > b for a, b in shares), sum(b > a for a, b in shares)
    binary = all(share in (0.0, 1.0) for pair in shares for share in pair)
    if binary:
        difference = paired_difference(only_head, only_base, len(common))
        p_value = mcnemar_exact(only_base, only_head)
    else:
        differences = [b - a for a, b in shares]
        difference, p_value = _mean_difference(differences)
    return Paired(base[0].case, head[0].case, len(common), only_base, only_head, difference, p_value)


def comparisons(run: Run) -> dict[str, tuple[Paired, float]]:
    """Case id -> its comparison with its base and the Holm-adjusted p-value; cases without a base are not in it."""
    paired = {}
    for case in humaneval_cases(run):
        base = base_of(case, run)
        if base is not None:
            compared = compare(completions_of(run, base.id), completions_of(run, case.id))
            paired[case.id] = replace(compared, batches=different_batches(base, case))
    adjusted = holm([one.p_value for one in paired.values()])
    return {name: (one, p) for (name, one), p in zip(paired.items(), adjusted, strict=True)}


def different_batches(base: CaseResult, head: CaseResult) -> tuple[int, int] | None:
    """Rows that two cases decoded at a time, where both tell and they differ."""
    first, second = base.facts.get("batch_rows"), head.facts.get("batch_rows")
    return (int(first), int(second)) if first and second and first != second else None


def base_of(case: CaseResult, run: Run) -> CaseResult | None:
    """What a HumanEval case is compared with, among the run's finished ones on the same problems and prompts.

    With drafted tokens: plain decoding by the same engine. Else: plain decoding by the unquantized target, of the same
    dtype if it was measured. Of several pairs with the same target that of the case itself comes first.
    """
    plain = [
        other
        for other in humaneval_cases(run)
        if other.id != case.id
        and other.status == case.status == "ok"
        and other.point.strategy == "plain"
        and run.target_of(other) == run.target_of(case)
        and other.workload == case.workload
        and baseline_settings(other.engine, other.point)[1] == baseline_settings(case.engine, case.point)[1]
    ]
    plain.sort(key=lambda other: other.engine.pair != case.engine.pair)
    same_dtype = [other for other in plain if other.engine.dtype == case.engine.dtype]
    if case.point.strategy != "plain":
        quant = case.engine.target_quant
        return next((other for other in same_dtype if other.engine.target_quant == quant), None)
    if case.engine.target_quant == "none":
        return None
    return next((other for other in [*same_dtype, *plain] if other.engine.target_quant == "none"), None)


def completions_of(run: Run, case_id: str) -> list[Completion]:
    return [one for one in run.completions if one.case == case_id]


def humaneval_cases(run: Run) -> list[CaseResult]:
    return [case for case in run.finished.values() if case.kind == "humaneval"]


def points(difference: Interval) -> str:
    """A difference of shares in percentage points: `-1.2 [-4.0, +1.5]`."""
    return f"{100 * difference.estimate:+.1f} [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"


def _mean_difference(differences: Sequence[float]) -> tuple[Interval, float]:
    """The mean with Student's 95% interval, and the p-value of the same test, so that the two cannot contradict.

    One problem alone, or no spread, leaves both unknown: -1 to 1, and 1.
    """
    from scipy.stats import ttest_1samp

    mean = sum(differences) / len(differences)
    if len(set(differences)) < 2:
        return Interval(mean, -1.0, 1.0, method="none"), 1.0
    test = ttest_1samp(differences, 0.0)
    reach = test.confidence_interval(0.95)
    return Interval(mean, float(reach.low), float(reach.high), method="student"), float(test.pvalue)
