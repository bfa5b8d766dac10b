"""Exports read back by what reads them: the csv module, pyarrow, pytest-benchmark's own command, JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from planted_runs import assisted, case, plain
from scipy import stats

from reports.__main__ import main
from reports.numbers.metrics import METRICS, derive
from reports.record.run import CaseResult, Run, RunFileError
from reports.views import exports
from reports.views.pull_request import comment

SECONDS = [1.0, 1.4, 1.2]


def measured(name: str = "p/plain") -> CaseResult:
    samples = [plain(i, seconds) for i, seconds in enumerate(SECONDS)]
    return case(name, samples, metrics=derive(samples, speculative=False), facts={"load_seconds": 2.5})


@pytest.fixture
def run(planted: Callable[..., Run]) -> Run:
    """A measured case, its repeat, one with drafting, one that failed, and HumanEval."""
    drafted = [assisted(0, 0.5), assisted(1, 0.5)]
    solved = {"pass_at_1": 0.25, "solved": 41, "problems": 164, "generation_thr": 30.0}
    solved |= {"seconds_per_problem": 1.5, "tokens_per_completion": 80.0}
    return planted(
        measured(),
        case("p/assisted", drafted, point={"strategy": "assisted"}, metrics=derive(drafted, speculative=True)),
        case("p/failed", [], status="failed", reason='broken, "very"\nindeed'),
        case("p/humaneval", [], kind="humaneval", metrics=solved),
        case("p/plain", [plain(0, 1.1)], again=True),
    )


def entries(run: Run, direction: Any, *metrics: str) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in json.loads(exports.github_action_benchmark(run, direction, metrics))}


def test_each_list_of_github_action_benchmark_holds_metrics_of_its_direction_only(run: Run) -> None:
    smaller, bigger = entries(run, "smaller"), entries(run, "bigger")
    assert smaller["p/plain latency_tok"]["value"] == pytest.approx(0.12)
    assert bigger["p/assisted assisted_thr"] | {"range": ""} == {
        "name": "p/assisted assisted_thr", "unit": "tokens/s", "value": 20.0, "range": "",
        "extra": "95% interval 20 to 20, 2 prompts",
    }  # fmt: skip
    assert bigger["p/humaneval pass_at_1"]["unit"] == "share"
    better = {"smaller": "lower", "bigger": "higher"}
    for direction, found in (("smaller", smaller), ("bigger", bigger)):
        for name in found:
            metric = METRICS.get(name.split()[1])
            assert metric is None or metric.better == better[direction]
    assert not any("new_tokens" in name for name in (*smaller, *bigger))  # better in no direction


def test_the_interval_of_a_latency_is_over_prompts(run: Run) -> None:
    """Student's interval of the mean, in log scale, is near the bootstrap's for three prompts of equal length."""
    extra = entries(run, "smaller", "latency_tok")["p/plain latency_tok"]["extra"]
    low, high = (float(word) for word in extra.removeprefix("95% interval ").split(",")[0].split(" to "))
    error = statistics.stdev(SECONDS) / math.sqrt(3) / 1.2
    reach = math.exp(stats.t.ppf(0.975, 2) * error)
    assert (low, high) == (pytest.approx(0.12 / reach, rel=0.1), pytest.approx(0.12 * reach, rel=0.1))


def test_only_the_metrics_asked_for(run: Run) -> None:
    assert list(entries(run, "smaller", "latency_tok")) == ["p/plain latency_tok"]
    with pytest.raises(RunFileError, match=r"--metric 'speed': no case has it; choose from .*latency_tok"):
        exports.bencher(run, ["speed"])


def test_bencher_format_has_a_measure_with_bounds_per_case_and_metric(run: Run) -> None:
    found = json.loads(exports.bencher(run))
    assert set(found) == {"p/plain", "p/assisted", "p/humaneval"}
    measure = found["p/plain"]["latency-tok"]
    assert measure["value"] == pytest.approx(0.12)
    assert measure["lower_value"] < measure["value"] < measure["upper_value"]
    assert found["p/humaneval"]["pass-at-1"] == {"value": 0.25}
    for measures in found.values():
        for name, values in measures.items():
            assert len(name) <= 64
            assert set(values) in ({"value"}, {"value", "lower_value", "upper_value"})


def test_values_that_are_missing_or_not_finite_are_left_out(planted: Callable[..., Run]) -> None:
    run = planted(measured())
    run.cases[0].metrics["thr"] = math.inf  # type: ignore[index]
    run.cases[0].metrics["latency_tok"] = math.nan  # type: ignore[index]
    assert "thr" not in json.loads(exports.bencher(run))["p/plain"]
    assert not entries(run, "smaller", "latency_tok")
    (row,) = exports.case_rows(run)
    assert "thr" not in row and "latency_tok" not in row
    assert row["latency_tok_p50"] == pytest.approx(0.12)


def test_csv_has_one_row_per_case_and_repeat(run: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(exports.as_csv(exports.case_rows(run)))))
    assert [(row["case"], row["again"]) for row in rows] == [
        ("p/plain", "False"), ("p/assisted", "False"), ("p/failed", "False"), ("p/humaneval", "False"),
        ("p/plain", "True"),
    ]  # fmt: skip
    assert float(rows[0]["latency_tok"]) == pytest.approx(0.12)
    assert rows[0]["facts.load_seconds"] == "2.5"
    assert rows[0]["engine.dtype"] == "bf16"
    assert rows[2]["reason"] == 'broken, "very"\nindeed'
    assert rows[2]["latency_tok"] == ""  # not 0


def test_csv_of_samples_has_one_row_per_generation(run: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(exports.as_csv(exports.sample_rows(run)))))
    assert [float(row["seconds"]) for row in rows] == [*SECONDS, 0.5, 0.5, 1.1]
    assert [rows[3][f"accepted_at.{i}"] for i in range(3)] == ["3", "2", "1"]
    assert rows[0]["accepted_at.0"] == ""


def test_parquet_holds_the_same_rows(run: Run) -> None:
    import pyarrow.parquet as pq

    rows = exports.case_rows(run)
    read = pq.read_table(io.BytesIO(exports.as_parquet(rows))).to_pylist()
    assert [{key: value for key, value in row.items() if value is not None} for row in read] == rows


def test_parquet_turns_mixed_columns_into_text() -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(exports.as_parquet([{"a": 1, "b": 1}, {"a": 2.5}, {"b": "x"}])))
    assert table.to_pydict() == {"a": [1.0, 2.5, None], "b": ["1", None, "x"]}


def test_pytest_benchmark_compares_the_export(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(exports.pytest_benchmark(run))
    command = shutil.which("pytest-benchmark", path=str(Path(sys.executable).parent))
    assert command is not None
    columns = "--columns=min,mean,stddev,rounds"
    table = tmp_path / "table.csv"
    done = subprocess.run(
        [command, "compare", str(path), columns, f"--csv={table}"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in csv.DictReader(table.open())}
    row = next(value for name, value in rows.items() if name.endswith("p/plain"))
    assert float(row["min"]) == 1.0
    assert float(row["mean"]) == pytest.approx(1.2)
    assert float(row["stddev"]) == pytest.approx(statistics.stdev(SECONDS))
    assert row["rounds"] == "3"
    assert len(rows) == 3  # plain, plain again, assisted; neither the failed case nor HumanEval


def test_a_small_runs_comment_holds_every_case_once_or_folded(run: Run) -> None:
    text = comment(run)
    assert text.count("`p/plain`") == 1
    assert "p/failed" in text
    assert "<details><summary>Notes</summary>" in text
    assert "left out" not in text


@pytest.mark.parametrize("reason", ["short", "a | very <long> traceback\n" * 400])
def test_the_comment_stays_below_the_limit_whatever_the_run(planted: Callable[..., Run], reason: str) -> None:
    cases = [measured(f"p/{'x' * 300}ü{i}") for i in range(220)]
    failed = [case(f"p/f{i}", [], status="failed", reason=reason, notes=(reason,)) for i in range(120)]
    text = comment(planted(*cases, *failed))
    assert len(text.encode()) < 64_000
    assert "cases left out for length; `python -m reports show RUN` prints everything" in text
    assert text.count("<details>") == text.count("</details>") == text.count("<summary>")


def test_the_command_writes_every_format(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("bencher", "csv", "parquet", "pytest-benchmark", "markdown"):
        output = tmp_path / form
        assert main(["export", str(run.path), "--format", form, "-o", str(output)]) == 0
        assert output.stat().st_size > 100
    assert main(["export", str(run.path), "--format", "csv", "--samples", "-o", str(tmp_path / "s")]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--format", "github-action-benchmark"], "--direction smaller or bigger"),
        (["--format", "csv", "--direction", "smaller"], "no use for --direction"),
        (["--format", "csv", "--metric", "thr"], "no use for --metric"),
        (["--format", "bencher", "--samples"], "no use for --samples"),
        (["--format", "bencher", "-o", "/nowhere/at/all"], "cannot be written"),
    ],
)
def test_options_that_a_format_does_not_use_are_refused(
    run: Run, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run.path), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


@pytest.mark.parametrize("arguments", [["csv", "--samples"], ["pytest-benchmark"], ["markdown"]])
def test_published_figures_have_no_samples_to_export(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    published = "reports/published/seed_study_l4.csv"
    assert main(["export", published, "--format", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "needs raw samples" in line
    assert main(["export", published, "--format", "bencher", "--metric", "assisted_thr"]) == 0
    assert "assisted-thr" in capsys.readouterr().out
