"""The README shows what its run files say, and names only what exists."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from planted_runs import HEADER, case, plain

from reports.__main__ import COMMANDS
from reports.record.run import Run, RunFileError
from tools.gpu.__main__ import _options as gpu_options
from tools.readme import README, ROOT, drawn, renewed


def test_the_readme_is_what_the_committed_run_files_make_of_it() -> None:
    text = README.read_text(encoding="utf-8")
    assert "<!-- reports/published/" in text
    assert renewed(text) == text, "run `make readme`"


def test_the_pictures_are_what_the_committed_run_files_make_of_them() -> None:
    text = README.read_text(encoding="utf-8")
    found = drawn(text)
    assert found
    for path, svg in found.items():
        assert path.read_text(encoding="utf-8") == svg, "run `make readme`"
        assert f"({path.relative_to(ROOT)})" in text


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


def test_every_option_that_the_readme_names_exists(pytestconfig: pytest.Config) -> None:
    named = set(re.findall(r"--[a-z][a-z0-9-]+", README.read_text(encoding="utf-8")))
    assert len(named) > 40
    others = {"--k", "--help", *_options_of_reports(), *gpu_options()._option_string_actions}
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


def test_every_file_that_the_readme_links_to_exists() -> None:
    text = README.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []
