"""`reports history DIR`: trends over all run files below a folder, with the places where a level changed."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.commands.warning import tell
from reports.record.run import RunFileError

if TYPE_CHECKING:
    from reports.compare.trends import FindNoise
    from reports.record.run import Run


def register(commands: Any) -> None:
    command = commands.add_parser("history", help="trends over many runs", description=__doc__)
    command.add_argument("folder", metavar="DIR", type=Path)
    command.add_argument("-o", "--output", metavar="FILE", type=Path, help="(history.html; json: standard output)")
    command.add_argument("--calibration", metavar="FILE", type=Path, help="noise of this machine, if not the default")
    command.add_argument("--format", choices=("html", "json"), default="html")
    command.set_defaults(run=history)


def history(options: argparse.Namespace) -> int:
    """Write the page or the JSON, and tell what was found and left out."""
    from reports.compare.trends import history as read_history
    from reports.page.history_page import as_json, page

    found = read_history(options.folder, _noise_of(options.calibration))
    tell(found.warnings)
    as_text = options.format == "json"
    text = json.dumps(as_json(found), indent=1, allow_nan=False) + "\n" if as_text else page(found)
    output = options.output or (None if as_text else Path("history.html"))
    if output is None:
        print(text, end="")
        return 0
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunFileError(f"-o {output}: cannot be written: {error.strerror}; name another file") from None
    told = f"{len(found.sources)} runs, {len(found.series)} series, {len(found.changes)} changes of level"
    left_out = f"; left out {len(found.unreadable)} files, listed there" if found.unreadable else ""
    print(f"wrote {output}: {told}{left_out}", file=sys.stderr)
    return 0


def _noise_of(calibration: Path | None) -> FindNoise:
    """The noise file asked for, for the machine and study that it tells of; else that of each run's own."""
    from reports.compare.trends import KnownNoise
    from reports.gate.calibration import FOLDER, Noise, find_noise, noise_path, read_noise
    from reports.record.matching import hardware_key

    def known(noise: Noise, path: Path) -> KnownNoise:
        shown = path.relative_to(FOLDER.parents[2]) if path.is_relative_to(FOLDER.parents[2]) else path
        return KnownNoise(noise.floor, str(shown))

    if calibration is None:

        def of_its_own(run: Run) -> KnownNoise | None:
            noise = find_noise(run)
            return None if noise is None else known(noise, noise_path(noise.hardware, noise.study))

        return of_its_own
    asked = read_noise(calibration)

    def as_asked(run: Run) -> KnownNoise | None:
        same = asked.hardware == hardware_key(run) and asked.study == run.header.get("study", {}).get("name")
        return known(asked, calibration) if same else None

    return as_asked
