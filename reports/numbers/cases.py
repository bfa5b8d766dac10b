"""What several reports ask of single cases: their speed and memory, and short names that tell them apart.

Pure; knows run files, renders nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reports.record.run import CaseResult, Run

GIB = 2**30
USUAL = ("t=none", "d=none", "greedy", "dynamic")
"""Parts of a case id that go without saying in a short name."""
CACHES = ("none", "static", "quantized", "offloaded")


@dataclass(frozen=True)
class Memory:
    """Bytes that a case needs, and what they are: the device's peak, or the weights it decodes with and its cache."""

    bytes: int
    what: str


def is_measured(case: CaseResult) -> bool:
    """Whether the case is decoding whose figures stand, and has a speed."""
    return case.kind == "decode" and case.measured and seconds_per_token(case) is not None


def seconds_per_token(case: CaseResult) -> float | None:
    """All seconds over all new tokens; of a case that was published without samples, its latency; else None."""
    tokens = sum(sample.new_tokens for sample in case.samples)
    if tokens:
        return sum(sample.seconds for sample in case.samples) / tokens
    return next((case.metrics[name] for name in ("assisted_latency_tok", "latency_tok") if name in case.metrics), None)


def of_full_length(run: Run) -> list[CaseResult]:
    """The measured cases that generate as many tokens as the study asks for, fastest first."""
    gen_toks = run.header.get("study", {}).get("workload", {}).get("gen_toks")
    found = [
        case
        for case in run.finished.values()
        if is_measured(case) and (gen_toks is None or case.workload.gen_toks == gen_toks)
    ]
    return sorted(found, key=lambda case: seconds_per_token(case) or 0.0)


def memory_of(case: CaseResult) -> Memory | None:
    """The peak that the device allocated; without a GPU the weights of target and draft and the cache, where known.

    A processor has no such peak: resident memory keeps what earlier cases of the process left behind.
    """
    if "memory_allocated_bytes" in case.facts:
        return Memory(int(case.facts["memory_allocated_bytes"]), "peak allocated on the GPU")
    weights = case.facts.get("weight_bytes")
    if not isinstance(weights, Mapping) or "target" not in weights:
        return None
    draft = weights.get("draft", 0) if case.point.strategy == "assisted" else 0
    known = "cache_bytes" in case.facts
    what = "weights and cache" if known else "weights, and cache where known"
    return Memory(int(weights["target"] + draft + case.facts.get("cache_bytes", 0)), what)


def share_of_limit(case: CaseResult) -> float | None:
    """Decoding speed over what the hardware allows for the same forwards (1 is the limit itself); None if not known."""
    latency, limit = case.metrics.get("decode_latency_tok"), case.facts.get("limit_tokens_per_second")
    return 1 / (latency * float(limit)) if latency and limit else None


def short_names(cases: Iterable[CaseResult]) -> dict[str, str]:
    """Case id -> a name without what goes without saying or all cases share; the whole id where two would be alike."""
    return short_names_of_ids(case.id for case in cases)


def short_names_of_ids(several: Iterable[str]) -> dict[str, str]:
    """The same, from the ids alone."""
    ids = list(dict.fromkeys(several))
    parts = {each: [part.split(",") for part in each.split("/")] for each in ids}
    shared = (
        set.intersection(*(set(_flat(each)) for each in parts.values())) if len(ids) > 1 else _pairs(parts.values())
    )
    usual_dtype = {name for name, _ in Counter(_dtype(each) for each in parts.values()).most_common(1)}
    passed_over = {*shared, *USUAL, *usual_dtype}
    names = {}
    for each, found in parts.items():
        if len(found) < 3:
            names[each] = each
            continue
        strategy, *point = found[2]
        said = [strategy, *(part for part in point if part not in passed_over and part not in CACHES)]
        caches = [part for part in point if part in CACHES]
        around = [
            part for group in (caches, found[1], found[0], *found[3:]) for part in group if part not in passed_over
        ]
        names[each] = ", ".join([" ".join(map(_spoken, said)), *map(_spoken, around)])
    twice = {name for name, count in Counter(names.values()).items() if count > 1}
    return {each: each if name in twice else name for each, name in names.items()}


def shared_settings(several: Iterable[str]) -> str:
    """What goes without saying in short names of these ids: `embedded, bf16, unquantized, greedy, dynamic cache`."""
    parts = [[part.split(",") for part in each.split("/")] for each in dict.fromkeys(several)]
    whole = [each for each in parts if len(each) > 2]
    if not whole:
        return ""
    dtypes = [name for name, _ in Counter(map(_dtype, whole)).most_common(1)]
    flat = [_flat(each) for each in whole]
    everywhere = [part for part in dict.fromkeys(flat[0]) if all(part in each for each in flat)]
    said = [_spoken(part) for part in everywhere if part not in (*USUAL, *dtypes, *CACHES)]
    return ", ".join([*said, *filter(None, dtypes), "unquantized", "greedy", "dynamic cache"])


def pays_off_after(case: CaseResult, run: Run) -> int | None:
    """How many generated tokens earn back what a faster setting costs once: compiling and warming up.

    None where it is not faster than its baseline, or what it costs once is not known.
    """
    plain = next((other for _, other in run.baseline_measurements(case)), None)
    mine, theirs = seconds_per_token(case), None if plain is None else seconds_per_token(plain)
    compiling = case.facts.get("compile_seconds")
    once = float(compiling or 0.0) + float(sum(sample.seconds for sample in case.warm_ups))
    if plain is None or plain is case or not mine or not theirs or mine >= theirs or not once:
        return None
    return math.ceil(once / (theirs - mine))


def cost_per_million(case: CaseResult, price_per_hour: float) -> float | None:
    """What a million new tokens cost on a machine of that price, decoding one after the other."""
    per_token = seconds_per_token(case)
    return None if not per_token else price_per_hour * per_token * 1e6 / 3600


def _pairs(several: Iterable[Sequence[Sequence[str]]]) -> set[str]:
    return {part for parts in several if len(parts) > 2 for part in parts[0]}


def _flat(parts: Sequence[Sequence[str]]) -> list[str]:
    return [part for group in parts for part in group]


def _dtype(parts: Sequence[Sequence[str]]) -> str:
    return next((part for part in parts[1] if "=" not in part), "") if len(parts) > 1 else ""


def _spoken(part: str) -> str:
    name, equals, value = part.partition("=")
    if equals and name == "compile":
        return f"compiled ({value})"
    if equals and name in _SPOKEN:
        return _SPOKEN[name].format(value)
    return _SPOKEN.get(part, part)


_SPOKEN = {
    "t": "{} target",
    "d": "{} draft",
    "n": "{} tokens",
    "attention": "{} attention",
    "prompt_lookup": "prompt lookup",
    "early_exit": "early exit",
    "none": "no cache",
    "static": "static cache",
    "quantized": "quantized cache",
    "offloaded": "offloaded cache",
    "compile": "compiled",
}
