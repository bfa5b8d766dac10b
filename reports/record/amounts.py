"""Amounts as people write them, read into numbers: memory with its unit. Pure."""

from __future__ import annotations

import math
import re

_BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def bytes_of(text: str) -> float:
    """`12GiB`, `800 MiB`, `12GB` or a number of bytes; raises ValueError for anything else, and for nothing."""
    matched = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([A-Za-z]*)\s*", text, re.ASCII)
    if matched is None or matched[2].upper() not in _BYTES:
        raise ValueError("not a size; write bytes or a unit, such as 12GiB")
    count = float(matched[1]) * _BYTES[matched[2].upper()]
    if not 0 < count < math.inf:
        raise ValueError("not a size above 0; write bytes or a unit, such as 12GiB")
    return count
