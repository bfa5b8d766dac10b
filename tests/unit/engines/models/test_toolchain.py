"""What is missing for building code at first use is named before, with the remedy."""

from __future__ import annotations

import shutil
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fixtures.engines.transformers.decoding import caches
from fixtures.engines.transformers.models.toolchain import nvcc_version, why_no_extension

NEEDED = ("g++", "ninja", "Python.h", "nvcc")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`machine(*there, cuda="13.0")`: a machine that has these, its nvcc of that version."""

    def of(*there: str, cuda: str = "13.0") -> None:
        nvcc_version.cache_clear()
        for name in ("CXX", "CC", "CUDA_PATH"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
        nvcc = tmp_path / "cuda" / "bin" / "nvcc"
        nvcc.parent.mkdir(parents=True, exist_ok=True)
        nvcc.unlink(missing_ok=True)
        if "nvcc" in there:
            nvcc.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {cuda}, V{cuda}.48'\n")
            nvcc.chmod(0o755)
        (tmp_path / "Python.h").unlink(missing_ok=True)
        if "Python.h" in there:
            (tmp_path / "Python.h").touch()
        monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
        monkeypatch.setattr(shutil, "which", lambda name: name if name in there else None)

    yield of
    nvcc_version.cache_clear()


@pytest.mark.parametrize("missing", NEEDED)
def test_what_an_extension_needs_is_named(machine: Callable[..., None], missing: str) -> None:
    machine(*(name for name in NEEDED if name != missing))
    reason = why_no_extension("cuda", "13.0") or ""
    assert missing in reason and "install" in reason
    assert (why_no_extension("cpu", None) is None) == (missing == "nvcc"), "a processor needs no nvcc"
    machine(*NEEDED)
    assert why_no_extension("cuda", "13.0") is None


def test_a_compiler_of_another_cuda_is_refused(machine: Callable[..., None]) -> None:
    machine(*NEEDED, cuda="12.4")
    reason = "nvcc is of CUDA 12.4 and torch of CUDA 13.0; install the CUDA toolkit 13, or set CUDA_HOME"
    assert why_no_extension("cuda", "13.0") == reason
    assert why_no_extension("cuda", "12.8") is None, "minor versions work with each other"


def test_a_quantized_cache_that_could_not_be_built_is_skipped_with_the_remedy(
    machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caches, "is_optimum_quanto_available", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    machine(*NEEDED[:3])
    reason = caches.unsupported("quantized", "cuda") or ""
    assert "no nvcc was found; install the CUDA toolkit 13" in reason and reason.endswith("or use --cache dynamic")
    assert caches.unsupported("quantized", "cpu") is None
