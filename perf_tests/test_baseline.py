"""The baseline: plain decoding with a dynamic cache, nothing quantized, nothing compiled.

Recorded: seconds per token and time to first token per prompt. It is measured again after every few cases, on a few
of the prompts, because machines slow down and recover; each case is compared with the nearest two measurements.
"""

import pytest

pytestmark = pytest.mark.baseline


def test_baseline(engine, point, measure):
    result = measure()
    assert all(sample.target_forwards == sample.new_tokens for sample in result.samples), "a forward per token"


def test_baseline_again(engine, point, measure):
    measure(again=True)
