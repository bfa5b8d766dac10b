"""Interleaved measuring: runs of the suite as subprocesses, base and head by turns, one run file each.

Starts `python -m pytest perf_tests` and waits; knows no metrics and no verdicts. Order AB BA AB BA: whatever a machine
drifts in one direction hits both sides alike. Imports neither torch nor fixtures.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from reports.environments import ROOT, Environment, checked_out
from reports.run import Run, RunFileError, read_run

STUDIES = Path("perf_tests") / "studies"
STOP_SECONDS = 20.0
TESTS_FAILED = 1  # pytest's exit code
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


def measure(block: Block, study: Path, arguments: Sequence[str] = (), *, may_fail: bool = False) -> tuple[Run, float]:
    """Run the study once and return its run file, read, and the seconds it took.

    arguments: further options for pytest. may_fail: a complete run that tells which cases failed is returned as well.
    Raises RunFileError, naming the block and its log, if pytest fails, if the run is not complete, or if it was not
    measured on the commit or with the packages that the block is to measure.
    """
    command = [str(block.environment.python), "-m", "pytest", "perf_tests", "-p", "no:cacheprovider"]
    # With "=": pytest takes a value on its own for a path at first, and would load the conftest beside that file too.
    command += [f"--study={study}", f"--results={block.results}", *arguments]
    began = time.monotonic()
    with block.log.open("w", encoding="utf-8") as log:
        code = _run(command, block.environment.folder, log)
    told = may_fail and code == TESTS_FAILED and block.results.exists()
    if code and not told:
        raise RunFileError(
            f"{_named(block)}: pytest ended with exit code {code} ({_last_words(block.log)}); see {block.log}"
        )
    run = read_run(block.results)
    check_measured(block, run)
    if told and all(case.status in ("ok", "skipped") for case in run.cases):
        raise RunFileError(f"{_named(block)}: pytest failed, but no case of {run.path} did; see {block.log}")
    return run, time.monotonic() - began


def check_measured(block: Block, run: Run) -> None:
    """Refuse a run that is not complete, or that its environment says was another code or package than asked for."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    if not run.complete:
        raise RunFileError(f"{_named(block)}: {run.path} has no end line: the run was stopped; measure it again")
    told = dict(run.header.get("environment") or {})
    commit, wanted = str(told.get("git_commit", "")), block.environment.spec.commit
    if wanted and commit != wanted:
        raise RunFileError(f"{_named(block)}: {run.path}: git_commit is {commit!r}, not {wanted}; measure it again")
    versions = {canonicalize_name(name): str(version) for name, version in dict(told.get("versions") or {}).items()}
    for text in block.environment.spec.requirements:
        requirement = Requirement(text)
        version = versions.get(canonicalize_name(requirement.name))
        if version is not None and not requirement.specifier.contains(version, prereleases=True):
            raise RunFileError(f"{_named(block)}: {run.path}: measured {requirement.name} {version}, not {text}")


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


@contextmanager
def stopped_by_termination() -> Iterator[None]:
    """Treat SIGTERM, which CI sends to cancel, and the end of a terminal like Ctrl-C, so that worktrees are removed."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
    """The blocks that were measured before, by run file; runs of other code or packages are removed, and it is said.

    So are incomplete ones: a run measured in two parts would show the noise of two times.
    """
    found = {}
    for block in blocks:
        if not block.results.exists():
            continue
        run = read_run(block.results)
        other = measured_elsewhere(block, run) if run.complete else ""
        if other:
            announce(f"removed {block.results}: {other}; it is measured again")
        if other or not run.complete:
            block.results.unlink()
        else:
            found[block.results] = run
    return found


def measure_all(
    blocks: Sequence[Block],
    study: Path,
    arguments: Sequence[str],
    announce: Announce,
    done: Mapping[Path, Run],
    *,
    may_fail: bool = False,
) -> tuple[Run, ...]:
    """Measure the blocks that are not done and announce each; all runs come back in the order of `blocks`."""
    runs = dict(done)
    left = [block for block in blocks if block.results not in runs]
    for number, block in enumerate(left, start=1):
        run, seconds = measure(block, study, arguments, may_fail=may_fail)
        place = f"{number}/{len(left)}  block {block.number}  {block.side:<4}"
        announce(f"{place}  {seconds:5.0f} s  {block.results.name}")
        runs[block.results] = run
    return tuple(runs[block.results] for block in blocks)


def _run(command: Sequence[str], folder: Path, log: TextIO) -> int:
    """Run pytest to its end; an interruption is passed on and waited for, so that nothing goes on measuring."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdout=log,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # a terminal's Ctrl-C would else reach pytest twice
    )
    try:
        return int(process.wait())
    except BaseException:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with whatever it started
            process.wait()
        raise


def _named(block: Block) -> str:
    return f"{block.side} ({block.environment.spec.label}), block {block.number}"


def _last_words(log: Path) -> str:
    """What pytest said last, without its rulers."""
    lines = [line.strip(" =\n") for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or [line for line in lines if line] or ["no output"])[-1]
