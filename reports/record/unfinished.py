"""Cases that have rounds and no line of their own yet, while a run file is read line by line.

A round's line is the journal of a run that takes turns: what a killed run leaves of a case stands in them. Knows how
the lines are laid out and nothing of what the figures mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Left:
    """What the rounds hold of one case. known: its settings, as a case line has them; offsets: of the rounds' lines."""

    known: Mapping[str, Any]
    session: int = 0
    block: int = 0
    samples: list[Mapping[str, Any]] = field(default_factory=list)
    repeats: list[Mapping[str, Any]] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)

    @property
    def line(self) -> dict[str, Any]:
        """As the line of a case that never got one, without its id and how it ended."""
        return {**self.known, "block": self.block, "session": self.session, "repeats": self.repeats}


class Unfinished:
    """Takes up rounds and the lines of cases in the order of the file."""

    def __init__(self) -> None:
        self.left: dict[str, Left] = {}
        self._known: dict[str, Mapping[str, Any]] = {}

    def take(self, line: Mapping[str, Any], session: int, offset: int) -> None:
        """A round that was checked before; its samples may have been left out, then it counts for those in `order`."""
        self._known |= line.get("cases", {})
        samples: Mapping[str, Sequence[Mapping[str, Any]]] = line.get("samples", {})
        for name in dict.fromkeys(line["order"]):
            left = self.left.setdefault(name, Left({}))
            left.known = self._known.get(name, left.known)
            left.session, left.block = session, line["block"]
            left.offsets.append(offset)
            first, *further = samples.get(name) or (None,)
            left.samples += [first] if first is not None else []
            left.repeats += further

    def over(self, name: str) -> None:
        """The case got its own line, which holds all that its rounds do."""
        self.left.pop(name, None)
