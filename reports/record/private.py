"""What is nobody else's business, taken out of a text before it is kept or shown: tokens, passwords, places. Pure.

Whoever shares a run file, a page or a log must not share with it what opens an account, or how a machine is laid out.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping

HIDDEN = "..."
_SECRET_VARIABLE = re.compile(
    r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY)$", re.IGNORECASE
)
_SHORTEST = 8  # characters of a variable's value that is taken for a secret: shorter ones are words and numbers
_SECRETS = re.compile(
    r"""
    (?P<kind> \b(?:hf|ghp|gho|ghs|github_pat|glpat|xox[abp]|sk)[-_] ) [A-Za-z0-9_-]{8,}    # tokens known by their start
    | (?P<user> \b[a-z][a-z0-9+.-]{0,20}:// ) [^\s/@'"]+ @                                # scheme://user:password@
    | (?P<bearer> \bbearer\s+ ) [A-Za-z0-9._~+/=-]{8,}
    | (?P<header> \bauthorization['"]?\s*[:=]\s*['"]?(?:[a-z]+\s+)? ) [^\s'"]+
    | (?P<query> [?&;][\w-]*(?:token|secret|passw(?:or)?d|api[_-]?key|access[_-]?key|signature|credential)[\w-]*= )
      [^&\s'"\#]+
    """,
    re.IGNORECASE | re.VERBOSE,
)
_HINTS = ("_", "-", "://", "earer", "EARER", "uthorization", "UTHORIZATION", "=")
_PART = r"[^\s/'\"<>|:,;()\[\]{}*]+"
_PLACE = re.compile(rf"(?<![\w./~*}}-])(?:~|/(?!(?:proc|sys|dev)/){_PART})/(?:{_PART}/)*({_PART})?")


def known_secrets(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """What stands in variables that are named like secrets. environment: of this process, if not given."""
    variables = os.environ if environment is None else environment
    return tuple(value for name, value in variables.items() if len(value) >= _SHORTEST and _names_a_secret(name))


@functools.cache
def _names_a_secret(variable: str) -> bool:
    return _SECRET_VARIABLE.search(variable) is not None


def without_secrets(text: str, known: tuple[str, ...] | None = None) -> str:
    """The text with every token and password as `...`: what is known, or has the shape of one.

    known: `known_secrets` of this process, if not given.
    """
    for secret in known_secrets() if known is None else known:
        text = text.replace(secret, HIDDEN)
    return _SECRETS.sub(_without_secret, text) if any(hint in text for hint in _HINTS) else text


def without_places(text: str) -> str:
    """The text with every absolute path of two parts or more as its last part: `/home/me/models/x` is `x`.

    Paths of the system that tell nothing of its user (/proc, /sys, /dev) stay.
    """
    if "/" not in text:
        return text
    return _PLACE.sub(lambda path: path[1] or "folder", text.replace("file:///", "file:/"))


def discreet(text: str) -> str:
    """A text for files that are shared: without secrets and without places."""
    return without_places(without_secrets(text))


def _without_secret(found: re.Match[str]) -> str:
    kind = found.lastgroup or "kind"
    return found[kind] if kind == "user" else found[kind] + HIDDEN
