"""Comparison: the right baseline, a ratio worked out by hand, drift, and who may win."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from planted_runs import ENGINE, HEADER, WORKLOAD, assisted, case, plain

from reports.numbers.answers import is_same_model, keeps_answers
from reports.numbers.speedups import baseline_measurements, drifts, speedup
from reports.record.run import Run
from reports.views.tables import notes

ASSISTED = {"strategy": "assisted", "do_sample": False, "cache": "dynamic"}


def test_a_speedup_is_the_ratio_of_totals_on_the_prompts_that_both_have(planted: Callable[..., Run]) -> None:
    base = case("base", [plain(0, 1.0), plain(1, 3.0), plain(2, 50.0)])
    fast = case("fast", [assisted(0, 0.5), assisted(1, 1.0)], point=ASSISTED)
    run = planted(base, fast)
    found = speedup(run.finished["fast"], run)
    assert found is not None
    assert found.baseline == "base"
    assert found.interval.estimate == pytest.approx(4.0 / 1.5)
    assert found.interval.low < 4.0 / 1.5 < found.interval.high


def test_equal_ratios_on_every_prompt_leave_no_uncertainty(planted: Callable[..., Run]) -> None:
    base = case("base", [plain(i, 1.0 + i) for i in range(6)])
    fast = case("fast", [assisted(i, (1.0 + i) / 2) for i in range(6)], point=ASSISTED)
    run = planted(base, fast)
    interval = speedup(run.finished["fast"], run).interval
    assert (interval.low, interval.estimate, interval.high) == pytest.approx((2.0, 2.0, 2.0))


def test_a_case_is_compared_with_the_measurements_before_and_after_it(planted: Callable[..., Run]) -> None:
    seconds = (1.0, 2.0, 4.0, 8.0)
    base = [case("base", [plain(0, s), plain(1, s)], again=number > 0) for number, s in enumerate(seconds)]
    fast = [case(f"fast{n}", [assisted(0, 1.0), assisted(1, 1.0)], point=ASSISTED) for n in range(4)]
    broken = case("base", [], again=True, status="failed")
    run = planted(base[0], fast[0], base[1], fast[1], broken, fast[2], base[2], base[3], fast[3])
    found = [speedup(run.finished[each.id], run).interval.estimate for each in fast]
    assert found == pytest.approx([1.5, 3.0, 3.0, 3.75]), "the last one: of all, as none comes after it"
    assert [round(each.ratio, 6) for each in drifts(run)] == [2.0], "2, 2, 2 from one measurement to the next"


def test_a_repetition_of_fewer_prompts_tells_how_much_the_machine_changed(planted: Callable[..., Run]) -> None:
    """The first measurement has four prompts, the repetitions two; the machine takes 2, then 4 times as long."""
    first = case("base", [plain(0, 1.0), plain(1, 3.0), plain(2, 5.0), plain(3, 7.0)])
    again = [case("base", [plain(0, s), plain(1, 3 * s)], again=True) for s in (2.0, 4.0)]
    fast = [
        case(f"fast{n}", [assisted(prompt, 1.0) for prompt in range(4)], point=ASSISTED, engine=engine)
        for n, engine in enumerate((ENGINE, ENGINE, {**ENGINE, "target_quant": "4bit"}))
    ]
    run = planted(first, fast[0], again[0], fast[1], again[1], fast[2])
    found = [speedup(run.finished[each.id], run).interval.estimate for each in fast]
    assert found == pytest.approx([4 * 1.5, 4 * 3.0, 4 * 7 / 3]), "16 s of plain decoding, over what the machine takes"
    assert [round(each.ratio, 6) for each in drifts(run)] == [2.0], "on the prompts that both have, not on all"
    assert len(baseline_measurements(fast[1], run)[0].samples) == 4
    assert [len(each.samples) for each in baseline_measurements(first, run)] == [4, 2, 2], "its own stay as they were"


def test_pairs_of_one_target_share_their_baseline(planted: Callable[..., Run]) -> None:
    pairs = [{"name": name, "source": "hub", "target": target} for name, target in (("p", "T"), ("q", "T"), ("r", "U"))]
    drafting = [
        case(f"{pair}/fast", [assisted(0, 0.5), assisted(1, 0.5)], point=ASSISTED, engine={**ENGINE, "pair": pair})
        for pair in "pqr"
    ]
    run = planted(case("p/base", [plain(0, 1.0), plain(1, 1.0)]), *drafting, study={**HEADER["study"], "pairs": pairs})
    found = {each.id: speedup(run.finished[each.id], run) for each in drafting}
    assert {name: each.baseline for name, each in found.items() if each} == {"p/fast": "p/base", "q/fast": "p/base"}


def test_a_baseline_measured_twice_counts_with_the_mean_of_both(planted: Callable[..., Run]) -> None:
    base = case("base", [plain(0, 1.0), plain(1, 1.0)])
    again = case("base", [plain(0, 3.0), plain(1, 3.0)], again=True)
    fast = case("fast", [assisted(0, 1.0), assisted(1, 1.0)], point=ASSISTED)
    run = planted(base, fast, again)
    assert speedup(run.finished["fast"], run).interval.estimate == pytest.approx(2.0)
    assert speedup(run.finished["base"], run) is None, "a baseline is not compared with itself"


@pytest.mark.parametrize(
    ("changes", "compared"),
    [
        ({"engine": {**ENGINE, "target_quant": "4bit"}}, True),
        ({"engine": {**ENGINE, "draft_quant": "4bit"}}, True),
        ({"engine": {**ENGINE, "compile": True}}, True),
        ({"engine": {**ENGINE, "dtype": "fp16"}}, False),
        ({"engine": {**ENGINE, "pair": "q"}}, False),
        ({"workload": {**WORKLOAD, "gen_toks": 20}}, False),
        ({"workload": {**WORKLOAD, "prompts_sha256": "other"}}, False),
        ({"point": {**ASSISTED, "do_sample": True, "temperature": 1.0, "top_p": 1.0}}, False),
        ({"point": {**ASSISTED, "cache": "static"}}, True),
        ({"status": "failed"}, False),
    ],
)
def test_a_baseline_is_the_same_target_on_the_same_prompts(
    planted: Callable[..., Run], changes: dict[str, Any], compared: bool
) -> None:
    base = case("base", [plain(0, 1.0), plain(1, 1.0)])
    run = planted(base, case("fast", [assisted(0, 0.5), assisted(1, 0.5)], **{"point": ASSISTED, **changes}))
    assert (speedup(run.finished["fast"], run) is not None) == compared


def test_the_same_engines_baseline_has_its_quantization(planted: Callable[..., Run]) -> None:
    quantized = {"engine": {**ENGINE, "target_quant": "4bit"}}
    run = planted(
        case("base", [plain(0, 1.0), plain(1, 1.0)]),
        case("base4", [plain(0, 2.0), plain(1, 2.0)], **quantized),
        case("fast4", [assisted(0, 1.0), assisted(1, 1.0)], point=ASSISTED, **quantized),
    )
    fast = run.finished["fast4"]
    assert speedup(fast, run).interval.estimate == pytest.approx(1.0)
    own = speedup(fast, run, same_engine=True)
    assert (own.baseline, own.interval.estimate) == ("base4", pytest.approx(2.0))


@pytest.mark.parametrize(("seconds", "unstable"), [(1.04, False), (1.06, True), (0.96, False), (0.94, True)])
def test_drift_beyond_the_limit_makes_a_run_unstable(
    planted: Callable[..., Run], seconds: float, unstable: bool
) -> None:
    run = planted(
        case("base", [plain(0, 1.0), plain(1, 1.0)]), case("base", [plain(0, seconds), plain(1, seconds)], again=True)
    )
    [found] = drifts(run)
    assert found.ratio == pytest.approx(seconds)
    assert found.unstable == unstable
    [note] = notes(run)
    assert note.startswith("UNSTABLE: base" if unstable else "drift: base")
    assert f"{100 * (seconds - 1):+.1f}% per token" in note


def test_a_repetition_whose_first_measurement_failed_has_no_drift(planted: Callable[..., Run]) -> None:
    assert drifts(planted(case("base", [], status="failed"), case("base", [plain(0, 1.0)], again=True))) == []


def test_only_cases_of_the_same_model_may_win(planted: Callable[..., Run]) -> None:
    run = planted(
        case("base", [plain(0, 1.0)]),
        case("lookup", [assisted(0, 0.5)], point=ASSISTED),
        case("draft4", [assisted(0, 0.4)], point=ASSISTED, engine={**ENGINE, "draft_quant": "4bit"}),
        case("target4", [plain(0, 0.1)], engine={**ENGINE, "target_quant": "4bit"}),
        case("cache4", [plain(0, 0.1)], point={"strategy": "plain", "cache": "quantized"}),
        case("short", [plain(0, 0.2)], workload={**WORKLOAD, "gen_toks": 5}),
        case("broken", [], status="failed"),
        case("wrong", [assisted(0, 0.1)], point=ASSISTED, facts={"losslessness": {"verdict": "wrong"}}),
        case(
            "unexplained",
            [assisted(0, 0.1)],
            point=ASSISTED,
            facts={"losslessness": {"verdict": "not comparable", "diverged": 3}},
        ),
    )
    measured = [each for each in run.cases if each.samples]
    assert [each.id for each in measured if is_same_model(each)] == ["base", "lookup", "draft4", "short"]
    assert [each.id for each in run.cases if not keeps_answers(each)] == ["target4", "cache4"]
