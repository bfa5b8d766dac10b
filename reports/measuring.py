"""Measuring blocks: the suite in subprocesses, one run file each; one after the other, or several by turns.

Starts `python -m pytest perf_tests` and waits; knows no metrics and no verdicts. Imports neither torch nor fixtures.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from reports.blocks import Announce, Block, check_measured, named
from reports.run import Run, RunFileError, read_run
from reports.turns import VARIABLE, Turns

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
    groups: list[list[Block]] = []
    for block in blocks:
        if together and groups and groups[-1][0].number == block.number:
            groups[-1].append(block)
        else:
            groups.append([block])
    runs = dict(done)
    left = [group for group in groups if not all(block.results in done for block in group)]
    for number, group in enumerate(left, start=1):
        began = time.monotonic()
        runs |= measure(group, study, arguments, may_fail=may_fail)
        sides = " ".join(f"{block.side:<4}" for block in group)
        seconds = time.monotonic() - began
        names = " ".join(block.results.name for block in group)
        announce(f"{number}/{len(left)}  block {group[0].number}  {sides}  {seconds:5.0f} s  {names}")
        if len(group) > 1 and (apart := [block for block in group if not runs[block.results].header.get("by_turns")]):
            announce(f"  {', '.join(map(named, apart))}: takes no turns; measured one after the other")
    return tuple(runs[block.results] for block in blocks)


def measure(
    blocks: Sequence[Block], study: Path, arguments: Sequence[str] = (), *, may_fail: bool = False
) -> dict[Path, Run]:
    """Run the study once in every block, and return the runs by their file; several blocks take turns.

    The second one starts once the first has loaded its model and waits to be timed, and so on: only one computes at
    any time.
    """
    for block in blocks:
        block.results.unlink(missing_ok=True)
    with ExitStack() as stack:
        turns = stack.enter_context(Turns()) if len(blocks) > 1 else None
        processes = []
        for block in blocks:
            processes.append(stack.enter_context(_started(block, study, arguments, turns)))
            if turns is not None:
                turns.until_waiting(processes[-1])
        if turns is not None:
            turns.until_ended()
        codes = [process.wait() for process in processes]
    return {block.results: _checked(block, code, may_fail) for block, code in zip(blocks, codes, strict=True)}


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


@contextmanager
def _started(
    block: Block, study: Path, arguments: Sequence[str], turns: Turns | None
) -> Iterator[subprocess.Popen[bytes]]:
    """Start pytest; an interruption is passed on and waited for, so that nothing goes on measuring."""
    command = [str(block.environment.python), "-m", "pytest", "perf_tests", "-p", "no:cacheprovider"]
    # With "=": pytest takes a value on its own for a path at first, and would load the conftest beside that file too.
    command += [f"--study={study}", f"--results={block.results}", *arguments]
    with block.log.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command,
            cwd=block.environment.folder,
            env={**os.environ, **({VARIABLE: turns.name} if turns is not None else {})},
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # a terminal's Ctrl-C would else reach pytest twice
        )
        try:
            yield process
        except BaseException:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # with whatever it started
                process.wait()
            raise


def _checked(block: Block, code: int, may_fail: bool) -> Run:
    """The run that a block's pytest left, if it is what was asked for."""
    told = may_fail and code == TESTS_FAILED and block.results.exists()
    if code and not told:
        raise RunFileError(
            f"{named(block)}: pytest ended with exit code {code} ({_last_words(block.log)}); see {block.log}"
        )
    run = read_run(block.results)
    check_measured(block, run)
    if told and all(case.status in ("ok", "skipped") for case in run.cases):
        raise RunFileError(f"{named(block)}: pytest failed, but no case of {run.path} did; see {block.log}")
    return run


def _last_words(log: Path) -> str:
    """What pytest said last, without its rulers."""
    lines = [line.strip(" =\n") for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or [line for line in lines if line] or ["no output"])[-1]
