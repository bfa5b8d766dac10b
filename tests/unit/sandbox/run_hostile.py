"""Runs the hostile completions, under the outer guard, and prints what became of them and their surroundings as JSON.

`run_hostile.py namespaces` (or `bubblewrap`) runs all; `run_hostile.py none` only the attacks that these alone stop, as
their control. With an isolation that does not work here nothing is run.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3]))

from hostile import LIMITS
from hostile_programs import HOSTILE

from fixtures.sandbox.sandbox import Isolation, Kind, check_many, why_not

OUTSIDE = Path("/tmp/outside")


def main(kind: Kind) -> None:
    """Run the completions and print {verdicts, left, canaries}, or {unavailable}."""
    if kind != "none" and (reason := why_not(kind)):
        print(json.dumps({"unavailable": reason}))
        return
    OUTSIDE.mkdir()
    (OUTSIDE / "canary").write_text("alive")
    canary = subprocess.Popen(["sleep", "600"], start_new_session=True)
    listeners = [socket.create_server(("127.0.0.1", 0))]
    for address in (str(OUTSIDE / "socket"), "\0canary"):
        listeners.append(socket.socket(socket.AF_UNIX))
        listeners[-1].bind(address)
        listeners[-1].listen(64)
    before = _surroundings()

    chosen = [hostile for hostile in HOSTILE if kind != "none" or hostile.succeeds_unsandboxed]
    preamble = f"CANARY, PORT = {canary.pid}, {listeners[0].getsockname()[1]}\n"
    programs = [replace(hostile.program, source=preamble + hostile.program.source) for hostile in chosen]
    verdicts = list(check_many(programs, limits=LIMITS, how=Isolation(kind, "")))

    after = _surroundings()
    report = {
        "verdicts": {hostile.name: asdict(verdict) for hostile, verdict in zip(chosen, verdicts, strict=True)},
        "left": {what: sorted(set(after[what]) - set(before[what])) for what in after},
        "canaries": {
            "process": canary.poll() is None,
            "file": (OUTSIDE / "canary").read_text() == "alive",
        },
    }
    print(json.dumps(report))


def _surroundings() -> dict[str, list[str]]:
    """The processes, files and sockets that are here once what is ending has ended."""
    time.sleep(0.3)
    while os.waitpid(-1, os.WNOHANG)[0]:
        pass  # this is process 1 here, and orphans are its to collect; the canary keeps it from running out of children
    processes = [f"{pid} {_command(pid)}" for pid in os.listdir("/proc") if pid.isdigit()]
    files = [file for root in ("/tmp", "/dev/shm") for file in _files(root)]
    sockets = [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    return {"processes": processes, "files": files, "sockets": sockets}


def _files(root: str) -> Iterator[str]:
    """Files and folders below one, but not in what is mounted there: a checkout in /tmp, in which others write."""
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not os.path.ismount(os.path.join(folder, name))]
        yield from (os.path.join(folder, name) for name in (*folders, *files))


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()[:80]
    except OSError:
        return ""


if __name__ == "__main__":
    main(sys.argv[1])  # type: ignore[arg-type]
