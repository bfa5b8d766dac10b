"""`python -m tools.fuzz --seconds 300`: damage files, have them read, and count what no reader declares.

Prints one line for each kind of undeclared error, with the seed that makes it again: `--only KIND --seed N --times 1`.
Exit code 1 if there was any.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from tools.fuzz.targets import TARGETS, Target


def main(arguments: Sequence[str] | None = None) -> int:
    """Run for the time, or the number of attempts, that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each kind of file, in turn (60)")
    parser.add_argument("--times", type=int, help="as many attempts instead")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="a kind of file: " + ", ".join(target.name for target in TARGETS))
    options = parser.parse_args(arguments)
    chosen = [target for target in TARGETS if options.only in (None, target.name)]
    failures: Counter[str] = Counter()
    for kind in chosen:
        with TemporaryDirectory() as folder:
            tried = fuzz(kind(Path(folder)), failures, options.seconds / len(chosen), options.times, options.seed)
        print(f"{kind.name}: {tried} tried", flush=True)
    for failure, count in failures.most_common():
        print(f"{count} x {failure}")
    print(f"undeclared errors: {sum(failures.values())}, of {len(failures)} kinds")
    return int(bool(failures))


def fuzz(target: Target, failures: Counter[str], seconds: float, times: int | None = None, seed: int = 0) -> int:
    """Attempt after attempt, each of a seed of its own; counts failures by where they came from. Returns how many."""
    until, tried = time.monotonic() + seconds, 0
    known: dict[str, str] = {}
    while time.monotonic() < until if times is None else tried < times:
        try:
            target.attempt(Random(seed + tried))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            place = _place(error)
            failures[
                known.setdefault(place, f"{place} (seed {seed + tried}, {target.name}): {str(error)[:200]!r}")
            ] += 1
        tried += 1
    return tried


def _place(error: BaseException) -> str:
    """The error's type, and the last place in this project that it came through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    own = [frame for frame in frames if any(f"/{room}/" in frame.filename for room in ("reports", "fixtures"))]
    last = (own or frames)[-1]
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"


if __name__ == "__main__":
    sys.exit(main())
