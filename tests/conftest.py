"""What the suite's own tests share: a tiny study, the command line as a user runs it, tiny loaded pairs.

Imports no torch: most tests need none.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fixtures.engines.transformers.models.engine import Engine

os.environ.setdefault("OMP_NUM_THREADS", "1")  # models this small only wait for a second thread
for name in [name for name in os.environ if name.startswith("PYTEST_XDIST")]:
    del os.environ[name]  # what a worker starts is no worker: pytest-benchmark would measure nothing

os.environ.pop("COLUMNS", None)  # a worker has one; tables are as wide as a pipe's unless a test says otherwise

ROOT = Path(__file__).resolve().parent.parent

TINY = """\
name = "tiny"
description = "The tiny synthetic pair: exact counts in a few seconds"
pair = "synthetic-tiny"
warmup = 0
drift_limit = 1000.0

[workload]
prompts = "synthetic"
num_samples = 2
max_prompt = 8
gen_toks = 8

[defaults]
dtype = "fp32"

[[sweep]]
experiment = "baseline"

[[sweep]]
experiment = "speculative_decoding"
strategy = "assisted"
assist_toks = [1, 3]
confidence_threshold = 0.0

[[sweep]]
experiment = "speculative_decoding"
strategy = "prompt_lookup"
assist_toks = 3
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_configure(config: pytest.Config) -> None:
    """Hide the GPUs from these tests and from what they start, unless tests that need one are asked for."""
    if not _asks_for_gpu(config):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def _asks_for_gpu(config: pytest.Config) -> bool:
    return re.search(r"(?<!not )\bgpu\b", config.option.markexpr or "") is not None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a GPU unless it is asked for: two workers on one card would measure each other."""
    if _asks_for_gpu(config):
        return
    left_out = [item for item in items if item.get_closest_marker("gpu")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("gpu")]


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study file of one engine and four cases, which take turns."""
    path = tmp_path_factory.mktemp("study") / "tiny.toml"
    path.write_text(TINY, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def run_bench() -> Run:
    """`run_bench(*arguments, **environment)`: `pytest perf_tests` with them, in the checkout, output captured."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", "perf_tests", "-p", "no:cacheprovider", *map(str, arguments)]
        return _run(command, environment)

    return run


@pytest.fixture(scope="session")
def run_reports() -> Run:
    """`run_reports(*arguments)`: `python -m reports` with them, in the checkout, output captured."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return _run([sys.executable, "-m", "reports", *map(str, arguments)], environment)

    return run


@pytest.fixture(scope="session")
def tiny_engine() -> Callable[..., Engine]:
    """`tiny_engine(pair, dtype=..., ...)`: a tiny synthetic pair, loaded once per set of arguments."""
    loaded: dict[object, Engine] = {}

    def load(pair: str = "synthetic-tiny", **settings: str) -> Engine:
        import torch

        from fixtures.engines.transformers.models.engine import load_engine
        from fixtures.study.pairs import find_pair
        from fixtures.study.study import EngineKey

        key = EngineKey(pair, **{"dtype": "fp32", **settings})
        if key not in loaded:
            loaded[key] = load_engine(key, find_pair(pair), torch.device("cpu"))
        return loaded[key]

    return load


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Build the stub, leaving out the named groups of symbols; returns its folder."""
    if shutil.which("gcc") is None:
        pytest.skip("the stub driver is built with gcc, which is not installed")
    built: dict[tuple[str, ...], Path] = {}

    def build(*without: str) -> Path:
        if without not in built:
            folder = tmp_path_factory.mktemp("driver")
            source = ROOT / "tests/unit/telemetry/nvml_stub.c"
            omitted = [f"-DWITHOUT_{group}" for group in without]
            library = str(folder / "libnvidia-ml.so.1")
            subprocess.run(
                ["gcc", "-shared", "-fPIC", "-Wall", "-Werror", *omitted, "-o", library, str(source)], check=True
            )
            built[without] = folder
        return built[without]

    return build


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch on one thread: models this small only wait for a second one."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300, check=False
    )
