"""Speculative decoding: does drafting tokens, and having the target verify them, beat plain decoding, and why?

Compared: assisted decoding with a draft model, prompt lookup and early exit, over tokens drafted per step,
confidence threshold, schedule, greedy and sampled, each against plain decoding on the same prompts. Recorded: what
every step proposed and the target accepted, rollbacks, and the time spent drafting and verifying.
"""

import pytest

pytestmark = pytest.mark.speculative


def test_speculative_decoding(engine, point, measure):
    result = measure()
    for sample in result.samples:
        assert sample.drafted == sample.accepted + sample.rejected + sample.censored
        assert sample.target_forwards <= sample.new_tokens, "a step yields at least one token"
