"""What a check found, kept as lines of JSON as soon as it is known, and shown as a table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from reports.views.sheet import Align, markdown, plain_sheet

Status = Literal["holds", "fails", "cannot"]


class CheckFailed(Exception):
    """What a check was to prove is not so; the message says what is instead."""


class CheckImpossible(Exception):
    """A check needs what this machine has not; the message says what."""


@dataclass(frozen=True)
class Outcome:
    """One check. figures: what it measured, units in their names; reason: why it fails or cannot run, in one line;
    identity: of the machine, device, size and code that it holds for, so that another's is not taken for it."""

    check: str
    status: Status
    seconds: float
    figures: Mapping[str, float | int | str] = field(default_factory=dict)
    reason: str = ""
    identity: str = ""


def append(path: Path, outcome: Outcome) -> None:
    """Add a line, written out before this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(outcome)) + "\n")
        file.flush()


def read(path: Path) -> dict[str, Outcome]:
    """The last outcome of every check; a last line that was cut off is left out."""
    outcomes = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            outcome = Outcome(**json.loads(line))
        except (ValueError, TypeError):
            continue
        outcomes[outcome.check] = outcome
    return outcomes


def table(outcomes: Iterable[Outcome], not_run: Iterable[str] = ()) -> list[str]:
    """Lines of a Markdown table: what holds, what does not and why, what was measured."""
    rows: list[tuple[str, ...]] = []
    for outcome in outcomes:
        measured = ", ".join(f"{name} {_readable(value)}" for name, value in outcome.figures.items())
        rows.append(
            (
                outcome.check,
                outcome.status,
                f"{outcome.seconds:.1f}",
                "; ".join(filter(None, (outcome.reason, measured))),
            )
        )
    rows += [(check, "not run", "", "") for check in not_run]
    columns: dict[str, Align] = {"check": "left", "verdict": "left", "seconds": "right", "measured": "left"}
    return markdown(plain_sheet(columns, rows)).split("\n")


def _readable(value: float | int | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value}"
