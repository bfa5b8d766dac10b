"""Evidence that is not a ratio of two cases: how cost grows with the length, and utilization over time. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from reports.claims.material import ClaimComparison, Evidence, Material, by_figure, by_threshold, grouped, value
from reports.numbers.statistics import Interval
from reports.record.run import CaseResult

FLAT_OR_GROWING = 0.5  # exponent between staying flat (0) and growing in proportion to the length (1)
FEWEST_LENGTHS = 3  # two points always lie on a line
UTILIZATION_MARGIN = 2.0  # percentage points: a smaller difference counts as none
BATCHES = 10  # consecutive readings are alike: their means over this many batches are taken as independent
FEWEST_BATCHES = 4


def caching_linear(material: Material) -> Evidence:
    """Seconds per decoded token against the length: in proportion to it without a cache, flat with a dynamic one.

    The exponent b of seconds per token ~ length^b is fitted for every prompt over all lengths, the first forward left
    out; its mean over prompts has Student's interval. The length is that of the prompt plus half of what is generated.
    b = 1 makes the total cost quadratic, b = 0 linear. The claim is that b is above 1/2 without a cache and below with
    one, by more than the noise of the run alone could tilt the fit.
    """
    plain = [
        case
        for case in material.cases
        if value(case, "strategy") == "plain" and not value(case, "do_sample") and value(case, "cache") in _CACHES
    ]
    comparisons, missing = [], []
    for group in grouped(plain, but=("cache", "gen_toks")).values():
        for cache in _CACHES:
            cases = [case for case in group if value(case, "cache") == cache]
            if len({_length(case) for case in cases}) >= FEWEST_LENGTHS:
                found = _growth(material, cache, cases)
                comparisons += [] if found is None else [found]
    for cache in _CACHES:
        if not any(one.label == _LABELS[cache] for one in comparisons):
            missing.append(f"plain decoding, cache {cache}, at {FEWEST_LENGTHS} or more gen_toks")
    return Evidence(tuple(comparisons), tuple(missing))


def utilization_falls(couples: Sequence[tuple[str, CaseResult, CaseResult]], material: Material) -> Evidence:
    """Mean utilization, head less base in percentage points, of the GPU, else of the process (100: one core).

    couples: (label, head, base). The interval is Welch's over the means of consecutive batches of readings. The claim
    is a fall of more than `UTILIZATION_MARGIN`.
    """
    comparisons = [_utilization(material, *couple) for couple in couples]
    kept = tuple(one for one in comparisons if one is not None)
    missing = () if kept else ("utilization of a quantized case and of the unquantized one, long enough to be sampled",)
    return Evidence(kept, missing)


_CACHES = ("none", "dynamic")
_LABELS = {"none": "without a cache", "dynamic": "with a dynamic cache"}


def _length(case: CaseResult) -> float:
    """Tokens that a decoding forward sees on average."""
    return float(case.workload.expected_prompt) + float(case.workload.gen_toks) / 2


def _growth(material: Material, cache: str, cases: Sequence[CaseResult]) -> ClaimComparison | None:
    lengths = [_length(case) for case in cases]
    if min(lengths) <= 0:
        return None
    by_case = [_seconds(material.measurements(case)) for case in cases]
    prompts = [prompt for prompt in by_case[0] if all(prompt in each for each in by_case)]
    if len(prompts) < 2:
        return None
    x = np.log(lengths)
    y = np.log([[each[prompt] for prompt in prompts] for each in by_case])
    exponents = (x - x.mean()) @ y / float((x - x.mean()) @ (x - x.mean()))
    mean, error = float(exponents.mean()), float(exponents.std(ddof=1)) / math.sqrt(len(prompts))
    tilt = math.copysign(material.noise / float(x.max() - x.min()), mean - FLAT_OR_GROWING)
    interval, p_value = _student(mean, error, len(prompts) - 1, FLAT_OR_GROWING + tilt)
    if abs(mean - FLAT_OR_GROWING) <= abs(tilt):
        p_value = 1.0
    favour = (mean - FLAT_OR_GROWING) * (1 if cache == "none" else -1)
    return by_threshold(_LABELS[cache], tuple(case.id for case in cases), interval, "exponent", favour, p_value)


def _seconds(measurements: Sequence[CaseResult]) -> dict[int, float]:
    """Prompt -> seconds per token after the first forward, mean over the measurements."""
    found: dict[int, list[float]] = {}
    for case in measurements:
        for sample in case.samples:
            tokens = sample.new_tokens - sample.first_tokens
            if sample.ttft_seconds is not None and tokens > 0 and sample.seconds > sample.ttft_seconds:
                found.setdefault(sample.prompt, []).append((sample.seconds - sample.ttft_seconds) / tokens)
    return {prompt: sum(each) / len(each) for prompt, each in found.items()}


def _utilization(material: Material, label: str, head: CaseResult, base: CaseResult) -> ClaimComparison | None:
    cases = (head.id, base.id)
    if material.published:
        levels = [case.metrics.get("utilization_mean_percent") for case in (head, base)]
        if levels[0] is None or levels[1] is None:
            return None
        difference = levels[0] - levels[1]
        return by_figure(label, cases, difference, "points", -UTILIZATION_MARGIN - difference)
    batches = [_batches(material.measurements(case)) for case in (head, base)]
    if any(len(each) < FEWEST_BATCHES for each in batches):
        return None
    means, squares = [float(each.mean()) for each in batches], [float(each.var(ddof=1)) / len(each) for each in batches]
    difference, error = means[0] - means[1], math.sqrt(sum(squares))
    spread = sum(square**2 / (len(each) - 1) for square, each in zip(squares, batches, strict=True))
    freedom = error**4 / spread if spread else float(min(map(len, batches)) - 1)
    interval, p_value = _student(difference, error, freedom, -UTILIZATION_MARGIN)
    return by_threshold(label, cases, interval, "points", -UTILIZATION_MARGIN - difference, p_value)


def _batches(measurements: Sequence[CaseResult]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Means of consecutive batches of utilization readings; the GPU's where there is one."""
    means: list[float] = []
    for case in measurements:
        for sampler, name in (("nvml", "utilization_percent"), ("cpu", "process_utilization_percent")):
            if sampler in case.telemetry:
                series = (case.telemetry[sampler] or {}).get("series") or {}
                readings = (series.get(name) or {}).get("values", ())
                if readings:
                    parts = np.array_split(np.asarray(readings, dtype=np.float64), min(BATCHES, len(readings)))
                    means += [float(part.mean()) for part in parts]
                break
    return np.asarray(means)


def _student(mean: float, error: float, freedom: float, threshold: float) -> tuple[Interval, float]:
    """A mean with Student's 95% interval, and the two-sided p-value of its distance from the threshold."""
    from scipy.special import stdtr, stdtrit

    reach = float(stdtrit(freedom, 0.975)) * error
    distance = abs(mean - threshold)
    p_value = 2 * float(stdtr(freedom, -distance / error)) if error else float(distance == 0)
    return Interval(mean, mean - reach, mean + reach, method="student"), p_value
