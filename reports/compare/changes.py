"""What changed from one measurement of a case to another: every metric with its ratio, interval and direction.

Pure: cases of two runs, or of one run under two settings, become frozen dataclasses; renders nothing and decides
nothing (a gate does). Ratios are head over base of the metric as it is named, over the prompts that both sides have.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from reports.numbers import humaneval
from reports.numbers.formulas import Quantile, Ratio, Total
from reports.numbers.metrics import FACTS, METRICS, Metric, case_figure, shown_metric
from reports.numbers.pairing import Wandering, wandering, with_machine
from reports.numbers.speedups import Drift, drifts
from reports.numbers.statistics import Interval, paired_quantile_ratio, paired_ratio
from reports.record.columns import Column, Journal, Samples, unusable
from reports.record.matching import (
    Difference,
    environment_differences,
    hardware_key,
    match,
    refuse_other_workloads,
    versions_key,
)
from reports.record.published import is_reference
from reports.record.run import CaseResult, Run, RunFileError

Direction = Literal["better", "worse", "changed", "same", "none shown"]

HEADLINE = (
    "latency_tok",
    "thr",
    "accept_rate",
    "tokens_per_step",
    "total_rollbacks",
    "new_tokens",
    "utilization_mean_percent",
    "memory_allocated_bytes",
    "host_rss_bytes",
    "perplexity",
    "pass_at_1",
)
"""What is compared unless metrics are chosen. Latency and throughput stand for their assisted_ forms, too."""


@dataclass(frozen=True, slots=True)
class Change:
    """One metric of one case. base, head: its values in `metric.unit`; ratio: head over base, None where base is 0.

    interval: of the ratio, over prompts; None for counts, and for figures that are not per prompt. direction: better or
    worse by the metric's own sense (changed where it has none) if a count differs or the interval excludes 1; same
    if a count is equal; else none shown.
    """

    metric: Metric
    base: float
    head: float
    ratio: float | None
    interval: Interval | None
    direction: Direction


@dataclass(frozen=True, slots=True)
class Outputs:
    """How many of the prompts' greedy outputs differ; position: of the first differing token (from 0) in the first
    prompt that differs, None where the tokens were not kept."""

    prompts: int
    different: int
    first_prompt: int | None = None
    position: int | None = None


@dataclass(frozen=True, slots=True)
class CaseChange:
    """One case on both sides. values: of the setting that tells them apart, where settings are compared.

    prompts: those that both sides have and that the changes are over; of_prompts: those that either has.
    solved: HumanEval, problem by problem.
    """

    base: str
    head: str
    prompts: int
    of_prompts: int
    changes: tuple[Change, ...]
    outputs: Outputs | None = None
    solved: humaneval.Paired | None = None
    values: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """A case without figures to compare on at least one side; side: base, head or both."""

    id: str
    side: str
    status: str
    reason: str


@dataclass(frozen=True)
class Comparison:
    """Two runs, or one run's settings (`by` then names the setting, and base and head are the same run).

    Both runs are without samples. same_hardware, same_versions: by their keys; None if one of them is a reference.
    renamed: (id in base, id in head) of cases that are compared in spite of their names. unstable: baselines of either
    run that changed within it by more than its study allows.
    """

    base: Run
    head: Run
    cases: tuple[CaseChange, ...]
    unmeasured: tuple[Unmeasured, ...]
    new: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    environment: tuple[Difference, ...] = ()
    same_hardware: bool | None = True
    same_versions: bool | None = True
    by: str = ""
    unstable: tuple[Drift, ...] = ()


def chosen_metrics(names: Iterable[str] | None) -> tuple[Metric, ...]:
    """The metrics of these names, or the headline ones; RunFileError for a name that is none.

    An assisted_ name and the plain one are the same quantity: either asks for both.
    """
    known = METRICS | FACTS
    chosen: dict[str, Metric] = {}
    for name in HEADLINE if names is None else names:
        if name not in known:
            raise RunFileError(f"--metric {name!r}: not a metric; choose from {', '.join(known)}")
        plain = name.removeprefix("assisted_")
        chosen[plain] = known[plain]
    return tuple(chosen.values())


def compare_runs(base: Journal, head: Journal, metrics: Sequence[Metric]) -> Comparison:
    """Match the cases of two runs and compare them one by one, so that two cases are in memory at a time.

    Runs of other workloads are refused, also where only the number of prompts differs: their hash covers all prompts,
    so that the common ones cannot be shown to be the same. Raises RunFileError for that and if no case is in both.
    """
    refuse_other_workloads(base.run, head.run)
    matching = match(base.run, head.run)
    pairs = [*matching.pairs, *matching.renamed]
    if not pairs:
        raise RunFileError(
            f"{head.run.path}: no case of {base.run.path} is in it; compare runs of the same study, or settings by --by"
        )
    published = is_reference(base.run) or is_reference(head.run)
    return Comparison(
        base.run,
        head.run,
        tuple(_case_change(one, other, base, head, metrics) for one, other in pairs if _measured(one, other)),
        tuple(_unmeasured(one, other) for one, other in pairs if not _measured(one, other)),
        tuple(case.id for case in matching.new),
        tuple(case.id for case in matching.gone),
        tuple((one.id, other.id) for one, other in matching.renamed),
        environment_differences(base.run, head.run),
        None if published else hardware_key(base.run) == hardware_key(head.run),
        None if published else versions_key(base.run) == versions_key(head.run),
        unstable=tuple(each for run in (base.run, head.run) for each in _drifts(run) if each.unstable),
    )


def compare_settings(run: Journal, key: str, metrics: Sequence[Metric]) -> Comparison:
    """Compare the values of one setting inside one run: cases that agree in everything but that setting.

    Each value is compared with the one that is most like a baseline: the suite's default, else none, plain, off or the
    lowest. What only exists with a value of the setting (a strategy's assist_toks, sampling's temperature) does not
    keep two cases apart. Raises RunFileError for a key that no case has, and if no two cases differ in it alone.
    """
    cases = [case for case in run.run.finished.values() if key in case.settings]
    if not cases:
        known = sorted({name for case in run.run.cases for name in case.settings})
        raise RunFileError(f"{run.run.path}: --by {key!r}: no case has this setting; choose from {', '.join(known)}")
    groups: dict[str, list[CaseResult]] = {}
    for case in cases:
        groups.setdefault(_all_but(case, key), []).append(case)
    pairs = []
    for group in groups.values():
        ordered = sorted(group, key=lambda case: _rank(key, case.settings[key]))
        pairs += [(ordered[0], other) for other in ordered[1:] if other.settings[key] != ordered[0].settings[key]]
    if not pairs:
        raise RunFileError(
            f"{run.run.path}: --by {key!r}: no two cases differ in it alone; measure more than one value"
        )
    return Comparison(
        run.run,
        run.run,
        tuple(
            _case_change(
                one,
                other,
                run,
                run,
                metrics,
                (_text(one.settings[key]), _text(other.settings[key])),
                _machine(run.run, other.session),
            )
            for one, other in pairs
            if _measured(one, other)
        ),
        tuple(_unmeasured(one, other) for one, other in pairs if not _measured(one, other)),
        by=key,
        unstable=tuple(each for each in _drifts(run.run) if each.unstable),
    )


def direction_of(metric: Metric, base: float, head: float, interval: Interval | None) -> Direction:
    """Which way a metric went, as far as it is shown; see `Change`."""
    if metric.exact and base == head:
        return "same"
    if not metric.exact and (interval is None or not interval.excludes(1.0)):
        return "none shown"
    if metric.better == "same":
        return "changed"
    return "better" if (head > base) == (metric.better == "higher") else "worse"


def _case_change(
    one: CaseResult,
    other: CaseResult,
    base: Journal,
    head: Journal,
    metrics: Sequence[Metric],
    values: tuple[str, str] | None = None,
    machine: Wandering | None = None,
) -> CaseChange:
    """machine: what it wandered between the two cases, where they are of one run and decoded one after the other."""
    first, second = base.samples(one), head.samples(other)
    common = np.intersect1d(first.prompts, second.prompts, assume_unique=True)
    union = len(first) + len(second) - len(common)
    first, second = first.of(common), second.of(common)
    changes = []
    for metric in metrics:
        try:
            change = _change(metric, one, other, first, second)
        except (ValueError, KeyError, TypeError) as error:
            raise unusable(other, error, base.run, head.run) from None
        if change is not None:
            changes.append(change if machine is None else _with_machine(change, len(common), machine))
    try:
        outputs = _outputs(first, second) if len(common) and _same_output_wanted(one, other) else None
    except (KeyError, TypeError) as error:
        raise unusable(other, error, base.run, head.run) from None
    solved = _solved(one, other, base.run, head.run) if one.kind == "humaneval" else None
    return CaseChange(one.id, other.id, len(common), union, tuple(changes), outputs, solved, values)


def _change(metric: Metric, one: CaseResult, other: CaseResult, first: Samples, second: Samples) -> Change | None:
    """One metric of a matched case; None if a side does not have it."""
    shown = shown_metric(metric, one, other)
    interval = None
    if shown is None:
        return None
    if len(first) and metric.formula is not None:
        found = _from_samples(metric, first, second)
        if found is None:
            return None
        base, head, interval = found
    else:
        of_one, of_other = case_figure(metric, one), case_figure(metric, other)
        if of_one is None or of_other is None:
            return None
        base, head = of_one, of_other
    ratio = head / base if base else (1.0 if head == base else None)
    return Change(shown, base, head, ratio, interval, direction_of(shown, base, head, interval))


def _from_samples(metric: Metric, first: Samples, second: Samples) -> tuple[float, float, Interval | None] | None:
    """Both sides' values over the common prompts that have the metric on both, and the interval of their ratio."""
    assert metric.formula is not None
    if isinstance(metric.formula, Total):
        base, head = metric.formula.value(first), metric.formula.value(second)
        return None if base is None or head is None else (float(base), float(head), None)
    columns = [term for side in (first, second) for term in metric.formula.terms(side)]
    known = ~np.isnan(np.sum(columns, axis=0))
    base_above, base_below, head_above, head_below = (column[known] for column in columns)
    if not known.any():
        return None
    if isinstance(metric.formula, Quantile):
        return _quantiles(base_above, head_above, metric.formula.share)
    return _ratios(metric, head_above, head_below, base_above, base_below)


def _ratios(
    metric: Metric, head_above: Column, head_below: Column, base_above: Column, base_below: Column
) -> tuple[float, float, Interval | None] | None:
    columns = head_above, head_below, base_above, base_below
    head_top, head_bottom, base_top, base_bottom = (float(column.sum()) for column in columns)
    if not (base_bottom > 0 and head_bottom > 0):
        return None
    base, head = base_top / base_bottom, head_top / head_bottom
    if metric.exact or not all(column.min() > 0 for column in columns):
        return (base, head, None) if math.isfinite(base) and math.isfinite(head) else None
    return base, head, paired_ratio(*columns)


def _machine(run: Run, session: int) -> Wandering | None:
    """None where cases took turns, or no baseline was measured again."""
    found = wandering(run, session, lambda case: case_figure(METRICS["latency_tok"], case))
    return found if found.measured and run.order == "blocks" else None


def _with_machine(change: Change, prompts: int, machine: Wandering) -> Change:
    """The change of a timing with the machine in its interval; counts do not know the machine."""
    if change.interval is None or change.metric.exact or not isinstance(change.metric.formula, Ratio):
        return change
    interval = with_machine(change.interval, prompts, machine)
    return replace(change, interval=interval, direction=direction_of(change.metric, change.base, change.head, interval))


def _quantiles(first: Column, second: Column, share: float) -> tuple[float, float, Interval | None]:
    base, head = float(np.quantile(first, share)), float(np.quantile(second, share))
    return base, head, paired_quantile_ratio(first, second, share)


def _same_output_wanted(one: CaseResult, other: CaseResult) -> bool:
    greedy = not one.point.do_sample and not other.point.do_sample
    return greedy and one.workload.gen_toks == other.workload.gen_toks


def _outputs(first: Samples, second: Samples) -> Outputs:
    hashes = zip(first.hashes(), second.hashes(), strict=True)
    differing = [place for place, (one, other) in enumerate(hashes) if one != other]
    if not differing:
        return Outputs(len(first), 0)
    place = differing[0]
    one, other = first.tokens(place), second.tokens(place)
    position = None
    if one and other:
        shared = min(len(one), len(other))
        position = next((i for i in range(shared) if one[i] != other[i]), shared)
    return Outputs(len(first), len(differing), int(first.prompts[place]), position)


def _solved(one: CaseResult, other: CaseResult, base: Run, head: Run) -> humaneval.Paired | None:
    first = [each for each in base.completions if each.case == one.id]
    second = [each for each in head.completions if each.case == other.id]
    tasks = set(humaneval.verdicts_of(first)) & set(humaneval.verdicts_of(second))
    if not tasks:
        return None
    return replace(humaneval.compare(first, second), batches=humaneval.different_batches(one, other))


def _drifts(run: Run) -> list[Drift]:
    """Of a run that was read without samples, from the metrics of its cases."""
    return drifts(run, lambda case: case_figure(METRICS["latency_tok"], case))


def _measured(one: CaseResult, other: CaseResult) -> bool:
    return one.status == "ok" and other.status == "ok"


def _unmeasured(one: CaseResult, other: CaseResult) -> Unmeasured:
    bad = [(side, case) for side, case in (("base", one), ("head", other)) if case.status != "ok"]
    sides = "both" if len(bad) == 2 else bad[0][0]
    case = bad[-1][1]
    return Unmeasured(case.id, sides, case.status, case.reason)


_BASELINES = {"cache": "dynamic", "dtype": "bf16", "assist_schedule": "constant"}
_ONLY_WITH = {
    "strategy": (
        "assist_toks",
        "confidence_threshold",
        "assist_schedule",
        "exit_layer",
        "lookup_ngram",
        "draft_quant",
    ),
    "do_sample": ("temperature", "top_p"),
}


def _all_but(case: CaseResult, key: str) -> str:
    left_out = (key, *_ONLY_WITH.get(key, ()))
    kept = {name: value for name, value in case.settings.items() if name not in left_out}
    return repr((case.kind, sorted(kept.items(), key=lambda item: item[0])))


def _rank(key: str, value: object) -> tuple[bool, bool, float, str]:
    """Baseline first, numbers by size, the rest by name."""
    number = float(value) if isinstance(value, int | float) else 0.0
    return value != _BASELINES.get(key), value not in ("none", "plain", False), number, str(value)


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
