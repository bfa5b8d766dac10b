"""Hostile completions that end early, fake a verdict or reach outside; all of them together are HOSTILE.

Run them only under the outer guard (guard.py).
"""

from __future__ import annotations

import os
import sys

from hostile import ADD, Hostile, attack, beside, body
from hostile_bombs import BOMBS, ENDLESS

from fixtures.sandbox.sandbox import build_program

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
