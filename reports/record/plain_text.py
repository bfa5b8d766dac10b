"""Text that comes from outside (errors, names, files), made fit for one short line on any terminal. Pure.

The one place that escapes and cuts: what is not printable (control characters, terminal escapes, marks that turn the
direction of writing, halves of surrogate pairs) is written as Python would write it, so that nothing acts on a terminal
and everything can be encoded.
"""

from __future__ import annotations

import re
import sys
from io import TextIOWrapper

LONGEST = 400
"""Characters of a reason: two or three lines of a terminal."""


def one_line(text: object, longest: int = LONGEST) -> str:
    """Fold white space, escape what is not printable, and cut what is longer than `longest` characters."""
    words = " ".join(str(text)[: 20 * longest].split())
    return shortened(printable(words[: 2 * longest]), longest)


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
        if isinstance(file, TextIOWrapper):
            file.reconfigure(errors="backslashreplace")


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/@'\"]+@", re.IGNORECASE)
_TOKEN = re.compile(r"\b(hf|api_org|sk|ghp|github_pat|glpat|wandb)_[A-Za-z0-9_]{16,}")
_PART = r"[^\s/'\"<>|:,;()\[\]{}*]+"
_PLACE = re.compile(rf"(?<![\w./~*}}-])(?:~|/(?!(?:proc|sys|dev)/){_PART})/(?:{_PART}/)*({_PART})?")


def discreet(text: str) -> str:
    """A text for files that are shared: of absolute paths the last name, of addresses and tokens nothing secret.

    Paths of the system that tell nothing of its user (/proc, /sys, /dev) stay.
    """
    if "/" not in text and "_" not in text:
        return text
    text = _TOKEN.sub(r"\1_...", _PASSWORD.sub(r"\1", text)).replace("file:///", "file:/")
    return _PLACE.sub(lambda path: path[1] or "folder", text)
