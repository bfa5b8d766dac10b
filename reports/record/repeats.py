"""Repeated measurements of one baseline, and how those of fewer prompts stand for whole ones. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reports.record.run import CaseResult, Sample


def completed(measurements: Sequence[tuple[int, CaseResult]]) -> list[tuple[int, CaseResult]]:
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
    common = on_common_prompts(first, other)
    if not missing or common is None:
        return other
    factor = common[1] / common[0]
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


def on_common_prompts(first: CaseResult, other: CaseResult) -> tuple[float, float] | None:
    """Seconds per token of both on the prompts that both have; None if there is none, or no time."""
    common = {sample.prompt for sample in first.samples} & {sample.prompt for sample in other.samples}
    both = [[sample for sample in case.samples if sample.prompt in common] for case in (first, other)]
    if not common or any(sum(sample.seconds for sample in samples) <= 0 for samples in both):
        return None
    return _latency(both[0]), _latency(both[1])


def _latency(samples: Sequence[Sample]) -> float:
    return sum(sample.seconds for sample in samples) / sum(sample.new_tokens for sample in samples)
