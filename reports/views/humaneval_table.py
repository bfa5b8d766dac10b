"""The table of a run's HumanEval cases: pass@k and the paired comparison, from what `numbers.humaneval` works out."""

from __future__ import annotations

from collections.abc import Sequence

from reports.numbers.humaneval import NO_EVIDENCE, Paired, comparisons, humaneval_cases, points
from reports.record.run import CaseResult, Run
from reports.views.sheet import Sheet, SheetColumn, SheetRow

LEGEND = (
    "Difference: share of problems solved less the base's, in points, with its 95% interval (Tango; of several "
    "samples, Student). p: McNemar's exact test over the problems (of several samples, Student's), Holm-adjusted over "
    "the table. tokens/s: while generating, all rows of a batch together."
)


def humaneval_sheet(run: Run) -> Sheet:
    """All HumanEval cases of a run in their order; no rows if it has none."""
    cases = humaneval_cases(run)
    ks = _ks(cases)
    found = comparisons(run) if cases else {}
    figures = [SheetColumn(f"pass_at_{k}", f"pass@{k}", priority=1 if k == min(ks) else 6, align="right") for k in ks]
    return Sheet(
        columns=(
            SheetColumn("case", "case", code=True),
            *figures,
            SheetColumn("solved", "solved", align="right"),
            SheetColumn("generation_thr", "tokens/s", "tokens/s", priority=4, align="right"),
            SheetColumn("seconds_per_problem", "s/problem", priority=7, align="right", better="lower"),
            SheetColumn("tokens_per_completion", "tokens", priority=8, align="right"),
            SheetColumn("difference", "difference [95%]", priority=2, align="right"),
            SheetColumn("p", "p", priority=5, align="right", better="lower"),
            SheetColumn("compared", "compared", priority=3, least=14),
            SheetColumn("status", "status", least=12),
        ),
        rows=tuple(_row(case, ks, found.get(case.id)) for case in cases),
        title="HumanEval",
        notes=(LEGEND,),
    )


def _ks(cases: Sequence[CaseResult]) -> list[int]:
    names = {name for case in cases for name in case.metrics if name.startswith("pass_at_")}
    return sorted(int(name.removeprefix("pass_at_")) for name in names)


def _row(case: CaseResult, ks: Sequence[int], found: tuple[Paired, float] | None) -> SheetRow:
    metrics = case.metrics
    if case.status != "ok" or not metrics:
        status = f"{case.status}: {case.reason}" if case.reason else case.status
        return SheetRow((case.id, *[""] * (len(ks) + 7), status), tone="dim")
    difference, p_value, compared = "", "", ""
    if found is not None:
        paired, adjusted = found
        statement = paired.statement(adjusted)
        difference, p_value = points(paired.difference), f"{adjusted:.3f}"
        compared = f"{statement} {'from' if statement == NO_EVIDENCE else 'than'} {_short(paired)}{paired.caution}"
    shares = [f"{100 * metrics[f'pass_at_{k}']:.1f}%" if f"pass_at_{k}" in metrics else "" for k in ks]
    cells = (
        case.id,
        *shares,
        f"{metrics['solved']:.0f}/{metrics['problems']:.0f}",
        f"{metrics['generation_thr']:.1f}" if "generation_thr" in metrics else "",
        f"{metrics['seconds_per_problem']:.2f}",
        f"{metrics['tokens_per_completion']:.0f}",
        difference,
        p_value,
        compared,
        case.status,
    )
    values = (
        case.id,
        *(metrics.get(f"pass_at_{k}") for k in ks),
        metrics["solved"],
        metrics.get("generation_thr"),
        metrics["seconds_per_problem"],
        metrics["tokens_per_completion"],
        found[0].difference.estimate if found else None,
        found[1] if found else None,
        compared,
        case.status,
    )
    return SheetRow(cells, values)


def _short(paired: Paired) -> str:
    """The base's name without what it shares with the case: its engine, or its strategy where the engine is shared."""
    _, engine, point, *_ = paired.base.split("/")
    return point.split(",")[0] if paired.head.split("/")[1] == engine else engine
