"""Which cases the claims compare, and what they are called in a comparison. Knows run files; draws no conclusion."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Sequence

from reports.claims.material import Material, grouped, value
from reports.record.run import CaseResult

QUANTS = ("target_quant", "draft_quant")
FEWEST_ON_A_CURVE = 3


def quantized_couples(material: Material) -> list[tuple[CaseResult, CaseResult]]:
    """Every quantized case with the unquantized one that has all other settings alike."""
    couples = []
    for group in grouped(material.cases, but=QUANTS).values():
        bases = [case for case in group if not is_quantized(case)]
        couples += [(case, base) for case in group if is_quantized(case) for base in bases]
    return couples


def is_quantized(case: CaseResult) -> bool:
    """Whether the weights of the target, or of a draft that is used, are."""
    return any(value(case, key) not in ("none", None) for key in QUANTS)


def curves(material: Material) -> list[list[CaseResult]]:
    """Cases of assisted decoding that differ in assist_toks only, at least three each, ordered by it."""
    assisted = [
        case
        for case in material.cases
        if value(case, "strategy") == "assisted" and value(case, "assist_schedule") in ("constant", None)
    ]
    groups = grouped(assisted, but=("assist_toks",)).values()
    return [sorted(group, key=toks) for group in groups if len(group) >= FEWEST_ON_A_CURVE]


def targets(material: Material) -> list[str]:
    return list(dict.fromkeys(target_of(material, case) for case in material.cases))


def target_of(material: Material, case: CaseResult) -> str:
    pair = str(value(case, "pair"))
    return material.targets.get(pair) or pair


def of_target(material: Material, target: str) -> list[CaseResult]:
    return [case for case in material.cases if target_of(material, case) == target]


def main_cases(cases: Sequence[CaseResult]) -> list[CaseResult]:
    """The uncompiled ones that share the dtype and the prompts of most."""
    uncompiled = [case for case in cases if not value(case, "compile")]
    if not uncompiled:
        return []
    [(most, _)] = Counter(map(_surroundings, uncompiled)).most_common(1)
    return [case for case in uncompiled if _surroundings(case) == most]


def by_draft_size(material: Material, target: str) -> list[str]:
    """The target's pairs, that with the smallest draft first; those of unknown size come last, in their order."""
    pairs = list(dict.fromkeys(str(value(case, "pair")) for case in of_target(material, target)))
    return sorted(pairs, key=lambda pair: draft_size(material, pair))


def draft_size(material: Material, pair: str) -> float:
    """Bytes of the pair's unquantized draft, else 2 for each parameter by the draft's name, else infinite."""
    for case in material.cases:
        weights = case.facts.get("weight_bytes") or {}
        if value(case, "pair") == pair and case.engine.draft_quant == "none" and weights.get("draft"):
            return float(weights["draft"])
    named = re.search(r"(\d+(?:\.\d+)?)([bm])(?![a-z])", material.drafts.get(pair, ""), re.IGNORECASE)
    return 2 * float(named[1]) * (1e9 if named[2] in "bB" else 1e6) if named else float("inf")


def without_pair(case: CaseResult) -> str:
    """The case's id without its pair."""
    return case.id.partition("/")[2] or case.id


def point_id(case: CaseResult) -> str:
    return case.id.split("/")[-1]


def with_speeds(head: CaseResult, base: CaseResult) -> str:
    """The head's setting and both speeds, where the run tells them."""
    speeds = [case.metrics.get("thr", case.metrics.get("assisted_thr")) for case in (head, base)]
    shown = [f"{speed:.1f}" for speed in speeds if speed is not None]
    return without_pair(head) + (f" ({shown[0]} against {shown[1]} tokens/s)" if len(shown) == 2 else "")


def named_beside(case: CaseResult, beside: CaseResult) -> str:
    """The case's id, without its pair where another case has the same."""
    return without_pair(case) if value(case, "pair") == value(beside, "pair") else case.id


def _surroundings(case: CaseResult) -> Hashable:
    return case.engine.dtype, case.workload


def toks(case: CaseResult) -> int:
    return int(value(case, "assist_toks"))
