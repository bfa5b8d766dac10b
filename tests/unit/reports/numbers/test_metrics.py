"""Metrics against values worked out by hand."""

from __future__ import annotations

import pytest

from reports.numbers.metrics import METRICS, derive, positions
from reports.record.run import Sample

PLAIN = [Sample(0, 1.0, 10, 10, "", ttft_seconds=0.2), Sample(1, 3.0, 20, 20, "", ttft_seconds=0.4)]
ASSISTED = [
    Sample(
        0, 2.0, 10, 4, "", 0.5, 4, draft_forwards=9, drafted=9, accepted=6, rejected=2, censored=1, rollbacks=2,
        proposed_at=(3, 3, 3), accepted_at=(3, 2, 1), draft_seconds=0.5, verify_seconds=1.0, other_seconds=0.5,
    ),
    Sample(
        1, 2.0, 10, 6, "", 0.7, 1, draft_forwards=5, drafted=5, accepted=4, rejected=1, rollbacks=1,
        proposed_at=(5,), accepted_at=(4,), draft_seconds=0.5, verify_seconds=0.5, other_seconds=1.0,
    ),
]  # fmt: skip


def test_plain_decoding() -> None:
    found = derive(PLAIN, speculative=False)
    assert found["latency_tok"] == pytest.approx(4 / 30), "a ratio of totals, not the mean of 0.1 and 0.15"
    assert found["thr"] == pytest.approx(7.5)
    assert found["decode_latency_tok"] == pytest.approx((0.8 + 2.6) / (9 + 19))
    assert found["ttft_seconds"] == pytest.approx(0.3)
    assert found["latency_tok_p50"] == pytest.approx(0.125)
    assert found["latency_tok_p90"] == pytest.approx(0.145)
    assert (found["new_tokens"], found["target_forwards"]) == (30, 30)
    assert not {"accept_rate", "assisted_thr", "drafted"} & set(found)


def test_speculation() -> None:
    found = derive(ASSISTED, speculative=True)
    assert found["assisted_latency_tok"] == pytest.approx(0.2)
    assert found["assisted_thr"] == pytest.approx(5.0)
    assert found["accept_rate"] == pytest.approx(10 / 13), "the censored token was never judged"
    assert found["alpha"] == pytest.approx(10 / 13)
    assert found["total_rollbacks"] == 3
    assert found["tokens_per_step"] == pytest.approx(2.0)
    assert found["drafted_per_step"] == pytest.approx(1.4)
    assert found["draft_forwards"] == 14
    assert found["decode_latency_tok"] == pytest.approx((1.5 + 1.3) / (6 + 9))
    assert found["draft_share"] == pytest.approx(0.25)
    assert found["verify_share"] == pytest.approx(0.375)
    assert found["other_share"] == pytest.approx(0.375)
    assert not {"latency_tok", "thr"} & set(found)


def test_alpha_counts_rejection_events_where_accept_rate_counts_tokens() -> None:
    found = derive([Sample(0, 1.0, 9, 6, "", drafted=15, accepted=3, rejected=12, rollbacks=6)], speculative=True)
    assert found["accept_rate"] == pytest.approx(0.2)
    assert found["alpha"] == pytest.approx(1 / 3)


def test_nothing_drafted_has_no_accept_rate() -> None:
    found = derive([Sample(0, 1.0, 4, 4, "")], speculative=True)
    assert not {"accept_rate", "alpha"} & set(found)
    assert found["tokens_per_step"] == 1.0


def test_one_token_per_prompt_has_no_decode_latency() -> None:
    found = derive([Sample(0, 1.0, 1, 1, "", ttft_seconds=1.0)], speculative=False)
    assert "decode_latency_tok" not in found
    assert found["ttft_seconds"] == 1.0


def test_no_samples_give_no_metrics() -> None:
    assert derive([], speculative=True) == {}


def test_positions_add_up_over_samples_of_different_length() -> None:
    assert positions(ASSISTED) == [(8, 7), (3, 2), (3, 1)]
    assert positions([]) == []


def test_every_metric_that_is_derived_is_described() -> None:
    derived = set(derive(PLAIN, speculative=False)) | set(derive(ASSISTED, speculative=True))
    assert derived <= set(METRICS)
    assert all(METRICS[name].name == name and METRICS[name].unit and METRICS[name].meaning for name in derived)
