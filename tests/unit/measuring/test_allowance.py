"""What a case may take: limits come from the workload, and what was measured before a limit or a stop is kept."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures.engines.transformers.models.engine import Engine
from fixtures.measuring import case as measuring
from fixtures.measuring.allowance import FLOOR_SECONDS, allowance
from fixtures.measuring.case import CaseFailed
from fixtures.measuring.examination import Examiner
from fixtures.measuring.turns import TurnTaker
from fixtures.study.pairs import find_pair
from fixtures.study.study import Case, DecodingPoint, EngineKey, Study, Sweep, Workload
from fixtures.study.study_file import load_study
from fixtures.suite.session import BenchSession
from reports.gate.faults import unmeasured
from reports.numbers.speedups import speedup
from reports.record.reader import read_run
from reports.record.run import INTERRUPTED, CaseResult, Sample
from reports.record.writer import RunWriter

WORKLOAD = Workload("synthetic", num_samples=5, max_prompt=6, gen_toks=6)
L4_PLAIN = Sample(prompt=0, seconds=128 / 15.499, new_tokens=128, target_forwards=128, output_sha256="")

pytestmark = pytest.mark.usefixtures("one_thread")
Load = Callable[..., Engine]


@pytest.fixture(autouse=True)
def _no_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the device could do at best takes seconds to measure, and nothing here asks for it."""
    monkeypatch.setattr(Examiner, "measure_limits", lambda self, dtypes: {})


class Rounds:
    """Runs set-up and function by turns, as pytest-benchmark does; before round `at` something happens."""

    def __init__(self, at: int = -1, happens: Callable[[], None] = lambda: None) -> None:
        self.at, self.happens, self.prompts = at, happens, list[int]()

    def __call__(self, function: Callable[..., None], setup: Callable[[], Any], rounds: int) -> None:
        for number in range(rounds):
            if number == self.at:
                self.happens()
            _, inputs = setup()
            self.prompts.append(inputs["prompt"])
            function(**inputs)


class Clock:
    """Stands in for the module `time` where a case looks at its time limit: it moves when it is told to."""

    perf_counter = staticmethod(time.perf_counter)

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def too_long(self) -> None:
        self.now += 1.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(measuring, "time", made)
    return made


def study(**settings: Any) -> Study:
    pair = find_pair("synthetic-tiny")
    return Study("unit", "", (pair,), (Sweep("baseline", {"dtype": ("fp32",)}),), WORKLOAD, warmup=0, **settings)


def session(path: Path, *, resume: bool = False, **settings: Any) -> BenchSession:
    made = BenchSession(study(**settings), path, resume=resume, argv=[])
    made.begin(made.cases)
    return made


def measure(bench: BenchSession, load: Load, rounds: Rounds, number: int = 0) -> CaseResult:
    case = bench.cases[number]
    engine = load()
    engine.key = case.engine
    return bench.measure(case, engine, rounds)


def test_the_original_study_does_not_run_into_a_limit_on_its_own_card() -> None:
    plain = 500 * 128 / 15.499  # seconds, by the seed's own figure for plain bf16 decoding on an L4
    for case in load_study("llama3", {"num_samples": "500"}).cases():
        assert allowance(case, None, ()).seconds > 2 * plain
        assert allowance(case, None, (L4_PLAIN,)).seconds > 9 * plain
        assert allowance(case, 60.0, (L4_PLAIN,)).seconds == 60.0


def test_a_limit_has_a_floor_and_says_where_it_comes_from() -> None:
    case = Case(EngineKey("synthetic-tiny"), DecodingPoint(), WORKLOAD, "baseline", WORKLOAD.gen_toks)
    assert allowance(case, None, ()).seconds == FLOOR_SECONDS
    long = dataclasses.replace(case, workload=dataclasses.replace(WORKLOAD, num_samples=500, gen_toks=128))
    assert "500 x 128 tokens at 1 s a token, assumed" in allowance(long, None, ()).why
    assert "65 ms a token" in allowance(long, None, (L4_PLAIN,)).why
    assert allowance(long, 60.0, ()).why == "case_timeout"
    assert allowance(long, None, (L4_PLAIN,), 5).seconds == FLOOR_SECONDS, "of the prompts that are decoded"


def test_over_its_limit_a_case_with_enough_samples_ends_well_and_says_so(
    tmp_path: Path, tiny_engine: Load, clock: Clock
) -> None:
    bench = session(tmp_path / "run.jsonl", case_timeout=0.3)
    result = measure(bench, tiny_engine, Rounds(3, clock.too_long))
    assert result.status == "ok"
    assert [sample.prompt for sample in result.samples] == [0, 1, 2]
    assert result.notes == ("3 of 5 prompts: over its time limit of 0.3 s (case_timeout)",)
    bench.abandon()
    run = read_run(bench.path)
    (written,) = run.cases
    assert written.workload.num_samples == 5, "as planned, so that it is still the same case"
    assert unmeasured(written, run) is None, "the gate compares the prompts that both have"
    assert unmeasured(dataclasses.replace(written, facts={}), run) == ("unmeasured", "3 of 5 prompts")


def test_what_a_case_measured_before_it_was_stopped_is_not_measured_again(
    tmp_path: Path, tiny_engine: Load, clock: Clock
) -> None:
    first = session(tmp_path / "run.jsonl", case_timeout=0.3)
    with pytest.raises(CaseFailed, match=r"timeout: over its time limit .* after 2 samples; raise it by --case"):
        measure(first, tiny_engine, Rounds(2, clock.too_long))
    first.abandon()
    (stopped,) = read_run(first.path).cases
    assert (stopped.status, len(stopped.samples)) == ("timeout", 2)

    second = session(first.path, resume=True, case_timeout=60.0)  # another limit is not another study
    rounds = Rounds()
    result = measure(second, tiny_engine, rounds)
    assert rounds.prompts == [2, 3, 4]
    assert result.samples[:2] == stopped.samples
    assert [sample.prompt for sample in result.samples] == [0, 1, 2, 3, 4]
    assert result.notes == ("2 prompts measured before the run was resumed",)
    assert result.facts["prompts_kept"] == 2
    assert second.split()["timed"] == pytest.approx(sum(sample.seconds for sample in result.samples[2:]))
    second.abandon()
    assert session(first.path, resume=True).is_done(second.cases[0])


@pytest.mark.parametrize(
    ("status", "reason", "prompts", "again"),
    [
        ("failed", f"{INTERRUPTED} (KeyboardInterrupt)", "same", []),
        ("failed", "RuntimeError: no", "same", [0, 1, 2, 3, 4]),
        ("timeout", "over its time limit", "others", [0, 1, 2, 3, 4]),
    ],
)
def test_only_what_still_stands_is_taken_over(
    tmp_path: Path, tiny_engine: Load, status: Any, reason: str, prompts: str, again: list[int]
) -> None:
    first = session(tmp_path / "run.jsonl")
    result = measure(first, tiny_engine, Rounds())
    first.abandon()
    sha256 = result.workload.prompts_sha256 if prompts == "same" else "others"
    workload = dataclasses.replace(result.workload, prompts_sha256=sha256)
    writer = RunWriter(first.path)
    writer.case(dataclasses.replace(result, status=status, reason=reason, workload=workload))
    writer.close()
    lines = first.path.read_text().splitlines()
    first.path.write_text("\n".join([lines[0], lines[-1]]) + "\n")

    second = session(first.path, resume=True)
    rounds = Rounds()
    assert len(measure(second, tiny_engine, rounds).samples) == 5
    assert rounds.prompts == again
    second.abandon()


class Alone(TurnTaker):
    """Nobody else has turns."""

    def __init__(self) -> None:
        super().__init__("nobody")

    def wait(self) -> float:
        return 0.0


@pytest.mark.parametrize(("turns", "prompts"), [(None, 3), (Alone(), 5)], ids=["alone", "by turns"])
def test_a_time_budget_leaves_prompts_out_and_says_so(
    tmp_path: Path, tiny_engine: Load, turns: TurnTaker | None, prompts: int, capfd: pytest.CaptureFixture[str]
) -> None:
    drafting = Sweep(
        "speculative_decoding", {"dtype": ("fp32",), "strategy": ("prompt_lookup",), "assist_toks": (2, 3)}
    )
    budgeted = dataclasses.replace(study(time_budget=0.01), sweeps=(*study().sweeps, drafting))
    bench = BenchSession(budgeted, tmp_path / "run.jsonl", resume=False, argv=[], turns=turns)
    bench.begin(bench.cases)
    results = [measure(bench, tiny_engine, Rounds(), number) for number in range(3)]
    bench.end()
    assert [len(result.samples) for result in results] == [prompts] * 3
    run = read_run(bench.path)
    assert all(case.workload.num_samples == 5 for case in run.cases), "as planned: the same cases as elsewhere"
    if turns is not None:
        assert all(not case.notes for case in run.cases), "those who take turns decode the same prompts"
        return
    assert run.cases[0].notes == ("3 of 5 prompts: the rest of the time budget is for other cases",)
    for case in run.cases[1:]:
        assert case.notes == ("3 of 5 prompts: time budget of 0.01 s",)
        assert unmeasured(case, run) is None
        assert speedup(case, run) is not None, "over the three that both have"
    assert capfd.readouterr().out.count("leaves 3 of 5 prompts a case") == 1, "told once"
