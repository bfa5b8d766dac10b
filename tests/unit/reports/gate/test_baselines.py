"""Promotion writes only what may be gated against; the rolling base is a median that slow creep does not move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planted_runs import ENGINE, case, plain
from simulated_runs import QUIET, simulated

from reports.__main__ import main
from reports.gate.baselines import baseline_path, find_baselines, history, promote
from reports.gate.calibration import Noise
from reports.gate.judging import gate
from reports.gate.thresholds import GateRules
from reports.numbers.reading import read_measured
from reports.record.reader import read_run
from reports.record.run import Run, RunFileError

RULES = GateRules()
FP32 = {**ENGINE, "dtype": "fp32"}
Plant = Callable[..., Run]


def measured(seconds: float = 1.0, **changes: object) -> tuple[object, ...]:
    return (case("p/plain", [plain(0, seconds), plain(1, seconds)], engine=FP32, **changes),)


def changed_output() -> tuple[object, ...]:
    sample = replace(plain(0, 1.0), output_sha256="another")
    return (case("p/plain", [sample, plain(1, 1.0)], engine=FP32),)


def test_the_first_complete_run_becomes_the_baseline_of_its_study_and_hardware(planted: Plant, tmp_path: Path):
    run = planted(*measured())
    done = promote(run, RULES, folder=tmp_path / "baselines")
    assert done.path == tmp_path / "baselines" / "planted" / "cpu-a-processor-2c.jsonl"
    written = read_run(done.path)
    assert written.cases == run.cases and written.complete
    assert written.header["promoted"] == {"from": "run.jsonl"}
    assert find_baselines(str(tmp_path / "baselines"), run)[0].cases == read_measured(run.path).cases


@pytest.mark.parametrize(
    ("cases", "ended", "said"),
    [
        (measured(), False, "no end line"),
        (measured(status="failed", reason="x"), True, "a baseline that failed gates nothing"),
        (measured(status="dropped", reason="x"), True, "dropped gates nothing; measure again without --race"),
        ((case("p/plain", [], engine=FP32),), True, "zero samples"),
        ((case("p/plain", [], engine=FP32, status="skipped"),), True, "no case was measured"),
    ],
)
def test_what_would_gate_nothing_is_refused(
    planted: Plant, tmp_path: Path, cases: tuple[object, ...], ended: bool, said: str
):
    with pytest.raises(RunFileError, match=said):
        promote(planted(*cases, ended=ended), RULES, folder=tmp_path / "baselines")
    assert not (tmp_path / "baselines").exists()


def test_a_run_that_got_worse_is_promoted_only_with_a_reason_which_is_kept(
    planted: Plant, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = str(tmp_path / "baselines")
    planted(*measured(), name="one.jsonl")
    planted(*changed_output(), name="two.jsonl")
    one, two = str(tmp_path / "one.jsonl"), str(tmp_path / "two.jsonl")
    assert main(["promote", one, "--baseline", folder]) == 0
    assert main(["gate", folder, two]) == 1
    assert main(["promote", two, "--baseline", folder]) == 1
    assert "--accept REASON" in capsys.readouterr().out
    path = baseline_path(read_run(two), Path(folder))
    assert read_run(path).cases == read_run(one).cases, "the old one still stands"
    assert main(["promote", two, "--baseline", folder, "--accept", "another model"]) == 0
    assert read_run(path).header["promoted"]["accepted"] == "another model"
    assert main(["gate", folder, two]) == 0


TWO = (*measured(), case("p/other", [plain(0, 1.0), plain(1, 1.0)], engine={**FP32, "pair": "q"}))


@pytest.mark.parametrize(
    ("cases", "said"),
    [
        ((case("p/plain", [], engine=FP32),), "zero samples"),
        ((case("p/plain", [], engine=FP32, status="skipped"),), "no case was measured"),
        (measured(status="failed", reason="x"), "a baseline that failed gates nothing"),
    ],
)
def test_no_reason_makes_a_baseline_of_what_was_not_measured(
    planted: Plant, tmp_path: Path, cases: tuple[object, ...], said: str
):
    folder = tmp_path / "baselines"
    promote(planted(*measured(), name="one.jsonl"), RULES, folder=folder)
    with pytest.raises(RunFileError, match=said):
        promote(planted(*cases, name="two.jsonl"), RULES, folder=folder, accept="because")


def test_a_reason_takes_changes_and_missing_cases_need_their_names(planted: Plant, tmp_path: Path):
    folder = tmp_path / "baselines"
    promote(planted(*TWO, name="one.jsonl"), RULES, folder=folder)
    fewer = planted(*changed_output(), name="two.jsonl")
    refused = promote(fewer, RULES, folder=folder, accept="another model")
    assert "p/other (missing)" in refused.refused and "--allow-missing" in refused.refused
    assert read_run(refused.path).header["promoted"]["from"] == "one.jsonl"
    allowing = GateRules(allow_missing=("p/other",))
    assert "--accept REASON" in promote(fewer, allowing, folder=folder).refused
    assert not promote(fewer, allowing, folder=folder, accept="another model").refused
    assert read_run(refused.path).header["promoted"]["accepted"] == "another model"


def test_the_first_baseline_of_a_machine_agrees_with_those_of_others(planted: Plant, tmp_path: Path):
    folder, elsewhere = tmp_path / "baselines", {"hardware": {"gpu": "Another GPU"}, "versions": {"torch": "2.13.0"}}
    promote(planted(*TWO, name="one.jsonl"), RULES, folder=folder)
    changed = planted(*changed_output(), name="two.jsonl", environment=elsewhere)
    refused = promote(changed, RULES, folder=folder)
    assert "regressed against cpu-a-processor-2c.jsonl: p/plain" in refused.refused
    assert not refused.path.exists()
    fewer = planted(*measured(2.0), name="three.jsonl", environment=elsewhere)
    assert promote(fewer, RULES, folder=folder).path.is_file(), "other cases and times, the same output"
    other_gpu = {**elsewhere, "hardware": {"gpu": "A third GPU"}}
    changed = planted(*changed_output(), name="four.jsonl", environment=other_gpu)
    assert promote(changed, RULES, folder=folder, accept="another model").path.is_file()


def test_another_workload_needs_a_reason_too(planted: Plant, tmp_path: Path):
    folder = tmp_path / "baselines"
    promote(planted(*measured(), name="one.jsonl"), RULES, folder=folder)
    other = planted(*measured(workload={"prompts": "embedded", "num_samples": 2, "gen_toks": 20}), name="two.jsonl")
    with pytest.raises(RunFileError, match=r"gen_toks.*--accept REASON"):
        promote(other, RULES, folder=folder)
    assert promote(other, RULES, folder=folder, accept="longer outputs").path.is_file()


def test_only_the_last_few_are_kept(planted: Plant, tmp_path: Path):
    folder = tmp_path / "baselines"
    for number in range(5):
        promote(planted(*measured(), name=f"{number}.jsonl"), RULES, folder=folder, keep=3)
        (folder / "planted" / "cpu-a-processor-2c" / "note.jsonl").write_text("not a number: not of the history")
    kept = history(folder / "planted" / "cpu-a-processor-2c.jsonl")
    assert [read_run(path).header["promoted"]["from"] for path in kept] == ["2.jsonl", "3.jsonl", "4.jsonl"]
    rolling = find_baselines(str(folder), read_run(tmp_path / "0.jsonl"), 2)
    assert [run.header["promoted"]["from"] for run in rolling] == ["3.jsonl", "4.jsonl"]


def test_a_rolling_base_holds_only_the_versions_that_head_has(planted: Plant, tmp_path: Path):
    folder = tmp_path / "baselines"
    hardware = {"cpu": "A processor", "cpu_cores": 2}
    for number, torch in enumerate(("2.13.0", "2.14.0", "2.14.0")):
        environment = {"hardware": hardware, "versions": {"torch": torch}}
        run = planted(*measured(), name=f"{number}.jsonl", environment=environment)
        promote(run, RULES, folder=folder)
    rolling = find_baselines(str(folder), run, 3)
    assert [each.header["promoted"]["from"] for each in rolling] == ["1.jsonl", "2.jsonl"]


def test_a_rolling_base_is_its_newest_run_alone_where_head_has_other_versions(planted: Plant, tmp_path: Path):
    hardware = {"cpu": "A processor", "cpu_cores": 2}
    runs = []
    for number, torch in enumerate(("2.13.0", "2.14.0")):
        environment = {"hardware": hardware, "versions": {"torch": torch}}
        runs.append(planted(*measured(), name=f"{number}.jsonl", environment=environment))
        promote(runs[-1], RULES, folder=tmp_path / "baselines")
    rolling = find_baselines(str(tmp_path / "baselines"), runs[0], 2)
    assert [each.header["promoted"]["from"] for each in rolling] == ["1.jsonl"]


def test_counts_and_cases_of_a_rolling_base_are_those_of_its_newest_run(planted: Plant):
    newer = case("p/new", [plain(0, 1.0), plain(1, 1.0)], engine={**FP32, "pair": "q"})
    old, accepted = planted(*measured(), name="old.jsonl"), planted(*changed_output(), newer, name="new.jsonl")
    head = planted(*changed_output(), newer, name="head.jsonl")
    found = gate([old, accepted], [head], RULES)
    assert not found.regressions and not found.faults, "the change was accepted, and the case came since"
    assert found.base == "old.jsonl, new.jsonl"
    back = planted(*measured(), name="back.jsonl")
    undone = gate([old, accepted], [back], RULES)
    assert [one.metric for one in undone.regressions] == ["output_sha256"]
    assert [(fault.case, fault.kind) for fault in undone.failures] == [("p/new", "missing")]


def test_a_rolling_base_leaves_out_what_decoded_something_else(planted: Plant):
    longer = {"prompts": "embedded", "num_samples": 2, "gen_toks": 20}
    old = planted(*measured(), name="old.jsonl")
    new, head = (planted(*measured(workload=longer), name=f"{name}.jsonl") for name in ("new", "head"))
    found = gate([old, new], [head], RULES)
    assert not found.faults
    assert "old.jsonl has another workload than new.jsonl: left out of the median" in found.notes
    with pytest.raises(RunFileError, match="gen_toks"):
        gate([new, old], [head], RULES)


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden"])
def test_a_study_cannot_name_a_folder_outside(planted: Plant, name: str):
    run = planted(*measured())
    with pytest.raises(RunFileError, match="names no folder"):
        baseline_path(replace(run, header={**run.header, "study": {"name": name}}))


def test_the_median_of_earlier_runs_is_not_moved_by_one_that_was_slow():
    random = np.random.default_rng(23)
    noise = Noise(
        "cpu-a-processor-2c", "python=unknown,torch=2.13.0", "planted", 12, dict.fromkeys(RULES.thresholds, 0.01)
    )
    head = simulated(QUIET.seconds(3, 30, random), "head")
    slow = simulated(1.3 * QUIET.seconds(3, 30, random), "slow")
    earlier = [simulated(QUIET.seconds(3, 30, random), f"earlier{number}") for number in range(4)]
    assert gate([slow], [head], RULES, noise).of("improved"), "against the slow run alone everything got faster"
    rolling = gate([slow, *earlier], [head], RULES, noise)
    assert rolling.verdict == "pass"
    slower = simulated(1.05 * QUIET.seconds(3, 30, random), "slower")
    assert gate([slow, *earlier], [slower], RULES, noise).verdict == "regressed"
