"""Quantization: what do 8 bits (LLM.int8()) and 4 bits (NF4) save in memory, and cost in speed and in quality?

Compared: the target in none, 8bit and 4bit, decoding plainly; then every combination of target and draft quantization
under speculation. Each is set against the unquantized target on the same prompts. Recorded: throughput, bytes of the
weights as stored, load time, and the target's perplexity by sliding window (stride 512, window 2048).
"""

import pytest

pytestmark = pytest.mark.quantization


def test_quantization(engine, point, measure):
    result = measure()
    assert result.facts["weight_bytes"]["target"] > 0
    assert result.facts.get("perplexity", 1.0) >= 1.0, "the perplexity of certainty is 1"
