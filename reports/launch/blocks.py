"""Which runs of the suite a comparison is made of, in which order, and which of them are there already.

Order AB BA AB BA: whatever a machine drifts in one direction hits both sides alike. Starts nothing, which
launch/block_runs.py does; knows no metrics and no verdicts. Imports neither torch nor fixtures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from reports.launch.environments import ROOT, Environment, checked_out
from reports.record.reader import read_run
from reports.record.run import Run, RunFileError

STUDIES = Path("perf_tests") / "studies"
ASKED = "asked.json"  # in a folder of run files: what they are measurements of


@dataclass(frozen=True)
class Block:
    """One run to be made: in which environment, as which number (from 1), into which run file."""

    environment: Environment
    number: int
    results: Path

    @property
    def side(self) -> str:
        return self.environment.spec.side

    @property
    def log(self) -> Path:
        """What pytest printed."""
        return self.results.with_suffix(".log")


Announce = Callable[[str], None]


def announce(line: str) -> None:
    """Print a line at once, also into a file."""
    print(line, flush=True)


@dataclass(frozen=True)
class StudyFile:
    """The one study file that both sides run, and whose it is ("" where it was named by path)."""

    path: Path
    side: str = ""
    differs: bool = False

    @property
    def digest(self) -> str:
        """Its name and a few digits of the hash of what is in it."""
        return f"{self.path.name} {hashlib.sha256(self.path.read_bytes()).hexdigest()[:12]}"


def interleaved(base: Environment, head: Environment, blocks: int, folder: Path) -> tuple[Block, ...]:
    """Return the blocks in the order of measuring, AB BA AB BA..., with their run files in `folder`."""
    return tuple(
        Block(environment, number, folder / f"{environment.spec.side}-{number}.jsonl")
        for number in range(1, blocks + 1)
        for environment in ((base, head) if number % 2 else (head, base))
    )


def in_pairs(blocks: Sequence[Block], runs: Sequence[Run], sides: Sequence[str]) -> list[Run]:
    """The runs of the blocks by number, within a number in the order of the sides."""
    made = {(block.number, block.side): run for block, run in zip(blocks, runs, strict=True)}
    return [made[number, side] for number in sorted({number for number, _ in made}) for side in sides]


def find_study(study: str, base: Environment, head: Environment) -> StudyFile:
    """Find the study for both sides: a .toml file as named, else the head's study of that name, else the base's.

    One file for both, because two code states are compared on the same cases. Raises RunFileError if there is none.
    """
    if study.endswith(".toml"):
        path = Path(study).resolve()
        if not path.is_file():
            raise RunFileError(f"--study {study!r}: no such file; name a study or a .toml file")
        return StudyFile(path)
    places = [(side.spec.side, side.folder / STUDIES / f"{study}.toml") for side in (head, base)]
    there = [(side, path) for side, path in places if path.is_file()]
    if not there:
        known = ", ".join(sorted(path.stem for path in (head.folder / STUDIES).glob("*.toml")))
        raise RunFileError(f"--study {study!r}: neither head nor base has it; head has {known}")
    side, path = there[0]
    return StudyFile(path, side, len(there) < 2 or there[0][1].read_bytes() != there[1][1].read_bytes())


def check_measured(block: Block, run: Run) -> None:
    """Refuse a run that is not complete, or that its environment says was another code or package than asked for."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    if not run.complete:
        raise RunFileError(f"{named(block)}: {run.path} has no end line: the run was stopped; measure it again")
    told = dict(run.header.get("environment") or {})
    commit, wanted = str(told.get("git_commit", "")), block.environment.spec.commit
    if wanted and commit != wanted:
        raise RunFileError(f"{named(block)}: {run.path}: git_commit is {commit!r}, not {wanted}; measure it again")
    versions = {canonicalize_name(name): str(version) for name, version in dict(told.get("versions") or {}).items()}
    for text in block.environment.spec.requirements:
        requirement = Requirement(text)
        version = versions.get(canonicalize_name(requirement.name))
        if version is not None and not requirement.specifier.contains(version, prereleases=True):
            raise RunFileError(f"{named(block)}: {run.path}: measured {requirement.name} {version}, not {text}")


def measured_elsewhere(block: Block, run: Run) -> str:
    """Why a run that is there was measured with other code or packages than the block's; empty if it was not."""
    try:
        check_measured(block, run)
    except RunFileError as error:
        return str(error)
    told = dict(run.header.get("environment") or {})
    if not block.environment.spec.commit:
        commit, found = checked_out(), str(told.get("git_commit", ""))
        if found != commit:
            return f"git_commit is {found!r}, not {commit!r}"
    if not block.environment.spec.requirements:
        for name, version in dict(told.get("versions") or {}).items():
            with suppress(PackageNotFoundError):
                if (present := installed(name)) != version:
                    return f"{name} was {version}, is {present}"
    return ""


def folder_of(option: str, folder: Path, asked: Mapping[str, Any]) -> Path:
    """Make the folder for the run files of what is asked for, or find it with the first of them in it.

    Raises RunFileError if it holds runs of something else or cannot be made.
    """
    note = folder / ASKED
    try:
        if any(folder.glob("*.jsonl")):
            before = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}
            differing = [key for key in asked if before.get(key) != asked[key]]
            if differing:
                told = ", ".join(f"{key} {before.get(key, '?')!r} there, {asked[key]!r} here" for key in differing)
                raise RunFileError(f"{option} {str(folder)!r}: holds other runs ({told}); name a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(asked, indent=1) + "\n", encoding="utf-8")
    except (OSError, ValueError) as error:
        if isinstance(error, RunFileError):
            raise
        why = getattr(error, "strerror", None) or error
        raise RunFileError(f"{option} {str(folder)!r}: cannot be used ({why}); name another folder") from None
    return folder.resolve()


def runs_folder(name: str) -> Path:
    """The default folder for the run files of one comparison or calibration."""
    return ROOT / "reports" / "runs" / name


def finished(blocks: Sequence[Block], announce: Announce) -> dict[Path, Run]:
    """The blocks that were measured before, by run file; what is there of others is put aside, and it is said.

    Others: of other code or packages, or not all of one number, because a run measured in two parts, or a pair, would
    show the noise of two times.
    """
    found: dict[Path, Run] = {}
    for number in dict.fromkeys(block.number for block in blocks):
        group = [block for block in blocks if block.number == number]
        whole, why = {}, "its block was not measured to the end"
        for block in group:
            run = _read_if_begun(block.results)
            other = measured_elsewhere(block, run) if run is not None and run.complete else ""
            if run is not None and run.complete and not other:
                whole[block.results] = run
            why = other or why
        if len(whole) == len(group):
            found |= whole
            continue
        for block in group:
            if block.results.exists():
                aside = block.results.with_suffix(".old")
                announce(f"{block.results} is now {aside.name}: {why}; it is measured again")
                block.results.replace(aside)
    return found


def _read_if_begun(path: Path) -> Run | None:
    """A run file, or None where there is none or it was stopped before its first line."""
    if not path.exists() or b"\n" not in path.read_bytes():
        return None
    return read_run(path)


def named(block: Block) -> str:
    """The block as an error names it."""
    return f"{block.side} ({block.environment.spec.label}), block {block.number}"
