"""A pytest plugin for runs of perf_tests: changes one decision of one prompt, as a change of code might.

Environment: PLANT, `fewer` (a round of drafting proposes one token less) or `token` (the target's runner-up comes
first at the position that a forward decides first); PLANT_AT=PROMPT,NUMBER: which prompt, and in which of its rounds
or forwards, both from 0. Every timed generation of that prompt is changed, in every case. Load it with `-p planted`
and tests/end_to_end on PYTHONPATH.
"""

from __future__ import annotations

import os
from typing import Any


def pytest_runtestloop() -> None:
    from transformers.generation.candidate_generator import AssistedCandidateGenerator

    from fixtures.decoding.measurement import TimedDecoder

    prompt, number = map(int, os.environ["PLANT_AT"].split(","))
    seen = {"prompt": -1, "rounds": 0, "forwards": 0}
    init, decode, propose = TimedDecoder.__init__, TimedDecoder.decode, AssistedCandidateGenerator.get_candidates

    def beginning(self: TimedDecoder, prompt: int, *inputs: Any, **more: Any) -> Any:
        seen.update(prompt=prompt, rounds=0, forwards=0)
        try:
            return decode(self, prompt, *inputs, **more)
        finally:
            seen["prompt"] = -1

    def is_it(what: str) -> bool:
        seen[what] += 1
        return (seen["prompt"], seen[what] - 1) == (prompt, number)

    def fewer(self: Any, *inputs: Any, **more: Any) -> Any:
        less = is_it("rounds")
        self.num_assistant_tokens -= less
        try:
            return propose(self, *inputs, **more)
        finally:
            self.num_assistant_tokens += less

    def hooked(self: TimedDecoder, engine: Any, *settings: Any) -> None:
        init(self, engine, *settings)
        engine.target.register_forward_hook(runner_up)

    def runner_up(module: Any, inputs: Any, output: Any) -> None:
        if is_it("forwards"):
            at = -1 if seen["forwards"] == 1 else 0  # the prompt's forward decides at its end, a check at its beginning
            first, second = output.logits[0, at].topk(2).indices.tolist()
            output.logits[0, at, [first, second]] = output.logits[0, at, [second, first]]

    TimedDecoder.decode = beginning  # type: ignore[method-assign]
    if os.environ["PLANT"] == "fewer":
        AssistedCandidateGenerator.get_candidates = fewer
    else:
        TimedDecoder.__init__ = hooked  # type: ignore[method-assign]
