"""Values read from a file as the types that the program works with; what does not fit is told in one line.

Knows types and nothing of files. A misfit names the key, its value and what it must be; the file, the line and the
remedy are the caller's to name.
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

T = TypeVar("T")

NO_TIME = 1e-9
"""Seconds that no clock tells from none, which would make a speed infinite."""
Count = Annotated[int, Meta(ge=0, le=10**9)]
Positive = Annotated[int, Meta(ge=1, le=10**9)]
Duration = Annotated[float, Meta(ge=0, le=1e9)]
TimeTaken = Annotated[float, Meta(gt=NO_TIME, le=1e9)]
"""As a duration, of what was really done."""

_LONGEST = 60
_WORDS = {
    "int": "a whole number",
    "float": "a finite number",
    "bool": "true or false",
    "str": "a text",
    "object": "an object",
    "array": "a list",
    "null": "null",
}
_SIGNS = {">=": "of at least", "<=": "of at most", ">": "above", "<": "below"}


@dataclass
class Misfit(ValueError):
    """A value that is not of its type. key: the way to it, empty for the value itself; wanted: what it must be.

    unknown, missing: a name that the object at `key` has and must not have, or lacks. choices: all that it may be.
    """

    key: str
    value: Any
    wanted: str
    unknown: str = ""
    missing: str = ""
    choices: tuple[Any, ...] = ()

    def __str__(self) -> str:
        if self.unknown or self.missing:
            name, wrong = (self.unknown, "unknown") if self.unknown else (self.missing, "missing")
            told = f"{self.key + ': ' if self.key else ''}{cut(name)} is {wrong}"
            return f"{told}; {self.wanted}" if self.wanted else told
        return f"{self.key or 'it'} is {cut(self.value)}, not {self.wanted}"

    @property
    def of_setting(self) -> str:
        """As people who write settings are told: `alpha is 0; expected a share above 0`."""
        if self.unknown:
            return f"{self.key + ': ' if self.key else ''}unknown key {cut(self.unknown)}; {self.wanted}"
        if self.missing:
            return f"{self.key + ': ' if self.key else ''}{self.missing} is missing"
        if self.choices:
            return f"{self.key} is {cut(self.value)}; choose one of {', '.join(map(str, self.choices))}"
        return f"{self.key} is {cut(self.value)}; expected {self.wanted}"


def cut(value: Any) -> str:
    """A value as errors show it: in one line, a long one cut."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def fitted(values: Any, kind: type[T], where: str = "") -> T:
    """The values as this type; raises Misfit. Names that the type does not know are left out, unless it forbids them.

    where: the key that holds the values. A number that is not finite passes; see `refuse_not_finite`.
    """
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise _located(str(error), values, kind, where) from None


def unknown_to(values: Mapping[str, Any], kind: type[Any]) -> dict[str, Any]:
    """What a mapping holds beyond the fields of a type."""
    known = kind.__dataclass_fields__.keys()
    return {} if values.keys() <= known else {name: value for name, value in values.items() if name not in known}


def refuse_not_finite(values: Any, where: str = "") -> None:
    """Raise Misfit for a number in a value, at whatever depth, that is none, or too large to be kept as one."""
    if isinstance(values, float) and not math.isfinite(values):
        raise Misfit(where, values, "a finite number")
    if isinstance(values, int) and not -(2**63) <= values < 2**64:
        raise Misfit(where, values, "a finite number that 64 bits hold")
    if isinstance(values, Mapping):
        for name, value in values.items():
            refuse_not_finite(value, _at(where, str(name)))
    elif isinstance(values, list | tuple):
        for place, value in enumerate(values):
            refuse_not_finite(value, f"{where}[{place}]")


def _located(error: str, values: Any, kind: Any, where: str) -> Misfit:
    """msgspec's `Expected `int | null`, got `str` - at `$.seed`` with the key that it means, and its value.

    msgspec does not name the key of a mapping (`$.metrics[...]`): the first value that does not fit is meant.
    """
    said, _, path = error.partition(" - at `$")
    value = values
    for name, index, any_key in re.findall(r"\.([^.\[\]`]+)|\[(\d+)\]|(\[\.\.\.\])", path):
        if any_key:
            inner = _inner(kind, 0)
            for key, item in value.items():
                try:
                    msgspec.convert(item, inner)
                except msgspec.ValidationError as inner_error:
                    return _located(str(inner_error), item, inner, _at(where, str(key)))
            break
        if name:
            where, value, kind = _at(where, name), value[name], _hints(kind).get(name, Any)
        else:
            where, value, kind = f"{where}[{index}]", value[int(index)], _inner(kind, int(index))
    if match := re.match(r"Object (?:missing required|contains unknown) field `([^`]*)`", said):
        if "unknown" in said:
            return Misfit(where, value, f"allowed are {', '.join(_hints(kind))}", unknown=match[1])
        return Misfit(where, value, "", missing=match[1])
    choices = _allowed(kind) if said.startswith("Invalid enum value") else ()
    return Misfit(where, value, _described(kind) or _wanted(said, kind), choices=tuple(choices))


def _at(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _wanted(said: str, kind: Any) -> str:
    """What a value must be, in the words of this program."""
    if said.startswith("Invalid enum value"):
        return f"one of {', '.join(map(str, _allowed(kind)))}"
    if "out of range" in said:
        return "a finite number"
    if match := re.match(r"Expected `(\w+)[^`]*`(?: of length (>= )?(\d+)| (>=|<=|>|<) (\S+))?", said):
        word, at_least, length, sign, limit = match.groups()
        words = _WORDS.get(word, f"of kind {word}")
        if word == "array" and length is None and (inner := _plural(kind)):
            return f"{words} of {inner}"
        if length is not None:
            return "a text that is not empty" if word == "str" else f"{words} of {'at least ' * bool(at_least)}{length}"
        if sign:
            return f"{words} {_SIGNS[sign]} {0 if float(limit) == NO_TIME else float(limit):g}"
        return words
    return said


def _described(kind: Any) -> str:
    """What the type itself says of its values."""
    if get_origin(kind) in (Union, types.UnionType):
        return next(filter(None, map(_described, get_args(kind))), "")
    described = [item.description for item in getattr(kind, "__metadata__", ()) if isinstance(item, Meta)]
    return next(filter(None, described), "")


def _plural(kind: Any) -> str:
    """What a list holds, for its message."""
    inner = _bare(_inner(kind, 0))
    if get_origin(inner) in (list, tuple):
        return "lists"
    if inner is str:
        return "texts"
    return "numbers" if inner in (int, float) else "objects" if inner is not Any else ""


def _bare(kind: Any) -> Any:
    """A type without its annotations, and without None."""
    if get_origin(kind) is Annotated:
        return _bare(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        arms = [arm for arm in get_args(kind) if arm is not types.NoneType]
        return _bare(arms[0]) if len(arms) == 1 else Any
    return kind


def _inner(kind: Any, place: int) -> Any:
    """The type of what a list, a tuple or a mapping holds."""
    bare = _bare(kind)
    arguments = [argument for argument in get_args(bare) if argument is not Ellipsis]
    if not arguments:
        return Any
    origin = get_origin(bare)
    if origin is tuple and len(arguments) > place and Ellipsis not in get_args(bare):
        return arguments[place]
    return arguments[-1] if isinstance(origin, type) and issubclass(origin, Mapping) else arguments[0]


def _hints(kind: Any) -> Mapping[str, Any]:
    bare = _bare(kind)
    return get_type_hints(bare, include_extras=True) if isinstance(bare, type) else {}


def _allowed(kind: Any) -> Sequence[Any]:
    bare = _bare(kind)
    return get_args(bare) if get_origin(bare) is Literal else ()
