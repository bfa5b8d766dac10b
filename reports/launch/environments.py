"""Two states of the suite side by side: a git revision in a worktree, or other packages in a layer over this one.

Knows git, venv and pip, and nothing of run files, metrics or verdicts. What it makes is temporary and is removed at the
end of the `with`, also when that ends by Ctrl-C. Imports neither torch nor fixtures.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports.record.run import RunFileError

ROOT = Path(__file__).resolve().parents[2]
WORKING_TREE = "."
_COMPARISON = re.compile(r"==|>=|<=|~=|!=|<|>")
_BETWEEN = re.compile(r"[,\s]+(?=[A-Za-z])")  # a comma before a digit or an operator belongs to the requirement itself

_PROBE = """\
import importlib, importlib.metadata as metadata, json, re, sys
plain = lambda name: re.sub(r"[-_.]+", "-", name).lower()
versions, places = {}, {}
for found in metadata.distributions():
    name = plain(found.metadata["Name"] or "")
    if name and name not in versions:
        versions[name], places[name] = found.version, str(found.locate_file(""))
imported = {}
if len(sys.argv) > 1:
    modules = {}
    for module, names in metadata.packages_distributions().items():
        for name in names:
            modules.setdefault(plain(name), []).append(module)
    for name in sys.argv[1:]:
        public = sorted(one for one in modules.get(name, []) if one.isidentifier() and not one.startswith("_"))
        named = [module for module in public if plain(module) == name]
        for module in (named or public)[:1]:
            file = importlib.import_module(module).__file__
            imported[name] = {"module": module, "file": file or "", "place": places.get(name, "")}
print(json.dumps({"versions": versions, "imported": imported}))
"""


@dataclass(frozen=True)
class Spec:
    """What one side of a comparison is: `text` as given, and what it was resolved to.

    commit: full hash of a revision. requirements: a pip requirement set. Neither: the working tree as it is.
    """

    side: str
    text: str
    commit: str = ""
    requirements: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The spec as people read it."""
        if self.commit:
            return f"{self.text} ({self.commit[:12]})" if not self.commit.startswith(self.text) else self.commit[:12]
        return ", ".join(self.requirements) or "the working tree"


@dataclass(frozen=True)
class Environment:
    """Where and with which interpreter one side runs. changed: packages that differ from this environment's."""

    spec: Spec
    folder: Path
    python: Path
    changed: tuple[str, ...] = ()


def parse_spec(side: str, text: str, root: Path = ROOT) -> Spec:
    """Resolve a git revision, a requirement set (`transformers==5.17`, several by commas or spaces) or `.`.

    `side` is "base" or "head". Raises RunFileError where it is neither.
    """
    text = text.strip()
    if text == WORKING_TREE:
        return Spec(side, text)
    if not text or text.startswith("-"):
        raise RunFileError(f"--{side} {text!r}: give a git revision, requirements like transformers==5.17, or .")
    found = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{text}^{{commit}}")
    if found.returncode == 0:
        return Spec(side, text, commit=found.stdout.strip())
    if _COMPARISON.search(text):
        return Spec(side, text, requirements=_requirements(side, text))
    raise RunFileError(
        f"--{side} {text!r}: no git revision here, and no requirement like transformers==5.17; "
        "fetch the revision, name the version, or give . for the working tree"
    )


@contextmanager
def environments(specs: Sequence[Spec], root: Path = ROOT) -> Iterator[tuple[Environment, ...]]:
    """Make an environment for every spec, in order, and remove what was made at the end, whatever happened.

    A revision runs in a git worktree with this interpreter; a requirement set runs the working tree with a venv that
    lies over this environment, so that only the packages named, and what they need otherwise, differ.
    Raises RunFileError where git or pip fail, or where another version than the one asked for would be imported.
    """
    workplace = Path(tempfile.mkdtemp(prefix="decodebench-ab-"))
    worktrees: list[Path] = []
    try:
        made = []
        for spec in specs:
            place = workplace / spec.side
            if spec.commit:
                worktrees.append(place)
                done = _git(root, "worktree", "add", "--detach", "--quiet", str(place), spec.commit)
                if done.returncode:
                    raise RunFileError(f"--{spec.side} {spec.text!r}: git worktree: {_last_line(done.stderr)}")
                made.append(Environment(spec, place, Path(sys.executable)))
            elif spec.requirements:
                made.append(_layered(spec, place, root))
            else:
                made.append(Environment(spec, root, Path(sys.executable)))
        yield tuple(made)
    finally:
        for place in worktrees:
            _git(root, "worktree", "remove", "--force", "--force", str(place))
        shutil.rmtree(workplace, ignore_errors=True)
        if worktrees:
            _git(root, "worktree", "prune")


def other_dependencies(environment: Environment, root: Path = ROOT) -> tuple[str, ...]:
    """Names of the files that list dependencies and differ from those this environment was installed from."""
    return tuple(
        name
        for name in ("pyproject.toml", "constraints.txt")
        if environment.folder != root and _content(environment.folder / name) != _content(root / name)
    )


def _requirements(side: str, text: str) -> tuple[str, ...]:
    from packaging.requirements import InvalidRequirement, Requirement

    found = tuple(part.strip() for part in _BETWEEN.split(text) if part.strip())
    for part in found:
        try:
            Requirement(part)
        except InvalidRequirement as error:
            raise RunFileError(
                f"--{side} {text!r}: {part!r} is no pip requirement ({_first_line(str(error))}); "
                "write it like transformers==5.17"
            ) from None
    return found


def _layered(spec: Spec, place: Path, root: Path) -> Environment:
    """A venv whose own packages come before those of this environment; pip installs only what differs."""
    import venv

    venv.EnvBuilder(with_pip=False, symlinks=True).create(place)
    python = place / "bin" / "python"
    site = next(iter(place.glob("lib/python*/site-packages")))
    below = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    (site / "below.pth").write_text("".join(f"import site; site.addsitedir({entry!r})\n" for entry in below))
    command = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    done = subprocess.run(
        [*command, *spec.requirements], cwd=root, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        raise RunFileError(f"--{spec.side} {spec.text!r}: pip: {_error_line(done.stderr)}")
    after = _probe(spec, python, *(_name(requirement) for requirement in spec.requirements))
    _check_installed(spec, after)
    here = _versions_here()
    changed = tuple(
        f"{name} {version} (here {here.get(name, 'absent')})"
        for name, version in sorted(after["versions"].items())
        if here.get(name) != version
    )
    return Environment(spec, root, python, changed)


def _probe(spec: Spec, python: Path, *names: str) -> dict[str, Any]:
    """Versions of all packages as this interpreter sees them, and where it imports the named ones from."""
    done = subprocess.run([str(python), "-c", _PROBE, *names], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunFileError(
            f"--{spec.side} {spec.text!r}: cannot be imported together with this environment: {_last_line(done.stderr)}"
        )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _versions_here() -> dict[str, str]:
    from packaging.utils import canonicalize_name

    found: dict[str, str] = {}
    for one in importlib.metadata.distributions():
        found.setdefault(canonicalize_name(one.metadata["Name"] or ""), one.version)  # the first is what is imported
    return found


def _check_installed(spec: Spec, seen: dict[str, Any]) -> None:
    """Refuse an environment in which something else than what was asked for would be measured."""
    from packaging.requirements import Requirement

    for text in spec.requirements:
        name, version = _name(text), seen["versions"].get(_name(text), "absent")
        if version == "absent" or not Requirement(text).specifier.contains(version, prereleases=True):
            raise RunFileError(
                f"--{spec.side} {spec.text!r}: {name} is {version} after pip install; see pip's settings"
            )
        imported = seen["imported"].get(name)
        if imported and not Path(imported["file"]).is_relative_to(imported["place"]):
            raise RunFileError(
                f"--{spec.side} {spec.text!r}: {imported['module']} is imported from elsewhere than {name} {version} "
                "was installed to; clear PYTHONPATH"
            )


def _name(requirement: str) -> str:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    return str(canonicalize_name(Requirement(requirement).name))


def checked_out(root: Path = ROOT) -> str:
    """The commit of the checkout as run files tell it: with `+changes` if tracked files differ; empty outside git."""
    found = _git(root, "rev-parse", "HEAD")
    if found.returncode:
        return ""
    changed = _git(root, "status", "--porcelain", "--untracked-files=no").stdout.strip()
    return found.stdout.strip() + ("+changes" if changed else "")


def state_of(spec: Spec, root: Path = ROOT) -> str:
    """What a side measures, in a line: a commit, or the checkout with a few digits of the hash of its changes.

    Changes are those of tracked files, and new modules and studies.
    """
    if spec.commit:
        return spec.commit
    state = checked_out(root)
    command = ["git", "-C", str(root)]
    changes = _output([*command, "diff", "HEAD", "--binary", "--no-ext-diff"])
    for name in _output([*command, "ls-files", "--others", "--exclude-standard", "-z"]).split(b"\0"):
        if name.endswith((b".py", b".toml")):
            changes += name + _content(root / os.fsdecode(name))
    if changes:
        state = f"{state} {hashlib.sha256(changes).hexdigest()[:12]}"
    return " on ".join(part for part in (spec.label if spec.requirements else "", state or "no commit") if part)


def _git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise RunFileError("git: not found; install git, which A/B comparisons take revisions from") from None


def _output(command: Sequence[str]) -> bytes:
    return subprocess.run(command, capture_output=True, check=False).stdout


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no message")


def _last_line(text: str) -> str:
    return _first_line("\n".join(reversed(text.splitlines())))


def _error_line(text: str) -> str:
    """The line of pip's that says what is wrong: the last ERROR, else the last line."""
    errors = [line.removeprefix("ERROR:").strip() for line in text.splitlines() if line.startswith("ERROR:")]
    return errors[-1] if errors else _last_line(text)
