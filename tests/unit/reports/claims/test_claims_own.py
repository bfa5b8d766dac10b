"""Users' own claims: what they select, how they are judged, and where they come from."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from planted_claims import PAIRS, TRUE, cases_of, decode, sample, write_claims

from reports.claims.material import MEASURES
from reports.claims.original import Finding, evaluate
from reports.claims.own import OwnClaim, claims_of, parse_claims, read_claims
from reports.numbers.metrics import METRICS
from reports.record.columns import SampleColumns
from reports.record.run import CaseResult, Run, RunFileError

PLAIN = {"strategy": "plain"}
LOOKUP = {"strategy": "prompt_lookup"}


def own(**changes: Any) -> OwnClaim:
    table = {
        "name": "own",
        "says": "Lookup is faster",
        "metric": "latency_tok",
        "of": LOOKUP,
        "against": PLAIN,
        "expect": "lower",
    }
    return parse_claims([table | changes], "a test")[0]


def judged(tmp_path: Path, cases: list[CaseResult], **changes: Any) -> Finding:
    return evaluate(write_claims(tmp_path / "run.jsonl", cases), [own(**changes)])[0]


def timed(per_token: float, count: int = 8) -> list[sample]:
    """Ten tokens each, all prompts off by up to 0.7%."""
    return [sample(i, 10 * per_token * (1 + 0.001 * (i * 5 % 8)), 10) for i in range(count)]


def plain_and_lookup(per_token: float, **settings: Any) -> list[CaseResult]:
    return [
        decode("small", "plain", timed(0.1)),
        decode("small", "lookup", timed(per_token), assist_toks=3, **LOOKUP, **settings),
    ]


@pytest.mark.parametrize(
    ("per_token", "changes", "verdict"),
    [
        (0.05, {}, "supported"),
        (0.20, {}, "contradicted"),
        (0.10, {}, "not enough evidence"),
        (0.05, {"metric": "thr", "expect": "higher"}, "supported"),
        (0.05, {"expect": "higher"}, "contradicted"),
        (0.05, {"margin": 0.5}, "supported"),
        (0.08, {"margin": 0.5}, "contradicted"),
        (0.10, {"expect": "same"}, "supported"),
        (0.12, {"expect": "same"}, "contradicted"),
        (0.12, {"expect": "same", "margin": 0.3}, "supported"),
        (0.05, {"metric": "accept_rate"}, "not enough evidence"),
    ],
)
def test_a_claim_is_judged_by_its_expectation_and_margin(
    tmp_path: Path, per_token: float, changes: dict[str, Any], verdict: str
) -> None:
    finding = judged(tmp_path, plain_and_lookup(per_token), **changes)
    assert finding.verdict == verdict
    if changes.get("metric") == "accept_rate":
        assert finding.missing == ("accept_rate of both cases on the same prompts",)
    else:
        ratio = 0.1 / per_token if changes.get("metric") == "thr" else per_token / 0.1
        assert finding.comparisons[0].estimate == pytest.approx(ratio)


def test_cases_are_compared_with_all_other_settings_alike(tmp_path: Path) -> None:
    other = [
        decode("small", "plain,fp32", timed(0.3), dtype="fp32"),
        decode("small", "plain,sampled", timed(0.3), do_sample=True),
        decode("small", "plain,longer", timed(0.3), gen_toks=99),
        decode("large", "plain", timed(0.3)),
    ]
    finding = judged(tmp_path, [*plain_and_lookup(0.05), *other])
    assert [one.cases for one in finding.comparisons] == [("small/t=none,bf16/lookup", "small/t=none,bf16/plain")]


def test_what_a_selector_names_may_differ(tmp_path: Path) -> None:
    quantized = decode("small", "lookup", timed(0.06), assist_toks=3, target_quant="4bit", **LOOKUP)
    cases = [*plain_and_lookup(0.05), quantized]
    assert len(judged(tmp_path, cases).comparisons) == 1
    named = judged(tmp_path / "named", cases, against={"strategy": "plain", "target_quant": "none"})
    assert [one.estimate for one in named.comparisons] == pytest.approx([0.5, 0.6])


def test_a_selector_that_finds_nothing_is_told(tmp_path: Path) -> None:
    finding = judged(tmp_path, plain_and_lookup(0.05), of={"strategy": "assisted", "assist_toks": 4})
    assert finding.missing == ("any case with of = { strategy = 'assisted', assist_toks = 4 }",)
    only = judged(tmp_path / "alone", plain_and_lookup(0.05), of=PLAIN)
    assert only.missing == ("two selected cases with all settings alike that neither selector names",)


def test_noise_can_hide_that_two_are_the_same(tmp_path: Path) -> None:
    cases = plain_and_lookup(0.1)
    slower = [dataclasses.replace(one, seconds=1.1 * one.seconds) for one in cases[0].samples]
    cases.append(dataclasses.replace(cases[0], samples=tuple(slower), again=True))
    finding = judged(tmp_path, cases, expect="same", margin=0.06)
    assert finding.comparisons[0].estimate == pytest.approx(1 / 1.05)
    assert finding.verdict == "not enough evidence"


def test_a_run_carries_the_claims_of_its_study(tmp_path: Path) -> None:
    run = write_claims(tmp_path / "run.jsonl", cases_of(TRUE)[:2], claims=[own().describe()])
    assert claims_of(run) == (own(),)
    assert claims_of(Run(tmp_path, {}, (), True)) == ()
    broken = write_claims(tmp_path / "broken.jsonl", [], claims=[{"name": "own"}])
    with pytest.raises(RunFileError, match=r"broken\.jsonl: claim 1: says is missing"):
        claims_of(broken)


def test_claims_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = 'name = "x"\nsays = "y"\nmetric = "thr"\nof = { cache = "static" }\nagainst = { cache = "dynamic" }\n'
    path.write_text(f'[[claim]]\n{text}expect = "same"\n', encoding="utf-8")
    [claim] = read_claims(path)
    assert (claim.name, claim.of, claim.margin) == ("x", {"cache": "static"}, 0.05)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"mine\.toml: no \[\[claim\]\] in the file given to --claims"),
        ("[[claim]]\nname = 'x'\n", r"mine\.toml: claim 1: says is missing"),
        ("claim = 3\n", r"mine\.toml: claim must be a list"),
        ("[[claim", r"mine\.toml: not valid TOML"),
        (None, r"mine\.toml: cannot be read \(No such file"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "mine.toml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(RunFileError, match=message) as refused:
        read_claims(path)
    assert "\n" not in str(refused.value)


def test_the_metrics_of_claims_have_the_names_that_metrics_have() -> None:
    assert set(MEASURES) <= {name.removeprefix("assisted_") for name in METRICS}


def test_a_metric_is_the_ratio_of_totals_that_it_is_in_a_table() -> None:
    from reports.numbers.metrics import derive

    samples = [sample(i, 1.0 + i, 8 + i, ttft=0.5, accepted=40 + i) for i in range(5)]
    metrics = derive(samples, speculative=True)
    for name, measure in MEASURES.items():
        if name not in ("draft_share", "verify_share", "other_share", "draft_forwards"):
            assert measure.formula is not None
            value = measure.formula.value(SampleColumns(samples))
            assert value == pytest.approx(metrics.get(name, metrics.get(f"assisted_{name}"))), name
    assert PAIRS[0]["target"] == PAIRS[1]["target"]
