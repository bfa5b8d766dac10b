"""Logits that are not finite are seen before anything is measured, and a model without fault is left as it was."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from fixtures.engines.transformers.decoding.finite import why_not_finite
from tests.unit import checkpoints

PROMPT = [5, 9, 5, 9, 5, 30]


def overflowing(dtype: torch.dtype) -> Any:
    """Far beyond fp16 inside, fine in bf16."""
    model = checkpoints.llama()
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.mul_(1e7)
    return model.to(dtype)


def test_fp16_that_overflows_is_named_with_the_remedy() -> None:
    assert (
        why_not_finite(overflowing(torch.float16), PROMPT)
        == "fp16 overflows: logits are not finite; use --dtype bf16 (or fp32)"
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_same_weights_are_fine_where_their_values_fit(dtype: torch.dtype) -> None:
    assert why_not_finite(overflowing(dtype), PROMPT) is None


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_damaged_weights_are_named_in_other_types(value: float) -> None:
    model = checkpoints.llama()
    model.lm_head.weight.data[7, 3] = value
    reason = why_not_finite(model, PROMPT)
    assert reason is not None and "not finite in float32" in reason and "\n" not in reason


def test_only_after_some_tokens_is_late_enough_to_see_it() -> None:
    model = checkpoints.llama()
    calls = 0

    def spoil(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return output * math.nan if calls == 3 else output

    model.lm_head.register_forward_hook(spoil)
    assert why_not_finite(model, PROMPT) is not None


def test_the_look_leaves_model_and_random_state_alone() -> None:
    model = checkpoints.llama()
    model.generation_config.do_sample, model.generation_config.num_beams = True, 3
    own, state = model.generation_config, torch.random.get_rng_state()
    assert why_not_finite(model, PROMPT) is None
    assert model.generation_config is own and own.num_beams == 3
    assert torch.equal(torch.random.get_rng_state(), state)
