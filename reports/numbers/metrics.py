"""The one table of metrics: name, unit, direction, whether exact, and the formula over columns of samples.

Whatever shows, compares, gates or claims a metric takes its formula from here, so that one name is one quantity; a mean
and a median of one thing have two names. Metrics are always derived from samples and can be derived again from a run
file. Rates are ratios of totals (sum of tokens over sum of seconds), never means of ratios, over the prompts that have
both. Knows nothing of statistics or rendering.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from reports.numbers.formulas import (
    FORWARDS,
    NEW_TOKENS,
    SECONDS,
    Formula,
    Quantile,
    Ratio,
    Total,
    column_of,
    later_seconds,
    later_tokens,
    one_each,
    per_token,
    sum_of,
)
from reports.record.columns import SampleColumns
from reports.record.run import CaseResult, Run, Sample

Direction = Literal["lower", "higher", "same"]


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


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "latency_tok",
            "s/token",
            "lower",
            False,
            "seconds over new tokens, totals, plain decoding",
            Ratio(SECONDS, NEW_TOKENS),
        ),
        Metric(
            "assisted_latency_tok",
            "s/token",
            "lower",
            False,
            "the same with drafted tokens",
            Ratio(SECONDS, NEW_TOKENS),
            drafting=True,
        ),
        Metric(
            "thr",
            "tokens/s",
            "higher",
            False,
            "new tokens over seconds, totals, plain decoding",
            Ratio(NEW_TOKENS, SECONDS),
        ),
        Metric(
            "assisted_thr",
            "tokens/s",
            "higher",
            False,
            "the same with drafted tokens",
            Ratio(NEW_TOKENS, SECONDS),
            drafting=True,
        ),
        Metric(
            "decode_latency_tok",
            "s/token",
            "lower",
            False,
            "without the time to, and tokens of, the first forward",
            Ratio(later_seconds, later_tokens),
        ),
        Metric(
            "ttft_seconds",
            "s",
            "lower",
            False,
            "time to first token, median over prompts",
            Quantile(column_of("ttft_seconds"), 0.5),
        ),
        Metric(
            "ttft_mean_seconds",
            "s",
            "lower",
            False,
            "time to first token, mean over prompts",
            Ratio(column_of("ttft_seconds"), one_each),
        ),
        Metric("latency_tok_p50", "s/token", "lower", False, "median over prompts", Quantile(per_token, 0.5)),
        Metric("latency_tok_p90", "s/token", "lower", False, "90th percentile over prompts", Quantile(per_token, 0.9)),
        Metric("latency_tok_p99", "s/token", "lower", False, "99th percentile over prompts", Quantile(per_token, 0.99)),
        Metric("new_tokens", "tokens", "same", True, "tokens generated, all prompts", Total(NEW_TOKENS)),
        Metric("target_forwards", "forwards", "lower", True, "forward passes of the target", Total(FORWARDS)),
        Metric(
            "draft_forwards",
            "forwards",
            "lower",
            True,
            "forward passes of the draft",
            Total(column_of("draft_forwards")),
            drafting=True,
        ),
        Metric(
            "drafted",
            "tokens",
            "same",
            True,
            "tokens proposed to the target",
            Total(column_of("drafted")),
            drafting=True,
        ),
        Metric(
            "accepted",
            "tokens",
            "same",
            True,
            "proposed tokens that entered the output",
            Total(column_of("accepted")),
            drafting=True,
        ),
        Metric(
            "rejected",
            "tokens",
            "lower",
            True,
            "proposed tokens that the target refused",
            Total(column_of("rejected")),
            drafting=True,
        ),
        Metric(
            "total_rollbacks",
            "steps",
            "lower",
            True,
            "steps in which at least one drafted token was rejected",
            Total(column_of("rollbacks")),
            drafting=True,
        ),
        Metric(
            "accept_rate",
            "share",
            "higher",
            True,
            "accepted / (accepted + rejected) drafted tokens",
            Ratio(column_of("accepted"), sum_of("accepted", "rejected")),
            drafting=True,
        ),
        Metric(
            "alpha",
            "share",
            "higher",
            True,
            "accepted / (accepted + rollbacks): acceptance of one token (2211.17192)",
            Ratio(column_of("accepted"), sum_of("accepted", "rollbacks")),
            drafting=True,
        ),
        Metric(
            "tokens_per_step",
            "tokens/step",
            "higher",
            True,
            "new tokens / forwards of the target, bonus token included",
            Ratio(NEW_TOKENS, FORWARDS),
            drafting=True,
        ),
        Metric(
            "drafted_per_step",
            "tokens/step",
            "same",
            True,
            "drafted tokens / forwards of the target",
            Ratio(column_of("drafted"), FORWARDS),
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
            Ratio(column_of("draft_seconds"), SECONDS),
            drafting=True,
        ),
        Metric(
            "verify_share",
            "share",
            "lower",
            False,
            "share of the time from a draft to its verdict",
            Ratio(column_of("verify_seconds"), SECONDS),
            drafting=True,
        ),
        Metric(
            "other_share",
            "share",
            "lower",
            False,
            "share of the time outside drafting and verifying",
            Ratio(column_of("other_seconds"), SECONDS),
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
    """The run with the metrics that its own samples and telemetry give, by the formulas of today.

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
    earlier = case.facts.get("prompts_kept", 0)  # of an earlier session, whose energy this one did not see
    telemetry = derive_telemetry(case.telemetry, case.samples[earlier if isinstance(earlier, int) else 0 :])
    return replace(case, metrics=derive(case.samples, speculative=case.point.speculative) | kept | telemetry)
