"""Turns for processes that measure at the same time: one computes, the others wait, generation by generation.

What a machine does to the speed of a process from one minute to the next then hits all of them alike. Gives turns over
a socket and knows neither what is measured nor what the processes are; they take part by fixtures/turns.py. One that
does not ask for turns simply runs to its end before the next one starts.
"""

from __future__ import annotations

import os
import secrets
import select
import socket
import subprocess
from collections import deque
from types import TracebackType

VARIABLE = "DECODEBENCH_TURNS"
"""Environment variable with the name of the socket: of Linux's abstract kind, without its leading zero byte."""
TURN = b"."
POLL_SECONDS = 0.1


class Turns:
    """Gives turns: `until_waiting` after each start of a process, then `until_ended`. A context manager."""

    def __init__(self) -> None:
        self.name = f"decodebench-{os.getpid()}-{secrets.token_hex(8)}"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(f"\0{self.name}")
        self._listener.listen()
        self._members: list[tuple[socket.socket, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> Turns:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection, _ in self._members:
            connection.close()
        self._listener.close()

    def until_waiting(self, process: subprocess.Popen[bytes]) -> None:
        """Return once the process asks for its first turn, or has ended without asking."""
        while process.poll() is None:
            if select.select([self._listener], [], [], POLL_SECONDS)[0]:
                connection, _ = self._listener.accept()
                self._members.append((connection, process))
                connection.recv(1)
                return

    def until_ended(self) -> None:
        """Give one turn after the other, in the order in which the processes were started, until all have ended."""
        waiting = deque(self._members)
        while waiting:
            connection, process = waiting.popleft()
            if _had_a_turn(connection):
                waiting.append((connection, process))
            else:
                process.wait()


def _had_a_turn(connection: socket.socket) -> bool:
    """Give a turn; True when the process asks for the next one, False when it has ended."""
    try:
        connection.sendall(TURN)
        return bool(connection.recv(1))
    except (BrokenPipeError, ConnectionResetError):
        return False
