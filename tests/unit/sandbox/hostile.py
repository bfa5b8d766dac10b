"""What a hostile completion is, and the two problems hostile completions are written for.

Most continue `add`, whose check they do not satisfy. An attack returns something true when it reached what it must not
reach, and its check passes then; CANARY (a process) and PORT (a listener on this machine) are put before its source.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from fixtures.sandbox.sandbox import Limits, Program, build_program

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
