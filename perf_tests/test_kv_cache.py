"""The KV cache: what does keeping keys and values save, what does it hold, and what does a cheaper one cost?

Compared: no cache, dynamic, static, quantized and offloaded, each against the dynamic cache on the same prompts; none
and dynamic at several lengths, because without a cache every token reads all tokens before it again, so that the time
grows with the square of the length. Recorded: bytes held at the end of a generation, peak memory, and for the quantized
cache how long its output stays the same and how far its distributions move.
"""

import pytest

pytestmark = pytest.mark.kv_cache


def test_kv_cache(engine, point, measure):
    result = measure()
    assert (result.facts["cache_bytes"] == 0) == (point.cache == "none"), (
        "bytes are held if and only if there is a cache"
    )
