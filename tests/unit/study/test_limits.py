"""Order and limits of a study: read from file and options, checked, and no obstacle to resuming an older run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from fixtures.study.limits import LIMITS, read_limits
from fixtures.study.options import refuse_swallowed
from fixtures.study.study import Study, StudyError
from fixtures.study.study_file import load_study

TEXT = 'pair = "synthetic-tiny"\n[workload]\nprompts = "synthetic"\n[[sweep]]\nexperiment = "baseline"\n'


def read(tmp_path: Path, text: str, **options: str) -> Study:
    path = tmp_path / "given.toml"
    path.write_text(text, encoding="utf-8")
    return load_study(str(path), options)


def test_nothing_limits_a_study_that_says_nothing_and_its_description_is_that_of_older_runs(tmp_path: Path) -> None:
    study = read(tmp_path, TEXT)
    assert (study.order, study.precision, study.race, study.block_memory) == ("rounds", None, False, None)
    assert not {"order", "precision", "race", "block_memory"} & study.describe().keys()


@pytest.mark.parametrize("by", ["file", "options"])
def test_order_and_limits_are_read(tmp_path: Path, by: str) -> None:
    written = {"precision": "0.03", "race": "propose", "block_memory": "1.5GiB", "time_budget": "10m"}
    if by == "options":
        study = read(tmp_path, TEXT, **written)
    else:
        study = read(tmp_path, "".join(f'{key} = "{value}"\n' for key, value in written.items()) + TEXT)
    assert (study.precision, study.race, study.block_memory, study.time_budget) == (0.03, "propose", 3 * 2**29, 600.0)
    told = study.describe()
    assert {key: told[key] for key in ("precision", "race", "block_memory")} == {
        "precision": 0.03,
        "race": "propose",
        "block_memory": 3 * 2**29,
    }
    assert "order" not in told
    assert read(tmp_path, TEXT, order="blocks").describe()["order"] == "blocks"


@pytest.mark.parametrize(("value", "race"), [("true", True), ("TRUE", True), ("false", False), ("propose", "propose")])
def test_a_race_is_a_flag_with_a_third_value(value: str, race: bool | str) -> None:
    assert read_limits({}, "", {"race": value})["race"] == race
    refuse_swallowed({"race": value})


def test_a_study_files_own_kinds_are_read() -> None:
    raw = {"race": True, "precision": 0.5, "block_memory": 2**30, "order": "rounds", "case_timeout": 90}
    limits = read_limits(raw, "a.toml", {})
    assert limits == {
        "race": True,
        "precision": 0.5,
        "block_memory": 2**30,
        "order": "rounds",
        "case_timeout": 90.0,
        "time_budget": None,
    }
    assert {field.name for field in dataclasses.fields(Study)} >= {*LIMITS, "order"}


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("order", "random", ["'random'", "choose from rounds, blocks"]),
        ("order", "", ["''", "choose from rounds, blocks"]),
        ("precision", "0", ["'0'", "0.03 for 3%"]),
        ("precision", "1", ["'1'", "between 0 and 1"]),
        ("precision", "3%", ["'3%'", "0.03 for 3%"]),
        ("precision", "nan", ["'nan'"]),
        ("precision", "9" * 400, ["between 0 and 1"]),
        ("race", "perf_tests", ["'perf_tests'", "propose", "=true before a path"]),
        ("block_memory", "lots", ["'lots'", "such as 12GiB"]),
        ("block_memory", "0GiB", ["'0GiB'", "above 0"]),
        ("block_memory", "-1GiB", ["'-1GiB'"]),
        ("block_memory", "9" * 400, ["above 0"]),
        ("case_timeout", "1d", ["'1d'", "10m, 2.5h"]),
    ],
)
def test_a_faulty_value_is_refused_in_one_line(key: str, value: str, named: list[str]) -> None:
    with pytest.raises(StudyError) as refusal:
        read_limits({}, "", {key: value})
    message = str(refusal.value)
    assert message.startswith("--" + key.replace("_", "-")) and "\n" not in message
    assert all(part in message for part in named)


@pytest.mark.parametrize(
    ("key", "value"),
    [("order", True), ("precision", True), ("precision", []), ("race", 1), ("race", {}), ("block_memory", False)],
)
def test_another_kind_in_a_study_file_is_refused(key: str, value: Any) -> None:
    with pytest.raises(StudyError, match=f"a.toml: {key} "):
        read_limits({key: value}, "a.toml", {})


@pytest.mark.parametrize(("key", "value"), [("precision", "0.03"), ("race", "true"), ("block_memory", "1GiB")])
def test_what_only_rounds_can_do_is_refused_for_blocks_unless_it_is_the_files_and_the_option_wins(
    key: str, value: str
) -> None:
    for raw, options in (({}, {"order": "blocks", key: value}), ({"order": "blocks", key: value}, {})):
        with pytest.raises(StudyError, match="use order rounds, or leave it out"):
            read_limits(raw, "a.toml", options)
    limits = read_limits({key: value}, "a.toml", {"order": "blocks"})
    assert limits["order"] == "blocks" and not limits[key]
