"""A cache folder is whole or not there, whoever is killed and however many make it at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fixtures.engines.transformers.models.cache import cache_root, cached_folder

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DECODEBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_folder_is_made_once(cache: Path) -> None:
    made = []

    def make(out: Path) -> None:
        made.append(out)
        (out / "file").write_text("content")

    assert cached_folder("model", make) == cached_folder("model", make) == cache / "model"
    assert len(made) == 1
    assert (cache / "model" / "file").read_text() == "content"
    assert [path.name for path in cache.iterdir()] == ["model"]


def test_a_maker_that_fails_leaves_nothing(cache: Path) -> None:
    def fails(out: Path) -> None:
        (out / "half").write_text("x")
        raise RuntimeError("no space left")

    with pytest.raises(RuntimeError, match="no space left"):
        cached_folder("model", fails)
    assert list(cache.iterdir()) == []


def test_the_first_of_several_makers_wins_and_all_get_a_whole_folder(cache: Path) -> None:
    together = threading.Barrier(4)
    found: list[tuple[Path, str]] = []

    def make(number: int) -> None:
        def fill(out: Path) -> None:
            together.wait(timeout=30)  # all four are at work at once
            for name in "ab":
                (out / name).write_text(str(number))

        folder = cached_folder("model", fill)
        found.append((folder, (folder / "a").read_text() + (folder / "b").read_text()))

    threads = [threading.Thread(target=make, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1, "all see the winner's folder"
    assert found[0][1] in {"00", "11", "22", "33"}
    assert [path.name for path in cache.iterdir()] == ["model"]


def test_a_killed_maker_leaves_no_folder_of_that_name(cache: Path) -> None:
    code = (
        "import sys, time\nfrom fixtures.engines.transformers.models.cache import cached_folder\n"
        "def make(out):\n    (out / 'half').write_text('x')\n    print('half', flush=True)\n    time.sleep(60)\n"
        "cached_folder('model', make)"
    )
    maker = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert maker.stdout is not None and maker.stdout.readline() == "half\n"
    os.kill(maker.pid, signal.SIGKILL)
    maker.wait()
    maker.stdout.close()
    assert not (cache / "model").exists()
    assert (cached_folder("model", lambda out: (out / "whole").touch()) / "whole").exists()


def test_what_killed_makers_left_is_cleared_when_it_is_a_day_old(cache: Path) -> None:
    old, young = cache / ".model.abc", cache / ".model.def"
    for folder in (old, young):
        folder.mkdir(parents=True)
        (folder / "half").write_text("x")
    a_day_ago = time.time() - 25 * 3600
    os.utime(old, (a_day_ago, a_day_ago))
    cached_folder("model", lambda out: (out / "whole").touch())
    assert not old.exists()
    assert young.exists(), "another process may be filling it now"


def test_the_cache_follows_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DECODEBENCH_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_root() == Path("/somewhere/decodebench")
    monkeypatch.setenv("DECODEBENCH_CACHE", "~/mine")
    assert cache_root() == Path.home() / "mine"
