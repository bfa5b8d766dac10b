"""How much a timing changed between measurements of the same prompts, with its error; numbers only.

A change is the log of a product of ratios of totals: above 0 is slower. Rounds next to each other share their noise,
so the error is worked out over runs of consecutive prompts as long as that correlation reaches. Must not know
verdicts, thresholds or what noise two runs have between them (gate/between.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reports.numbers.formulas import Quantile
from reports.numbers.influence import correlation_length, log_and_influence
from reports.numbers.metrics import METRICS
from reports.numbers.statistics import RESAMPLES
from reports.record.columns import SampleColumns
from reports.record.run import CaseResult, Run

Array = npt.NDArray[np.float64]
Series = Mapping[int, tuple[float, float]]  # prompt -> (what is counted, per what), such as seconds and tokens

CONFIRMING = "measured again to confirm a suspected regression"
"""Note of a repeated measurement that the gate asked for."""


@dataclass(frozen=True, slots=True)
class LogChange:
    """log(head / base) of one timing, above 0 if slower. error: within the runs, over `units` (inf if unknown)."""

    log: float
    error: float
    units: int


def latency_name(case: CaseResult) -> str:
    """The name under which a case's seconds per token go."""
    return "latency_tok" if case.point.strategy == "plain" else "assisted_latency_tok"


def measurements(case: CaseResult, run: Run, *, confirming: bool = False) -> list[CaseResult]:
    """All good measurements of a case in its own session; those made to confirm a suspected regression are apart."""
    return [
        other
        for other in run.results.get(case.id, ())
        if other.session == case.session and is_timed(other) and (CONFIRMING in other.notes) == confirming
    ]


def took_turns(case: CaseResult, other: CaseResult) -> bool:
    """Whether the two decoded every prompt in the same round of one block, each after the other."""
    together = case.block is not None and (case.block, case.session) == (other.block, other.session)
    return together and all(sample.round is not None for one in (case, other) for sample in one.samples)


def is_timed(case: CaseResult) -> bool:
    """Whether the case ended well and every time of it is a positive number."""
    times = [time for sample in case.samples for time in (sample.seconds, sample.ttft_seconds) if time is not None]
    return (
        case.status == "ok"
        and bool(times)
        and all(math.isfinite(time) and time > 0 for time in times)
        and all(sample.new_tokens > 0 for sample in case.samples)
    )


def timing_series(found: Sequence[CaseResult]) -> dict[str, dict[int, tuple[float, float]]]:
    """Per timing metric the series of one case over its measurements, a repeated one with their mean."""
    names = (latency_name(found[0]), "decode_latency_tok", "ttft_seconds", "ttft_mean_seconds") if found else ()
    return {name: values for name in names if (values := series(found, name))}


def series(measurements: Sequence[CaseResult], metric: str, *, repeats: bool = False) -> dict[int, tuple[float, float]]:
    """Per prompt the terms of a timing metric's formula, means over the measurements that have the prompt.

    repeats: also over a baseline's further generations in the same round.
    """
    formula = METRICS[metric].formula
    assert formula is not None
    found: dict[int, list[tuple[float, float]]] = {}
    for case in measurements:
        samples = (*case.samples, *case.repeats) if repeats else case.samples
        tops, bottoms = formula.terms(SampleColumns(samples))
        for sample, top, bottom in zip(samples, tops.tolist(), bottoms.tolist(), strict=True):
            if not math.isnan(top):
                found.setdefault(sample.prompt, []).append((top, bottom))
    if len(measurements) == 1 and not repeats:
        return {prompt: values[0] for prompt, values in found.items()}
    return {
        prompt: (sum(top for top, _ in values) / len(values), sum(bottom for _, bottom in values) / len(values))
        for prompt, values in found.items()
    }


def share_of(metric: str) -> float | None:
    """Which quantile over prompts a timing metric is; None for a ratio of totals."""
    formula = METRICS[metric].formula if metric in METRICS else None
    return formula.share if isinstance(formula, Quantile) else None


def level(measured: Series, share: float | None = None) -> float:
    """log of the ratio of totals of one measurement, or of the quantile at `share` over its prompts."""
    if share is not None:
        return math.log(float(np.quantile([top for top, _ in measured.values()], share)))
    return math.log(sum(top for top, _ in measured.values()) / sum(bottom for _, bottom in measured.values()))


def quantile_change(base: Series, head: Series, share: float) -> LogChange:
    """The change of a quantile from base to head over the prompts that both have, with the bootstrap's error.

    Prompts are drawn with their pair, in runs as long as their changes go together. Raises ValueError without a prompt
    in common.
    """
    prompts = [prompt for prompt in base if prompt in head]
    if not prompts:
        raise ValueError("no prompt in common")
    first, second = (np.array([side[prompt][0] for prompt in prompts]) for side in (base, head))
    log = math.log(float(np.quantile(second, share) / np.quantile(first, share)))
    count = len(prompts)
    if count == 1:
        return LogChange(log, math.inf, 1)
    length = correlation_length(np.log(second / first))
    starts = np.random.default_rng(0).integers(count, size=(RESAMPLES, math.ceil(count / length)))
    drawn = ((starts[:, :, None] + np.arange(length)) % count).reshape(RESAMPLES, -1)[:, :count]
    logs = np.log(np.quantile(second[drawn], share, axis=1) / np.quantile(first[drawn], share, axis=1))
    units = count // length
    return LogChange(log, float(logs.std()) * math.sqrt(units / (units - 1)), units)


def change(
    base: Series, head: Series, *, base_control: Series | None = None, head_control: Series | None = None
) -> LogChange:
    """The change from base to head over the prompts that all have, less the controls' own change if they are given.

    Raises ValueError without a prompt in common.
    """
    parts: list[tuple[Series, int]] = [(head, 1), (base, -1)]
    if base_control is not None and head_control is not None:
        parts += [(head_control, -1), (base_control, 1)]
    prompts = [prompt for prompt in base if all(prompt in part for part, _ in parts)]
    if not prompts:
        raise ValueError("no prompt in common")
    columns = np.array(
        [[part[prompt][place] for prompt in prompts] for part, _ in parts for place in (0, 1)], dtype=np.float64
    )
    powers = np.array([sign * side for _, sign in parts for side in (1, -1)], dtype=np.float64)
    return log_change(columns, powers)


def log_change(columns: Array, powers: Array) -> LogChange:
    """log prod(column total ** power) with its linearised error; columns are (terms, prompts), all positive."""
    log, influence = log_and_influence(columns, powers)
    count = influence.size
    if count == 1:
        return LogChange(log, math.inf, 1)
    length = correlation_length(influence)
    units = influence if length == 1 else np.add.reduceat(influence, np.arange(count // length) * length)
    error = math.sqrt(units.size / (units.size - 1) * float(units @ units)) / count
    return LogChange(log, error, int(units.size))
