"""Samples to metrics: one function, and for every metric its name, unit, direction and whether it is exact.

Metrics are always derived from samples and can be derived again from a run file. Rates are ratios of
totals (sum of tokens over sum of seconds), never means of ratios. Knows nothing of statistics or rendering.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from reports.record.run import Sample

Direction = Literal["lower", "higher", "same"]


@dataclass(frozen=True)
class Metric:
    """What a metric is. better: which way is an improvement ("same": any change is a finding).
    exact: a count that does not depend on the machine's speed."""

    name: str
    unit: str
    better: Direction
    exact: bool
    meaning: str


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("latency_tok", "s/token", "lower", False, "seconds over new tokens, totals, plain decoding"),
        Metric("assisted_latency_tok", "s/token", "lower", False, "the same with drafted tokens"),
        Metric("thr", "tokens/s", "higher", False, "new tokens over seconds, totals, plain decoding"),
        Metric("assisted_thr", "tokens/s", "higher", False, "the same with drafted tokens"),
        Metric(
            "decode_latency_tok", "s/token", "lower", False, "without the time to, and tokens of, the first forward"
        ),
        Metric("ttft_seconds", "s", "lower", False, "time to first token, median over prompts"),
        Metric("latency_tok_p50", "s/token", "lower", False, "median over prompts"),
        Metric("latency_tok_p90", "s/token", "lower", False, "90th percentile over prompts"),
        Metric("latency_tok_p99", "s/token", "lower", False, "99th percentile over prompts"),
        Metric("new_tokens", "tokens", "same", True, "tokens generated, all prompts"),
        Metric("target_forwards", "forwards", "lower", True, "forward passes of the target"),
        Metric("draft_forwards", "forwards", "lower", True, "forward passes of the draft"),
        Metric("drafted", "tokens", "same", True, "tokens proposed to the target"),
        Metric("accepted", "tokens", "same", True, "proposed tokens that entered the output"),
        Metric("rejected", "tokens", "lower", True, "proposed tokens that the target refused"),
        Metric("total_rollbacks", "steps", "lower", True, "steps in which at least one drafted token was rejected"),
        Metric("accept_rate", "share", "higher", True, "accepted / (accepted + rejected) drafted tokens"),
        Metric(
            "alpha", "share", "higher", True, "accepted / (accepted + rollbacks): acceptance of one token (2211.17192)"
        ),
        Metric(
            "tokens_per_step",
            "tokens/step",
            "higher",
            True,
            "new tokens / forwards of the target, bonus token included",
        ),
        Metric("drafted_per_step", "tokens/step", "same", True, "drafted tokens / forwards of the target"),
        Metric("utilization_mean_percent", "%", "same", False, "of the GPU, else of this process (100: one core)"),
        Metric("utilization_p10_percent", "%", "same", False, "10th percentile of the same over time"),
        Metric("utilization_p90_percent", "%", "same", False, "90th percentile of the same over time"),
        Metric("power_mean_watts", "W", "lower", False, "of the GPU, else of the processor package"),
        Metric("joules_per_token", "J/token", "lower", False, "energy while the case was measured over its new tokens"),
        Metric("draft_share", "share", "lower", False, "share of the time spent drafting"),
        Metric("verify_share", "share", "lower", False, "share of the time from a draft to its verdict"),
        Metric("other_share", "share", "lower", False, "share of the time outside drafting and verifying"),
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
    if not samples:
        return {}
    seconds = float(sum(s.seconds for s in samples))
    tokens = sum(s.new_tokens for s in samples)
    forwards = sum(s.target_forwards for s in samples)
    prefix = "assisted_" if speculative else ""
    per_token = [s.seconds / s.new_tokens for s in samples]
    metrics: dict[str, float] = {
        f"{prefix}latency_tok": seconds / tokens,
        f"{prefix}thr": tokens / seconds,
        **{f"latency_tok_p{q}": float(np.percentile(per_token, q)) for q in (50, 90, 99)},
        "new_tokens": tokens,
        "target_forwards": forwards,
    }
    firsts = [(s.ttft_seconds, s.first_tokens, s) for s in samples if s.ttft_seconds is not None]
    if firsts:
        metrics["ttft_seconds"] = float(np.median([ttft for ttft, _, _ in firsts]))
        later_tokens = sum(s.new_tokens - first for _, first, s in firsts)
        if later_tokens:
            metrics["decode_latency_tok"] = sum(s.seconds - ttft for ttft, _, s in firsts) / later_tokens
    if speculative:
        metrics |= _speculation(samples, seconds, tokens, forwards)
    return metrics


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


def _speculation(samples: Sequence[Sample], seconds: float, tokens: int, forwards: int) -> dict[str, float]:
    accepted = sum(s.accepted for s in samples)
    rejected = sum(s.rejected for s in samples)
    rollbacks = sum(s.rollbacks for s in samples)
    drafted = sum(s.drafted for s in samples)
    found: dict[str, float] = {
        "draft_forwards": sum(s.draft_forwards for s in samples),
        "drafted": drafted,
        "accepted": accepted,
        "rejected": rejected,
        "total_rollbacks": rollbacks,
        "tokens_per_step": tokens / forwards,
        "drafted_per_step": drafted / forwards,
        "draft_share": sum(s.draft_seconds for s in samples) / seconds,
        "verify_share": sum(s.verify_seconds for s in samples) / seconds,
        "other_share": sum(s.other_seconds for s in samples) / seconds,
    }
    if accepted + rejected:
        found["accept_rate"] = accepted / (accepted + rejected)
    if accepted + rollbacks:
        found["alpha"] = accepted / (accepted + rollbacks)
    return found
