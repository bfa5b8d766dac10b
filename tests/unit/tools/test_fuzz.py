"""Damaged and hostile files: every reader answers with its declared error, a few hundred of each kind here.

`python -m tools.fuzz --seconds 300` tries more; a failure's seed makes it again.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from fixtures.study.options import build_study, results_path
from fixtures.study.study import StudyError
from tools.fuzz.__main__ import fuzz
from tools.fuzz.mutations import mutated_lines, mutated_toml
from tools.fuzz.targets import TARGETS, Target, read_by, sound_lines

TIMES = {"run files": 30, "studies": 200, "samples files": 200, "noise, claims and tables": 15}


@pytest.mark.parametrize("kind", TARGETS, ids=lambda kind: kind.name)
def test_no_reader_ends_in_an_error_that_it_does_not_declare(kind: type[Target], tmp_path: Path) -> None:
    failures: Counter[str] = Counter()
    assert fuzz(kind(tmp_path), failures, 0.0, TIMES[kind.name], seed=20_000) == TIMES[kind.name]
    assert not failures


def test_an_undeclared_error_is_counted_by_its_place_and_told_with_its_seed(tmp_path: Path) -> None:
    class Broken(Target):
        name = "broken"

        def attempt(self, random: Random) -> None:
            if random.random() < 0.5:
                raise KeyError("lost")

    failures: Counter[str] = Counter()
    assert fuzz(Broken(tmp_path), failures, 0.0, 40) == 40
    ((told, count),) = failures.items()
    assert "KeyError at test_fuzz.py:" in told and "(seed " in told and 10 < count < 30


def test_the_sound_file_is_read_by_every_command_and_nearly_every_damage_changes_it(tmp_path: Path) -> None:
    lines = sound_lines()
    assert {line["kind"] for line in lines} == {"run", "session", "case", "round", "completion", "verdict", "end"}
    sound = "".join(json.dumps(line) + "\n" for line in lines).encode()
    changed = sum(mutated_lines(lines, Random(seed)) != sound for seed in range(50))
    assert (
        changed > 40
        and sum(mutated_toml("a = 1\nb = 2\n", Random(seed)) != b"a = 1\nb = 2\n" for seed in range(50)) > 40
    )
    path = tmp_path / "sound.jsonl"
    path.write_bytes(sound)
    for command in ("show", "claims", "advise"):
        read_by([command, str(path)])


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "a/b", "..", "", "x" * 5000, "a\\u0000b", "[/b]"])
def test_a_study_of_whatever_name_writes_its_run_file_where_run_files_lie(name: str, tmp_path: Path) -> None:
    path = tmp_path / "named.toml"
    path.write_text(f'name = "{name}"\npair = "embedded"\n[[sweep]]\nexperiment = "baseline"\n', encoding="utf-8")
    results, _ = results_path({}, build_study({"study": str(path)}), "20260101-000000")
    assert results.parent == Path(__file__).parents[3] / "reports" / "runs" and results.name.endswith(
        "-20260101-000000.jsonl"
    )


def test_a_study_without_a_pair_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    path.write_text('pair = []\n[[sweep]]\nexperiment = "baseline"\n', encoding="utf-8")
    with pytest.raises(StudyError, match="pair is missing; name one in the study or with --pair"):
        build_study({"study": str(path)})
