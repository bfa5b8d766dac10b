"""The charts of a run by rounds: what the machine did, and how the speedups went, on runs whose course is planted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from planted_runs import HEADER, case, plain

from reports.page.charts.figure import Figure, Missing
from reports.page.charts.machine_chart import machine, rounds_of
from reports.page.charts.race_chart import courses, race
from reports.page.run_page import page, section
from reports.record.run import CaseResult, Round, Run, Sample

BASE = "p/t=none,bf16/plain,greedy,dynamic"
ROUNDS = 24


def turned(sample: Sample, number: int, place: int) -> Sample:
    return replace(sample, round=number, turn=place, started=60.0 * number + 5.0 * place)


def setting(k: int, seconds: float, rounds: int = ROUNDS, **changes: Any) -> CaseResult:
    """A lookup that takes so long, a little more or less by turns."""
    samples = [turned(plain(i, seconds * (1.02 if i % 2 else 0.98)), i, 1) for i in range(rounds)]
    point = {"strategy": "prompt_lookup", "assist_toks": k, "do_sample": False, "cache": "dynamic"}
    return case(f"p/t=none,bf16/prompt_lookup,k={k},greedy,dynamic", samples, point=point, block=0, **changes)


@pytest.fixture
def run() -> Run:
    """The machine is twice as slow in rounds 10 and 11, of which one is known to be disturbed; k=3 halves the time, k=5
    saves nothing and was dropped after round 7."""
    slow = {10: 2.0, 11: 2.0}
    first = [turned(plain(i, 1.0 * slow.get(i, 1.0)), i, 0) for i in range(ROUNDS)]
    again = [turned(plain(i, 1.2 * slow.get(i, 1.0)), i, 2) for i in range(ROUNDS)]
    fast = setting(3, 0.5)
    fast = replace(
        fast, samples=tuple(replace(one, seconds=one.seconds * slow.get(one.prompt, 1.0)) for one in fast.samples)
    )
    base = case(BASE, first, repeats=tuple(again), block=0)
    lost = setting(5, 1.0, rounds=8, status="dropped", dropped_round=7, reason="slower than k=3 by 2.0")
    rounds = tuple(
        Round(0, 0, 0, number, (BASE,), "other processes took 0.8 cores" if number == 10 else "")
        for number in range(ROUNDS)
    )
    header = {**HEADER, "order": "rounds"}
    return Run(Path("run.jsonl"), header, (base, fast, lost), complete=True, rounds=rounds)


def test_a_round_of_the_baseline_is_a_ratio_of_totals_over_all_its_generations(run: Run) -> None:
    found = rounds_of(run.cases[0], run)
    assert [one.number for one in found] == list(range(ROUNDS))
    assert found[0].per_token == pytest.approx((1.0 + 1.2) / 20)
    assert found[10].per_token == pytest.approx((2.0 + 2.4) / 20)
    assert [one.number for one in found if one.disturbed] == [10]
    assert found[3].started == 180.0


def test_the_machine_is_drawn_with_the_disturbed_rounds_told(run: Run) -> None:
    figure = machine(run)
    assert isinstance(figure, Figure)
    assert "plain: 110.0 to 220.0 ms per token over 24 rounds, 110.0 in the middle; 1 disturbed" in figure.finding
    assert "other processes took 0.8 cores (1)" in figure.finding
    assert [key.label for key in figure.legend] == ["a round", "a disturbed round"]
    assert len(figure.table.rows) == ROUNDS and figure.table.rows[10][-1] == "other processes took 0.8 cores"


def test_the_course_of_a_speedup_is_what_was_known_then_and_narrows(run: Run) -> None:
    fast, lost = courses(run)
    assert (fast.name, lost.name) == ("prompt lookup k=3", "prompt lookup k=5")
    assert fast.points[-1][0] == ROUNDS and 2.1 < fast.last.estimate < 2.3
    widths = [interval.high - interval.low for _, interval in fast.points]
    assert widths[-1] < widths[0]
    assert all(interval.estimate == pytest.approx(2.2, rel=0.05) for _, interval in fast.points), "pairs in rounds"


def test_a_dropped_case_ends_where_it_was_dropped(run: Run) -> None:
    fast, lost = courses(run)
    assert (fast.dropped, lost.dropped) == (None, 7)
    assert lost.points[-1][0] <= 8
    figure = race(run)
    assert isinstance(figure, Figure)
    assert "1 was dropped, the first after round 7" in figure.finding
    assert figure.finding.startswith("prompt lookup k=3: 2.")
    assert "dropped" in [key.label for key in figure.legend]
    assert ("7", "slower than k=3 by 2.0") in [row[-2:] for row in figure.table.rows]


def test_a_run_by_blocks_says_why_there_is_no_such_chart() -> None:
    blocks = Run(Path("run.jsonl"), HEADER, (case(BASE, [plain(0, 1.0)]),), complete=True)
    for chart in (machine(blocks), race(blocks)):
        assert isinstance(chart, Missing)
        assert "--order rounds" in chart.sentence


def test_the_page_shows_both(run: Run) -> None:
    text = page([run])
    assert 'id="run1-machine"' in text and 'id="run1-race"' in text
    assert "The machine over the run" in text


def test_the_machine_is_told_by_its_rounds(run: Run) -> None:
    def told(of: Run) -> tuple[str, str, str]:
        return next(
            (fact.value, fact.detail, fact.tone) for fact in section(of, "run1").facts if fact.name == "Machine"
        )

    assert told(run) == ("disturbed", "in 1 of 24 rounds, all cases of them alike", "warn")
    quiet = replace(run, rounds=tuple(replace(done, disturbed="") for done in run.rounds))
    assert told(quiet) == ("undisturbed", "in all 24 rounds; drift hits the cases of a round alike", "good")
