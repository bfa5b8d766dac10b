"""Reading run files for their figures: their metrics are what their own samples give by the formulas of today."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from reports.numbers.copy_range import with_largest_copy
from reports.numbers.metrics import rederived
from reports.record.published import is_reference, read_any
from reports.record.run import CaseResult, Completion, Run


def read_measured(path: Path | str) -> Run:
    """Read a run file, or a reference (.csv), whose figures stay as published; raises RunFileError."""
    run = read_any(path)
    return run if is_reference(run) else solved_again(with_largest_copy(rederived(run)))


def solved_again(run: Run) -> Run:
    """The run with the HumanEval metrics that its own completions give; stored ones serve only where there are none."""
    if not run.completions:
        return run
    by_case: dict[str, list[Completion]] = {}
    for completion in run.completions:
        by_case.setdefault(completion.case, []).append(completion)
    cases = (
        _solved_again(case, by_case[case.id]) if case.kind == "humaneval" and case.id in by_case else case
        for case in run.cases
    )
    return replace(run, cases=tuple(cases))


def _solved_again(case: CaseResult, completions: Sequence[Completion]) -> CaseResult:
    from reports.numbers import humaneval

    stored = {int(name.removeprefix("pass_at_")) for name in case.metrics if name.startswith("pass_at_")}
    ks = case.facts.get("k") or sorted(stored)
    kept = {name: value for name, value in case.metrics.items() if not humaneval.is_derived(name)}
    return replace(case, metrics=humaneval.derive(completions, ks) | kept)
