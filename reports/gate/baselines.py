"""The baselines that changes are gated against: where they are, which one belongs to a run, and how one is promoted.

reports/baselines/<study>/<hardware key>.jsonl is the present one; reports/baselines/<study>/<hardware key>/ keeps the
last few, in order, for a rolling base: their median does not move with one odd run, and slow creep does not hide in
small steps. Knows run files and asks the gate; renders nothing.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports.gate.calibration import Noise
from reports.gate.judging import gate
from reports.gate.thresholds import GateRules
from reports.gate.verdicts import Gate
from reports.numbers.reading import read_measured
from reports.record.matching import hardware_key, versions_key
from reports.record.run import Run, RunFileError

FOLDER = Path(__file__).resolve().parents[1] / "baselines"
KEPT = 10
AUTO = "auto"


@dataclass(frozen=True)
class Promotion:
    """Where the baseline is, the verdict against the one before it (None: it is the first, or of another workload).

    refused: why the run was not made the baseline, and what would make it one; empty if it was.
    """

    path: Path
    verdict: Gate | None
    refused: str = ""


def baseline_path(run: Run, folder: Path = FOLDER) -> Path:
    """Where the baseline of this run's study and hardware is kept."""
    study = str(dict(run.header.get("study") or {}).get("name", ""))
    if not re.fullmatch(r"[\w.+-]+", study) or study.startswith("."):
        raise RunFileError(f"{run.path}: study name {study!r} names no folder; give the study a plain name")
    return folder / study / f"{hardware_key(run)}.jsonl"


def find_baselines(base: str, head: Run, rolling: int = 1) -> list[Run]:
    """The runs to gate `head` against: a run file, or the baseline of head's study and hardware in a folder or `auto`.

    rolling: the last so many of its history, oldest first: the newest one, and of the others those of head's versions
    (none where the newest one has others). Raises RunFileError with the remedy.
    """
    given = FOLDER if base == AUTO else Path(base)
    check_rolling(base, rolling)
    if base != AUTO and not given.is_dir():
        return [read_measured(given)]
    path = baseline_path(head, given)
    if not path.is_file():
        raise RunFileError(
            f"{path}: no baseline of this study and machine; measure the state that you trust, not the one to be "
            "judged, and promote that run (`python -m reports promote RUN`), or compare the two states by `python -m "
            "reports ab --base main --head .`"
        )
    if rolling == 1:
        return [read_measured(path)]
    *earlier, newest = [read_measured(each) for each in history(path)[-rolling:]] or [read_measured(path)]
    if versions_key(newest) != versions_key(head):
        return [newest]
    return [*(run for run in earlier if versions_key(run) == versions_key(newest)), newest]


def check_rolling(base: str, rolling: int) -> None:
    """Raise RunFileError where so many baselines cannot come from `base`."""
    if rolling < 1:
        raise RunFileError(f"--rolling {rolling}: at least 1 baseline is needed")
    if rolling > 1 and base != AUTO and not Path(base).is_dir():
        raise RunFileError(f"--rolling {rolling}: {base} is one run; give {AUTO} or a folder of baselines")


def history(path: Path) -> list[Path]:
    """The baselines kept beside the present one, by number, oldest first; the present one is the last of them."""
    return sorted(kept for kept in path.with_suffix("").glob("*.jsonl") if kept.stem.isdecimal())


def promote(
    run: Run, rules: GateRules, noise: Noise | None = None, *, accept: str = "", folder: Path = FOLDER, keep: int = KEPT
) -> Promotion:
    """Make a run the baseline of its study and hardware, if it is complete, measured, and did not regress.

    accept: why a known change, or another workload, is taken; it is written into the baseline's header, and waives
    nothing else. The first baseline of a machine is compared with those of others, as far as counts hold across
    machines. Raises RunFileError where the run cannot be a baseline: stopped early, nothing measured, another workload,
    or a case failed or missing that the rules do not allow to.
    """
    if not run.complete:
        raise RunFileError(f"{run.path}: no end line: the run was stopped; go on with it by --resume {run.path}")
    if run.header.get("by_turns"):
        raise RunFileError(f"{run.path}: measured by turns with another run, unlike those it would be the baseline of")
    for case in run.finished.values():
        if case.status not in ("ok", "skipped") and not rules.allows_missing(case.id):
            dropped = case.status == "dropped"
            why, remedy = ("dropped", "measure again without --race") if dropped else ("failed", "measure again")
            raise RunFileError(f"{run.path}: {case.id} {case.status}: a baseline that {why} gates nothing; {remedy}")
    if why := _alone(run, rules):
        raise RunFileError(f"{run.path}: {why}; measure again")
    path = baseline_path(run, folder)
    found: Gate | None = None
    if path.is_file():
        found = _compared(path, run, rules, noise, accept)
        if found is not None and (found.failures or found.regressions) and (found.failures or not accept):
            return Promotion(path, found, _faulty(found, path) or _regressed(found, path))
    else:
        for other in sorted(path.parent.glob("*.jsonl")):
            elsewhere = _compared(other, run, rules, noise, accept)
            if elsewhere is not None and elsewhere.regressions and not accept:
                return Promotion(path, elsewhere, _regressed(elsewhere, other))
    _write(run, path, {"from": run.path.name, **({"accepted": accept} if accept else {})}, keep)
    return Promotion(path, found)


def _compared(path: Path, run: Run, rules: GateRules, noise: Noise | None, accept: str) -> Gate | None:
    """The verdict against a baseline; None where it cannot be compared with, and the reason to accept is given."""
    try:
        return gate([read_measured(path)], [run], rules, noise)
    except RunFileError as error:
        if not accept:
            raise RunFileError(f"{error}; to replace it knowingly, give --accept REASON") from None
        return None


def _faulty(found: Gate, path: Path) -> str:
    """What is to be measured, or allowed by name, since no reason waives it; empty if nothing is."""
    named = ", ".join(dict.fromkeys(f"{one.case or 'the run'} ({one.kind})" for one in found.failures))
    told = f"faulty against {path.name}: {named}; measure again, or name them by --allow-missing PATTERN"
    return told if named else ""


def _regressed(found: Gate, path: Path) -> str:
    """What a reason would take."""
    named = ", ".join(dict.fromkeys(one.case for one in found.regressions))
    return f"regressed against {path.name}: {named}; if this is a known change, say so with --accept REASON"


def _alone(run: Run, rules: GateRules) -> str:
    """Why a run is no baseline: the same checks as of a later head, made against itself."""
    twin = Run(Path(f"{run.path}.itself"), run.header, run.cases, True, completions=run.completions)
    found = gate([twin], [run], rules)
    return f"{found.failures[0].case}: {found.failures[0].reason}" if found.failures else ""


def _write(run: Run, path: Path, promoted: Mapping[str, Any], keep: int) -> None:
    """Copy the run file, its header extended, as the present baseline and into its history."""
    try:
        lines = run.path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise RunFileError(f"{run.path}: cannot be read: {error.strerror}") from None
    for number, line in enumerate(lines):
        parsed = json.loads(line) if line.strip() else {}
        if parsed.get("kind") == "run":
            lines[number] = json.dumps({**parsed, "promoted": promoted}, separators=(",", ":")).encode() + b"\n"
            break
    content = b"".join(lines)
    number = 1 + max((int(kept.stem) for kept in history(path)), default=0)
    for target in (path.with_suffix("") / f"{number:05d}.jsonl", path):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(target.name + ".partial")
            partial.write_bytes(content)
            os.replace(partial, target)
        except OSError as error:
            raise RunFileError(f"{target}: cannot be written ({error.strerror}); name a folder by --baseline") from None
    for old in history(path)[:-keep]:
        old.unlink()
