"""How each metric is made of the columns of samples: a ratio of totals, a total, or a quantile over prompts.

The same definitions as `metrics.derive`, over columns, so that two cases can be compared over their common prompts and
resampled. Knows nothing of intervals.
"""

from __future__ import annotations

from collections.abc import Callable

from reports.numbers.metrics import FACTS, METRICS, Metric, fact_values
from reports.record.columns import Column, Samples
from reports.record.run import CaseResult

Of = Callable[[Samples], Column]

_EITHER = ("latency_tok", "thr")  # which carry another name where tokens are drafted
_DRAFTING = {  # metrics that only cases have whose tokens are drafted in some way
    "draft_forwards",
    "drafted",
    "accepted",
    "rejected",
    "total_rollbacks",
    "accept_rate",
    "alpha",
    "tokens_per_step",
    "drafted_per_step",
    "draft_share",
    "verify_share",
    "other_share",
}


def _of(name: str) -> Of:
    return lambda samples: samples.column(name)


def _sum(name: str, other: str) -> Of:
    return lambda samples: samples.column(name) + samples.column(other)


def _less(name: str, other: str) -> Of:
    return lambda samples: samples.column(name) - samples.column(other)


_seconds, _tokens, _forwards = _of("seconds"), _of("new_tokens"), _of("target_forwards")


def _per_token(samples: Samples) -> Column:
    return _seconds(samples) / _tokens(samples)


RATIOS: dict[str, tuple[Of, Of]] = {
    "latency_tok": (_seconds, _tokens),
    "thr": (_tokens, _seconds),
    "decode_latency_tok": (_less("seconds", "ttft_seconds"), _less("new_tokens", "first_tokens")),
    "accept_rate": (_of("accepted"), _sum("accepted", "rejected")),
    "alpha": (_of("accepted"), _sum("accepted", "rollbacks")),
    "tokens_per_step": (_tokens, _forwards),
    "drafted_per_step": (_of("drafted"), _forwards),
    "draft_share": (_of("draft_seconds"), _seconds),
    "verify_share": (_of("verify_seconds"), _seconds),
    "other_share": (_of("other_seconds"), _seconds),
}
"""Name -> what is summed above and below the line."""

TOTALS: dict[str, Of] = {
    "new_tokens": _tokens,
    "target_forwards": _forwards,
    "draft_forwards": _of("draft_forwards"),
    "drafted": _of("drafted"),
    "accepted": _of("accepted"),
    "rejected": _of("rejected"),
    "total_rollbacks": _of("rollbacks"),
}
"""Name -> what is summed over prompts."""

QUANTILES: dict[str, tuple[Of, float]] = {
    "ttft_seconds": (_of("ttft_seconds"), 0.5),
    "latency_tok_p50": (_per_token, 0.5),
    "latency_tok_p90": (_per_token, 0.9),
    "latency_tok_p99": (_per_token, 0.99),
}
"""Name -> the figure of one prompt, and which quantile over prompts."""


def drafts(case: CaseResult) -> bool:
    """Whether the case's tokens are drafted in some way."""
    return bool(case.point.strategy != "plain")


def shown_metric(metric: Metric, one: CaseResult, other: CaseResult) -> Metric | None:
    """The metric under the name that it has for these two cases; None if it does not apply to both."""
    both = drafts(one) and drafts(other)
    if metric.name in _DRAFTING and not both:
        return None
    return METRICS[f"assisted_{metric.name}"] if metric.name in _EITHER and both else metric


def case_figure(metric: Metric, case: CaseResult) -> float | None:
    """A metric as the run file gives it for the whole case, from its metrics or its facts."""
    names = (metric.name, f"assisted_{metric.name}") if metric.name in _EITHER else (metric.name,)
    found = next((case.metrics[name] for name in names if name in case.metrics), None)
    if found is None and metric.name in FACTS:
        found = fact_values(case.facts).get(metric.name)
    return None if found is None else float(found)
