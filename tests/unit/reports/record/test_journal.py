"""Samples as columns, fetched case by case: the same figures as reading everything, and a large comparison's cost."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from planted_runs import HEADER, assisted, case, plain, write_large

from reports.compare.changes import chosen_metrics, compare_runs
from reports.numbers.metrics import METRICS, derive
from reports.record.columns import open_journal
from reports.record.reader import read_outline, read_run
from reports.record.run import Run, RunFileError
from reports.record.writer import RunWriter, case_line

Plant = Callable[..., Run]
ROOT = Path(__file__).parents[4]
EMBEDDED = ROOT / "reports" / "published" / "embedded.jsonl"


def test_an_outline_is_the_run_without_its_samples() -> None:
    whole, outline = read_run(EMBEDDED), read_outline(EMBEDDED)
    stripped = tuple(dataclasses.replace(each, samples=()) for each in whole.cases)
    assert outline.run == dataclasses.replace(whole, cases=stripped)
    assert len(outline.offsets) == len(whole.cases)


def test_columns_hold_what_the_samples_hold() -> None:
    whole = read_run(EMBEDDED)
    with open_journal(EMBEDDED) as journal:
        for each, bare in zip(whole.cases, journal.run.cases, strict=True):
            samples = journal.samples(bare)
            assert samples.prompts.tolist() == [sample.prompt for sample in each.samples]
            assert samples.hashes() == [sample.output_sha256 for sample in each.samples]
            assert [tuple(samples.tokens(i)) for i in range(len(samples))] == [s.output_tokens for s in each.samples]
            for name in ("seconds", "new_tokens", "first_tokens", "rollbacks", "draft_seconds"):
                assert samples.column(name).tolist() == [getattr(sample, name) for sample in each.samples]


@pytest.mark.parametrize("speculative", [False, True])
def test_every_metric_of_samples_comes_out_as_when_it_was_derived(planted: Plant, speculative: bool) -> None:
    random = np.random.default_rng(4)
    make = assisted if speculative else plain
    samples = [make(i, float(seconds)) for i, seconds in enumerate(random.lognormal(0, 0.3, 30))]
    point = {"strategy": "assisted" if speculative else "plain"}
    run = planted(case("p/a", samples, point=point))
    names = [name for name, metric in METRICS.items() if metric.formula is not None]
    with open_journal(run.path) as one, open_journal(run.path) as other:
        (found,) = compare_runs(one, other, chosen_metrics(names)).cases
    expected = derive(samples, speculative=speculative)
    assert {change.metric.name for change in found.changes} == set(expected)
    for change in found.changes:
        assert change.base == pytest.approx(expected[change.metric.name], rel=1e-12)
        assert change.head == change.base


def test_missing_times_are_not_numbers_and_a_prompt_given_twice_counts_once(planted: Plant) -> None:
    twice = [plain(1, 3.0), dataclasses.replace(plain(0, 1.0), ttft_seconds=None), plain(1, 2.0)]
    with open_journal(planted(case("p/a", twice)).path) as journal:
        samples = journal.samples(journal.run.cases[0])
    assert samples.prompts.tolist() == [0, 1]
    assert samples.column("seconds").tolist() == [1.0, 2.0]
    ttft = samples.column("ttft_seconds")
    assert math.isnan(ttft[0]) and ttft[1] == 0.2


def test_a_file_that_another_program_laid_out_is_read_too(tmp_path: Path) -> None:
    line = case_line(case("p/a", [assisted(0, 1.0)], facts={"list": [{"a": 1}], "more": [{"b": 2}]}))
    lines = [{"kind": "run", "schema": 1, **HEADER}, dict(sorted(line.items(), reverse=True)), {**line, "samples": []}]
    path = tmp_path / "foreign.jsonl"
    compact = json.dumps(line, separators=(",", ":"))
    path.write_text("\n".join([*map(json.dumps, lines), compact]), encoding="utf-8")
    outline, whole = read_outline(path), read_run(path)
    assert [each.facts for each in outline.run.cases] == [each.facts for each in whole.cases]
    with open_journal(path) as journal:
        assert [len(journal.samples(each)) for each in journal.run.cases] == [1, 0, 1]


@pytest.mark.parametrize(
    "broken",
    [
        '{"prompt":0,"new_tokens":10,"target_forwards":10,"output_sha256":"h"}',
        '{"prompt":0,"seconds":"fast","new_tokens":10,"target_forwards":10,"output_sha256":"h"}',
        '{"prompt":0,"seconds":NaN,"new_tokens":10,"target_forwards":10,"output_sha256":"h"}',
        '{"prompt":0,"seconds":1.0,"new_tokens":10,"target_forwards":10}',
        '{"prompt":0,"seconds":1.0,"new_tokens":10,,,}',
        "[0, 1]",
    ],
)
def test_samples_that_are_none_are_told_in_one_line(planted: Plant, broken: str) -> None:
    path = planted(case("p/a", [plain(0, 1.0)], point={"strategy": "plain"}), name="broken.jsonl").path
    text = path.read_text(encoding="utf-8")
    start, end = text.index('"samples":[') + len('"samples":['), text.index("}]") + 1
    path.write_text(text[:start] + broken + text[end:], encoding="utf-8")
    with pytest.raises(RunFileError) as refusal, open_journal(path) as one, open_journal(path) as other:
        compare_runs(one, other, chosen_metrics(None))
    assert "broken.jsonl" in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_reference_has_no_samples() -> None:
    with open_journal(ROOT / "reports" / "published" / "seed_study_l4.csv") as journal:
        assert journal.run.cases and all(len(journal.samples(each)) == 0 for each in journal.run.cases)


COST = """
import sys
from pathlib import Path
from reports.__main__ import main
code = main(["compare", *sys.argv[1:], "--format", "csv"])
peak = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")][0].split()[1]
print(code, int(peak) / 1024, file=sys.stderr)
"""


def cost_of_comparing(folder: Path, cases: int, samples: int) -> tuple[int, float]:
    """Lines printed and peak MiB of comparing two generated runs, measured in their own process."""
    files = [folder / f"{name}-{cases}.jsonl" for name in ("base", "head")]
    for seed, file in enumerate(files):
        write_large(file, cases, samples, seed)
    done = subprocess.run([sys.executable, "-c", COST, *files], capture_output=True, text=True, cwd=ROOT, check=True)
    code, peak = done.stderr.split()
    assert code == "0"
    return len(done.stdout.splitlines()), float(peak)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_ten_thousand_cases_of_500_samples_would_take_under_2_gb(tmp_path: Path) -> None:
    """A twentieth of them, with a twentieth of the bar, over what starting and comparing two cases takes."""
    _, peak_at_rest = cost_of_comparing(tmp_path, 2, 500)
    lines, peak = cost_of_comparing(tmp_path, 500, 500)
    assert lines == 1 + 250 * 3 + 250 * 6  # plain: latency, throughput, tokens; assisted: and three of its acceptance
    assert peak - peak_at_rest < 2000 / 20


def test_a_last_line_without_its_break_counts_and_a_torn_one_is_told(planted: Plant, tmp_path: Path) -> None:
    text = planted(case("p/a", [plain(0, 1.0)]), case("p/b", [plain(0, 1.0)]), ended=False).path.read_text()
    whole, torn = tmp_path / "whole.jsonl", tmp_path / "torn.jsonl"
    whole.write_text(text.rstrip("\n"))
    torn.write_text(text[:-30])
    assert [each.id for each in read_outline(whole).run.cases] == ["p/a", "p/b"]
    found = read_outline(torn).run
    assert [each.id for each in found.cases] == ["p/a"] and "cut off" in found.warnings[0]


def test_an_outline_survives_a_writer_that_appends(planted: Plant) -> None:
    run = planted(case("p/a", [plain(0, 1.0)]), ended=False)
    with open_journal(run.path) as journal:
        writer = RunWriter(run.path)
        writer.case(case("p/b", [plain(0, 2.0)]))
        writer.close()
        assert journal.samples(journal.run.cases[0]).column("seconds").tolist() == [1.0]
