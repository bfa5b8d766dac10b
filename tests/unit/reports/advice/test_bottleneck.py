"""What limits a case: planted time splits whose cause is known, and the figures behind every suggestion."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from planted_runs import ENGINE, assisted, case, plain

from reports.advice.bottleneck import bottleneck, suggestions
from reports.numbers.metrics import derive
from reports.record.run import CaseResult, Run
from reports.record.settings import DecodingPoint

POINT = {"strategy": "assisted", "assist_toks": 3, "confidence_threshold": 0.2, "do_sample": False, "cache": "dynamic"}


def drafting(draft: float, verify: float, other: float, per_step: float, drafted: float, **changes: Any) -> CaseResult:
    metrics = {
        "draft_share": draft,
        "verify_share": verify,
        "other_share": other,
        "tokens_per_step": per_step,
        "drafted_per_step": drafted,
        "accept_rate": (per_step - 1) / drafted,
        "total_rollbacks": 4.0,
        "decode_latency_tok": 0.1,
    }
    return case("p/best,k=3", [assisted(0, 0.5)], point=POINT, metrics=metrics, **changes)


def plain_at(share: float, bound: str, **changes: Any) -> CaseResult:
    """Plain decoding at 0.1 s per token where the hardware would allow 10 / share tokens per second."""
    return case(
        "p/plain",
        [plain(0, 1.0)],
        metrics={"decode_latency_tok": 0.1},
        facts={"limit_tokens_per_second": 10 / share, "limit_bound": bound},
        **changes,
    )


def test_time_spent_drafting_that_is_accepted_is_draft_bound() -> None:
    found = bottleneck(drafting(0.6, 0.39, 0.01, 3.8, 3.0))  # rejection: (1 - 3.8 / 4) x 0.99
    assert found.kind == "draft"
    assert found.shares["draft"] == pytest.approx(0.6)
    assert found.shares["rejection"] == pytest.approx(0.05 * 0.99)


def test_steps_that_emit_little_of_what_they_draft_are_rejection_bound() -> None:
    found = bottleneck(drafting(0.3, 0.69, 0.01, 1.5, 3.0))
    assert found.kind == "rejection"
    assert found.shares["rejection"] == pytest.approx((1 - 1.5 / 4) * 0.99)
    assert "0.17" in found.why  # the accept rate


def test_time_outside_both_models_is_overhead_bound() -> None:
    found = bottleneck(drafting(0.1, 0.5, 0.4, 3.8, 3.0))
    assert (found.kind, found.shares["overhead"]) == ("overhead", pytest.approx(0.4))


def test_the_drafts_call_overhead_counts_as_overhead_not_as_drafting() -> None:
    facts = {"forward_costs": {"draft_call_overhead_seconds": 0.05}}  # three of the four steps draft, in 0.5 s
    found = bottleneck(drafting(0.4, 0.55, 0.05, 3.9, 3.0, facts=facts))
    assert found.shares["overhead"] == pytest.approx(0.05 + 3 * 0.05 / 0.5)
    assert found.shares["draft"] == pytest.approx(0.4 - 3 * 0.05 / 0.5)
    assert found.kind == "overhead"


def test_a_drafting_case_without_a_large_cause_is_limited_like_plain_decoding() -> None:
    facts = {"limit_tokens_per_second": 12.5, "limit_bound": "bandwidth"}
    found = bottleneck(drafting(0.1, 0.88, 0.02, 3.9, 3.0, facts=facts))
    assert (found.kind, found.share_of_limit) == ("bandwidth", pytest.approx(0.8))


@pytest.mark.parametrize(
    ("share", "bound", "kind"),
    [
        (0.8, "bandwidth", "bandwidth"),
        (0.5, "bandwidth", "bandwidth"),
        (0.49, "bandwidth", "overhead"),
        (0.8, "compute", "compute"),
        (0.1, "compute", "overhead"),
    ],
)
def test_plain_decoding_is_bound_by_the_hardware_only_near_its_limit(share: float, bound: str, kind: str) -> None:
    found = bottleneck(plain_at(share, bound))
    assert (found.kind, found.share_of_limit) == (kind, pytest.approx(share))


def test_without_a_hardware_limit_the_cause_is_unknown() -> None:
    assert bottleneck(case("p/plain", [plain(0, 1.0)])).kind == "unknown"


def told(best: CaseResult, *others: CaseResult, run: Run) -> dict[str, str]:
    cases = [best, *others]
    return {one.setting: one.because for one in suggestions(best, cases, cases, run, bottleneck(best))}


def test_too_many_rejections_ask_for_a_higher_threshold_unless_it_was_run(planted: Callable[..., Run]) -> None:
    best = drafting(0.3, 0.69, 0.01, 1.5, 3.0)
    found = told(best, run=planted(best))
    assert list(found) == ["confidence_threshold = 0.4"]
    assert "accept rate 0.17, 4 rollbacks in 4 steps" in found["confidence_threshold = 0.4"]
    ran = dataclasses.replace(best, id="p/other", point=DecodingPoint(**POINT | {"confidence_threshold": 0.4}))
    assert not told(best, ran, run=planted(best, ran, name="second.jsonl"))


def test_too_many_rejections_of_prompt_lookup_ask_for_longer_matches_and_fewer_tokens(
    planted: Callable[..., Run],
) -> None:
    point = DecodingPoint("prompt_lookup", assist_toks=8, lookup_ngram=2)
    best = dataclasses.replace(drafting(0.02, 0.97, 0.01, 1.5, 7.0), point=point)
    assert list(told(best, run=planted(best))) == ["lookup_ngram = 3", "assist_toks = 4"]


def test_a_slow_draft_asks_for_a_smaller_one_with_its_cost(planted: Callable[..., Run]) -> None:
    costs = {"draft_token_seconds": 0.02, "draft_call_overhead_seconds": 0.0, "target_seconds": {"1": 0.04}}
    facts = {"forward_costs": costs}
    found = told(best := drafting(0.6, 0.39, 0.01, 3.8, 3.0, facts=facts), run=planted(best))
    assert set(found) == {"a smaller draft (--aux-model)", "strategy = prompt_lookup", "assist_toks = 2"}
    assert "a drafted token costs 0.50 of a target forward" in found["a smaller draft (--aux-model)"]


def test_early_exit_that_drafts_for_long_asks_for_fewer_layers(planted: Callable[..., Run]) -> None:
    point = DecodingPoint(**POINT | {"strategy": "early_exit", "exit_layer": 8})
    best = dataclasses.replace(drafting(0.6, 0.39, 0.01, 3.8, 3.0), point=point)
    assert set(told(best, run=planted(best))) == {"exit_layer = 4", "strategy = prompt_lookup", "assist_toks = 2"}


def test_overhead_asks_for_compiling_unless_it_was_run(planted: Callable[..., Run]) -> None:
    best = plain_at(0.2, "bandwidth")
    assert list(told(best, run=planted(best))) == ["compile = true, cache = static"]
    compiled = case("p/compiled", [plain(0, 1.2)], engine=ENGINE | {"compile": True})
    assert not told(best, compiled, run=planted(best, compiled, name="second.jsonl"))


def test_bandwidth_asks_for_fewer_bytes_per_token(planted: Callable[..., Run]) -> None:
    best = plain_at(0.9, "bandwidth")
    assert set(told(best, run=planted(best))) == {"target_quant = 4bit", "strategy = assisted or prompt_lookup"}


def test_computation_without_a_cache_asks_for_one(planted: Callable[..., Run]) -> None:
    best = plain_at(0.9, "compute", point={"strategy": "plain", "do_sample": False, "cache": "none"})
    assert list(told(best, run=planted(best))) == ["cache = dynamic"]


def test_a_number_of_tokens_that_was_not_run_is_suggested_where_the_model_predicts_more(
    planted: Callable[..., Run],
) -> None:
    """Everything accepted, drafting nearly free: more drafted tokens must pay, and none above 3 was run."""
    sample = dataclasses.replace(
        assisted(0, 0.5), new_tokens=12, target_forwards=3, drafted=9, accepted=9, rejected=0, censored=0, rollbacks=0,
        proposed_at=(3, 3, 3), accepted_at=(3, 3, 3), steps=((3, 3), (3, 3), (3, 3)),
    )  # fmt: skip
    costs = {"target_seconds": {"1": 0.1, "4": 0.1}, "draft_token_seconds": 0.001, "draft_call_overhead_seconds": 0.0}
    facts, metrics = {"forward_costs": costs}, derive([sample], speculative=True)
    best = case("p/assisted,k=3", [sample], point=POINT, metrics=metrics, facts=facts)
    base = case("p/plain", [dataclasses.replace(plain(0, 1.2), new_tokens=12)])
    found = told(best, base, run=planted(base, best))
    assert "assist_toks = 12 in p/assisted" in found
    assert "not run; the cost model predicts" in found["assist_toks = 12 in p/assisted"]


def lookup(k: int, seconds: float) -> CaseResult:
    """Every drafted token accepted, drafting free: the model promises more with every token that is drafted."""
    steps = tuple((k, k) for _ in range(60 // (k + 1)))
    drafted = k * len(steps)
    sample = dataclasses.replace(
        assisted(0, seconds), new_tokens=(k + 1) * len(steps), target_forwards=len(steps), drafted=drafted,
        accepted=drafted, rejected=0, censored=0, rollbacks=0, steps=steps,
        proposed_at=(len(steps),) * k, accepted_at=(len(steps),) * k,
    )  # fmt: skip
    facts = {"forward_costs": {"target_seconds": {"1": 0.1, "16": 0.1}}}
    point = {"strategy": "prompt_lookup", "assist_toks": k, "do_sample": False, "cache": "dynamic"}
    metrics = derive([sample], speculative=True) | {"draft_share": 0.1, "verify_share": 0.89, "other_share": 0.01}
    return case(f"p/lookup,k={k}", [sample], point=point, metrics=metrics, facts=facts)


def test_nothing_is_suggested_past_a_measured_point_that_was_slower(planted: Callable[..., Run]) -> None:
    base = case("p/plain", [dataclasses.replace(plain(0, 6.0), new_tokens=60)])
    best, beyond = lookup(3, 2.0), lookup(9, 2.2)
    run = planted(base, best, beyond)
    found = suggestions(best, run.cases, run.cases, run, bottleneck(best))
    named = [int(idea.setting.split()[2]) for idea in found if idea.setting.startswith("assist_toks")]
    assert len(named) == 1 and 3 < named[0] < 9, "k = 9 was slower, so 10 and more are not tried"
    (because,) = [idea.because for idea in found if idea.setting.startswith("assist_toks")]
    assert "it is off by +" in because and "at k = 3, the nearest" in because
    assert "in the median" not in because


def test_ideas_do_not_contradict_each_other(planted: Callable[..., Run]) -> None:
    """Rejections ask for fewer drafted tokens, the model for more of them: the model's figure stands alone."""
    base = case("p/plain", [dataclasses.replace(plain(0, 6.0), new_tokens=60)])
    best = dataclasses.replace(lookup(3, 2.0), metrics=drafting(0.02, 0.97, 0.01, 1.5, 3.0).metrics)
    run = planted(base, best)
    assert bottleneck(best).kind == "rejection"
    found = [idea.setting for idea in suggestions(best, run.cases, run.cases, run, bottleneck(best))]
    assert found == ["assist_toks = 12 in p/lookup"]


def test_no_rule_of_thumb_goes_past_a_slower_measured_value(planted: Callable[..., Run]) -> None:
    point = DecodingPoint("prompt_lookup", assist_toks=8, lookup_ngram=3)
    best = dataclasses.replace(drafting(0.02, 0.97, 0.01, 1.5, 7.0), point=point)
    fewer = dataclasses.replace(best, id="p/k=6", point=dataclasses.replace(point, assist_toks=6))
    slower = dataclasses.replace(fewer, samples=tuple(dataclasses.replace(s, seconds=9.0) for s in fewer.samples))
    assert "assist_toks = 4" not in told(best, slower, run=planted(best, slower))
    faster = dataclasses.replace(fewer, samples=tuple(dataclasses.replace(s, seconds=0.1) for s in fewer.samples))
    assert "assist_toks = 4" in told(best, faster, run=planted(best, faster, name="second.jsonl"))
