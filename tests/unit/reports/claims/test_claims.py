"""Claims are told true, false and untold apart on planted runs, and the seed's own table gets the verdicts it earns."""

from __future__ import annotations

import cProfile
import dataclasses
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from planted_claims import FALSE, SCARCE, TRUE, World, cases_of, decode, sample, solved_cases, write_claims
from scipy import stats

from reports.claims.material import ClaimComparison, Evidence, material_of, verdict_of
from reports.claims.original import CLAIMS, Finding, evaluate
from reports.claims.own import BUILT_IN
from reports.record.published import read_any
from reports.record.run import CaseResult, Run

ROOT = Path(__file__).resolve().parents[4]
PUBLISHED = ROOT / "reports/published"
WORLDS = {"supported": TRUE, "contradicted": FALSE, "not enough evidence": SCARCE}


@cache
def planted(world: str) -> Run:
    with TemporaryDirectory() as folder:
        return write_claims(Path(folder) / "run.jsonl", cases_of(WORLDS[world]), solved_cases(WORLDS[world]))


@cache
def found(world: str) -> dict[str, Finding]:
    return by_name(planted(world))


def by_name(run: Run) -> dict[str, Finding]:
    return {finding.name: finding for finding in evaluate(run, CLAIMS)}


def run_of(tmp_path: Path, cases: list[CaseResult], world: World | None = None) -> Run:
    return write_claims(tmp_path / "run.jsonl", cases, solved_cases(world) if world else None)


def test_the_names_that_users_cannot_take_are_those_of_the_claims() -> None:
    assert tuple(claim.name for claim in CLAIMS) == BUILT_IN


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("claim", BUILT_IN)
def test_true_false_and_untold_are_told_apart(claim: str, world: str) -> None:
    finding = found(world)[claim]
    assert finding.verdict == world
    assert not finding.published
    if world != "not enough evidence":
        assert finding.deciding is not None and finding.deciding.interval is not None
        assert set(finding.deciding.cases) <= set(finding.cases) <= set(planted(world).finished)


def test_a_run_without_what_a_claim_is_about_says_what_is_missing(tmp_path: Path) -> None:
    plain = decode("small", "plain", [sample(i, 1.0) for i in range(4)])
    findings = by_name(run_of(tmp_path, [plain]))
    assert {finding.verdict for finding in findings.values()} == {"not enough evidence"}
    assert all(finding.missing and finding.deciding is None for finding in findings.values())


def test_the_setting_that_was_not_measured_is_named(tmp_path: Path) -> None:
    cases = [case for case in cases_of(TRUE) if not (case.id.endswith("k=3,p=0.2,greedy,dynamic"))]
    finding = by_name(run_of(tmp_path, cases))["best_setting"]
    assert finding.missing == ("small/t=none,d=none,bf16/assisted,k=3,p=0.2,greedy,dynamic",)


def test_every_combination_has_to_be_measured_for_support(tmp_path: Path) -> None:
    cases = [case for case in cases_of(TRUE) if "t=8bit,d=4bit" not in case.id]
    finding = by_name(run_of(tmp_path, cases))["quantization_slows"]
    assert finding.verdict == "not enough evidence" and finding.missing == ("t=8bit,d=4bit, assisted",)
    assert all(one.holds for one in finding.comparisons)


def test_a_contradiction_names_the_combination() -> None:
    finding = found("contradicted")["quantization_slows"]
    assert finding.deciding is not None
    assert finding.deciding.label.startswith("t=4bit,bf16/plain,greedy,dynamic (")
    assert finding.deciding.estimate == pytest.approx(1 / 0.8, rel=0.02)
    assert [one.label for one in finding.broken] == [finding.deciding.label]


def test_a_draft_that_accepts_more_and_is_faster_contradicts(tmp_path: Path) -> None:
    world = dataclasses.replace(TRUE, large=(0.040, 0.8))
    finding = by_name(run_of(tmp_path, cases_of(world)))["larger_draft"]
    accepted, speed = finding.comparisons
    assert finding.verdict == "contradicted" and finding.deciding == speed
    assert accepted.holds and accepted.label.startswith("accept rate, large against small")


def test_acceptance_is_compared_by_ratios_of_totals() -> None:
    run = planted("supported")
    point = "t=none,d=none,bf16/assisted,k=3,p=0.2,greedy,dynamic"
    large, small = (run.finished[f"{pair}/{point}"].samples for pair in ("large", "small"))
    rates = [sum(s.accepted for s in each) / sum(s.accepted + s.rejected for s in each) for each in (large, small)]
    accepted = found("supported")["larger_draft"].comparisons[0]
    assert accepted.estimate == pytest.approx(rates[0] / rates[1])
    assert accepted.estimate == pytest.approx(0.8 / 0.6, rel=0.05)


def test_draft_sizes_are_taken_from_the_weights_before_the_names(tmp_path: Path) -> None:
    cases = [
        dataclasses.replace(case, facts={"weight_bytes": {"draft": 900 if case.engine.pair == "small" else 300}})
        for case in cases_of(TRUE)
    ]
    finding = by_name(run_of(tmp_path, cases))["larger_draft"]
    assert finding.verdict == "contradicted", "the pair called small has the larger draft now"


def test_the_optimum_is_tested_against_both_ends() -> None:
    finding = found("supported")["inner_optimum"]
    [curve] = finding.comparisons
    assert curve.label.startswith("k=3 against k=8") and len(curve.cases) == 5
    assert curve.estimate == pytest.approx(0.066 / 0.050, rel=0.02)
    assert found("contradicted")["inner_optimum"].comparisons[0].label.startswith("k=5 against k=8")


def test_the_exponent_by_scipys_regressions() -> None:
    run = planted("supported")
    names = [f"small/t=none,bf16/plain,greedy,none,n={tokens}" for tokens in (16, 64, 256)]
    lengths = np.log([64 + tokens / 2 for tokens in (16, 64, 256)])
    slopes = []
    for prompt in range(TRUE.prompts):
        samples = [run.finished[name].samples[prompt] for name in names]
        rates = [(one.seconds - 0.3) / (one.new_tokens - 1) for one in samples]
        slopes.append(stats.linregress(lengths, np.log(rates)).slope)
    reach = stats.ttest_1samp(slopes, 0.5)
    by_label = {one.label: one for one in found("supported")["caching_linear"].comparisons}
    comparison = by_label["without a cache"]
    assert comparison.interval is not None
    assert comparison.estimate == pytest.approx(np.mean(slopes)) == pytest.approx(1.0, abs=0.05)
    assert (comparison.interval.low, comparison.interval.high) == pytest.approx(tuple(reach.confidence_interval(0.95)))
    assert comparison.evidence_for == pytest.approx(reach.pvalue)
    assert by_label["with a dynamic cache"].estimate == pytest.approx(0.0, abs=0.05)


def test_utilization_by_scipys_welch_test() -> None:
    run = planted("supported")
    names = [f"small/t={quant},bf16/plain,greedy,dynamic" for quant in ("8bit", "none")]
    means = [
        np.reshape(
            run.finished[name].telemetry["cpu"]["series"]["process_utilization_percent"]["values"], (10, 4)
        ).mean(1)
        for name in names
    ]
    expected = stats.ttest_ind(means[0] + 2.0, means[1], equal_var=False)
    interval = stats.ttest_ind(*means, equal_var=False).confidence_interval(0.95)
    comparison = found("supported")["utilization_falls"].comparisons[0]
    assert comparison.interval is not None and comparison.unit == "points"
    assert (comparison.interval.low, comparison.interval.high) == pytest.approx((interval.low, interval.high))
    assert comparison.evidence_for == pytest.approx(expected.pvalue)


def test_a_loss_of_score_by_scipys_binomial_test() -> None:
    finding = found("contradicted")["quantized_keeps_humaneval"]
    by_label = {one.label: one for one in finding.comparisons}
    assert by_label["t=4bit"].evidence_against == pytest.approx(stats.binomtest(0, 30).pvalue)
    assert by_label["t=4bit"].estimate == pytest.approx(-100 * 30 / 164)
    assert by_label["t=8bit"].holds


def test_a_score_that_falls_a_little_without_significance_is_not_enough(tmp_path: Path) -> None:
    world = dataclasses.replace(TRUE, solved=(100, 100, 96))
    finding = by_name(run_of(tmp_path, cases_of(TRUE), world))["quantized_keeps_humaneval"]
    deciding = finding.deciding
    assert finding.verdict == "not enough evidence" and deciding is not None and deciding.interval is not None
    assert deciding.interval.low < -5 < deciding.interval.high


@pytest.mark.parametrize("solved", [(5, 6, 7), (16, 16, 0)], ids=["nothing lost", "all lost"])
def test_a_target_that_solves_next_to_nothing_cannot_show_that_it_keeps_it(
    tmp_path: Path, solved: tuple[int, int, int]
) -> None:
    """5 of 164 are 3.0%, 16 are 9.8%: below twice the margin of 5 points."""
    finding = by_name(run_of(tmp_path, [], dataclasses.replace(TRUE, solved=solved)))["quantized_keeps_humaneval"]
    share = {5: "3.0%", 16: "9.8%"}[solved[0]]
    assert finding.verdict == "not enough evidence"
    assert finding.missing == (f"the unquantized target solves only {share}: a loss of 5 points cannot show",)
    assert [one.estimate for one in finding.comparisons] == pytest.approx(
        [100 * (each - solved[0]) / 164 for each in solved[1:]]
    )
    assert not any(one.holds for one in finding.comparisons) and not finding.broken


@pytest.mark.parametrize(("base", "verdict"), [(20, "supported"), (19, "not enough evidence")])
def test_twice_the_margin_is_enough_to_lose(tmp_path: Path, base: int, verdict: str) -> None:
    world = dataclasses.replace(TRUE, problems=200, solved=(base, base, base))
    finding = by_name(run_of(tmp_path, [], world))["quantized_keeps_humaneval"]
    assert (finding.verdict, bool(finding.missing)) == (verdict, base < 20)


def test_a_pair_whose_target_solves_enough_still_contradicts_beside_one_that_does_not(tmp_path: Path) -> None:
    weak, strong = (solved_cases(dataclasses.replace(TRUE, solved=each)) for each in ((5, 5, 5), (100, 100, 70)))
    other = [
        (
            dataclasses.replace(case, id=f"large{case.id}", engine=dataclasses.replace(case.engine, pair="large")),
            [dataclasses.replace(one, case=f"large{one.case}") for one in completions],
        )
        for case, completions in strong
    ]
    finding = by_name(write_claims(tmp_path / "run.jsonl", [], [*weak, *other]))["quantized_keeps_humaneval"]
    assert finding.verdict == "contradicted" and len(finding.missing) == 1
    assert [one.estimate for one in finding.broken] == pytest.approx([-100 * 30 / 164])


def test_published_scores_next_to_nothing_do_not_count_either(tmp_path: Path) -> None:
    text = (PUBLISHED / "seed_study_l4.csv").read_text(encoding="utf-8")
    for score, weaker in (("0.336", "0.090"), ("0.323", "0.090"), ("0.292", "0.010")):
        assert text.count(score) == 1
        text = text.replace(score, weaker)
    path = tmp_path / "weak.csv"
    path.write_text(text, encoding="utf-8")
    finding = by_name(read_any(path))["quantized_keeps_humaneval"]
    assert finding.verdict == "not enough evidence"
    assert [one.estimate for one in finding.comparisons] == pytest.approx([0, -8])
    assert finding.missing == ("the unquantized target solves only 9.0%: a loss of 5 points cannot show",)


def test_speeds_count_only_beyond_the_change_of_a_baseline(tmp_path: Path) -> None:
    cases = cases_of(TRUE)
    slower = [dataclasses.replace(one, seconds=1.3 * one.seconds) for one in cases[0].samples]
    again = dataclasses.replace(cases[0], samples=tuple(slower), again=True)
    run = run_of(tmp_path, [*cases, again])
    assert material_of(run).noise == pytest.approx(np.log(1.3))
    finding = by_name(run)["greedy_beats_sampling"]
    assert finding.comparisons[0].estimate == pytest.approx(1.16, abs=0.02)
    assert finding.verdict == "not enough evidence"
    assert found("supported")["greedy_beats_sampling"].verdict == "supported"


def test_a_baseline_counts_with_the_mean_of_its_measurements(tmp_path: Path) -> None:
    cases = cases_of(TRUE)
    slower = [dataclasses.replace(one, seconds=1.1 * one.seconds) for one in cases[0].samples]
    again = dataclasses.replace(cases[0], samples=tuple(slower), again=True)
    once, twice = (
        by_name(write_claims(tmp_path / f"{len(each)}.jsonl", each))["quantization_slows"].comparisons[0]
        for each in (cases, [*cases, again])
    )
    assert twice.estimate == pytest.approx(1.05 * once.estimate)


def test_wrong_cases_are_not_used(tmp_path: Path) -> None:
    wrong = {"losslessness": {"verdict": "wrong"}}
    cases = [
        dataclasses.replace(case, facts=wrong)
        if case.id.endswith("plain,greedy,dynamic") and "t=4bit" in case.id
        else case
        for case in cases_of(FALSE)
    ]
    finding = by_name(run_of(tmp_path, cases))["quantization_slows"]
    assert finding.verdict == "not enough evidence" and finding.missing == ("t=4bit, plain",)


def comparison(against: float, holds: float = 1.0) -> ClaimComparison:
    return ClaimComparison("one", ("a", "b"), 0.9, None, "ratio", holds, against, -0.1)


def test_contradictions_are_adjusted_for_the_number_of_comparisons() -> None:
    """Holm by hand: the smallest of four p-values counts four times."""
    assert verdict_of(Evidence((comparison(0.02), *[comparison(1.0)] * 3)))[0] == "not enough evidence"
    assert verdict_of(Evidence((comparison(0.012), *[comparison(1.0)] * 3)))[0] == "contradicted"
    assert verdict_of(Evidence((comparison(0.02),)))[0] == "contradicted"


def test_support_needs_every_comparison_and_nothing_missing() -> None:
    holding = comparison(1.0, 0.04)
    assert verdict_of(Evidence((holding, holding)))[0] == "supported"
    assert verdict_of(Evidence((holding, comparison(1.0, 0.06))))[0] == "not enough evidence"
    assert verdict_of(Evidence((holding,), ("something",)))[0] == "not enough evidence"
    assert verdict_of(Evidence()) == ("not enough evidence", None)


def test_claims_are_seldom_decided_where_nothing_differs(tmp_path: Path) -> None:
    """Five settings greedy and sampled alike: the chance of any contradiction is at most 5% (Holm), of support nil."""
    random = np.random.default_rng(5)
    claim = [one for one in CLAIMS if one.name == "greedy_beats_sampling"]
    verdicts = []
    for _ in range(600):
        cases = []
        for k in range(1, 6):
            for sampled in (False, True):
                seconds = random.lognormal(0, 0.05, 10)
                settings = {"strategy": "assisted", "assist_toks": k, "do_sample": sampled}
                samples = [sample(i, time, accepted=50) for i, time in enumerate(seconds)]
                cases.append(decode("small", f"assisted,k={k},{sampled}", samples, **settings))
        run = Run(tmp_path, {"study": {}}, tuple(cases), True)
        verdicts.append(evaluate(run, claim)[0].verdict)
    assert verdicts.count("contradicted") <= 30
    assert verdicts.count("supported") == 0


def test_the_seeds_own_table_golden() -> None:
    findings = by_name(read_any(PUBLISHED / "seed_study_l4.csv"))
    assert {name: finding.verdict for name, finding in findings.items()} == {
        "best_setting": "supported",
        "inner_optimum": "contradicted",
        "greedy_beats_sampling": "supported",
        "larger_draft": "supported",
        "quantization_slows": "contradicted",
        "utilization_falls": "supported",
        "caching_linear": "not enough evidence",
        "quantized_keeps_humaneval": "not enough evidence",
    }
    assert all(finding.published for finding in findings.values())
    assert all(one.interval is None for finding in findings.values() for one in finding.comparisons)
    slowed = findings["quantization_slows"]
    assert slowed.deciding is not None and len(slowed.broken) == 1
    assert slowed.deciding.label == "t=4bit,bf16/plain,greedy,dynamic (21.0 against 15.5 tokens/s)"
    assert slowed.deciding.estimate == pytest.approx((1 / 0.047538) / (1 / 0.064519), rel=0.001)
    assert findings["quantized_keeps_humaneval"].deciding is not None
    assert findings["quantized_keeps_humaneval"].deciding.estimate == pytest.approx(-4.4)
    assert len(findings["best_setting"].comparisons) == 15


@pytest.mark.parametrize("name", ["embedded.jsonl", "compile.jsonl"])
def test_the_published_runs_get_a_verdict_for_every_claim(name: str) -> None:
    run = read_any(PUBLISHED / name)
    findings = by_name(run)
    assert tuple(findings) == BUILT_IN
    for finding in findings.values():
        assert finding.missing or finding.comparisons
        assert set(finding.cases) <= set(run.finished)
        assert not finding.published


def test_the_work_on_the_claims_grows_with_the_cases_and_not_with_their_square() -> None:
    assert _calls(2_000) < 3 * _calls(1_000)


def _calls(count: int) -> int:
    """How many function calls holding so many cases against the claims takes."""
    cases = []
    for number in range(count):
        settings = {"strategy": "assisted", "assist_toks": number, "target_quant": ("none", "4bit")[number % 2]}
        cases.append(
            decode("small", f"assisted,k={number}", [sample(i, 1.0 + i, accepted=50) for i in range(3)], **settings)
        )
    claims = [claim for claim in CLAIMS if claim.name not in ("best_setting", "inner_optimum")]
    profile = cProfile.Profile()
    profile.runcall(evaluate, Run(ROOT, {"study": {}}, tuple(cases), True), claims)
    return sum(entry.callcount for entry in profile.getstats())
