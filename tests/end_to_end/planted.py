"""A pytest plugin for runs of perf_tests: changes one decision of one prompt, as a change of code might.

Environment: PLANT, `fewer` (a round of drafting proposes one token less) or `token` (the target's runner-up comes
first at the position that a forward decides first); PLANT_AT=PROMPT,NUMBER: which prompt, and in which of its rounds
or forwards, both from 0 (of forwards from 1: the first reads the prompt). Every timed generation of that prompt is
changed, in every case. Load it with `-p planted` and tests/end_to_end on PYTHONPATH.
"""

from __future__ import annotations

import os
from typing import Any


def pytest_runtestloop() -> None:
    from transformers.generation.candidate_generator import AssistedCandidateGenerator

    from fixtures.engines.transformers.decoding.measurement import TimedDecoder

    what = os.environ["PLANT"]
    prompt, number = map(int, os.environ["PLANT_AT"].split(","))
    seen = {"prompt": -1, "rounds": 0, "forwards": 0}
    decode, propose = TimedDecoder.decode, AssistedCandidateGenerator.get_candidates

    def planted(self: TimedDecoder, prompt: int, *inputs: Any, **more: Any) -> Any:
        seen.update(prompt=prompt, rounds=0, forwards=0)
        hook = self._generate.__self__.register_forward_hook(runner_up) if what == "token" else None
        try:
            return decode(self, prompt, *inputs, **more)
        finally:
            seen["prompt"] = -1
            if hook is not None:
                hook.remove()

    def is_it(counted: str) -> bool:
        seen[counted] += 1
        return (seen["prompt"], seen[counted] - 1) == (prompt, number)

    def fewer(self: Any, *inputs: Any, **more: Any) -> Any:
        less = what == "fewer" and is_it("rounds")
        self.num_assistant_tokens -= less
        try:
            return propose(self, *inputs, **more)
        finally:
            self.num_assistant_tokens += less

    def runner_up(module: Any, inputs: Any, output: Any) -> None:
        if is_it("forwards"):
            first, second = output.logits[0, 0].topk(2).indices.tolist()
            output.logits[0, 0, [first, second]] = output.logits[0, 0, [second, first]]

    TimedDecoder.decode = planted  # type: ignore[method-assign]
    AssistedCandidateGenerator.get_candidates = fewer
