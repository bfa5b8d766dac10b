"""Real assisted decoding in which one round drafts one token less: no such change may escape the exact metrics."""

from __future__ import annotations

from typing import Any

import pytest
from transformers.generation.candidate_generator import AssistedCandidateGenerator

from fixtures.engines.transformers.decoding.measurement import timed_decoder
from fixtures.study.study import DecodingPoint, Workload
from reports.numbers.exactness import compare_counts
from reports.record.run import CaseResult, Sample

PROMPTS = [[3, 141, 59, 26], [7, 77, 70, 107], [200, 100, 50, 25]]


def as_case(sample: Sample) -> CaseResult:
    return CaseResult("p/assisted", "ok", point=DecodingPoint("assisted"), samples=(sample,))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("gen_toks", [15, 16])
@pytest.mark.parametrize("assist_toks", [2, 3, 5])
@pytest.mark.parametrize("pair", ["synthetic-tiny", "synthetic-tiny-same"])
def test_every_round_that_drafts_a_token_less_is_caught(
    monkeypatch: pytest.MonkeyPatch, tiny_engine: Any, pair: str, assist_toks: int, gen_toks: int
) -> None:
    propose = AssistedCandidateGenerator.get_candidates
    rounds, planted = 0, -1

    def propose_or_fewer(self: Any, *inputs: Any, **more: Any) -> Any:
        nonlocal rounds
        less = rounds == planted
        rounds += 1
        self.num_assistant_tokens -= less
        try:
            return propose(self, *inputs, **more)
        finally:
            self.num_assistant_tokens += less

    monkeypatch.setattr(AssistedCandidateGenerator, "get_candidates", propose_or_fewer)
    point = DecodingPoint("assisted", assist_toks=assist_toks, confidence_threshold=0.0, assist_schedule="constant")
    changed, escaped = 0, []
    with timed_decoder(tiny_engine(pair), point, Workload(gen_toks=gen_toks)) as decoder:
        for ids in PROMPTS:
            rounds, planted = 0, -1
            base = decoder.generate(0, ids).sample()
            assert all(one.equal for one in compare_counts(as_case(base), as_case(decoder.generate(0, ids).sample())))
            for place, (proposed, _) in enumerate(base.steps):
                if proposed < assist_toks:  # the limit of the output decided, which a token less may not change
                    continue
                rounds, planted = 0, place
                head = decoder.generate(0, ids).sample()
                assert head.steps[place][0] == proposed - 1
                changed += 1
                found = compare_counts(as_case(base), as_case(head))
                if all(one.equal or one.better for one in found):
                    escaped.append((base.steps, head.steps))
    assert changed >= len(PROMPTS)
    assert not escaped
