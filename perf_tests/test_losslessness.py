"""Losslessness: does every way of drafting tokens leave the answers as they are?

Compared: greedy outputs token for token with plain decoding by the same engine; in fp32 they must be equal, in bf16
and fp16 they may part where two tokens are so close that the rounding of another forward shape decides (near ties,
which are counted). Sampling has no one right output, so its distribution is tested on a pair whose answer is known.
"""

import pytest

pytestmark = pytest.mark.lossless


def test_losslessness(engine, point, measure):
    result = measure()
    found = result.facts["losslessness"]
    exact = engine.key.dtype == "fp32" and engine.key.target_quant == "none"
    assert found["verdict"] in (("equal",) if exact else ("equal", "near_ties")), found


@pytest.mark.parametrize("strategy", ["assisted", "prompt_lookup"])
def test_sampling_distribution(strategy):
    from fixtures.engines.transformers.decoding.distribution import (  # here, so that collecting needs no torch
        ALPHA,
        EFFECT,
        sampling_check,
    )

    check = sampling_check(strategy)
    assert check.power > 0.9, f"too few draws to find a departure of w = {EFFECT}: {check}"
    assert check.holds, f"sampled tokens are not distributed as the target's (p < {ALPHA}): {check}"
