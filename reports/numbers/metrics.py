"""The one table of metrics: name, unit, direction, whether exact, and the formula over columns of samples.

Whatever shows, compares, gates or claims a metric takes its formula from here, so that one name is one quantity; a mean
and a median of one thing have two names. Metrics are always derived from samples and can be derived again from a run
file. Rates are ratios of totals (sum of tokens over sum of seconds), never means of ratios, over the prompts that have
both. Knows nothing of statistics or rendering.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np

from reports.record.columns import Column, SampleColumns
from reports.record.run import CaseResult, Run, Sample

Direction = Literal["lower", "higher", "same"]


class Columns(Protocol):
    """Samples by figure: one array for each name, NaN where a sample was not measured."""

    def column(self, name: str, /) -> Column: ...


Of = Callable[[Columns], Column]
"""A figure of every prompt; NaN where a prompt has none."""


@dataclass(frozen=True)
class Ratio:
    """What is summed above and below the line, over the prompts that have both."""

    top: Of
    bottom: Of

    def terms(self, columns: Columns) -> tuple[Column, Column]:
        """Both figures of every prompt; NaN in both where either is not known."""
        top, bottom = self.top(columns), self.bottom(columns)
        unknown = np.isnan(top) | np.isnan(bottom)
        return np.where(unknown, np.nan, top), np.where(unknown, np.nan, bottom)

    def value(self, columns: Columns) -> float | None:
        """None where nothing was measured or counted."""
        top, bottom = (float(np.nansum(term)) for term in self.terms(columns))
        return top / bottom if bottom > 0 else None


@dataclass(frozen=True)
class Total:
    """What is summed over prompts."""

    of: Of

    def terms(self, columns: Columns) -> tuple[Column, Column]:
        """As a mean over prompts: the figure of each, and 1."""
        values = self.of(columns)
        return values, np.where(np.isnan(values), np.nan, 1.0)

    def value(self, columns: Columns) -> float | None:
        """A whole number stays one."""
        values = self.of(columns)
        total = float(np.nansum(values))
        return None if not values.size else int(total) if total.is_integer() else total


@dataclass(frozen=True)
class Quantile:
    """A quantile over prompts; share 0.5 is the median."""

    of: Of
    share: float

    def terms(self, columns: Columns) -> tuple[Column, Column]:
        """The figure of each prompt, and 1."""
        values = self.of(columns)
        return values, np.where(np.isnan(values), np.nan, 1.0)

    def value(self, columns: Columns) -> float | None:
        """Over the prompts that have the figure; None if none has."""
        values = self.of(columns)
        known = values[~np.isnan(values)]
        return float(np.quantile(known, self.share)) if known.size else None


Formula = Ratio | Total | Quantile


@dataclass(frozen=True)
class Metric:
    """What a metric is. better: which way is an improvement ("same": any change is a finding).

    exact: a count that does not depend on the machine's speed. formula: over the columns of samples; None of what
    samples do not hold. drafting: only cases have it whose tokens are drafted in some way.
    """

    name: str
    unit: str
    better: Direction
    exact: bool
    meaning: str
    formula: Formula | None = None
    drafting: bool = False


def _of(name: str) -> Of:
    return lambda columns: columns.column(name)


def _sum(name: str, other: str) -> Of:
    return lambda columns: columns.column(name) + columns.column(other)


def _one(columns: Columns) -> Column:
    return np.where(np.isnan(columns.column("ttft_seconds")), np.nan, 1.0)


def _later_seconds(columns: Columns) -> Column:
    """After the first forward, of the prompts that went on and whose first forward was timed."""
    seconds = columns.column("seconds") - columns.column("ttft_seconds")
    return np.where((seconds > 0) & (_later(columns) > 0), seconds, np.nan)


def _later_tokens(columns: Columns) -> Column:
    return np.where(np.isnan(_later_seconds(columns)), np.nan, _later(columns))


def _later(columns: Columns) -> Column:
    return columns.column("new_tokens") - columns.column("first_tokens")


_seconds, _tokens, _forwards = _of("seconds"), _of("new_tokens"), _of("target_forwards")


def _per_token(columns: Columns) -> Column:
    return _seconds(columns) / _tokens(columns)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "latency_tok",
            "s/token",
            "lower",
            False,
            "seconds over new tokens, totals, plain decoding",
            Ratio(_seconds, _tokens),
        ),
        Metric(
            "assisted_latency_tok",
            "s/token",
            "lower",
            False,
            "the same with drafted tokens",
            Ratio(_seconds, _tokens),
            drafting=True,
        ),
        Metric(
            "thr",
            "tokens/s",
            "higher",
            False,
            "new tokens over seconds, totals, plain decoding",
            Ratio(_tokens, _seconds),
        ),
        Metric(
            "assisted_thr",
            "tokens/s",
            "higher",
            False,
            "the same with drafted tokens",
            Ratio(_tokens, _seconds),
            drafting=True,
        ),
        Metric(
            "decode_latency_tok",
            "s/token",
            "lower",
            False,
            "without the time to, and tokens of, the first forward",
            Ratio(_later_seconds, _later_tokens),
        ),
        Metric(
            "ttft_seconds",
            "s",
            "lower",
            False,
            "time to first token, median over prompts",
            Quantile(_of("ttft_seconds"), 0.5),
        ),
        Metric(
            "ttft_mean_seconds",
            "s",
            "lower",
            False,
            "time to first token, mean over prompts",
            Ratio(_of("ttft_seconds"), _one),
        ),
        Metric("latency_tok_p50", "s/token", "lower", False, "median over prompts", Quantile(_per_token, 0.5)),
        Metric("latency_tok_p90", "s/token", "lower", False, "90th percentile over prompts", Quantile(_per_token, 0.9)),
        Metric(
            "latency_tok_p99", "s/token", "lower", False, "99th percentile over prompts", Quantile(_per_token, 0.99)
        ),
        Metric("new_tokens", "tokens", "same", True, "tokens generated, all prompts", Total(_tokens)),
        Metric("target_forwards", "forwards", "lower", True, "forward passes of the target", Total(_forwards)),
        Metric(
            "draft_forwards",
            "forwards",
            "lower",
            True,
            "forward passes of the draft",
            Total(_of("draft_forwards")),
            drafting=True,
        ),
        Metric(
            "drafted", "tokens", "same", True, "tokens proposed to the target", Total(_of("drafted")), drafting=True
        ),
        Metric(
            "accepted",
            "tokens",
            "same",
            True,
            "proposed tokens that entered the output",
            Total(_of("accepted")),
            drafting=True,
        ),
        Metric(
            "rejected",
            "tokens",
            "lower",
            True,
            "proposed tokens that the target refused",
            Total(_of("rejected")),
            drafting=True,
        ),
        Metric(
            "total_rollbacks",
            "steps",
            "lower",
            True,
            "steps in which at least one drafted token was rejected",
            Total(_of("rollbacks")),
            drafting=True,
        ),
        Metric(
            "accept_rate",
            "share",
            "higher",
            True,
            "accepted / (accepted + rejected) drafted tokens",
            Ratio(_of("accepted"), _sum("accepted", "rejected")),
            drafting=True,
        ),
        Metric(
            "alpha",
            "share",
            "higher",
            True,
            "accepted / (accepted + rollbacks): acceptance of one token (2211.17192)",
            Ratio(_of("accepted"), _sum("accepted", "rollbacks")),
            drafting=True,
        ),
        Metric(
            "tokens_per_step",
            "tokens/step",
            "higher",
            True,
            "new tokens / forwards of the target, bonus token included",
            Ratio(_tokens, _forwards),
            drafting=True,
        ),
        Metric(
            "drafted_per_step",
            "tokens/step",
            "same",
            True,
            "drafted tokens / forwards of the target",
            Ratio(_of("drafted"), _forwards),
            drafting=True,
        ),
        Metric("utilization_mean_percent", "%", "same", False, "of the GPU, else of this process (100: one core)"),
        Metric("utilization_p10_percent", "%", "same", False, "10th percentile of the same over time"),
        Metric("utilization_p90_percent", "%", "same", False, "90th percentile of the same over time"),
        Metric("power_mean_watts", "W", "lower", False, "of the GPU, else of the processor package"),
        Metric("joules_per_token", "J/token", "lower", False, "energy while the case was measured over its new tokens"),
        Metric(
            "draft_share",
            "share",
            "lower",
            False,
            "share of the time spent drafting",
            Ratio(_of("draft_seconds"), _seconds),
            drafting=True,
        ),
        Metric(
            "verify_share",
            "share",
            "lower",
            False,
            "share of the time from a draft to its verdict",
            Ratio(_of("verify_seconds"), _seconds),
            drafting=True,
        ),
        Metric(
            "other_share",
            "share",
            "lower",
            False,
            "share of the time outside drafting and verifying",
            Ratio(_of("other_seconds"), _seconds),
            drafting=True,
        ),
    )
}


FACTS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("perplexity", "", "lower", False, "of the target on its text, by sliding window"),
        Metric("memory_allocated_bytes", "bytes", "lower", False, "peak that the device's allocator handed out"),
        Metric("memory_reserved_bytes", "bytes", "lower", False, "peak that the device's allocator held"),
        Metric("host_rss_bytes", "bytes", "lower", False, "peak memory of the process"),
        Metric("cache_bytes", "bytes", "lower", True, "key/value cache at the end of a generation"),
        Metric("target_weight_bytes", "bytes", "lower", True, "weights of the target as loaded"),
        Metric("draft_weight_bytes", "bytes", "lower", True, "weights of the draft as loaded"),
        Metric("load_seconds", "s", "lower", False, "loading the engine"),
        Metric("compile_seconds", "s", "lower", False, "compiling, before anything was timed"),
        Metric("graph_breaks", "times", "lower", True, "places where a forward leaves compiled code and comes back"),
        Metric("recompiles", "times", "lower", True, "compilations beyond the first of a graph"),
        Metric("pass_at_1", "share", "higher", False, "HumanEval problems solved at the first try, unbiased"),
    )
}
"""Figures of a whole case, not of a prompt: from its facts, and the share of problems solved."""


def fact_values(facts: Mapping[str, Any]) -> dict[str, float]:
    """The figures of FACTS that a case's facts hold."""
    weights = facts.get("weight_bytes")
    weights = weights if isinstance(weights, Mapping) else {}
    flat = {**facts, **{f"{role}_weight_bytes": size for role, size in weights.items()}}
    return {name: float(flat[name]) for name in FACTS if isinstance(flat.get(name), int | float)}


def derive(samples: Sequence[Sample], *, speculative: bool) -> dict[str, float]:
    """Metrics of one case from its samples.

    speculative: tokens were drafted in some way, so latency and throughput carry the `assisted_` names
    and the acceptance metrics apply. Empty samples give no metrics.
    """
    columns = SampleColumns(samples)
    metrics: dict[str, float] = {}
    for metric in METRICS.values():
        if metric.formula is None or not samples or not applies(metric, speculative=speculative):
            continue
        value = metric.formula.value(columns)
        if value is not None:
            metrics[metric.name] = value
    return metrics


def applies(metric: Metric, *, speculative: bool) -> bool:
    """Whether a case has the metric: one whose tokens are drafted has other names for its speed, and more metrics."""
    return speculative if metric.drafting else not (speculative and metric.name in EITHER)


EITHER = ("latency_tok", "thr")
"""Metrics that carry another name, assisted_ before it, where tokens are drafted."""


def shown_metric(metric: Metric, one: CaseResult, other: CaseResult) -> Metric | None:
    """The metric under the name that it has for these two cases; None if it does not apply to both."""
    both = one.point.speculative and other.point.speculative
    if metric.name in EITHER:
        return METRICS[f"assisted_{metric.name}"] if both else metric
    return metric if both or not metric.drafting else None


def case_figure(metric: Metric, case: CaseResult) -> float | None:
    """A metric as the run file gives it for the whole case, from its metrics or its facts."""
    names = (metric.name, f"assisted_{metric.name}") if metric.name in EITHER else (metric.name,)
    found = next((case.metrics[name] for name in names if name in case.metrics), None)
    if found is None and metric.name in FACTS:
        found = fact_values(case.facts).get(metric.name)
    return None if found is None else float(found)


def derive_telemetry(telemetry: Mapping[str, Any], samples: Sequence[Sample]) -> dict[str, float]:
    """Utilization, power and energy per token of one case, from the GPU's sampler or else the processor's.

    What the device did not give is left out; the reason is in the telemetry itself.
    """
    gpu, cpu = telemetry.get("nvml"), telemetry.get("cpu")
    if gpu is not None:
        values, prefix, power = gpu.get("values", {}), "utilization", "power_mean_watts"
    else:
        values = (cpu or {}).get("values", {})
        prefix, power = "process_utilization", "package_power_mean_watts"
    names = {f"utilization_{part}_percent": f"{prefix}_{part}_percent" for part in ("mean", "p10", "p90")}
    names["power_mean_watts"] = power
    found = {name: float(values[source]) for name, source in names.items() if source in values}
    energy = values.get("energy_joules", values.get("package_energy_joules"))
    tokens = sum(sample.new_tokens for sample in samples)
    if energy is not None and tokens:
        found["joules_per_token"] = float(energy) / tokens
    return found


def positions(samples: Sequence[Sample]) -> list[tuple[int, int]]:
    """(proposed, accepted) totals at every draft position, first position first."""
    length = max((len(s.proposed_at) for s in samples), default=0)
    totals = [[0, 0] for _ in range(length)]
    for sample in samples:
        for i, count in enumerate(sample.proposed_at):
            totals[i][0] += count
        for i, count in enumerate(sample.accepted_at):
            totals[i][1] += count
    return [(proposed, accepted) for proposed, accepted in totals]


def rederived(run: Run) -> Run:
    """The run with the metrics that its own samples, telemetry and completions give, by the formulas of today.

    What a file stores of a case serves only where it has no samples, as published figures have none; that is told.
    """
    cases = tuple(_rederived(case) for case in run.cases)
    bare = [case.id for case in cases if case.status == "ok" and case.kind == "decode" and not case.samples]
    if not bare:
        return replace(run, cases=cases)
    told = f"{run.path}: no samples of {bare[0]}{f' and {len(bare) - 1} more' if bare[1:] else ''}: figures as stored"
    return replace(run, cases=cases, warnings=(*run.warnings, told))


def _rederived(case: CaseResult) -> CaseResult:
    if not case.samples:
        return case
    kept = {name: value for name, value in case.metrics.items() if name not in METRICS or METRICS[name].formula is None}
    telemetry = derive_telemetry(case.telemetry, case.samples)
    return replace(case, metrics=derive(case.samples, speculative=case.point.speculative) | kept | telemetry)
