"""Measuring blocks: the suite in subprocesses, one run file each; one after the other, or several by turns.

Starts `python -m pytest perf_tests` and waits; knows no metrics and no verdicts. Imports neither torch nor fixtures.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TextIO

from reports.launch.blocks import Announce, Block, check_measured, named
from reports.launch.turn_giver import VARIABLE, Turns
from reports.record.reader import read_run
from reports.record.run import Run, RunFileError

STOP_SECONDS = 20.0
TESTS_FAILED = 1  # pytest's exit code


def measure_all(
    blocks: Sequence[Block],
    study: Path,
    arguments: Sequence[str],
    announce: Announce,
    done: Mapping[Path, Run],
    *,
    together: bool = False,
    may_fail: bool = False,
) -> tuple[Run, ...]:
    """Measure the blocks that are not done and announce each; all runs come back in the order of `blocks`.

    arguments: further options for pytest. together: the blocks of one number run at the same time, by turns of single
    generations. may_fail: a complete run that tells which cases failed is taken as well. Raises RunFileError, naming
    the block and its log, if pytest fails, if a run is not complete, or if it was not measured on the commit or with
    the packages that the block is to measure.
    """
    runs = dict(done)
    groups = [group for group in _groups(blocks, together) if not all(block.results in done for block in group)]
    if any(len(group) == 1 for group in groups) and together:
        without = [block.environment for block in blocks if not takes_turns(block.environment.folder)]
        old = dict.fromkeys(environment.spec.label for environment in without)
        announce(f"{' and '.join(old)} takes no turns: each run is made on its own, one after the other")
    for number, group in enumerate(groups, start=1):
        began = time.monotonic()
        runs |= measure(group, study, arguments, may_fail=may_fail)
        sides = " ".join(f"{block.side:<4}" for block in group)
        seconds = time.monotonic() - began
        names = " ".join(block.results.name for block in group)
        announce(f"{number}/{len(groups)}  block {group[0].number}  {sides}  {seconds:5.0f} s  {names}")
    return tuple(runs[block.results] for block in blocks)


def measure(
    blocks: Sequence[Block], study: Path, arguments: Sequence[str] = (), *, may_fail: bool = False
) -> dict[Path, Run]:
    """Run the study once in every block, and return the runs by their file; several blocks take turns.

    The second one starts once the first has loaded its model and waits to be timed, and so on: only one computes at
    any time. An interruption is passed on and waited for, so that nothing goes on measuring.
    """
    processes: list[subprocess.Popen[bytes]] = []
    with ExitStack() as stack:
        turns = stack.enter_context(Turns()) if len(blocks) > 1 else None
        try:
            for block in blocks:
                block.results.unlink(missing_ok=True)
                log = stack.enter_context(block.log.open("w", encoding="utf-8"))
                processes.append(_start(block, study, arguments, log, turns))
                if turns is not None:
                    turns.until_waiting(processes[-1])
            if turns is not None:
                turns.until_ended()
            codes = [process.wait() for process in processes]
        except BaseException:
            _stop(processes)
            raise
    runs = {block.results: _checked(block, code, may_fail) for block, code in zip(blocks, codes, strict=True)}
    for block in blocks:
        if len(blocks) > 1 and any(case.status == "oom" for case in runs[block.results].cases):
            raise _refused(block, "out of memory with the models of all sides loaded; give --turns run")
    return runs


@contextmanager
def stopped_by_termination() -> Iterator[None]:
    """Treat SIGTERM, which CI sends to cancel, and the end of a terminal like Ctrl-C, so that worktrees are removed."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    ignored = (signal.SIGHUP,) if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else ()  # by nohup
    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if number not in ignored]
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _groups(blocks: Sequence[Block], together: bool) -> list[list[Block]]:
    """The blocks that run at the same time: those of one number, or each on its own."""
    if not together or not all(takes_turns(block.environment.folder) for block in blocks):
        return [[block] for block in blocks]
    numbers = dict.fromkeys(block.number for block in blocks)
    return [[block for block in blocks if block.number == number] for number in numbers]


def takes_turns(folder: Path) -> bool:
    """Whether a code state says that it takes turns; an older one, which says nothing, has a certain file."""
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        project = {}
    said = project.get("tool", {}).get("decodebench", {}).get("capabilities")
    if isinstance(said, list):
        return "turns" in said
    return (folder / "fixtures" / "turns.py").is_file()


def _start(
    block: Block, study: Path, arguments: Sequence[str], log: TextIO, turns: Turns | None
) -> subprocess.Popen[bytes]:
    command = [str(block.environment.python), "-m", "pytest", "perf_tests", "-p", "no:cacheprovider"]
    # With "=": pytest takes a value on its own for a path at first, and would load the conftest beside that file too.
    command += [f"--study={study}", f"--results={block.results}", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    return subprocess.Popen(
        command,
        cwd=block.environment.folder,
        env={**environment, **({VARIABLE: turns.name} if turns is not None else {})},
        stdout=log,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # a terminal's Ctrl-C would else reach pytest twice
        preexec_fn=_heed_interruption,
    )


def _heed_interruption() -> None:
    """In the new process: a background job of a script ignores SIGINT, and what it starts too, but `_stop` sends it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Interrupt all at once and wait for them; those that take too long, or all at a second signal, are killed."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + STOP_SECONDS
    while alive := [process for process in processes if process.poll() is None]:
        try:
            if time.monotonic() > deadline:
                for process in alive:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)  # with whatever it started
            with suppress(subprocess.TimeoutExpired):
                alive[0].wait(max(0.1, deadline - time.monotonic()))
        except KeyboardInterrupt:
            deadline = 0.0


def _checked(block: Block, code: int, may_fail: bool) -> Run:
    """The run that a block's pytest left, if it is what was asked for."""
    told = may_fail and code == TESTS_FAILED and block.results.exists()
    if code and not told:
        raise _refused(block, f"pytest ended with exit code {code} ({_last_words(block.log)})")
    run = read_run(block.results)
    check_measured(block, run)
    if told and all(case.status in ("ok", "skipped") for case in run.cases):
        raise _refused(block, f"pytest failed, but none of its cases did ({_last_words(block.log)})")
    return run


def _refused(block: Block, why: str) -> RunFileError:
    """The error for a run that cannot be used; its file is renamed, so that it is not taken for finished later."""
    if block.results.exists():
        block.results.rename(block.results.with_suffix(".refused"))
    return RunFileError(f"{named(block)}: {why}; see {block.log}")


def _last_words(log: Path) -> str:
    """What pytest said last, without its rulers."""
    lines = [line.strip(" =\n") for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    errors = [line for line in lines if line.startswith(("ERROR", "FAILED"))]
    return (errors or [line for line in lines if line] or ["no output"])[-1]
