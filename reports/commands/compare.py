"""`reports compare BASE HEAD...`: what changed between runs, or between the settings of one (`--by target_quant`)."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from reports.record.plain_text import without_markup
from reports.record.run import RunFileError

FORMATS = ("terminal", "markdown", "json", "csv")


def register(commands: Any) -> None:
    command = commands.add_parser("compare", help="what changed between runs or settings", description=__doc__)
    command.add_argument("files", metavar="RUN", type=Path, nargs="+", help="BASE HEAD..., or with --by any number")
    command.add_argument("--by", metavar="SETTING", help="compare the values of a setting, such as target_quant")
    command.add_argument("--metric", metavar="NAME,...", help="the metrics to compare (default: the headline ones)")
    command.add_argument("--format", choices=FORMATS, default="terminal")
    command.set_defaults(run=compare)


def compare(options: argparse.Namespace) -> int:
    """Compare every HEAD with BASE, or the settings inside each run, and print it in the format asked for."""
    from reports.compare.changes import chosen_metrics, compare_runs, compare_settings
    from reports.record.columns import open_journal
    from reports.views import changes_text

    names = [name.strip() for name in options.metric.split(",") if name.strip()] if options.metric else None
    metrics = chosen_metrics(names)
    if not options.by and len(options.files) < 2:
        raise RunFileError(
            f"{options.files[0]}: nothing to compare it with; name a second run, or a setting with --by target_quant"
        )
    with ExitStack() as stack:
        journals = [stack.enter_context(open_journal(file)) for file in options.files]
        if options.by:
            found = [compare_settings(journal, options.by, metrics) for journal in journals]
        else:
            found = [compare_runs(journals[0], head, metrics) for head in journals[1:]]
    if options.format == "terminal":
        changes_text.print_comparisons(found)
    else:
        views = {"json": changes_text.as_json, "csv": changes_text.as_csv}
        markdown = options.format == "markdown"
        print(without_markup(changes_text.markdown(found)) if markdown else views[options.format](found))
    return 0
