"""Which case is compared with which, and by how much it is faster, with an interval. Pure; renders nothing."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from reports.run import CaseResult, Run, Sample
from reports.statistics import Interval, drift, paired_ratio

_SAMPLING = ("do_sample", "temperature", "top_p")
_USUAL = {"generation_config": "neutral"}  # what a case decodes with that does not say
_USUAL_ENGINE = {"attention": "sdpa", "compile_mode": "default"}  # and what its engine is


@dataclass(frozen=True)
class Speedup:
    """Seconds per token of the baseline over those of the case, on the same prompts; above 1 the case is faster."""

    baseline: str
    interval: Interval


@dataclass(frozen=True)
class Drift:
    """The most that a baseline's seconds per token changed between two of its measurements that followed each other
    (1.0: not at all); a case between these two is compared with both."""

    baseline: str
    ratio: float
    limit: float

    @property
    def unstable(self) -> bool:
        return not (1 - self.limit <= self.ratio <= 1 + self.limit)


def speedup(case: CaseResult, run: Run, *, same_engine: bool = False) -> Speedup | None:
    """The case against its baseline: plain, dynamic cache, unquantized, uncompiled; None if that was not measured.

    same_engine: against plain decoding with the same target quantization, dtype and compile instead. The baseline
    counts with the mean, per prompt, of its measurements before and after the case. It is not compared with itself.
    """
    measurements = baseline_measurements(case, run, same_engine=same_engine)
    if case.status != "ok" or not measurements or _own_key(case, run) == _baseline_key(case, run, same_engine):
        return None
    base = _mean_seconds(measurements)
    pairs = [(base[sample.prompt], sample) for sample in case.samples if sample.prompt in base]
    if not pairs:
        return None
    interval = paired_ratio(
        [seconds for (seconds, _), _ in pairs],
        [tokens for (_, tokens), _ in pairs],
        [sample.seconds for _, sample in pairs],
        [sample.new_tokens for _, sample in pairs],
    )
    return Speedup(measurements[0].id, interval)


def baseline_measurements(case: CaseResult, run: Run, *, same_engine: bool = False) -> list[CaseResult]:
    """The baseline's measurement before the case and the next one after it, of those that ended well.

    Baselines are measured again and again through a run, because machines slow down and recover; these two stand
    nearest. All measurements where the case does not lie between two of them (it ran in another engine's block, and
    the last one alone would be a matter of luck), or is itself the baseline.

    A repeated measurement of fewer prompts than the first one had is completed, unless the case is itself the baseline;
    see `_completed`.
    """
    index: _Index = run.derived.get("baselines") or _index(run)
    wanted = _baseline_key(case, run, same_engine)
    if _own_key(case, run) == wanted:
        return [other for _, other in index.measurements.get(wanted, ())]
    measured = index.whole.get(wanted, ())
    following = bisect(measured, index.places.get(id(case), len(run.cases)), key=lambda each: each[0])
    if 0 < following < len(measured):
        measured = measured[following - 1 : following + 1]
    return [other for _, other in measured]


def targets_of(run: Run) -> Mapping[str, str]:
    """Pair -> what identifies its target, as the run's header says; pairs of one target share cases without a draft."""
    found: dict[str, str] | None = run.derived.get("targets")
    if found is None:
        pairs = [pair for pair in run.header.get("study", {}).get("pairs", ()) if "target" in pair]
        found = {str(pair.get("name")): f"{pair.get('source', 'hub')}: {pair['target']}" for pair in pairs}
        run.derived["targets"] = found
    return found


def target_of(case: CaseResult, run: Run) -> str:
    """What identifies the target that a case decodes with; the pair's name where the run's header does not know it."""
    pair = str(case.engine.get("pair", ""))
    return targets_of(run).get(pair, pair)


def drifts(run: Run, latency: Callable[[CaseResult], float | None] | None = None) -> list[Drift]:
    """The drift of every baseline that was measured again.

    latency: a case's seconds per token, None if it has none; those of its samples, unless the run was read without.
    """
    limit = float(run.header.get("study", {}).get("drift_limit", 0.05))
    measured: dict[str, list[CaseResult]] = {}
    for case in run.cases:
        if case.status == "ok" and (not case.again or case.id in measured):
            cases = measured.setdefault(case.id, [])
            if case.samples or (latency is not None and latency(case)):
                cases[:] = [*(cases if case.again else []), case]
    found = []
    for name, cases in measured.items():
        ratios = [_change(first, again, latency) for first, again in pairwise(cases)]
        if ratios:
            found.append(Drift(name, max(ratios, key=lambda ratio: abs(math.log(ratio))), limit))
    return found


def keeps_answers(case: CaseResult) -> bool:
    """Whether the case decodes the baseline's own model: nothing quantized that decides on tokens."""
    return case.engine.get("target_quant", "none") == "none" and case.point.get("cache") != "quantized"


def is_unproven(case: CaseResult) -> bool:
    """Whether greedy outputs differ from plain decoding's and nothing shows that rounding explains it."""
    found = dict(case.facts.get("losslessness") or {})
    return found.get("verdict") == "not comparable" and bool(found.get("diverged"))


def is_uncompared(case: CaseResult) -> bool:
    """Whether the case is to reproduce plain decoding's greedy output and nobody looked whether it does.

    That is any greedy decoding of another strategy, cache or kernels than plain decoding's own. Not asked of sampled
    cases, whose distribution is tested; nor of published figures, which come without samples.
    """
    point = case.point
    otherwise = point.get("strategy") != "plain" or point.get("cache", "dynamic") != "dynamic"
    if case.kind != "decode" or not case.samples or point.get("do_sample"):
        return False
    found = dict(case.facts.get("losslessness") or {})
    compared = found.get("verdict") not in (None, "not comparable") or bool(found.get("diverged"))
    return (otherwise or bool(case.engine.get("compile"))) and not compared


def is_lossless(case: CaseResult) -> bool:
    """Whether the case keeps the baseline's answers, as far as anybody can say: its model, and its output too."""
    return keeps_answers(case) and not (is_wrong(case) or is_unproven(case) or is_uncompared(case))


def is_wrong(case: CaseResult) -> bool:
    """Whether the case's greedy output was found to differ from plain decoding's by more than rounding explains."""
    return dict(case.facts.get("losslessness") or {}).get("verdict") == "wrong"


def best(cases: Iterable[CaseResult], base_gen_toks: int | None = None) -> CaseResult | None:
    """The fastest case that may be chosen (see `competing`)."""
    return min(competing(cases, base_gen_toks), key=lambda case: _latency(case.samples), default=None)


def competing(cases: Iterable[CaseResult], base_gen_toks: int | None = None) -> list[CaseResult]:
    """The cases that keep the baseline's answers; sampled and greedy cases compete alike.

    Cases of wrong output do not, nor those whose outputs differ unexplained or were not compared.
    """
    return [
        case
        for case in cases
        if case.status == "ok"
        and case.samples
        and is_lossless(case)
        and (base_gen_toks is None or case.workload.get("gen_toks") == base_gen_toks)
    ]


@dataclass(frozen=True)
class _Index:
    """Of one run: places of its cases by identity, and the baselines' measurements by key, with their places.

    whole: the same, each with all prompts of the first.
    """

    places: Mapping[int, int]
    measurements: Mapping[tuple[Any, ...], Sequence[tuple[int, CaseResult]]]
    whole: Mapping[tuple[Any, ...], Sequence[tuple[int, CaseResult]]]


def _index(run: Run) -> _Index:
    measurements: dict[tuple[Any, ...], list[tuple[int, CaseResult]]] = {}
    for place, case in enumerate(run.cases):
        key = _own_key(case, run) if case.status == "ok" else None
        if key is not None:
            measurements.setdefault(key, []).append((place, case))
    whole = {key: _completed(of_key) for key, of_key in measurements.items()}
    index = _Index({id(case): place for place, case in enumerate(run.cases)}, measurements, whole)
    run.derived["baselines"] = index
    return index


def _completed(measurements: Sequence[tuple[int, CaseResult]]) -> list[tuple[int, CaseResult]]:
    """The measurements of one baseline, each with all prompts of the first.

    Repetitions decode a few prompts only: enough to see how much faster or slower the machine has become. What they
    lack comes from the first, its times in the ratio of the two on the prompts that both have. That ratio's own error
    is left out of intervals: plain decoding of the same prompts repeats far more closely than drafting differs between
    prompts.
    """
    first = measurements[0][1]
    return [(place, _with_prompts_of(first, other)) for place, other in measurements]


def _with_prompts_of(first: CaseResult, other: CaseResult) -> CaseResult:
    have = {sample.prompt for sample in other.samples}
    missing = [sample for sample in first.samples if sample.prompt not in have]
    common = _on_common_prompts(first, other)
    if not missing or common is None:
        return other
    factor = drift(*common)
    return replace(other, samples=(*other.samples, *(_slowed(sample, factor) for sample in missing)))


def _slowed(sample: Sample, factor: float) -> Sample:
    """The sample as it would be on a machine that needs `factor` times as long for everything."""
    return replace(
        sample,
        seconds=sample.seconds * factor,
        ttft_seconds=None if sample.ttft_seconds is None else sample.ttft_seconds * factor,
        draft_seconds=sample.draft_seconds * factor,
        verify_seconds=sample.verify_seconds * factor,
        other_seconds=sample.other_seconds * factor,
    )


def _change(first: CaseResult, again: CaseResult, latency: Callable[[CaseResult], float | None] | None) -> float:
    """How much slower a baseline became; on the prompts that both measurements have, where their samples are known."""
    if latency is None:
        both = _on_common_prompts(first, again) or (_latency(first.samples), _latency(again.samples))
    else:
        both = (latency(first) or 1.0, latency(again) or 1.0)
    return drift(*both)


def _on_common_prompts(first: CaseResult, other: CaseResult) -> tuple[float, float] | None:
    """Seconds per token of both on the prompts that both have; None if there is none, or no time."""
    common = {sample.prompt for sample in first.samples} & {sample.prompt for sample in other.samples}
    both = [[sample for sample in case.samples if sample.prompt in common] for case in (first, other)]
    if not common or any(sum(sample.seconds for sample in samples) <= 0 for samples in both):
        return None
    return _latency(both[0]), _latency(both[1])


def _own_key(case: CaseResult, run: Run) -> tuple[Any, ...] | None:
    if case.kind != "decode" or case.point.get("strategy") != "plain":
        return None
    return (target_of(case, run), *_engine_key(case.engine, own=True), case.point.get("cache"), *_rest(case))


def _baseline_key(case: CaseResult, run: Run, same_engine: bool) -> tuple[Any, ...]:
    compiled = bool(case.engine.get("compile"))
    cache = "static" if same_engine and compiled else "dynamic"
    return (target_of(case, run), *_engine_key(case.engine, own=same_engine), cache, *_rest(case))


def _engine_key(engine: Mapping[str, Any], *, own: bool) -> tuple[Any, ...]:
    kept: tuple[Any, ...] = ("none", False, *_USUAL_ENGINE.values())
    if own:
        kept = (engine.get("target_quant"), bool(engine.get("compile")))
        kept += tuple(engine.get(name, usual) for name, usual in _USUAL_ENGINE.items())
    return (engine.get("dtype"), *kept)


def _rest(case: CaseResult) -> tuple[Any, ...]:
    sampling = tuple(case.point.get(name) for name in _SAMPLING)
    sampling += tuple(case.point.get(name, usual) for name, usual in _USUAL.items())
    return (*sampling, tuple(sorted((key, str(value)) for key, value in case.workload.items())))


def _mean_seconds(measurements: Sequence[CaseResult]) -> dict[int, tuple[float, int]]:
    """Per prompt: mean seconds and tokens over the measurements that have it."""
    found: dict[int, list[Sample]] = {}
    for measurement in measurements:
        for sample in measurement.samples:
            found.setdefault(sample.prompt, []).append(sample)
    return {
        prompt: (sum(s.seconds for s in samples) / len(samples), samples[0].new_tokens)
        for prompt, samples in found.items()
    }


def _latency(samples: Sequence[Sample]) -> float:
    return sum(sample.seconds for sample in samples) / sum(sample.new_tokens for sample in samples)
