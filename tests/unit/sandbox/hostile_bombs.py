"""Hostile completions that do not end or use up what there is. Run them only under the outer guard (guard.py)."""

from __future__ import annotations

from hostile import attack, beside, body

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
