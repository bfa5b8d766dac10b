"""The one vocabulary: ids, defaults, what is whose baseline, and run files of older and newer versions."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from planted_runs import assisted, case, plain

from reports.gate.judging import gate
from reports.gate.thresholds import GateRules
from reports.numbers.speedups import speedup
from reports.record.matching import match
from reports.record.merging import write_merged
from reports.record.reader import read_run
from reports.record.run import Run, RunFileError
from reports.record.settings import (
    DecodingPoint,
    EngineKey,
    WorkloadDone,
    baseline_settings,
    case_id,
    current_id,
    decided_by,
)

Plant = Callable[..., Run]
SMOKE = Path(__file__).parents[4] / "reports" / "baselines" / "smoke" / "cpu-amd-epyc-2c-avx512.jsonl"
ASSISTED = DecodingPoint("assisted", assist_toks=3, confidence_threshold=0.4, assist_schedule="constant")


def rewritten(source: Path, path: Path, change: Callable[[dict[str, Any]], None]) -> Run:
    """A run file whose case lines were changed, read."""
    lines = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        if line["kind"] == "case":
            change(line)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return read_run(path)


def with_setting(part: str, name: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda line: line[part].update({name: value})


def without_setting(part: str, name: str) -> Callable[[dict[str, Any]], None]:
    return lambda line: line[part].pop(name, None)


@pytest.mark.parametrize(
    ("part", "name"),
    [("engine", "compile"), ("engine", "draft_quant"), ("point", "cache"), ("workload", "eos_stops")],
)
def test_a_setting_that_an_older_file_does_not_know_has_its_default(part: str, name: str, tmp_path: Path) -> None:
    older = rewritten(SMOKE, tmp_path / "older.jsonl", without_setting(part, name))
    found = match(older, read_run(SMOKE))
    assert (len(found.pairs), found.new, found.gone, found.renamed) == (5, (), (), ())


@pytest.mark.parametrize(("part", "value"), [("engine", "sdpa"), ("point", False), ("workload", 3)])
def test_a_setting_of_a_newer_version_keeps_cases_comparable_and_is_told_and_kept(
    part: str, value: object, tmp_path: Path
) -> None:
    newer = rewritten(SMOKE, tmp_path / "newer.jsonl", with_setting(part, "novelty", value))
    for pair in ((read_run(SMOKE), newer), (newer, read_run(SMOKE))):
        found = match(*pair)
        assert (len(found.pairs), found.new, found.gone, found.renamed) == (5, (), (), ())
    [warning] = newer.warnings
    assert f"settings of a newer version: {part}.novelty" in warning
    copy = rewritten(SMOKE, tmp_path / "copy.jsonl", lambda line: None)
    judged, usual = (gate([read_run(SMOKE)], [head], GateRules()) for head in (newer, copy))
    assert [(one.case, one.metric) for one in judged.judgements] == [(one.case, one.metric) for one in usual.judgements]
    write_merged([newer], tmp_path / "merged.jsonl")
    merged = read_run(tmp_path / "merged.jsonl")
    assert merged.cases == newer.cases
    assert merged.cases[0].unknown == {part: {"novelty": value}}


def test_cases_of_one_file_that_differ_in_an_unknown_setting_are_two(tmp_path: Path) -> None:
    def other(line: dict[str, Any]) -> None:
        line["engine"]["novelty"] = "new" if line["point"]["strategy"] == "plain" else "usual"

    run = rewritten(SMOKE, tmp_path / "newer.jsonl", other)
    drafting = next(case for case in run.cases if case.point.speculative)
    assert speedup(drafting, run) is None, "its baseline was measured with another value"
    assert speedup(drafting, read_run(SMOKE)) is None, "not a case of that run"


def test_an_unused_draft_is_no_part_of_a_case_and_of_its_id(planted: Plant) -> None:
    engine = {"pair": "p", "target_quant": "none", "draft_quant": "4bit", "dtype": "bf16"}
    path = planted(case("p/plain", [plain(0, 1.0)])).path
    names = {
        "p/t=none,d=4bit,bf16/plain,greedy,dynamic": "plain",
        "p/t=none,d=4bit,bf16/prompt_lookup,k=3,greedy,dynamic": "prompt_lookup",
        "p/t=none,d=4bit,bf16/assisted,k=3,greedy,dynamic": "assisted",
    }
    with path.open("a", encoding="utf-8") as file:
        for name, strategy in names.items():
            line = {"kind": "case", "id": name, "status": "ok", "engine": engine, "point": {"strategy": strategy}}
            file.write(json.dumps(line) + "\n")
    read = read_run(path).cases[1:]
    assert [(one.id, one.engine.draft_quant) for one in read] == [
        ("p/t=none,bf16/plain,greedy,dynamic", None),
        ("p/t=none,bf16/prompt_lookup,k=3,greedy,dynamic", None),
        ("p/t=none,d=4bit,bf16/assisted,k=3,greedy,dynamic", "4bit"),
    ]


def test_completions_of_an_older_file_belong_to_the_case_of_the_current_id(tmp_path: Path) -> None:
    name = "p/t=none,d=none,bf16/plain,greedy,dynamic/humaneval,base"
    lines = [
        {"kind": "run", "schema": 1},
        {
            "kind": "completion",
            "case": name,
            "task_id": "t",
            "sample": 0,
            "completion": "",
            "tokens": 3,
            "seconds": 1.0,
        },
        {"kind": "verdict", "case": name, "task_id": "t", "sample": 0, "status": "passed", "detail": ""},
        {"kind": "case", "case_kind": "humaneval", "id": name, "status": "ok"},
    ]
    path = tmp_path / "older.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    run = read_run(path)
    [completion], [solved] = run.completions, run.cases
    assert completion.case == solved.id == "p/t=none,bf16/plain,greedy,dynamic/humaneval,base"
    assert completion.passed


@pytest.mark.parametrize(
    ("written", "current"),
    [
        ("a-b/t=none,d=none,bf16/plain,greedy,dynamic", "a-b/t=none,bf16/plain,greedy,dynamic"),
        ("p/t=8bit,d=4bit,bf16,compile/plain,greedy,static,n=4", "p/t=8bit,bf16,compile/plain,greedy,static,n=4"),
        (
            "p/t=none,d=none,bf16/early_exit,k=3,layer=4,greedy,dynamic",
            "p/t=none,bf16/early_exit,k=3,layer=4,greedy,dynamic",
        ),
        ("p/t=none,d=none,bf16/assisted,k=3,greedy,dynamic", "p/t=none,d=none,bf16/assisted,k=3,greedy,dynamic"),
        ("p/t=none,bf16/plain,greedy,dynamic", "p/t=none,bf16/plain,greedy,dynamic"),
        ("anything/d=else", "anything/d=else"),
    ],
)
def test_ids_of_older_versions(written: str, current: str) -> None:
    assert current_id(written) == current
    assert current_id(current) == current


@dataclass(frozen=True)
class WiderEngine(EngineKey):
    """An engine with one more axis, as a later version may have it."""

    paged: bool = False


def test_a_further_axis_is_in_an_id_only_where_it_is_not_at_its_default() -> None:
    engine = WiderEngine("p")
    assert case_id(engine, DecodingPoint()) == "p/t=none,bf16/plain,greedy,dynamic"
    assert case_id(engine, ASSISTED) == "p/t=none,d=none,bf16/assisted,k=3,p=0.4,greedy,dynamic"
    eager = dataclasses.replace(engine, attention="eager", paged=True, compile=True)
    assert case_id(eager, DecodingPoint()) == "p/t=none,bf16,attention=eager,paged,compile/plain,greedy,dynamic"


def test_what_decides_a_case_leaves_out_what_does_not_apply() -> None:
    found = decided_by(EngineKey("p", draft_quant="4bit"), DecodingPoint(), WorkloadDone("embedded"))
    assert "draft_quant" not in found and "assist_toks" not in found and "prompts_sha256" not in found
    assert (found["pair"], found["strategy"], found["gen_toks"]) == ("p", "plain", 128)
    assert decided_by(EngineKey("p", draft_quant="4bit"), ASSISTED, WorkloadDone())["draft_quant"] == "4bit"


def test_a_baseline_keeps_the_dtype_and_the_sampling_and_nothing_else() -> None:
    point = dataclasses.replace(ASSISTED, do_sample=True, temperature=0.7, top_p=0.9, cache="quantized")
    engine = EngineKey("p", "4bit", "8bit", "fp16", compile=True)
    drawn = DecodingPoint(do_sample=True, temperature=0.7, top_p=0.9)
    assert baseline_settings(engine, point) == (EngineKey("p", draft_quant=None, dtype="fp16"), drawn)
    own = EngineKey("p", "4bit", None, "fp16", compile=True)
    static = dataclasses.replace(drawn, cache="static")
    assert baseline_settings(engine, point, same_engine=True) == (own, static)
    uncompiled = dataclasses.replace(engine, compile=False)
    assert baseline_settings(uncompiled, point, same_engine=True)[1] == drawn


def pair(name: str, target: str, draft: str) -> Mapping[str, str]:
    return {"name": name, "source": "hub", "target": target, "draft": draft}


def study(*pairs: Mapping[str, str]) -> dict[str, Any]:
    return {"name": "planted", "pairs": list(pairs)}


SHARED = study(
    pair("small", "owner/t", "owner/s"), pair("large", "owner/t", "owner/l"), pair("other", "owner/u", "owner/s")
)


def drafting(name: str, seconds: float) -> Any:
    point = {"strategy": "assisted", "do_sample": False}
    return case(f"{name}/assisted", [assisted(0, seconds), assisted(1, seconds)], engine={"pair": name}, point=point)


def test_a_baseline_is_found_by_the_target_under_whichever_pair_it_was_measured(planted: Plant) -> None:
    base = case("small/plain", [plain(0, 1.0), plain(1, 1.0)], engine={"pair": "small"})
    run = planted(base, drafting("large", 0.5), drafting("other", 0.5), study=SHARED)
    found = speedup(run.finished["large/assisted"], run)
    assert found is not None and (found.baseline, found.interval.estimate) == ("small/plain", pytest.approx(2.0))
    assert speedup(run.finished["other/assisted"], run) is None, "another target"


def test_a_merged_run_finds_baselines_by_the_pairs_of_all_its_parts(planted: Plant, tmp_path: Path) -> None:
    base = case("small/plain", [plain(0, 1.0), plain(1, 1.0)], engine={"pair": "small"})
    first = planted(base, name="first.jsonl", study=study(pair("small", "owner/t", "owner/s")))
    second = planted(drafting("large", 0.5), name="second.jsonl", study=study(pair("large", "owner/t", "owner/l")))
    write_merged([first, second], tmp_path / "both.jsonl")
    run = read_run(tmp_path / "both.jsonl")
    assert [each["name"] for each in run.header["study"]["pairs"]] == ["small", "large"]
    found = speedup(run.finished["large/assisted"], run)
    assert found is not None and found.interval.estimate == pytest.approx(2.0)


def test_what_is_worked_out_of_a_run_follows_its_cases(planted: Plant) -> None:
    def run(seconds: float) -> Run:
        base = case("p/plain", [plain(0, seconds), plain(1, seconds)])
        return planted(base, drafting("p", 0.5), name=f"{seconds}.jsonl")

    first, slower = run(1.0), run(2.0)
    at_first = speedup(first.cases[1], first)
    changed = dataclasses.replace(first, cases=slower.cases)
    afterwards = speedup(changed.cases[1], changed)
    assert at_first is not None and at_first.interval.estimate == pytest.approx(2.0)
    assert afterwards is not None and afterwards.interval.estimate == pytest.approx(4.0)
    assert changed.results == slower.results != first.results


@pytest.mark.parametrize(
    ("part", "name", "value", "told"),
    [
        ("engine", "compile", "yes", "engine.compile is 'yes', not true or false"),
        ("engine", "dtype", 16, "engine.dtype is 16, not a text"),
        ("point", "assist_toks", 2.5, "point.assist_toks is 2.5, not a whole number"),
        ("point", "temperature", "hot", "point.temperature is 'hot', not a finite number"),
        ("workload", "gen_toks", [10], "workload.gen_toks is [10], not a whole number"),
    ],
)
def test_a_setting_of_another_type_is_told(part: str, name: str, value: object, told: str, tmp_path: Path) -> None:
    with pytest.raises(RunFileError) as refusal:
        rewritten(SMOKE, tmp_path / "broken.jsonl", with_setting(part, name, value))
    assert told in str(refusal.value) and "broken.jsonl: line 2" in str(refusal.value)
