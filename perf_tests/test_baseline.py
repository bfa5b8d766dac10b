"""The baseline: plain decoding with a dynamic cache, nothing quantized, nothing compiled.

Recorded: seconds per token and time to first token per prompt. It has its turn at least once in every eight generations
of a round, because machines slow down and recover; each case is compared with it round by round.
"""

import pytest

pytestmark = pytest.mark.baseline


def test_baseline(engine, point, measure):
    result = measure()
    assert all(sample.target_forwards == sample.new_tokens for sample in result.samples), "a forward per token"
