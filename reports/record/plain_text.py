"""Text that comes from outside (errors, names, files), made fit for one short line on any terminal. Pure.

The one place that escapes and cuts: what is not printable (control characters, terminal escapes, marks that turn the
direction of writing, halves of surrogate pairs) is written as Python would write it, so that nothing acts on a terminal
and everything can be encoded. Tokens and passwords are hidden on the way.
"""

from __future__ import annotations

import io
import re
import sys
import unicodedata
from collections.abc import Container
from typing import Any, TextIO, cast

from reports.record.private import known_secrets, without_secrets

LONGEST = 400
"""Characters of a reason: two or three lines of a terminal."""
LONGEST_VALUE = 2000
"""Characters of any other text that is read from a file."""
_TAG = re.compile(r"<(?=[a-zA-Z/!?])(?!/?(?:details|summary|br)>)")
_STYLE = re.compile(r"(\x1b\[[0-9;]*m)")


def one_line(text: object, longest: int = LONGEST) -> str:
    """Fold white space, escape what is not printable, hide secrets, cut what is longer than `longest` characters."""
    words = " ".join(str(text)[: 20 * longest].split())
    return shortened(printable(without_secrets(words)[: 2 * longest]), longest)


def cleaned(value: Any, but: Container[str] = ()) -> Any:
    """A value as JSON has it, with every text in it, keys included, printable, without secrets, and not endless.

    Line ends stay, for those who show a text to fold or to keep. but: keys whose values stay as they are. Raises
    RecursionError for one that is nested too deeply.
    """
    secrets = known_secrets()

    def clean(one: Any) -> Any:
        if isinstance(one, str):
            plain = without_secrets(one[: 4 * LONGEST_VALUE], secrets)
            return shortened("\n".join(map(printable, plain.split("\n"))), LONGEST_VALUE)
        if isinstance(one, dict):
            return {clean(key): each if key in but else clean(each) for key, each in one.items()}
        if isinstance(one, list | tuple):
            holds_texts = any(isinstance(each, str | dict | list | tuple) for each in one)
            return [clean(each) for each in one] if holds_texts else one
        return one

    return clean(value)


def printable(text: str) -> str:
    """The text with everything that is not printable, line ends included, as an escape."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def shortened(text: str, longest: int = LONGEST) -> str:
    """The text, cut at a word's end and marked with `...` where it is longer than `longest` characters."""
    if len(text) <= longest:
        return text
    kept = text[: longest - 4]
    at_word = kept.rsplit(" ", 1)[0]
    return f"{at_word if 2 * len(at_word) > len(kept) else kept} ..."


def as_file_name(name: str, longest: int = 80) -> str:
    """A name of a study or a machine as one part of a path, whatever it holds."""
    return re.sub(r"[^\w.+-]+", "-", name)[:longest].lstrip(".") or "unnamed"


def with_its_letters(name: str) -> str:
    """A name from the command line, with the letters that Python could not read there in an ASCII locale."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if _spoilt(name) else name


def _spoilt(name: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in name)


def tolerate_any_text(*files: object) -> None:
    """Let standard output and error, or the given text files, write what their encoding lacks as an escape.

    A terminal in the C locale takes ASCII only, and a name with other letters must not end a run.
    """
    for file in files or (sys.stdout, sys.stderr):
        if isinstance(file, io.TextIOWrapper):
            file.reconfigure(errors="backslashreplace")


def without_markup(markdown: str) -> str:
    """Markdown in which names from outside make no HTML; folding sections and line breaks are the views' own.

    Blocks of code stay as they are.
    """
    blocks = re.split(r"(^```.*?^```)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if place % 2 else _TAG.sub("&lt;", part) for place, part in enumerate(blocks))


class Fence(io.TextIOBase):
    """A text file through which nothing goes that acts on a terminal; colours go through to one, and nowhere else."""

    def __init__(self, file: TextIO) -> None:
        self.file = file

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.file.encoding

    @property
    def buffer(self) -> Any:
        """What takes bytes, as they are."""
        return self.file.buffer

    def write(self, text: str) -> int:
        parts = _STYLE.split(text) if self.file.isatty() else [text]
        self.file.write("".join(part if place % 2 else _harmless(part) for place, part in enumerate(parts)))
        return len(text)

    def flush(self) -> None:
        self.file.flush()

    def isatty(self) -> bool:
        return self.file.isatty()

    def fileno(self) -> int:
        return self.file.fileno()


def fenced(file: TextIO) -> TextIO:
    """The file behind a fence; one that stands behind one already is left alone."""
    return file if isinstance(file, Fence) else cast(TextIO, Fence(file))


def _harmless(text: str) -> str:
    lines = text.split("\r\n")
    return "\r\n".join(line.translate(_ESCAPES) for line in lines)


class _Escapes(dict[int, str]):
    """What every character is written as, worked out when it is first met. Spaces, tabs and line feeds stay."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        kept = character in "\n\t" or character.isprintable() or unicodedata.category(character) == "Zs"
        self[code] = character if kept else _escaped(character)
        return self[code]


_ESCAPES = _Escapes()


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
