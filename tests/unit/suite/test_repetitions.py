"""A baseline that is measured again decodes a few prompts, enough to see how much the machine has changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures.engines.transformers.models.engine import Engine
from fixtures.measuring.examination import Examiner
from fixtures.study.pairs import find_pair
from fixtures.study.study import Study, Sweep, Workload
from fixtures.suite import session as sessions
from fixtures.suite.session import REPEAT_PROMPTS, BenchSession, as_repeated
from reports.gate.evidence import CONFIRMING
from reports.gate.faults import unmeasured
from reports.record.reader import read_run

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_repetition_decodes_the_first_prompts_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_engine: Callable[..., Engine]
) -> None:
    assert REPEAT_PROMPTS == 20
    monkeypatch.setattr(sessions, "REPEAT_PROMPTS", 2)
    monkeypatch.setattr(Examiner, "measure_limits", lambda self, dtypes: {})
    pair, sweep = find_pair("synthetic-tiny"), Sweep("baseline", {"dtype": ("fp32",)})
    study = Study("unit", "", (pair,), (sweep,), Workload("synthetic", num_samples=5, max_prompt=6, gen_toks=6))
    bench = BenchSession(study, tmp_path / "run.jsonl", resume=False, argv=[])
    (case,) = bench.cases
    bench.begin([case, as_repeated(case)])
    assert bench._progress is not None and (bench._progress.total, bench._progress.samples) == (2, 7)

    def rounds(function: Callable[..., None], setup: Callable[[], Any], count: int) -> None:
        for _ in range(count):
            function(**setup()[1])

    engine = tiny_engine()
    for settings in ({}, {"again": True}, {"again": True, "note": CONFIRMING}):
        bench.measure(case, engine, rounds, **settings)
    assert bench._progress.samples == 7, "nothing that was planned was left out"
    bench.end()
    run = read_run(bench.path)
    assert [[sample.prompt for sample in each.samples] for each in run.cases] == [
        [0, 1, 2, 3, 4],
        [0, 1],
        [0, 1, 2, 3, 4],
    ]
    assert {each.workload.num_samples for each in run.cases} == {5}, "all are of one workload"
    assert [unmeasured(each, run) for each in run.cases] == [None] * 3
