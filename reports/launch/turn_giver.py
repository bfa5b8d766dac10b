"""Turns for processes that measure at the same time: one computes, the others wait, generation by generation.

What a machine does to the speed of a process from one minute to the next then hits all of them alike. Gives turns over
a socket and knows neither what is measured nor what the processes are; they take part by fixtures/measuring/turns.py.
One that does not ask for turns simply runs to its end before the next one starts.
"""

from __future__ import annotations

import os
import secrets
import select
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass
from types import TracebackType

from reports.record.run import RunFileError

VARIABLE = "DECODEBENCH_TURNS"
"""Environment variable with the name of the socket: of Linux's abstract kind, without its leading zero byte."""
TURN = b"."
POLL_SECONDS = 0.1


class Turns:
    """Gives turns: `until_waiting` after each start of a process, then `until_ended`. A context manager."""

    def __init__(self) -> None:
        if not sys.platform.startswith("linux"):
            raise RunFileError(f"--turns prompt: needs Linux, not {sys.platform}; give --turns run")
        self.name = f"decodebench-{os.getpid()}-{secrets.token_hex(8)}"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(f"\0{self.name}")
        self._listener.listen()
        self._members: list[_Member] = []

    def __enter__(self) -> Turns:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self._members:
            member.connection.close()
        self._listener.close()

    def until_waiting(self, process: subprocess.Popen[bytes]) -> None:
        """Return once the process asks for its first turn, or has ended without asking."""
        while process.poll() is None:
            if select.select([self._listener], [], [], POLL_SECONDS)[0]:
                connection, _ = self._listener.accept()
                if _peer(connection) != process.pid:  # of one that has ended meanwhile
                    connection.close()
                    continue
                member = _Member(connection, process)
                self._members.append(member)
                member.asks()
                return

    def until_ended(self) -> None:
        """Give one turn after the other until all have ended: AB BA AB BA, so that each follows itself as often as not.

        What one leaves behind, a cold cache or a rested processor, is then no advantage of the other.
        """
        alive = list(self._members)
        while alive:
            asking = []
            for member in alive:
                if member.has_a_turn():
                    asking.append(member)
                else:
                    member.process.wait()
            alive = asking[::-1]


@dataclass(frozen=True)
class _Member:
    connection: socket.socket
    process: subprocess.Popen[bytes]

    def has_a_turn(self) -> bool:
        """Give a turn; True when the process asks for the next one, False when it has ended."""
        try:
            self.connection.sendall(TURN)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return self.asks()

    def asks(self) -> bool:
        """Wait until the process asks for a turn; False if it ended instead, whatever else holds its socket."""
        while not select.select([self.connection], [], [], POLL_SECONDS)[0]:
            if self.process.poll() is not None:
                return False
        try:
            return bool(self.connection.recv(1))
        except ConnectionResetError:
            return False


def _peer(connection: socket.socket) -> int:
    """The process at the other end, by its number."""
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", found)[0])
