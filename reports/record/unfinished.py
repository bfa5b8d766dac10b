"""Cases that have rounds and no line of their own yet, while a run file is read line by line.

A round's line is the journal of a run that takes turns: what a killed run leaves of a case stands in them. Knows how
the lines are laid out and nothing of what the figures mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True)
class RoundOfCase:
    """What one round holds of a case. samples: the one that counts, then repeats; offset: of its line, in bytes."""

    samples: Sequence[Row]
    offset: int


@dataclass
class Left:
    """What the rounds hold of one case. known: its settings, as a case line has them.

    rounds: by block and number; one that was measured again counts as it was the last time.
    """

    known: Mapping[str, Any]
    session: int = 0
    block: int = 0
    rounds: dict[tuple[int, int], RoundOfCase] = field(default_factory=dict)

    @property
    def offsets(self) -> list[int]:
        """Where the lines start, in the order of the file."""
        return sorted(each.offset for each in self.rounds.values())

    @property
    def line(self) -> dict[str, Any]:
        """As the line of a case that never got one, without its id and how it ended."""
        kept = [each.samples for each in self.rounds.values()]
        return {
            **self.known,
            "block": self.block,
            "session": self.session,
            "samples": [first for first, *_ in filter(None, kept)],
            "repeats": [row for samples in kept for row in samples[1:]],
        }


class Unfinished:
    """Takes up rounds and the lines of cases in the order of the file."""

    def __init__(self) -> None:
        self.left: dict[str, Left] = {}
        self._known: dict[str, Mapping[str, Any]] = {}

    def take(self, line: Mapping[str, Any], session: int, offset: int) -> None:
        """A round that was checked before; its samples may have been left out, then it counts for those in `order`.

        A case that was decoded in it without a sample that counts is not taken up.
        """
        self._known |= line.get("cases", {})
        samples: Mapping[str, Sequence[Row]] = line.get("samples", {})
        for name in dict.fromkeys(line["order"]):
            if samples and not samples.get(name):
                continue
            left = self.left.setdefault(name, Left({}))
            left.known = self._known.get(name, left.known)
            left.session, left.block = session, line["block"]
            left.rounds.pop((line["block"], line["round"]), None)
            left.rounds[line["block"], line["round"]] = RoundOfCase(samples.get(name, ()), offset)

    def over(self, name: str) -> None:
        """The case got its own line, which holds all that its rounds do."""
        self.left.pop(name, None)
