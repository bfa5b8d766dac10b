"""The README shows what its run files say, and names only what exists."""

from __future__ import annotations

import argparse
import importlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from planted_runs import HEADER, case, plain

from reports.__main__ import COMMANDS
from reports.record.run import Run, RunFileError
from tools.gpu.__main__ import _options as gpu_options
from tools.readme import README, documents, drawn, renewed

DOCUMENTS = pytest.mark.parametrize("document", documents(), ids=lambda path: path.stem)


@DOCUMENTS
def test_a_document_is_what_the_committed_run_files_make_of_it(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert renewed(text, folder=document.parent) == text, "run `make readme`"


def test_blocks_of_run_files_stand_in_the_readme_and_elsewhere() -> None:
    made_from_runs = [path.name for path in documents() if "<!-- reports/published/" in path.read_text("utf-8")]
    assert "README.md" in made_from_runs and len(made_from_runs) > 2


def test_the_pictures_are_what_the_committed_run_files_make_of_them() -> None:
    shown: dict[Path, str] = {}
    for document in documents():
        text = document.read_text(encoding="utf-8")
        pictures = drawn(text)
        for path in pictures:
            assert f"({os.path.relpath(path, document.parent)})" in text
        shown |= pictures
    assert shown
    for path, svg in shown.items():
        assert path.read_text(encoding="utf-8") == svg, "run `make readme`"


def test_the_readme_is_the_three_minute_version() -> None:
    text = README.read_text(encoding="utf-8")
    own = re.sub(r"<!-- .*? -->\n.*?<!-- end -->", "", text, flags=re.DOTALL)
    assert len(own.splitlines()) <= 150
    [table] = re.findall(r"<!-- reports/\S+ fastest -->\n(.*?)<!-- end -->", text, re.DOTALL)
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    assert 1 < len(rows) <= 8
    assert any("/plain,greedy,dynamic`" in row for row in rows), "the baseline is among them"


def test_a_picture_is_a_document_with_its_own_colours() -> None:
    [svg, *_] = drawn(README.read_text(encoding="utf-8")).values()
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    used = set(re.findall(r"var\((--[\w-]+)\)", svg))
    defined = re.findall(r"(--[\w-]+):", svg)
    assert used and all(defined.count(name) == 2 for name in used), "one for light, one for dark"


def test_a_block_of_a_missing_run_file_is_refused(tmp_path: Path) -> None:
    text = "<!-- reports/published/none.jsonl speed -->\nold\n<!-- end -->"
    with pytest.raises(RunFileError, match=r"none\.jsonl: no such file"):
        renewed(text, tmp_path)


def test_a_comparison_is_told_from_the_blocks_in_its_folder(planted: Callable[..., Run], tmp_path: Path) -> None:
    folder = tmp_path / "reports" / "published" / "upgrade"
    folder.mkdir(parents=True)
    for number in range(1, 11):
        for side, seconds in (("base", 1.0), ("head", 2.0)):
            changed = HEADER["environment"] | {"versions": {"torch": f"2.{13 if side == 'base' else 14}.0"}}
            ratio = seconds * (1 + number / 1000)
            run = planted(
                case("p/plain", [plain(0, ratio), plain(1, ratio)]), name=f"{side}-{number}.jsonl", environment=changed
            )
            run.path.rename(folder / run.path.name)
    made = renewed("<!-- reports/published/upgrade compared -->\nold\n<!-- end -->", tmp_path)
    assert "; 10 blocks; torch 2.13.0 -> 2.14.0**" in made
    assert "| `p/plain` | latency_tok | +100.0% [+100.0%, +100.0%] | regressed |" in made
    assert "- REGRESSED (1 regressed" in made
    (folder / "head-10.jsonl").unlink()
    with pytest.raises(RunFileError, match="10 runs of base, 9 of head"):
        renewed("<!-- reports/published/upgrade compared -->\nold\n<!-- end -->", tmp_path)
    with pytest.raises(RunFileError, match=r"nothing: no base-1\.jsonl; give a folder of"):
        renewed("<!-- reports/published/nothing compared -->\nold\n<!-- end -->", tmp_path)


def test_text_outside_of_blocks_is_left_alone() -> None:
    assert renewed("# title\n\nno block\n") == "# title\n\nno block\n"


def _everything() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in documents())


def test_every_option_that_the_documents_name_exists(pytestconfig: pytest.Config) -> None:
    named = set(re.findall(r"--[a-z][a-z0-9-]+", _everything()))
    assert len(named) > 40
    others = {"--k", "--help", "--check", *_options_of_reports(), *gpu_options()._option_string_actions}
    missing = object()
    assert [name for name in named - others if pytestconfig.getoption(name, default=missing) is missing] == []


def _options_of_reports() -> set[str]:
    """The long options of every command of `python -m reports`."""
    commands = argparse.ArgumentParser().add_subparsers()
    for name in COMMANDS:
        importlib.import_module(f"reports.commands.{name}").register(commands)
    return {
        option
        for command in commands.choices.values()
        for action in command._actions
        for option in action.option_strings
    }


@DOCUMENTS
def test_every_file_that_a_document_links_to_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in links if not (document.parent / link).exists()] == []
