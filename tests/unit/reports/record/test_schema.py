"""The JSON Schema of the run file: what `reports schema` prints holds for every committed file and kind of line."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from planted_runs import HEADER, assisted, case, plain

from reports.__main__ import main
from reports.record.lines import LINES
from reports.record.run import Completion, Round, Sample
from reports.record.writer import RunWriter

ROOT = Path(__file__).parents[4]
COMMITTED = sorted(path for path in (ROOT / "reports").rglob("*.jsonl") if "runs" not in path.parts)


@pytest.fixture(scope="module")
def printed() -> dict[str, Any]:
    from contextlib import redirect_stdout
    from io import StringIO

    with redirect_stdout(StringIO()) as output:
        assert main(["schema"]) == 0
    schema: dict[str, Any] = json.loads(output.getvalue())
    Draft202012Validator.check_schema(schema)
    return schema


def by_kind(schema: dict[str, Any]) -> Callable[[dict[str, Any]], list[str]]:
    """What is wrong with a line, by the part of the schema for its kind: quicker, and its errors say where."""
    kinds = schema["discriminator"]["mapping"]
    assert kinds.keys() == LINES.keys()
    validators = {
        kind: Draft202012Validator({"$ref": place, "$defs": schema["$defs"]}) for kind, place in kinds.items()
    }
    return lambda line: [f"{error.json_path}: {error.message}" for error in validators[line["kind"]].iter_errors(line)]


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: str(path.relative_to(ROOT / "reports")))
def test_every_committed_run_file_keeps_the_schema(path: Path, printed: dict[str, Any]) -> None:
    wrong = by_kind(printed)
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        assert wrong(json.loads(text)) == [], f"line {number}"


def every_kind(path: Path) -> list[dict[str, Any]]:
    """A line of each kind, as it is written, with every field of a sample."""
    full = dataclasses.replace(assisted(0, 1.0), round=0, turn=1, visit=1, started=2.5)
    written = case("p/a", [full], facts={"load_seconds": 1.0})
    writer = RunWriter(path)
    writer.run({**HEADER, "order": "rounds", "order_seed": 1, "blocks": [["p"]]})
    writer.session({"environment": HEADER["environment"], "started_at": "2026-01-01T00:00:00+00:00"})
    done = Round(1, 0, 0, 0, ("p/a", "p/b"), "foreign load", {"cpu_busy": 0.5})
    writer.round(done, {"p/a": [full, full], "p/b": [plain(0, 1.0)]}, [written])
    writer.case(dataclasses.replace(written, warm_ups=(full,), repeats=(full,), block=0, dropped_round=3))
    completion = Completion("p/a", "HumanEval/0", 0, "pass", 1, 0.5, "passed", "", rows=2)
    writer.completion(completion)
    writer.verdict(completion)
    writer.end({"ended_at": "2026-01-01T00:00:00+00:00", "seconds": {"total": 1.0}})
    writer.close()
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_of_every_kind_keeps_it_as_written_and_a_wrong_one_does_not(
    printed: dict[str, Any], tmp_path: Path
) -> None:
    lines = every_kind(tmp_path / "run.jsonl")
    wrong, whole = by_kind(printed), Draft202012Validator(printed)
    assert {line["kind"] for line in lines} == LINES.keys()
    for line in lines:
        assert wrong(line) == [] and whole.is_valid(line)
    lines[3]["samples"][0]["seconds"] = "fast"
    assert wrong(lines[3]) == ["$.samples[0].seconds: 'fast' is not of type 'number'"] and not whole.is_valid(lines[3])


def test_the_schema_knows_every_field_that_is_written(printed: dict[str, Any], tmp_path: Path) -> None:
    places = printed["$defs"]
    assert places["Sample"]["properties"].keys() == {item.name for item in dataclasses.fields(Sample)}
    for line in every_kind(tmp_path / "run.jsonl"):
        name = printed["discriminator"]["mapping"][line["kind"]].rpartition("/")[2]
        assert line.keys() <= places[name]["properties"].keys(), line["kind"]
