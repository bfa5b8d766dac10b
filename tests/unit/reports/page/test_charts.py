"""Charts: every figure that is drawn, against planted runs worked out by hand; no chart without data."""

import re

import pytest
from planted_runs import ENGINE, WORKLOAD, assisted, case, plain

from reports.numbers.cases import short_names
from reports.numbers.metrics import derive
from reports.page.charts import CHARTS, figures
from reports.page.charts.acceptance import accepted
from reports.page.charts.figure import Figure, Missing
from reports.page.charts.lengths import by_cache
from reports.page.charts.pareto import front, places
from reports.page.charts.solved import solving
from reports.page.charts.speedup_chart import settings
from reports.page.charts.telemetry import QUANTITIES, stretches, telemetry
from reports.page.charts.time_split import splits
from reports.record.reader import read_run
from reports.record.run import Completion, Sample
from reports.record.writer import RunWriter

BASE = "p/t=none,bf16/plain,greedy,dynamic"
PLAIN = {"strategy": "plain", "do_sample": False, "cache": "dynamic"}


def drafting(k, seconds, **changes):
    samples = [assisted(0, seconds), assisted(1, seconds)]
    return case(
        f"p/t=none,d=none,bf16/assisted,k={k},p=0,greedy,dynamic",
        samples,
        point={
            "strategy": "assisted",
            "assist_toks": k,
            "assist_schedule": "constant",
            "do_sample": False,
            "cache": "dynamic",
        },
        metrics=derive(samples, speculative=True),
        **changes,
    )


def base(seconds=1.0, **changes):
    return case(BASE, [plain(0, seconds), plain(1, seconds)], experiment="baseline", **changes)


COSTS = {
    "target_seconds": {"1": 0.1, "4": 0.2},
    "draft_token_seconds": 0.01,
    "draft_call_overhead_seconds": 0.0,
}


def test_speedups_group_the_k_of_a_setting_and_compare_with_the_same_engine(planted):
    run = planted(base(), drafting(3, 0.5, facts={"forward_costs": COSTS}), drafting(1, 0.8))

    (setting,) = settings(run)

    assert [one.k for one in setting.measured] == [1, 3]
    assert [one.interval.estimate for one in setting.measured] == pytest.approx([1.25, 2.0])
    assert setting.best.k == 3
    assert setting.curve is not None
    assert {point.k for point in setting.curve.points} == set(range(1, 13)), "the model tells of k not run as well"


def test_a_setting_without_forward_costs_has_points_and_no_curve(planted):
    (setting,) = settings(planted(base(), drafting(3, 0.5)))

    assert setting.curve is None
    assert len(setting.measured) == 1


def test_the_front_keeps_what_none_of_at_least_its_quality_beats(planted):
    def at(name, seconds, weights, quant="none", **facts):
        return case(
            name,
            [plain(0, seconds), plain(1, seconds)],
            point=PLAIN,
            engine={**ENGINE, "target_quant": quant},
            facts={"weight_bytes": {"target": weights}, **facts},
        )

    run = planted(
        at("small quantized", 1.0, 100, "4bit"),
        at("own", 2.0, 200),
        at("own but larger and slower", 2.5, 300),
        at("quantized, larger and slower", 2.5, 250, "8bit"),
        at("quantized, beaten by an unquantized one alone", 0.6, 450, "4bit"),
        at("fast but wrong", 0.1, 50, losslessness={"verdict": "wrong"}),
        at("large and fast", 0.5, 400),
    )

    assert [place.case.id for place in front(places(run))] == ["small quantized", "own", "large and fast"]


def test_memory_is_the_device_peak_or_the_weights_decoded_with(planted):
    weights = {"weight_bytes": {"target": 100, "draft": 30}}
    run = planted(
        base(facts={**weights, "cache_bytes": 5}),
        drafting(3, 0.5, facts=weights),
        drafting(1, 0.5, facts={**weights, "memory_allocated_bytes": 999}),
    )

    memory = {place.case.point.assist_toks: place.memory for place in places(run)}

    assert memory == {None: 105, 3: 130, 1: 999}


def test_time_is_split_per_token_and_the_limit_stands_beside_it(planted):
    run = planted(base(), drafting(3, 0.5, facts={"limit_tokens_per_second": 100.0, "limit_bound": "bandwidth"}))

    drafted, whole = splits(run)

    assert (drafted.draft, drafted.verify, drafted.other) == pytest.approx((12.5, 25.0, 12.5))
    assert drafted.limit == pytest.approx(10.0)
    assert (whole.total, whole.whole, whole.limit) == (pytest.approx(100.0), pytest.approx(100.0), None)


def test_acceptance_by_position_counts_joint_and_conditional(planted):
    """Two samples of the steps 3/3, 2/3, 1/3 and 0/0 accepted of proposed."""
    (found,) = accepted(planted(base(), drafting(3, 0.5)))

    assert [at.steps for at in found.positions] == [8, 8, 8]
    assert [at.judged for at in found.positions] == [6, 6, 4]
    assert [at.joint for at in found.positions] == [0.75, 0.5, 0.25]
    assert [at.conditional for at in found.positions] == pytest.approx([1.0, 4 / 6, 2 / 4])


def of_length(cache, tokens, seconds, quant="none"):
    samples = [Sample(prompt, seconds, tokens, tokens, "h", ttft_seconds=0.1) for prompt in (0, 1)]
    return case(
        f"p/t={quant},bf16/plain,greedy,{cache},n={tokens}",
        samples,
        engine={**ENGINE, "target_quant": quant},
        point={**PLAIN, "cache": cache},
        workload={**WORKLOAD, "gen_toks": tokens},
    )


def test_lengths_take_the_caches_measured_at_several_lengths(planted):
    run = planted(
        of_length("dynamic", 10, 1.0),
        of_length("dynamic", 20, 2.0),
        of_length("none", 20, 4.0),
        of_length("none", 10, 1.5),
        of_length("static", 10, 1.0),
        of_length("dynamic", 10, 9.0, quant="4bit"),
    )

    found = by_cache(run)

    assert list(found) == ["dynamic", "none"]
    assert [(one.tokens, one.seconds.estimate) for one in found["none"]] == [(10, 1.5), (20, 4.0)]


def readings(start, values):
    return {
        "cpu": {
            "seconds": 10.0,
            "values": {"process_utilization_mean_percent": 150.0},
            "unavailable": {"package_power_mean_watts": "no such counter"},
            "series": {"process_utilization_percent": {"seconds": [1.0, 2.0], "values": values}} if values else {},
        }
    }


def test_telemetry_lays_cases_end_to_end(planted):
    run = planted(base(telemetry=readings(0, [90, 110])), drafting(3, 0.5, telemetry=readings(0, [200, 210])))

    first, second = stretches(run, QUANTITIES[0])

    assert (first.start, first.readings, first.drafts) == (0.0, (90.0, 110.0), False)
    assert (second.start, second.readings, second.drafts) == (10.0, (200.0, 210.0), True)


def test_utilization_over_less_than_half_a_period_is_not_drawn(planted):
    """Two cores cannot be used by 334%: a counter's tick over a hundredth of a second says so."""
    series = {"seconds": [0.5, 1.0, 1.01, 1.5, 2.0], "values": [190.0, 198.0, 334.0, 200.0, 196.0]}
    telemetry_of_case = {"cpu": {"seconds": 10.0, "values": {}, "series": {"process_utilization_percent": series}}}

    (drawn,) = stretches(planted(base(telemetry=telemetry_of_case)), QUANTITIES[0])

    assert drawn.readings == (190.0, 198.0, 200.0, 196.0)
    assert drawn.seconds == (0.5, 1.0, 1.5, 2.0)


def test_telemetry_of_summaries_alone_shows_them_and_says_so(planted):
    found = telemetry(planted(base(telemetry=readings(0, None))))

    assert isinstance(found, Missing)
    assert "Only summaries are stored" in found.sentence
    assert "no such counter" in found.sentence
    assert found.table is not None
    assert "150" in found.table.rows[0]


def test_telemetry_names_the_reason_for_what_is_not_drawn(planted):
    found = telemetry(planted(base(telemetry=readings(0, [90, 110]))))

    assert isinstance(found, Figure)
    assert len(found.panels) == 1
    assert "No power: no such counter." in found.finding


def test_telemetry_of_a_gpu_has_power_too_and_is_taken_before_the_processor_s(planted):
    series = {
        name: {"seconds": [1.0, 2.0], "values": values}
        for name, values in (
            ("utilization_percent", [40, 60]),
            ("process_memory_bytes", [2**30, 2**31]),
            ("power_watts", [100, 300]),
        )
    }
    run = planted(base(telemetry={"nvml": {"seconds": 3.0, "series": series}, **readings(0, [90, 110])}))

    found = telemetry(run)

    assert isinstance(found, Figure)
    assert [panel.title for panel in found.panels] == ["utilization (%)", "memory (GiB)", "power (W)"]
    assert [panel.alt for panel in found.panels] == [
        "Utilization from 40 to 60 %, 50 on average.",
        "Memory from 1 to 2 GiB, 1.5 on average.",
        "Power from 100 to 300 W, 200 on average.",
    ]


@pytest.fixture
def solved_run(tmp_path):
    """Plain solves 2 of 4 problems; 4bit solves 3, among them both of plain's."""
    path = tmp_path / "humaneval.jsonl"
    writer = RunWriter(path)
    writer.run({"study": {"name": "planted"}})
    for quant, passes in (("none", (1, 1, 0, 0)), ("4bit", (1, 1, 1, 0))):
        name = f"p/t={quant},bf16/plain,greedy,dynamic/humaneval,base"
        for task, passed in enumerate(passes):
            one = Completion(name, f"HumanEval/{task}", 0, "x", 10, 1.0, "passed" if passed else "failed")
            writer.completion(one)
            writer.verdict(one)
        writer.case(
            case(
                name,
                [],
                kind="humaneval",
                engine={**ENGINE, "target_quant": quant},
                metrics={
                    "pass_at_1": sum(passes) / 4,
                    "solved": sum(passes),
                    "problems": 4,
                    "completions": 4,
                    "generation_thr": 10.0,
                    "seconds_per_problem": 1.0,
                    "tokens_per_completion": 10.0,
                },
            )
        )
    writer.close()
    return read_run(path)


def test_humaneval_shows_shares_and_the_paired_difference(solved_run):
    plain_case, quantized = solving(solved_run)

    assert (plain_case.solved, plain_case.paired) == (50.0, None)
    assert quantized.solved == 75.0
    assert quantized.paired is not None
    assert quantized.paired.difference.estimate == pytest.approx(0.25)
    drawn = [figure for figure in figures(solved_run) if isinstance(figure, Figure)]
    assert [len(figure.panels) for figure in drawn] == [2]


def test_a_chart_without_data_is_a_sentence_with_the_command_that_measures_it(planted):
    run = planted(case("p/t=none,bf16/plain,greedy,dynamic", [], status="failed", reason="no memory"))

    found = figures(run)

    assert all(isinstance(figure, Missing) for figure in found)
    assert all(re.search(r"`(pytest|make) [^`]+`", figure.sentence) for figure in found)
    assert len({figure.key for figure in found}) == len(CHARTS) == 9


def test_a_drawing_follows_the_page_in_size_and_colour_and_speaks(planted):
    run = planted(base(), drafting(3, 0.5))
    figure = next(one for one in figures(run) if one.key == "speedup")
    (panel,) = figure.panels

    assert panel.svg.startswith('<svg class="chart" viewBox="0 0 360 ')
    assert ' width="' not in panel.svg.split(">")[0]
    assert not re.search(r'"#[0-9a-f]', panel.svg), "a colour that no dark mode can change"
    assert "var(--series-1)" in panel.svg
    assert 'role="img"' in panel.svg
    assert panel.alt == "assisted p=0: at 3 tokens 2.00 [2.00, 2.00]. No cost model's curve."
    assert f'aria-label="{panel.alt.replace(chr(39), "&#39;")}"' in panel.svg
    assert "tokens drafted per step" in panel.svg


def test_short_names_say_what_differs_and_stay_apart(planted):
    ids = (
        "p/t=none,bf16/plain,greedy,dynamic",
        "p/t=4bit,d=none,bf16/assisted,k=3,p=0.4,greedy,dynamic",
        "p/t=none,fp32,compile/plain,greedy,static",
        "p/t=none,bf16/plain,greedy,none,n=6",
        "one",
        "p/t=none,bf16/prompt_lookup,k=3,greedy,dynamic",
        "q/t=none,bf16/prompt_lookup,k=3,greedy,dynamic",
    )

    names = short_names([case(each, []) for each in ids])

    assert list(names.values()) == [
        "plain, p",
        "assisted k=3 p=0.4, 4bit target, p",
        "plain, static cache, fp32, compiled, p",
        "plain 6 tokens, no cache, p",
        "one",
        "prompt lookup k=3, p",
        "prompt lookup k=3, q",
    ]
    alike = [case(f"p/t=none,bf16/plain,greedy,dynamic{end}", []) for end in ("", ",greedy")]
    assert list(short_names(alike).values()) == [each.id for each in alike], "two alike keep their whole ids"
