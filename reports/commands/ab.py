"""`reports ab --base SPEC --head SPEC --study smoke`: two code states or environments, measured by turns, one verdict.

SPEC is a git revision, a pip requirement set (`transformers==5.17`, several by commas or spaces), or `.`, the working
tree. Both sides run the head's study file. Options after `--` go to pytest.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from reports.commands.gate import add_rules, noise_of, rules_of
from reports.record.plain_text import without_markup
from reports.record.run import Run, RunFileError

INTERRUPTED = 130
TURNS = "after each run (default) or prompt, which finds smaller changes, with the models of both sides in memory"
FEWEST = 4  # with fewer the verdict would rest on the noise that other runs had, as in gate/timing.py


def register(commands: Any) -> None:
    command = commands.add_parser("ab", help="compare two code states or environments", description=__doc__)
    command.add_argument("--base", metavar="SPEC", required=True, help="revision, requirements, or .")
    command.add_argument("--head", metavar="SPEC", default=".", help="the same (default: ., the working tree)")
    command.add_argument("--study", default="smoke", help="study, or .toml file (default: smoke)")
    command.add_argument("--blocks", type=int, default=8, help="runs of each side, AB BA AB... (default: 8)")
    command.add_argument("--turns", choices=("run", "prompt"), default="run", help=TURNS)
    command.add_argument("-o", "--output", metavar="DIR", type=Path, help="for the run files (reports/runs/ab-...)")
    command.add_argument("--markdown", metavar="FILE", type=Path, help="append the verdict to FILE as Markdown")
    command.add_argument("--junit", metavar="FILE", type=Path, help="write the verdict to FILE as JUnit XML")
    command.add_argument("--annotate", action="store_true", help="print the findings as GitHub annotations too")
    add_rules(command)
    command.add_argument("arguments", nargs="*", metavar="-- OPTION", help="further options for pytest, after --")
    command.set_defaults(run=ab)


def ab(options: argparse.Namespace) -> int:
    """Make both environments, measure by turns, and print ratios by block and the verdict; its exit code."""
    from reports.gate.block_ratios import block_ratios
    from reports.gate.judging import gate
    from reports.launch.block_runs import stopped_by_termination
    from reports.views.block_tables import block_sheet
    from reports.views.gate_formats import github_annotations, junit
    from reports.views.gate_text import markdown, print_gate
    from reports.views.sheet import markdown as markdown_of
    from reports.views.sheet import print_sheet

    options.exit_code = 1  # as long as there is no verdict
    try:
        with stopped_by_termination():
            base, head = _measured(options)
    except KeyboardInterrupt:
        print("interrupted: no verdict; worktrees and environments are removed, finished runs are kept:")
        print("the same command with -o and their folder goes on with them")
        return INTERRUPTED
    found = gate(base, head, rules_of(options, head[0]), noise_of(options, head[0]), interleaved=True)
    options.exit_code = found.exit_code
    ratios = block_sheet(block_ratios(base, head))
    print_sheet(ratios)
    print_gate(found)
    if options.markdown:
        text = without_markup(f"{markdown(found)}\n{ratios.title}\n\n{markdown_of(ratios)}\n")
        _write("--markdown", options.markdown, text, append=True)
    if options.junit:
        _write("--junit", options.junit, junit(found))
    if options.annotate:
        print(github_annotations(found), end="")
    return found.exit_code


def _measured(options: argparse.Namespace) -> tuple[list[Run], list[Run]]:
    """The runs of base and of head, by block."""
    from reports.launch.block_runs import measure_all
    from reports.launch.blocks import announce, find_study, finished, folder_of, in_pairs, interleaved, runs_folder
    from reports.launch.environments import environments, other_dependencies, parse_spec, state_of

    if options.blocks < FEWEST:
        raise RunFileError(
            f"--blocks {options.blocks}: at least {FEWEST} are needed; fewer do not show how much blocks differ"
        )
    specs = [parse_spec("base", options.base), parse_spec("head", options.head)]
    name = f"ab-{Path(options.study).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    with environments(specs) as (base, head):
        study = find_study(options.study, base, head)
        for side in (base, head):
            changed = f": {', '.join(side.changed)}" if side.changed else ""
            print(f"{side.spec.side}: {side.spec.label}{changed}")
            if names := other_dependencies(side):
                print(f"  its {' and '.join(names)} differ from here; it runs with the packages installed here")
        if study.differs:
            print(f"study {options.study}: the file of {study.side} for both sides")
        asked = {side.spec.side: state_of(side.spec) for side in (base, head)}
        asked |= {"study": study.digest, "options": " ".join(options.arguments), "turns": options.turns}
        folder = folder_of("-o", options.output or runs_folder(name), asked)
        blocks = interleaved(base, head, options.blocks, folder)
        done = finished(blocks, announce)
        announce(f"{len(blocks) - len(done)} runs to go, {len(done)} there; {folder}")
        together = options.turns == "prompt"
        runs = measure_all(blocks, study.path, options.arguments, announce, done, together=together, may_fail=True)
    paired = in_pairs(blocks, runs, ("base", "head"))
    return paired[::2], paired[1::2]


def _write(option: str, path: Path, text: str, *, append: bool = False) -> None:
    try:
        with path.open("a" if append else "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise RunFileError(f"{option} {str(path)!r}: cannot be written ({error.strerror}); name another file") from None
