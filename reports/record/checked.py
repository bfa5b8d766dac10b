"""Values read from a file as the types that the program works with; what does not fit is told in one line.

Knows the types' fields and nothing of files. Errors are ValueErrors whose text names the key, its value and what it
must be; the file and the line are the caller's to name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_LONGEST = 60
_WANTED = {
    "int": "a whole number",
    "float": "a finite number",
    "bool": "true or false",
    "str": "a text",
    "object": "an object",
    "array": "a list",
}


def converted(values: Mapping[str, Any], kind: type[T], where: str) -> T:
    """An object of this type, from a mapping of its fields; others are left out, absent ones have their default.

    where: the key that holds the mapping. Raises ValueError for a field of another type, or a number that is none.
    """
    try:
        made = msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise ValueError(_misfit(str(error), values, where)) from None
    for name, value in vars(made).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(told(f"{where}.{name}", value, "a finite number"))
    return kind(**vars(made))  # msgspec leaves defaults to the class; here every object holds all its fields


def unknown_to(values: Mapping[str, Any], kind: type[Any]) -> dict[str, Any]:
    """What a mapping holds beyond the fields of a type."""
    known = kind.__dataclass_fields__.keys()
    return {} if values.keys() <= known else {name: value for name, value in values.items() if name not in known}


def told(key: str, value: Any, wanted: str) -> str:
    """`key is value, not wanted`, with a long value cut."""
    text = " ".join(repr(value).split())
    return f"{key} is {text if len(text) <= _LONGEST else text[:_LONGEST] + '...'}, not {wanted}"


def _misfit(error: str, values: Mapping[str, Any], where: str) -> str:
    """msgspec's `Expected `int | null`, got `str` - at `$.seed`` in the words of this program."""
    found = re.match(r"Expected `(\w+)[^`]*`.* - at `\$\.([^`]*)`", error)
    if found is None:
        return f"{where}: {error}"
    wanted, path = found.groups()
    value: Any = values
    for step in re.findall(r"[^.\[\]]+", path):
        value = value[int(step)] if isinstance(value, list | tuple) else value[step]
    return told(f"{where}.{path}", value, _WANTED.get(wanted, f"of kind {wanted}"))
