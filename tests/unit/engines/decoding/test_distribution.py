"""The chi-square check of sampled tokens: it holds for transformers as it is, and finds bugs planted into it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fixtures.engines.transformers.decoding.distribution import (
    ALPHA,
    DRAFT_ROWS,
    TARGET_ROWS,
    chain_check,
    sampling_check,
)
from tests.unit.engines.decoding.mutation import plant

ACCEPTED = "is_accepted = r_i <= probability_ratio"
RESIDUAL = "p_prime = torch.clamp((p_n_plus_1 - q_n_plus_1), min=0)"
RENORMALIZED = "p_prime.div_(p_prime_sum)"
DRAWN = "t = torch.multinomial(p_prime, num_samples=1).squeeze(1)[None, :]"
BY_CUMULATIVE_SUM = "t = (p_prime.cumsum(-1) < torch.rand(1)).sum(-1).clamp(max=p_prime.shape[-1] - 1)[None, :]"
LOGITS = "new_logits = outputs.logits[:, -candidate_length - 1 :].to("
SELECTED = "candidate_new_tokens = candidate_input_ids[:, cur_len:]"

BUGS = {
    "accept always": ("assisted", "_speculative_sampling", {ACCEPTED: "is_accepted = torch.ones_like(r_i) > 0"}),
    "target instead of residual": ("assisted", "_speculative_sampling", {RESIDUAL: "p_prime = p_n_plus_1.clone()"}),
    "residual not renormalized": (
        "assisted",
        "_speculative_sampling",
        {RENORMALIZED: "pass", DRAWN: BY_CUMULATIVE_SUM},
    ),
    "assisted one position off": (
        "assisted",
        "_assisted_decoding",
        {LOGITS: "new_logits = outputs.logits[:, -candidate_length - 1 :].roll(1, 1).to("},
    ),
    "lookup accepts always": (
        "prompt_lookup",
        "_assisted_decoding",
        {SELECTED: f"{SELECTED}; selected_tokens = torch.cat((candidate_new_tokens, selected_tokens[:, -1:]), dim=-1)"},
    ),
    "lookup one position off": (
        "prompt_lookup",
        "_assisted_decoding",
        {LOGITS: "new_logits = outputs.logits[:, -candidate_length - 1 :].roll(1, 1).to("},
    ),
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("strategy", ["assisted", "prompt_lookup"])
def test_transformers_samples_as_the_target_alone(strategy: str) -> None:
    before = torch.random.get_rng_state()
    check = sampling_check(strategy, generations=16)
    assert check.holds and check.windows == 16 * 25
    assert torch.equal(torch.random.get_rng_state(), before), "the caller's random state is left as it was"


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    strategy, function, changes = BUGS[bug]
    plant(monkeypatch, function, changes)
    check = sampling_check(strategy, generations=16)
    assert check.p < ALPHA / 100, check


def test_drawing_by_cumulative_sum_is_no_bug_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of `residual not renormalized`: what is found there is the missing division, not the way to draw."""
    plant(monkeypatch, "_speculative_sampling", {DRAWN: BY_CUMULATIVE_SUM})
    assert sampling_check("assisted", generations=16).holds


def _chain(rows: tuple[tuple[float, ...], ...], count: int, length: int, seed: int) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    cumulative = np.cumsum(rows, axis=1)
    drawn = []
    for _ in range(count):
        tokens = [int(generator.integers(len(rows)))]
        for uniform in generator.random(length):
            tokens.append(min(int((cumulative[tokens[-1]] < uniform).sum()), len(rows) - 1))
        drawn.append(tokens)
    return drawn


def test_false_alarms_come_as_often_as_stated() -> None:
    p_values = [chain_check(_chain(TARGET_ROWS, 20, 100, seed), TARGET_ROWS).p for seed in range(200)]
    assert np.mean([p < 0.05 for p in p_values]) == pytest.approx(0.05, abs=0.045)
    assert np.mean([p < 0.5 for p in p_values]) == pytest.approx(0.5, abs=0.12)


def test_a_chain_with_the_drafts_rows_is_found() -> None:
    assert chain_check(_chain(DRAFT_ROWS, 20, 100, 0), TARGET_ROWS).p < 1e-12


def test_what_depends_on_the_token_before_the_last_is_found() -> None:
    """Every single transition is as often as it should be; only pairs tell: the second token repeats the first."""
    rows = ((0.5, 0.5), (0.5, 0.5))
    generator = np.random.default_rng(0)
    tokens = [0]
    for bit in generator.integers(2, size=1000).tolist():
        tokens += [bit, bit]
    assert chain_check([tokens], rows, window=1).windows == 2000
    assert chain_check([tokens], rows, window=2).p < 1e-12


def test_windows_do_not_overlap_and_leave_the_rest_out() -> None:
    check = chain_check([[0, 1, 1, 0, 1, 0] for _ in range(100)], ((0.5, 0.5), (0.5, 0.5)))
    assert check.windows == 200


def test_another_strategy_is_refused() -> None:
    with pytest.raises(ValueError, match="early_exit"):
        sampling_check("early_exit")
