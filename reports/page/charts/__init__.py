"""The charts of a run: Vega-Lite by Altair, drawn to static SVG by vl-convert when the page is made.

One module for each chart: what it shows is worked out from the run and drawn there. A chart whose data the run lacks is
a `Missing` that says which command measures it. Nothing here knows the page.
"""

from __future__ import annotations

from collections.abc import Callable

from reports.page.charts import (
    acceptance,
    lengths,
    machine_chart,
    pareto,
    race_chart,
    solved,
    speedup_chart,
    telemetry,
    time_split,
)
from reports.page.charts.figure import Figure, Missing
from reports.record.run import Run

CHARTS: tuple[Callable[[Run], Figure | Missing], ...] = (
    speedup_chart.speedups,
    pareto.pareto,
    race_chart.race,
    time_split.time_split,
    acceptance.acceptance,
    machine_chart.machine,
    telemetry.telemetry,
    lengths.lengths,
    solved.solved,
)


def figures(run: Run) -> list[Figure | Missing]:
    """All charts of a run in the order of the page."""
    return [chart(run) for chart in CHARTS]
