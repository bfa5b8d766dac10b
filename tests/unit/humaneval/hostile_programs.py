"""The hostile completions, each with the verdicts it may get. Run them only under the outer guard (guard.py).

Most continue `add`, whose check they do not satisfy. An attack returns something true when it reached what it must not
reach, and its check passes then; CANARY (a process) and PORT (a listener on this machine) are put before its source.
"""

from __future__ import annotations

import os
import sys
import textwrap
from dataclasses import dataclass

from fixtures.humaneval.sandbox import Limits, Program, build_program

LIMITS = Limits(
    cpu_seconds=0.7, wall_seconds=3.0, memory_bytes=256 << 20, file_bytes=4 << 20, processes=24, output_bytes=1 << 20
)
ADD = {
    "prompt": 'def add(a, b):\n    """Return a + b."""\n',
    "entry_point": "add",
    "test": "def check(candidate):\n    for n in range(9):\n        assert candidate(n, 1) == n + 1, 'wrong sum'\n",
}
ATTACK = {
    "prompt": 'def attack():\n    """Reach outside."""\n',
    "entry_point": "attack",
    "test": "def check(candidate):\n    assert candidate(), 'nothing reached'\n",
}


@dataclass(frozen=True)
class Hostile:
    """A completion and the verdicts that are right for it; `succeeds_unsandboxed` says that only namespaces stop it."""

    name: str
    program: Program
    expected: tuple[str, ...]
    succeeds_unsandboxed: bool = False


def body(name: str, expected: str, code: str) -> Hostile:
    """A body of `add`."""
    return Hostile(name, build_program(ADD, textwrap.indent(textwrap.dedent(code), "    ")), tuple(expected.split()))


def beside(name: str, expected: str, code: str) -> Hostile:
    """A body of `add` that is wrong, and code at module level after it."""
    completion = "    return 'wrong'\n" + textwrap.dedent(code)
    return Hostile(name, build_program(ADD, completion), tuple(expected.split()))


def attack(name: str, code: str, expected: str = "failed", succeeds_unsandboxed: bool = False) -> Hostile:
    """A body of `attack`."""
    program = build_program(ATTACK, textwrap.indent(textwrap.dedent(code), "    "))
    return Hostile(name, program, tuple(expected.split()), succeeds_unsandboxed)


ENDLESS = [
    body("infinite loop", "timed_out", "while True: pass"),
    body(
        "loop with all signals blocked",
        "timed_out",
        """
        import signal
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
        for number in set(range(1, 65)) - {9, 19, 32, 33}:
            signal.signal(number, signal.SIG_IGN)
        while True: pass
        """,
    ),
    body("sleep", "timed_out", "import time\ntime.sleep(1000)"),
    body("sleep with all signals blocked", "timed_out", "import signal\nsignal.sigwait(range(1, 65))"),
    beside("endless module", "timed_out", "while True: pass"),
    body(
        "catches BaseException forever",
        "timed_out",
        """
        while True:
            try:
                while True: pass
            except BaseException:
                pass
        """,
    ),
    body("huge integer power", "timed_out memory", "return 7 ** 7 ** 7 ** 7"),
    body("regular expression without end", "timed_out", "import re\nreturn re.match('(a+)+$', 'a' * 60 + 'b')"),
    body(
        "lifts its limits",
        "timed_out error",
        """
        import resource
        for limit in (resource.RLIMIT_CPU, resource.RLIMIT_NPROC, resource.RLIMIT_AS):
            try:
                resource.setrlimit(limit, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            except ValueError:
                pass
        while True: pass
        """,
    ),
    body(
        "spends its time in children",
        "timed_out",
        """
        import os
        while True:
            pid = os.fork()
            if pid == 0:
                sum(range(3_000_000))
                os._exit(0)
            os.waitpid(pid, 0)
        """,
    ),
]

BOMBS = [
    body(
        "fork bomb",
        "timed_out crashed",
        """
        import os
        while True:
            try:
                os.fork()
            except OSError:
                pass
        """,
    ),
    body(
        "fork bomb that sleeps",
        "timed_out crashed",
        """
        import os, time
        while True:
            try:
                os.fork()
            except OSError:
                time.sleep(100)
        """,
    ),
    body(
        "thread bomb",
        "error",
        """
        import threading, time
        while True:
            threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
        """,
    ),
    body("memory bomb", "memory", "kept = []\nwhile True: kept.append(bytearray(1 << 22))"),
    body("one huge allocation", "memory", "return bytearray(1 << 40)"),
    body(
        "memory bomb in children",
        "memory",
        """
        import os, time
        for _ in range(16):
            if os.fork() == 0:
                kept = bytearray(b'x') * (60 << 20)
                time.sleep(100)
        time.sleep(100)
        """,
    ),
    attack("memory outside its address space", "import os\nreturn os.memfd_create('hidden')", "error"),
    attack(
        "shared memory segment",
        "import ctypes\nreturn ctypes.CDLL(None).shmget(0, 1 << 20, 0o1600) >= 0",
    ),
    body(
        "disk fill",
        "error",
        """
        number = 0
        while True:
            number += 1
            with open(f'fill{number}', 'wb') as file:
                file.write(b'x' * (1 << 20))
        """,
    ),
    body("one huge file", "error", "open('huge', 'wb').write(b'x' * (64 << 20))"),
    body("inode fill", "error timed_out", "for n in range(10 ** 6): open(f'n{n}', 'w').close()"),
    body("descriptor leak", "error", "import os\nwhile True: os.pipe()"),
    body("output flood", "timed_out", "while True: print('x' * 100_000, flush=True)"),
    body("answer flood", "error", "return 'x' * (8 << 20)"),
    body("endless generator as answer", "timed_out memory", "import itertools\nreturn itertools.count()"),
    body("deep recursion", "error", "return add(a, b)"),
    body(
        "deep recursion without limit",
        "memory crashed error timed_out",
        "import sys\nsys.setrecursionlimit(10 ** 9)\nreturn add(a, b)",
    ),
    body("answer nested without end", "error memory crashed", "kept = []\nkept.append(kept)\nreturn kept"),
]

EXITS = [
    body("os._exit(0)", "ended_early", "import os\nos._exit(0)"),
    beside("os._exit(0) on import", "ended_early", "import os\nos._exit(0)"),
    body("sys.exit(0)", "ended_early", "import sys\nsys.exit(0)"),
    beside("sys.exit(0) on import", "ended_early", "import sys\nsys.exit(0)"),
    body(
        "exit in an exit handler",
        "ended_early",
        "import atexit, os, sys\natexit.register(os._exit, 0)\nsys.exit(0)",
    ),
    beside("exit handler that fakes a pass", "failed", "import atexit\natexit.register(print, 'passed')"),
    body(
        "becomes another program",
        "ended_early",
        f"import os\nos.execv({os.path.realpath(sys.executable)!r}, ['x', '-c', ''])",
    ),
    body("kills its parent", "failed", "import os\nos.kill(os.getppid(), 9)"),
    body("kills its group", "crashed", "import os\nos.killpg(0, 9)"),
    body("kills everything", "tampered", "import os\nos.kill(-1, 9)"),
    body(
        "interrupts everything",
        "failed tampered",
        "import os, signal\nsignal.signal(2, signal.SIG_IGN)\nos.kill(-1, 2)",
    ),
    body("stops everything", "timed_out", "import os\nos.kill(-1, 19)"),
    body("segfault through ctypes", "crashed", "import ctypes\nctypes.string_at(0)"),
    body("abort", "crashed", "import os\nos.abort()"),
    body(
        "daemonizes",
        "ended_early",
        """
        import os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                open('/tmp/daemon', 'w').write('here')
                time.sleep(1000)
            os._exit(0)
        os._exit(0)
        """,
    ),
    body("daemonizes and answers", "failed", "import os\nif os.fork(): os._exit(0)\nos.setsid()\nreturn 'wrong'"),
    body("reads input", "error", "return input()"),
]

FORGERIES = [
    body("prints a fake verdict", "ended_early", "import os\nprint('passed', flush=True)\nos._exit(0)"),
    body(
        "writes a fake verdict to every descriptor",
        "tampered ended_early failed",
        """
        import json, os
        fake = json.dumps({'status': 'passed', 'detail': '', 'seconds': 0.1, 'cpu_seconds': 0.1}).encode()
        for descriptor in range(64):
            try:
                os.write(descriptor, len(fake).to_bytes(8, 'big') + fake)
            except OSError:
                pass
        os._exit(0)
        """,
    ),
    body("closes every descriptor", "ended_early", "import os\nos.closerange(0, 100)"),
    body("answers with garbage", "tampered", "import os\nos.write(4, b'\\x00' * 7 + b'\\x04!!!!')\nos._exit(0)"),
    body(
        "answers with nested garbage",
        "tampered",
        "import os\nbody = b'[' * 200_000\nos.write(4, len(body).to_bytes(8, 'big') + body)\nos._exit(0)",
    ),
    body(
        "replaces builtins",
        "failed ended_early",
        """
        import builtins
        builtins.AssertionError = builtins.Exception = type('Quiet', (BaseException,), {})
        builtins.abs = builtins.all = builtins.any = builtins.isinstance = lambda *args: True
        builtins.exec = builtins.eval = builtins.compile = lambda *args, **kwargs: None
        return 'wrong'
        """,
    ),
    body(
        "equal to everything",
        "failed",
        "class Equal:\n    __eq__ = lambda self, other: True\n    __hash__ = None\nreturn Equal()",
    ),
    body(
        "integer equal to everything",
        "failed",
        "class Equal(int):\n    __eq__ = lambda self, other: True\n    __hash__ = int.__hash__\nreturn Equal(99)",
    ),
    beside("redefines the check", "failed", "def check(candidate): pass"),
    beside(
        "patches the check",
        "failed",
        """
        import gc, sys, threading, time
        def patch():
            for _ in range(20):
                for thing in gc.get_objects():
                    if isinstance(thing, dict) and 'check' in thing:
                        thing['check'] = lambda candidate: None
                for module in list(sys.modules.values()):
                    if hasattr(module, 'check'):
                        module.check = lambda candidate: None
                time.sleep(0.01)
        threading.Thread(target=patch, daemon=True).start()
        """,
    ),
    beside("traces and skips asserts", "failed", "import sys\nsys.settrace(lambda frame, event, arg: None)"),
    attack(
        "reads the check from memory",
        """
        import gc, inspect
        mark = 'etadidnac tressa'  # backwards, so as not to find this
        frame = inspect.currentframe()
        while frame:
            if 'candidate' in frame.f_locals:
                return True
            frame = frame.f_back
        return any(mark in s for o in gc.get_objects() if type(o) is dict for s in o.values() if mark in str(s)[::-1])
        """,
    ),
    attack(
        "debugs the other processes",
        """
        import ctypes, os
        libc = ctypes.CDLL(None)
        return any(libc.ptrace(16, pid, 0, 0) == 0 for pid in range(1, 64) if pid != os.getpid())
        """,
    ),
    attack(
        "takes the other processes' descriptors",
        """
        import ctypes, os
        libc = ctypes.CDLL(None)
        taken = []
        for pid in range(1, 16):
            try:
                handle = os.pidfd_open(pid) if pid != os.getpid() else None
            except OSError:
                continue
            if handle is not None:
                taken += [fd for fd in range(32) if libc.syscall(438, handle, fd, 0) >= 0]
        return taken
        """,
    ),
]

REACHES = [
    body(
        "deletes its folder and /tmp",
        "failed",
        "import shutil\nshutil.rmtree('.', True)\nshutil.rmtree('/tmp', True)\nreturn 0",
    ),
    body("deletes everything", "failed timed_out", "import shutil\nshutil.rmtree('/', True)\nreturn 0"),
    attack(
        "writes outside its folder",
        """
        import os
        written = []
        for folder in '/ /tmp/outside /usr/lib /jail /etc /dev /root /home /var/tmp /dev/shm /run'.split():
            path = os.path.join(folder, 'written')
            try:
                open(path, 'w').write('x')
                written.append(path)
            except OSError:
                pass
        return written
        """,
        succeeds_unsandboxed=True,
    ),
    attack(
        "reaches another process",
        """
        import os
        try:
            os.kill(CANARY, 0)
            return True
        except OSError:
            return os.path.exists(f'/proc/{CANARY}/stat')
        """,
        succeeds_unsandboxed=True,
    ),
    attack(
        "reads the environment",
        """
        import os
        found = str(dict(os.environ))
        for pid in ['self', *range(1, 100)]:
            try:
                found += open(f'/proc/{pid}/environ').read()
            except OSError:
                pass
        return 'a-value-no' in found
        """,
    ),
    attack(
        "opens a socket", "import socket\nreturn bool(socket.create_connection(('127.0.0.1', PORT), 1))", "error", True
    ),
    attack(
        "opens a local socket",
        """
        import socket
        for address in ('/tmp/outside/socket', '\\0canary'):
            try:
                socket.socket(socket.AF_UNIX).connect(address)
                return True
            except OSError:
                pass
        """,
        succeeds_unsandboxed=True,
    ),
    attack(
        "makes namespaces of its own",
        """
        import ctypes, os
        libc = ctypes.CDLL(None)
        if libc.unshare(0x10000000) == 0:
            return True
        stack = ctypes.create_string_buffer(1 << 16)
        return libc.syscall(56 if os.uname().machine == 'x86_64' else 220, 0x10000011, 0, 0, 0, 0) > 0
        """,
    ),
    attack(
        "becomes root",
        """
        import os
        for become in (os.setuid, os.setgid, os.seteuid):
            try:
                become(0)
                return True
            except OSError:
                pass
        """,
    ),
    attack(
        "reads the problems' solutions",
        """
        import glob, sys
        places = [*sys.path, '/usr/lib/python3/*', '/root/*', '/home/*/*', '/packages']
        return [hit for place in places for hit in glob.glob(f'{place}/**/HumanEval.jsonl*', recursive=True)]
        """,
    ),
    Hostile("null bytes in the source", build_program(ADD, "    return a + b\n\0\n"), ("error",)),
    Hostile("invalid UTF-8 in the source", build_program(ADD, "    return '\udc80\udcff' and a + b\n"), ("error",)),
    Hostile("not Python", build_program(ADD, "```\nHere is the function:\n"), ("error",)),
    Hostile("ten thousand brackets", build_program(ADD, "    return " + "(" * 10_000), ("error", "memory", "crashed")),
    Hostile("no entry point", build_program(ADD, "    return a + b\ndel add\n"), ("error",)),
]

HOSTILE = [*ENDLESS, *BOMBS, *EXITS, *FORGERIES, *REACHES]
