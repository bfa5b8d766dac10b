"""A pytest plugin for runs of perf_tests: writes which models were loaded, and how many were alive at each load.

Environment: SPY_OUTPUT, the JSON file to write; SPY_FAIL, part of a test's id that is to fail after it has run.
"""

from __future__ import annotations

import json
import os
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

LOADED: list[weakref.ref[Any]] = []
SEEN: dict[str, Any] = {"loads": [], "alive_at_load": [], "torch_after_collection": None}


def alive() -> int:
    return sum(reference() is not None for reference in LOADED)


def pytest_collection_finish() -> None:
    SEEN["torch_after_collection"] = "torch" in sys.modules


def pytest_runtestloop() -> None:
    from fixtures.engines.transformers.models import resident

    def spied(role: str, original: Any) -> Any:
        def load(key: Any, *arguments: Any, **settings: Any) -> Any:
            SEEN["alive_at_load"].append(alive())
            loaded = original(key, *arguments, **settings)
            SEEN["loads"].append(f"{role} {key.dtype}")
            LOADED.append(weakref.ref(loaded.model))
            return loaded

        return load

    for role in ("target", "draft"):
        setattr(resident, f"load_{role}", spied(role, getattr(resident, f"load_{role}")))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    result = yield
    failing = os.environ.get("SPY_FAIL")
    if failing and failing in pyfuncitem.name:
        held = pyfuncitem.funcargs["engine"]  # the frame of a failing test holds its engine
        raise AssertionError(f"made to fail with {held.key.id}")
    return result


def pytest_unconfigure() -> None:
    SEEN["alive_at_end"] = alive()
    Path(os.environ["SPY_OUTPUT"]).write_text(json.dumps(SEEN))
