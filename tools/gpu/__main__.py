"""`python -m tools.gpu` (`make gpu`): prove or disprove on the card at hand what cannot be seen without one.

Every check is a process of its own, so that one that fails, hangs or breaks the device costs no other; its outcome is
on disk before the next begins, and `--resume` goes on after the last. Ends with a table of checks and a run file.
Exit code 0: everything that could run holds; 1: something does not, or was not run.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from tools.gpu.outcomes import CheckFailed, CheckImpossible, Outcome, append, read, table

ROOT = Path(__file__).resolve().parents[2]
CHECKS = (
    *("rates", "clock", "nvml", "pair-16bit", "pair-8bit", "pair-4bit"),
    *("suite", "compiled-graphs", "oom", "overhead", "telemetry", "compiled-stock", "compiled"),
)
"""In the order of what a short loan of a card should prove first."""
DEADLINES = {"suite": 600.0}
DEADLINE = 240.0  # seconds of any other check, loading included


def checks(results: Path) -> dict[str, Callable[[Any], dict[str, float | int | str]]]:
    """Every check by its name; torch is imported only here."""
    from tools.gpu import decoding_checks as decoding
    from tools.gpu import device_checks as device

    return {
        "rates": device.rates,
        "clock": device.clock,
        "nvml": device.nvml,
        "pair-16bit": decoding.pair_in_16_bits,
        "pair-8bit": decoding.pair_in_8_bits,
        "pair-4bit": decoding.pair_in_4_bits,
        "suite": partial(decoding.suite, results=results.with_name(f"{results.stem}-suite.jsonl")),
        "compiled": partial(decoding.compiled, mode="default"),
        "compiled-graphs": partial(decoding.compiled, mode="reduce-overhead"),
        "compiled-stock": partial(decoding.compiled, mode="stock"),
        "oom": device.out_of_memory,
        "overhead": decoding.overhead,
        "telemetry": decoding.telemetry,
    }


def run_check(name: str, setting: Any, results: Path, identity: str = "") -> Outcome:
    """One check in this process; whatever it raises is its outcome."""
    from fixtures.measuring.failures import judge

    began = time.monotonic()
    figures: dict[str, float | int | str] = {}
    try:
        figures = checks(results)[name](setting)
        status, reason = "holds", ""
    except CheckImpossible as impossible:
        status, reason = "cannot", str(impossible)
    except CheckFailed as failed:
        status, reason = "fails", str(failed)
    except Exception as error:
        what, why = judge(error)
        status, reason = "fails", f"{what}: {why}"
    return Outcome(name, status, time.monotonic() - began, figures, reason, identity)  # type: ignore[arg-type]


def setting_of(device: str, size: str) -> Any:
    """The setting of this device, in the dtype that it computes natively; StudyError for one that is not there."""
    import torch

    from fixtures.measuring.device import choose_dtype, find_device
    from tools.gpu.setting import Setting

    place = find_device(device)
    if place.startswith("cuda"):
        torch.cuda.set_device(place)
    return Setting(torch.device(place), choose_dtype(place).dtype, size)  # type: ignore[arg-type]


def identity_of(setting: Any) -> str:
    """What outcomes hold for: hardware, versions, size, and the code of this checkout."""
    from fixtures.measuring.environment import hardware, versions

    code = hashlib.sha256()
    for path in sorted([*ROOT.glob("fixtures/**/*.py"), *ROOT.glob("tools/**/*.py"), *ROOT.glob("reports/*.py")]):
        code.update(path.read_bytes())
    place = hardware(setting.device)
    name = place.get("gpu") or place.get("cpu")
    return f"{name}, {setting.size}, {setting.dtype}, torch {versions()['torch']}, code {code.hexdigest()[:12]}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks that are asked for and not known yet, print the table; see the module."""
    options = _options().parse_args(arguments)
    from fixtures.study.study import StudyError

    try:
        setting = setting_of(options.device, options.size)
    except StudyError as error:
        print(f"tools.gpu: {error}", file=sys.stderr)
        return 2
    if setting.size == "true" and not setting.on_gpu:
        print("tools.gpu: --size true is for a GPU, and none is used here; --size tiny runs anywhere", file=sys.stderr)
        return 2
    identity = identity_of(setting)
    if options.inside:
        append(options.results, run_check(options.inside, setting, options.results, identity))
        return 0
    results = options.results or ROOT / "reports" / "runs" / f"gpu-{datetime.now():%Y%m%d-%H%M%S}.jsonl"
    wanted = options.only or list(CHECKS)
    known = {name: kept for name, kept in read(results).items() if kept.identity == identity} if options.resume else {}
    print(f"{identity}\n{results}", flush=True)
    ends = time.monotonic() + 60 * options.minutes
    outcomes: dict[str, Outcome] = {}
    for name in wanted:
        if name in known and known[name].status != "fails":
            outcomes[name] = known[name]
        elif time.monotonic() < ends:
            deadline = min(DEADLINES.get(name, DEADLINE), max(1.0, ends - time.monotonic()))
            outcomes[name] = _apart(name, options, results, identity, deadline)
            print(f"{name}: {outcomes[name].status} {outcomes[name].reason}", flush=True)
    left = [name for name in wanted if name not in outcomes]
    print("\n".join(table(outcomes.values(), left)))
    if left:
        print(f"not run within {options.minutes:g} minutes: the same command with --resume --results {results} goes on")
    return int(bool(left) or any(outcome.status == "fails" for outcome in outcomes.values()))


def _apart(name: str, options: argparse.Namespace, results: Path, identity: str, deadline: float) -> Outcome:
    """One check in a process of its own; one that ends otherwise than it should has failed."""
    command = [sys.executable, "-m", "tools.gpu", "--inside", name, "--results", str(results)]
    command += ["--device", options.device, "--size", options.size]
    began = time.monotonic()
    results.parent.mkdir(parents=True, exist_ok=True)
    before = len(results.read_text().splitlines()) if results.exists() else 0
    try:
        done = subprocess.run(command, cwd=ROOT, timeout=deadline, check=False, capture_output=True, text=True)
        reason = f"its process ended with {done.returncode}: {' / '.join(done.stderr.strip().splitlines()[-2:])}"
    except subprocess.TimeoutExpired:
        reason = f"not done after {deadline:.0f} s"
    if results.exists() and len(results.read_text().splitlines()) > before:
        return read(results)[name]
    outcome = Outcome(name, "fails", time.monotonic() - began, reason=reason, identity=identity)
    append(results, outcome)
    return outcome


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.gpu", description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda:N (%(default)s)")
    parser.add_argument(
        "--size", choices=("true", "tiny"), default="true", help="of the models: Llama-3.1-8B's, or tiny (%(default)s)"
    )
    parser.add_argument("--only", nargs="+", choices=CHECKS, metavar="CHECK", help=f"of {', '.join(CHECKS)}")
    parser.add_argument("--results", type=Path, metavar="FILE", help="(reports/runs/gpu-TIME.jsonl)")
    parser.add_argument("--resume", action="store_true", help="keep what the file knows of this machine and this code")
    parser.add_argument("--minutes", type=float, default=10.0, help="after which no check begins (%(default)g)")
    parser.add_argument("--inside", choices=CHECKS, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
