"""Forward costs: measured on models whose costs are known to differ, and nothing left behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from fixtures.engines.transformers.decoding import forward_costs
from fixtures.engines.transformers.decoding.forward_costs import measure_forward_costs
from fixtures.engines.transformers.models.shapes import SHAPES
from tests.unit.synthetic_pairs import SyntheticPair, build_pair

CPU = torch.device("cpu")
PROMPT = list(range(1, 21))


@pytest.fixture(scope="module")
def pair() -> SyntheticPair:
    return build_pair(SHAPES["tiny"], SHAPES["tiny-draft"], 0.8)


@dataclass
class Costs:
    """A clock on which only forwards take time, as much per position as the test says."""

    now: float = 0.0

    def mark(self) -> float:
        return self.now

    def seconds(self, start: float, end: float) -> float:
        return end - start

    def synchronize(self) -> None:
        """Nothing runs ahead."""

    def charge(self, model: Any, seconds_per_position: float) -> Any:
        def pass_time(module: Any, args: Any, kwargs: Any) -> None:
            self.now += seconds_per_position * kwargs["input_ids"].shape[1]

        return model.register_forward_pre_hook(pass_time, with_kwargs=True)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Costs:
    """What the measurement reads as the time: nothing costs any before a test charges it."""
    costs = Costs()
    monkeypatch.setattr(forward_costs, "clock_for", lambda device: costs)
    return costs


def test_costs_follow_the_positions_and_the_drafted_tokens(pair: SyntheticPair, clock: Costs) -> None:
    hooks = [clock.charge(pair.target, 0.010), clock.charge(pair.draft, 0.020)]
    try:
        costs = measure_forward_costs(pair.target, pair.draft, CPU, PROMPT, positions=(1, 4))
    finally:
        for hook in hooks:
            hook.remove()
    assert costs.cached_positions == 20
    assert costs.target_seconds == {1: pytest.approx(0.010), 4: pytest.approx(0.040)}
    assert costs.draft_seconds == pytest.approx(0.020)
    assert costs.draft_token_seconds == pytest.approx(0.020), "a drafted token costs one forward of the draft"
    assert costs.draft_prefill_seconds == pytest.approx(0.400)


def test_the_call_that_drafts_has_an_overhead_of_its_own(pair: SyntheticPair, clock: Costs) -> None:
    original = pair.draft.generate

    def slow_to_start(*args: Any, **kwargs: Any) -> Any:
        clock.now += 0.050
        return original(*args, **kwargs)

    pair.draft.generate = slow_to_start  # type: ignore[method-assign]
    try:
        costs = measure_forward_costs(pair.target, pair.draft, CPU, PROMPT, positions=(1,))
    finally:
        del pair.draft.generate  # type: ignore[method-assign]
    assert costs.draft_call_overhead_seconds == pytest.approx(0.050)


def test_models_are_left_as_they_were(pair: SyntheticPair) -> None:
    before = (pair.draft.generation_config, pair.draft.generation_config.to_dict(), pair.target.generation_config)
    measure_forward_costs(pair.target, pair.draft, CPU, PROMPT, positions=(1, 2), repetitions=1)
    assert pair.draft.generation_config is before[0]
    assert pair.draft.generation_config.to_dict() == before[1]
    assert pair.target.generation_config is before[2]
    assert not pair.target._forward_pre_hooks and not pair.draft._forward_pre_hooks


def test_every_forward_runs_on_the_prompt_alone(pair: SyntheticPair) -> None:
    lengths: list[int] = []

    def note(module: Any, args: Any, kwargs: Any) -> None:
        lengths.append(kwargs["past_key_values"].get_seq_length())

    hook = pair.target.register_forward_pre_hook(note, with_kwargs=True)
    try:
        measure_forward_costs(pair.target, None, CPU, PROMPT, positions=(1, 3), repetitions=2)
    finally:
        hook.remove()
    assert lengths == [0] + [20] * 6, "the cache was filled once and cropped back after each forward"


def test_without_a_draft_there_are_no_draft_costs(pair: SyntheticPair) -> None:
    facts = measure_forward_costs(pair.target, None, CPU, PROMPT, positions=(1,), repetitions=1).facts()
    assert set(facts) == {"cached_positions", "repetitions", "seconds", "target_seconds"}
    assert set(facts["target_seconds"]) == {"1"}


def test_a_short_prompt_still_gives_wide_forwards(pair: SyntheticPair) -> None:
    costs = measure_forward_costs(pair.target, None, CPU, [5, 6], positions=(1, 9), repetitions=1)
    assert costs.target_seconds[9] > 0


def test_noise_gives_no_negative_overhead() -> None:
    times = {("call", 1): 0.010, ("call", 5): 0.060, ("draft", 1): 0.01, ("prefill", 1): 0.02}
    found = forward_costs._draft_costs(times)
    assert found["draft_call_overhead_seconds"] == 0.0
    assert found["draft_token_seconds"] == pytest.approx(0.012)
