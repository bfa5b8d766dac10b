"""Bugs planted into transformers' own source, for the length of one test."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping

import pytest
from transformers.generation import utils


def plant(patch: pytest.MonkeyPatch, function: str, changes: Mapping[str, str]) -> None:
    """Replace texts in the source of `_assisted_decoding` or `_speculative_sampling`; each must occur exactly once."""
    owner = utils.GenerationMixin if function == "_assisted_decoding" else utils
    source = textwrap.dedent(inspect.getsource(getattr(owner, function)))
    for old, new in changes.items():
        assert source.count(old) == 1, f"{function} of this transformers version has {source.count(old)} times {old!r}"
        source = source.replace(old, new)
    made: dict[str, object] = {}
    exec(compile(source, f"<{function} with a planted bug>", "exec"), vars(utils), made)
    patch.setattr(owner, function, made[function])
