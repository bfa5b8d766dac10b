"""The house: what each room of reports/ may import, what only some may, how large a file may be, and that names say one
thing. Read from the sources, so that a room's promise does not rest on prose."""

from __future__ import annotations

import ast
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
REPORTS = ROOT / "reports"

MAY_IMPORT = {
    "record": set(),
    "numbers": {"record"},
    "compare": {"record", "numbers"},
    "gate": {"record", "numbers"},
    "claims": {"record", "numbers"},
    "advice": {"record", "numbers"},
    "launch": {"record"},
    "views": {"record", "numbers", "compare", "gate", "claims", "advice"},
    "page": {"record", "numbers", "compare", "gate", "claims", "advice", "views"},
    "commands": {"record", "numbers", "compare", "gate", "claims", "advice", "views", "page", "launch"},
}
"""Room -> the rooms below it. Neighbours (compare, gate, claims, advice) do not know each other."""

DATA = {"baselines", "published", "runs"}
MEASURING = {"torch", "transformers", "fixtures", "conftest", "pytest"}
PROCESSES = {"subprocess", "multiprocessing", "ray", "signal"}


def sources(*folders: str) -> list[Path]:
    """Every Python file below these folders that git knows or would know."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [ROOT / name for name in sorted(set(names)) if name.startswith(folders) and (ROOT / name).exists()]


@cache
def imported(path: Path) -> frozenset[str]:
    """The dotted names of all modules that a file imports, at its top or inside a function; types only are not."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(_modules(tree))


def _modules(tree: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ([f"{node.module}.{name.name}" for name in node.names] if node.module else ())
        yield from _modules(node)


def room_of(path: Path) -> str:
    parts = path.relative_to(REPORTS).parts
    return parts[0] if len(parts) > 1 else ""


def tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_the_rooms_below_it(room: str) -> None:
    allowed = {room} | MAY_IMPORT[room]
    found = {
        (path.name, name)
        for path in sources(f"reports/{room}/")
        for name in imported(path)
        if name.startswith("reports.") and name.split(".")[1] not in allowed
    }
    assert not found


def test_every_file_is_in_a_room_and_every_room_says_what_it_is_for() -> None:
    assert {room_of(path) for path in sources("reports/")} == {"", *MAY_IMPORT}
    assert {path.name for path in sources("reports/") if not room_of(path)} == {"__init__.py", "__main__.py"}
    for room in MAY_IMPORT:
        said = ast.get_docstring(ast.parse((REPORTS / room / "__init__.py").read_text(encoding="utf-8")))
        assert said and len(said.splitlines()) <= 4, room
    command = ["git", "ls-files", "reports"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    folders = {name.split("/")[1] for name in names if name.count("/") > 1}
    assert folders - DATA == MAY_IMPORT.keys()
    assert len(folders) <= 12


def test_nothing_in_reports_knows_what_measures() -> None:
    assert not {(path.name, name) for path in sources("reports/") for name in tops(path) & MEASURING}


def test_only_views_pages_and_progress_know_rich() -> None:
    knowing = {path for path in sources("reports/", "fixtures/", "perf_tests/", "conftest.py") if "rich" in tops(path)}
    assert {path.relative_to(ROOT).as_posix() for path in knowing} == {
        "reports/views/sheet.py",
        "fixtures/suite/progress.py",
    }


def test_only_launch_starts_processes() -> None:
    starting = {path for path in sources("reports/") if tops(path) & PROCESSES}
    assert starting
    assert {room_of(path) for path in starting} == {"launch"}


def test_no_module_shares_its_name_with_another() -> None:
    paths = [path for path in sources("reports/", "fixtures/", "tools/") if not path.stem.startswith("__")]
    modules = Counter(path.stem for path in paths)
    assert {name for name, times in modules.items() if times > 1} == set()


def test_no_class_shares_its_name_with_another() -> None:
    classes = Counter(
        node.name
        for path in sources("reports/", "fixtures/")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert {name for name, times in classes.items() if times > 1} == set()


MOST_LINES = 400


def test_no_file_of_code_is_longer_than_one_can_read() -> None:
    paths = sources("conftest.py", "perf_tests/", "reports/", "fixtures/", "tools/")
    lengths = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8").count("\n") for path in paths}
    assert {path for path, length in lengths.items() if length > MOST_LINES} == set()
