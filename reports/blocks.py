"""Interleaved measuring: runs of the suite as subprocesses, base and head by turns, one run file each.

Starts `python -m pytest perf_tests` and waits; knows no metrics and no verdicts. Order AB BA AB BA: whatever a machine
drifts in one direction hits both sides alike. Imports neither torch nor fixtures.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from types import FrameType
from typing import TextIO

from reports.environments import ROOT, Environment, checked_out
from reports.run import Run, RunFileError, read_run

STUDIES = Path("perf_tests") / "studies"
STOP_SECONDS = 20.0


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


@dataclass(frozen=True)
class StudyFile:
    """The one study file that both sides run, and whose it is ("" where it was named by path)."""

    path: Path
    side: str = ""
    differs: bool = False


def interleaved(base: Environment, head: Environment, blocks: int, folder: Path) -> tuple[Block, ...]:
    """Return the blocks in the order of measuring, AB BA AB BA..., with their run files in `folder`."""
    return tuple(
        Block(environment, number, folder / f"{environment.spec.side}-{number}.jsonl")
        for number in range(1, blocks + 1)
        for environment in ((base, head) if number % 2 else (head, base))
    )


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


def measure(block: Block, study: Path, arguments: Sequence[str] = ()) -> tuple[Run, float]:
    """Run the study once and return its run file, read, and the seconds it took.

    arguments: further options for pytest. Raises RunFileError, naming the block and its log, if pytest fails, if the
    run is not complete, or if it was not measured on the commit or with the packages that the block is to measure.
    """
    command = [str(block.environment.python), "-m", "pytest", "perf_tests", "-p", "no:cacheprovider"]
    # With "=": pytest takes a value on its own for a path at first, and would load the conftest beside that file too.
    command += [f"--study={study}", f"--results={block.results}", *arguments]
    began = time.monotonic()
    with block.log.open("w", encoding="utf-8") as log:
        code = _run(command, block.environment.folder, log)
    if code:
        raise RunFileError(
            f"{_named(block)}: pytest ended with exit code {code} ({_last_words(block.log)}); see {block.log}"
        )
    run = read_run(block.results)
    check_measured(block, run)
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
    """Treat SIGTERM, which CI sends to cancel, like Ctrl-C, so that worktrees are removed in both cases."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def new_folder(option: str, folder: Path) -> Path:
    """Make the folder for run files; raises RunFileError if it holds run files already or cannot be made."""
    if any(folder.glob("*.jsonl")):
        raise RunFileError(f"{option} {str(folder)!r}: holds run files already; name a new folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFileError(f"{option} {str(folder)!r}: cannot be made ({error.strerror}); name another") from None
    return folder.resolve()


def runs_folder(name: str) -> Path:
    """The default folder for the run files of one comparison or calibration."""
    return ROOT / "reports" / "runs" / name


Announce = Callable[[str], None]


def measure_all(blocks: Sequence[Block], study: Path, arguments: Sequence[str], announce: Announce) -> tuple[Run, ...]:
    """Measure block after block and announce each; the runs come back in the order of `blocks`."""
    runs = []
    for done, block in enumerate(blocks, start=1):
        run, seconds = measure(block, study, arguments)
        announce(f"{done}/{len(blocks)}  block {block.number}  {block.side:<4}  {seconds:5.0f} s  {block.results.name}")
        runs.append(run)
    return tuple(runs)


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
            process.kill()
            process.wait()
        raise


def _named(block: Block) -> str:
    return f"{block.side} ({block.environment.spec.label}), block {block.number}"


def _last_words(log: Path) -> str:
    """What pytest said last, without its rulers."""
    lines = [line.strip(" =\n") for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or [line for line in lines if line] or ["no output"])[-1]
