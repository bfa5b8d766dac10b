"""HumanEval: does the faster model still write working code?

Compared: each target of the study (unquantized, 8bit, 4bit), problem by problem, and as a check the target with
drafted tokens, which must solve what it solves without. Recorded: every completion with its verdict from the sandbox,
pass@k, tokens per second while generating, seconds per problem. Runs when asked for: `-m humaneval`, or a sweep of the
study.
"""

import pytest

pytestmark = pytest.mark.humaneval


def test_humaneval(engine, point, solve):
    result = solve()
    assert result.metrics["completions"] == (result.workload.problems or 0) * (result.workload.samples or 0)
