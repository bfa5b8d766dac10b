"""The outer guard: runs a script where a mistake in the sandbox under test harms nothing.

Own process table and network (loopback alone, so that nothing that runs beside it is seen or met), a file tree that is
read-only but for a private /tmp in memory, an end after a fixed time. Started as a script it builds these and becomes
the script it is given.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT))

from fixtures.sandbox.inside import namespaces  # noqa: E402

SIOCSIFFLAGS, IFF_UP = 0x8914, 1  # <linux/sockios.h>, <linux/if.h>
SECRET = "a-value-no-completion-may-see"


def run(script: Path, *arguments: str, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run a script under the guard; everything it started is dead when this returns."""
    command = [*_namespaces(), sys.executable, __file__, str(script), *arguments]
    # The memory limit of each process is a second guard against a sandbox that lets memory bombs through.
    command = ["sh", "-c", 'ulimit -v 4194304; exec "$@"', "guard", *command]
    environment = {"PATH": os.environ.get("PATH", ""), "PYTHONDONTWRITEBYTECODE": "1", "SECRET": SECRET}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=seconds, env=environment, stdin=subprocess.DEVNULL, check=False
    )


@functools.cache
def missing() -> str:
    """Why the guard does not work here; empty when it does."""
    if sys.platform != "linux" or not shutil.which("unshare"):
        return "the outer guard needs Linux and util-linux's unshare"
    tried = run(Path(__file__).with_name("guard_probe.py"), seconds=30)
    return "" if tried.returncode == 0 else f"the outer guard does not work here: {tried.stderr.strip()[-300:]}"


def _namespaces() -> list[str]:
    user = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--fork", "--pid", "--kill-child=SIGKILL", "--mount", "--mount-proc", "--ipc", "--net"]


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


def _build_tree() -> None:
    kept = {path for path in map(str, (ROOT, sys.prefix, sys.base_prefix)) if path.startswith("/tmp/")}
    handles = {path: os.open(path, os.O_PATH) for path in kept}
    namespaces.call(
        "mount",
        "tmpfs",
        "/tmp",
        "tmpfs",
        ctypes.c_ulong(namespaces.MS_NOSUID | namespaces.MS_NODEV),
        "size=256m,mode=1777",
    )
    for path, handle in handles.items():
        os.makedirs(path, exist_ok=True)
        namespaces.call(
            "mount", f"/proc/self/fd/{handle}", path, None, ctypes.c_ulong(namespaces.MS_BIND | namespaces.MS_REC), None
        )
        os.close(handle)
    namespaces.make_read_only("/")
    namespaces.make_writable("/tmp")
    namespaces.make_writable("/proc")


if __name__ == "__main__":
    _raise_loopback()
    _build_tree()
    os.chdir("/tmp")
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
