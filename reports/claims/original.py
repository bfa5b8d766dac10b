"""The original study's observations as claims that any run can be held against, and their verdicts. Pure.

Each claim collects its comparisons from a run; what they amount to is one rule for all (`verdict_of`). Claims are
stated for any pair: where a run lacks what a claim is about, there is not enough evidence, and it is said what is
missing. Knows nothing of rendering.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from reports.claims.chosen import (
    QUANTS,
    by_draft_size,
    curves,
    draft_size,
    is_quantized,
    main_cases,
    named_beside,
    of_target,
    point_id,
    quantized_couples,
    target_of,
    targets,
    toks,
    with_speeds,
    without_pair,
)
from reports.claims.material import (
    ClaimComparison,
    Evidence,
    Material,
    Verdict,
    by_figure,
    compare,
    contradicting,
    faster,
    grouped,
    kept,
    material_of,
    slower,
    value,
    verdict_of,
)
from reports.claims.own import OwnClaim, evidence_for
from reports.claims.series import UTILIZATION_MARGIN, caching_linear, utilization_falls
from reports.numbers import humaneval
from reports.numbers.statistics import Interval
from reports.record.run import CaseResult, Run

QUANTIZATIONS = ("none", "8bit", "4bit")
BEST = {"strategy": "assisted", "assist_toks": 3, "confidence_threshold": 0.2, "do_sample": False}
HUMANEVAL_MARGIN = 0.05
HUMANEVAL_LEAST = 2 * HUMANEVAL_MARGIN  # what the unquantized target has to solve for a loss to show
SAMPLING = ("do_sample", "temperature", "top_p")


@dataclass(frozen=True)
class Claim:
    """A claim, what its effect is a figure of, and how its evidence is collected from a run."""

    name: str
    says: str
    effect: str
    collect: Callable[[Material], Evidence]


@dataclass(frozen=True)
class Finding:
    """What one run says about one claim. deciding: the comparison that decides it; None if there is none at all."""

    name: str
    says: str
    effect: str
    verdict: Verdict
    deciding: ClaimComparison | None
    comparisons: tuple[ClaimComparison, ...]
    missing: tuple[str, ...]
    published: bool

    @property
    def cases(self) -> tuple[str, ...]:
        """The ids of all cases that were used."""
        return tuple(dict.fromkeys(case for one in self.comparisons for case in one.cases))

    @property
    def broken(self) -> tuple[ClaimComparison, ...]:
        """The comparisons that are significantly the other way."""
        return contradicting(self.comparisons)


def evaluate(run: Run, claims: Iterable[Claim | OwnClaim]) -> tuple[Finding, ...]:
    """Hold a run against claims, in their order."""
    material = material_of(run)
    found = []
    for claim in claims:
        evidence = claim.collect(material) if isinstance(claim, Claim) else evidence_for(claim, material)
        verdict, deciding = verdict_of(evidence)
        found.append(
            Finding(
                claim.name,
                claim.says,
                claim.effect,
                verdict,
                deciding,
                evidence.comparisons,
                evidence.missing,
                material.published,
            )
        )
    return tuple(found)


def best_setting(material: Material) -> Evidence:
    """k=3, greedy, threshold 0.2 with the smaller draft against every other speculative setting of the same target.

    Compared in the dtype and on the prompts that most of the target's speculative cases share.
    """
    comparisons: list[ClaimComparison | None] = []
    missing = []
    for target in targets(material):
        cases = main_cases([case for case in of_target(material, target) if value(case, "strategy") != "plain"])
        if not cases:
            continue
        pair = by_draft_size(material, target)[0]
        best = next((case for case in cases if value(case, "pair") == pair and _is_best(case)), None)
        if best is None:
            missing.append(f"{pair}/t=none,d=none,{value(cases[0], 'dtype')}/assisted,k=3,p=0.2,greedy,dynamic")
            continue
        others = [case for case in cases if case is not best]
        if not others:
            missing.append(f"another speculative setting than {best.id}")
        comparisons += [faster(material, f"than {named_beside(other, best)}", best, other) for other in others]
    if not comparisons and not missing:
        missing.append("any speculative case")
    return Evidence(kept(comparisons), tuple(missing))


def inner_optimum(material: Material) -> Evidence:
    """Tokens/s against assist_toks, one curve for each setting with at least three: is the best one inside.

    For it: one inner k is faster than both ends, the inner ones adjusted for their number (Bonferroni). Against it: one
    end is faster than every inner k, adjusted for the two ends.
    """
    found = curves(material)
    missing = () if found else ("a setting of assisted decoding with at least three assist_toks",)
    return Evidence(kept(_optimum(material, curve) for curve in found), missing)


def greedy_beats_sampling(material: Material) -> Evidence:
    """Tokens/s of greedy against sampled speculative decoding with all other settings alike."""
    speculative = [case for case in material.cases if value(case, "strategy") != "plain"]
    comparisons = [
        faster(material, f"than {point_id(sampled)}", greedy, sampled)
        for group in grouped(speculative, but=SAMPLING).values()
        for sampled in group
        for greedy in group
        if value(sampled, "do_sample") and not value(greedy, "do_sample")
    ]
    missing = () if comparisons else ("one speculative setting both greedy and sampled",)
    return Evidence(kept(comparisons), missing)


def larger_draft(material: Material) -> Evidence:
    """The larger draft of the same target: its accept rate is higher and its tokens/s are lower, setting by setting."""
    comparisons: list[ClaimComparison | None] = []
    sizes = {pair: draft_size(material, pair) for pair in {str(value(case, "pair")) for case in material.cases}}
    for target in targets(material):
        cases = [
            case
            for case in of_target(material, target)
            if value(case, "strategy") == "assisted" and not is_quantized(case)
        ]
        for group in grouped(cases, but=("pair",)).values():
            for large, small in itertools.permutations(group, 2):
                if sizes[value(small, "pair")] < sizes[value(large, "pair")]:
                    label = f"{value(large, 'pair')} against {value(small, 'pair')}, {point_id(large)}"
                    comparisons.append(compare(material, f"accept rate, {label}", "accept_rate", large, small))
                    comparisons.append(slower(material, f"tokens/s, {label}", large, small))
    missing = () if comparisons else ("two pairs of one target whose drafts differ in size, at the same setting",)
    return Evidence(kept(comparisons), missing)


def quantization_slows(material: Material) -> Evidence:
    """Tokens/s of every quantized case against the unquantized one with all other settings alike.

    Every combination of the target's and the draft's quantization has to be measured for support, and plain decoding
    with either; what is not measured is missing.
    """
    couples = quantized_couples(material)
    comparisons = [slower(material, with_speeds(head, base), head, base) for head, base in couples]
    missing: list[str] = []
    for target in dict.fromkeys(target_of(material, head) for head, _ in couples):
        heads = [head for head, _ in couples if target_of(material, head) == target]
        measured = {(value(head, "strategy"), *(value(head, key) for key in QUANTS)) for head in heads}
        wanted: list[tuple[str, str, str | None]] = [
            ("plain", quant, None) for quant in QUANTIZATIONS if quant != "none"
        ]
        if any(value(case, "strategy") == "assisted" for case in of_target(material, target)):
            both = [(first, second) for first in QUANTIZATIONS for second in QUANTIZATIONS]
            wanted += [("assisted", *quants) for quants in both if quants != ("none", "none")]
        for one in wanted:
            if one not in measured:
                missing.append(f"t={one[1]}, plain" if one[2] is None else f"t={one[1]},d={one[2]}, assisted")
    if not couples:
        missing.append("a quantized case and the unquantized one with all other settings alike")
    return Evidence(kept(comparisons), tuple(missing))


def utilization(material: Material) -> Evidence:
    """Utilization of every quantized case against the unquantized one with all other settings alike."""
    return utilization_falls([(without_pair(head), head, base) for head, base in quantized_couples(material)], material)


def quantized_keeps_humaneval(material: Material) -> Evidence:
    """Share of HumanEval problems solved, quantized less unquantized, against a loss of `HUMANEVAL_MARGIN`.

    Paired by problem: for the claim if the interval (Tango) excludes a larger loss; against it if a loss is significant
    (McNemar). A published score alone cannot show that nothing was lost, so it counts only against the claim. Where the
    unquantized target solves less than `HUMANEVAL_LEAST`, the comparison is shown and counts neither way: next to
    nothing could be lost, so the margin would hold whatever quantization does.
    """
    cases = [
        case
        for case in material.run.finished.values()
        if case.kind == "humaneval" and case.status == "ok" and case.point.strategy == "plain"
    ]
    comparisons, weak = [], []
    for head in cases:
        base = humaneval.base_of(head, material.run)
        if base is None:
            continue
        compared = _published_scores(head, base) if material.published else _paired_scores(head, base, material.run)
        if compared is None:
            continue
        comparison, solved = compared
        if solved < HUMANEVAL_LEAST:
            comparison = dataclasses.replace(comparison, evidence_for=1.0, evidence_against=1.0)
            weak.append(
                f"the unquantized target solves only {100 * solved:.1f}%: "
                f"a loss of {100 * HUMANEVAL_MARGIN:g} points cannot show"
            )
        comparisons.append(comparison)
    if not comparisons:
        return Evidence(missing=("HumanEval of a quantized target and of the unquantized one",))
    return Evidence(tuple(comparisons), tuple(dict.fromkeys(weak)))


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "best_setting",
        "3 assistant tokens, greedy, threshold 0.2, with the smaller draft is the fastest speculative setting",
        "its tokens/s over those of another setting",
        best_setting,
    ),
    Claim(
        "inner_optimum",
        "Speedup rises, then falls in assistant tokens: the best number lies inside the measured range",
        "tokens/s of the best inner k over those of the better end",
        inner_optimum,
    ),
    Claim(
        "greedy_beats_sampling",
        "Greedy speculative decoding is faster than sampled",
        "tokens/s greedy over sampled",
        greedy_beats_sampling,
    ),
    Claim(
        "larger_draft",
        "The larger draft has more tokens accepted and is slower overall",
        "accept rate, or tokens/s, with the larger over the smaller draft",
        larger_draft,
    ),
    Claim(
        "quantization_slows",
        "Every quantization of target and draft lowers throughput",
        "tokens/s quantized over unquantized",
        quantization_slows,
    ),
    Claim(
        "utilization_falls",
        f"Utilization is lower with quantization, by more than {UTILIZATION_MARGIN:g} points",
        "mean utilization of the GPU, else of the process, quantized less unquantized",
        utilization,
    ),
    Claim(
        "caching_linear",
        "A KV cache makes the cost linear in the length: time per token grows with it without a cache only",
        "exponent of the growth of time per token with the length: 0 flat, 1 in proportion, 0.5 between",
        caching_linear,
    ),
    Claim(
        "quantized_keeps_humaneval",
        f"Quantized targets keep their HumanEval score within {100 * HUMANEVAL_MARGIN:g} points",
        "share of problems solved, quantized less unquantized",
        quantized_keeps_humaneval,
    ),
)


def _is_best(case: CaseResult) -> bool:
    return (
        all(value(case, key) == wanted for key, wanted in BEST.items())
        and value(case, "assist_schedule") in ("constant", None)
        and all(value(case, key) == "none" for key in QUANTS)
    )


def _optimum(material: Material, curve: Sequence[CaseResult]) -> ClaimComparison | None:
    """The best inner k against the better end of one curve."""
    ends, inner = (curve[0], curve[-1]), curve[1:-1]
    against_ends = [kept(faster(material, "", case, end) for end in ends) for case in inner]
    if any(len(each) < len(ends) for each in against_ends):
        return None
    weakest = [min(each, key=lambda one: one.favour) for each in against_ends]
    shown = max(weakest, key=lambda one: one.favour)
    for_it = min(max(one.evidence_for for one in each) for each in against_ends) * len(inner)
    against = min(max(each[i].evidence_against for each in against_ends) for i in range(len(ends))) * len(ends)
    best, end = (next(case for case in curve if case.id == name) for name in shown.cases)
    others = re.sub(r",k=\d+", "", without_pair(best))
    label = f"k={toks(best)} against k={toks(end)}, {others}"
    cases = tuple(case.id for case in curve)
    return ClaimComparison(
        label, cases, shown.estimate, shown.interval, "ratio", min(1.0, for_it), min(1.0, against), shown.favour
    )


def _published_scores(head: CaseResult, base: CaseResult) -> tuple[ClaimComparison, float]:
    """The comparison of two published scores, and the share that the base solves."""
    solved = base.metrics["pass_at_1"]
    difference = head.metrics["pass_at_1"] - solved
    found = by_figure(
        f"t={value(head, 'target_quant')}",
        (head.id, base.id),
        100 * difference,
        "points",
        difference + HUMANEVAL_MARGIN,
    )
    return dataclasses.replace(found, evidence_for=1.0), solved


def _paired_scores(head: CaseResult, base: CaseResult, run: Run) -> tuple[ClaimComparison, float] | None:
    """The comparison problem by problem, and the share that the base solves; None if either has no verdict yet."""
    completions = [humaneval.completions_of(run, case.id) for case in (base, head)]
    verdicts = [humaneval.verdicts_of(each) for each in completions]
    if not all(verdicts):
        return None
    shares = [sum(each) / len(each) for each in verdicts[0].values()]
    paired = humaneval.compare(*completions)
    lost = paired.difference.estimate < 0
    comparison = ClaimComparison(
        f"t={value(head, 'target_quant')}",
        (head.id, base.id),
        100 * paired.difference.estimate,
        _in_points(paired),
        "points",
        0.0 if paired.difference.low > -HUMANEVAL_MARGIN else 1.0,
        paired.p_value if lost else 1.0,
        paired.difference.estimate + HUMANEVAL_MARGIN,
    )
    return comparison, sum(shares) / len(shares)


def _in_points(paired: humaneval.Paired) -> Interval:
    difference = paired.difference
    low, high = 100 * difference.low, 100 * difference.high
    return Interval(100 * difference.estimate, low, high, difference.confidence, difference.method)
