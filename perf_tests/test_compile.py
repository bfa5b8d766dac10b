"""torch.compile: do compiled forwards decode faster, and after how many tokens is the compiling paid for?

Compared: plain decoding with a static cache and assisted decoding with a dynamic one, compiled, against the same
uncompiled. Recorded: seconds of compiling, graphs, graph breaks and recompiles, all apart from latency; compiled code
that was not entered, or compiled again while the clock ran, is noted with the case.
"""

import pytest

pytestmark = pytest.mark.compiled


def test_compile(engine, point, measure):
    result = measure()
    samples = result.samples[result.facts.get("prompts_kept", 0) :]
    forwards = sum(sample.target_forwards + sample.draft_forwards for sample in samples)
    forwards -= len(samples) if engine.key.compile_mode != "default" else 0  # there the prefill is not compiled
    undone = result.facts["compiled_calls"] < forwards or result.facts["recompiles"] > 0
    told = any("compile" in note for note in result.notes)
    assert undone == told, "what was not compiled, or compiled within the clock, is told"
