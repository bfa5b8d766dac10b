"""What assisted decoding of a synthetic pair must count, worked out from the two maps alone.

The control for the counters, on a GPU by `make gpu` and in the tests. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from fixtures.engines.transformers.models.synthetic import walk


@dataclass(frozen=True)
class ExpectedCounts:
    """What greedy assisted decoding of one prompt must count; positions start with the first token of a draft."""

    steps: int
    drafted: int
    accepted: int
    rejected: int
    rollbacks: int
    target_forwards: int
    draft_forwards: int
    proposed_per_position: tuple[int, ...]
    accepted_per_position: tuple[int, ...]


def expected_counts(
    next_target: torch.Tensor, next_draft: torch.Tensor, prompt_last_token: int, new_tokens: int, assist_toks: int
) -> ExpectedCounts:
    """Exact counts of greedy assisted decoding with the constant schedule and the confidence threshold off.

    As `AssistedCandidateGenerator` of transformers 5.23 does it: a step drafts `assist_toks` tokens, one forward of the
    draft each, but never more than leave room for the target's own token; the last step drafts none where only one
    token is missing. The prompt's prefill is part of the first step, for the target as for the draft.
    """
    if new_tokens < 1 or assist_toks < 1:
        raise ValueError(f"new_tokens {new_tokens} and assist_toks {assist_toks} must both be at least 1")
    steps = list(walked_steps(next_target.tolist(), next_draft.tolist(), prompt_last_token, new_tokens, assist_toks))
    drafted = sum(proposed for proposed, _ in steps)
    accepted = sum(matched for _, matched in steps)
    return ExpectedCounts(
        steps=len(steps),
        drafted=drafted,
        accepted=accepted,
        rejected=drafted - accepted,
        rollbacks=sum(matched < proposed for proposed, matched in steps),
        target_forwards=len(steps),
        draft_forwards=drafted,
        proposed_per_position=tuple(sum(p > i for p, _ in steps) for i in range(assist_toks)),
        accepted_per_position=tuple(sum(m > i for _, m in steps) for i in range(assist_toks)),
    )


def walked_steps(
    next_target: Sequence[int], next_draft: Sequence[int], token: int, missing: int, assist_toks: int
) -> Iterator[tuple[int, int]]:
    """(proposed, accepted) of each step along the target's cycle."""
    while missing > 0:
        proposed = min(assist_toks, missing - 1)
        draft, truth = walk(next_draft, token, proposed), walk(next_target, token, proposed + 1)
        matched = next((i for i in range(proposed) if draft[i] != truth[i]), proposed)
        yield proposed, matched
        token = truth[matched]
        missing -= matched + 1
