"""Simulated runs of machines whose noise is known, fast enough to judge a thousand pairs of them.

Every case has its own seconds per token, every prompt its own length of work. What two runs of the same code differ by:
a state of the machine per run, a drift over the run, correlated rounds, rounds with heavy tails, and a second speed
that the machine falls into.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from planted_runs import ENGINE, HEADER, WORKLOAD, typed

from reports.numbers.metrics import derive
from reports.record.run import CaseResult, Run, Sample

TOKENS = 10
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {"strategy": "plain", "do_sample": False, "cache": "dynamic"},
    **{
        f"assisted,k={k}": {"strategy": "assisted", "assist_toks": k, "do_sample": False, "cache": "dynamic"}
        for k in range(1, 10)
    },
}


@dataclass(frozen=True)
class Machine:
    """Noise as logs of seconds. run: state per run, Student's t with `tail` degrees of freedom; drift: from the first
    to the last round of a run; rho, wave: first-order correlated rounds; round: each for itself, with the same tails;
    slow: chance that a case is measured at a second speed, `slowdown` slower; spike: chance of an interrupted round;
    process: what a case's speed differs by from one process to the next, beside those of the other cases."""

    run: float = 0.0
    tail: float = 30.0
    drift: float = 0.0
    rho: float = 0.0
    wave: float = 0.0
    round: float = 0.01
    slow: float = 0.0
    slowdown: float = 0.0
    spike: float = 0.0
    process: float = 0.0

    def seconds(self, cases: int, prompts: int, random: np.random.Generator) -> np.ndarray:
        """Seconds of one run, (cases, prompts)."""
        work = np.random.default_rng(7).normal(0.0, 0.2, size=prompts)  # the same prompts in every run
        speeds = np.linspace(0.0, -0.6, cases)[:, None]
        logs = speeds + work + self.run * random.standard_t(self.tail)
        rounds = cases * prompts
        logs = logs + (random.normal(0.0, self.drift) * np.linspace(0.0, 1.0, rounds)).reshape(cases, prompts)
        if self.wave:
            steps = random.normal(0.0, self.wave * np.sqrt(1 - self.rho**2), size=rounds)
            steps[0] = random.normal(0.0, self.wave)
            for place in range(1, rounds):
                steps[place] += self.rho * steps[place - 1]
            logs = logs + steps.reshape(cases, prompts)
        logs = logs + self.round * random.standard_t(self.tail, size=(cases, prompts))
        logs = logs + self.slowdown * (random.random(size=(cases, 1)) < self.slow)
        logs = logs + 0.7 * (random.random(size=(cases, prompts)) < self.spike)
        return np.asarray(0.5 * np.exp(logs))

    def by_rounds(self, cases: int, prompts: int, random: np.random.Generator) -> np.ndarray:
        """Seconds of one run whose cases take turns, (cases, prompts): time goes on from round to round."""
        work = np.random.default_rng(7).normal(0.0, 0.2, size=prompts)
        turns = random.permuted(np.tile(np.arange(cases), (prompts, 1)), axis=1)
        count = cases * prompts
        logs = self.run * random.standard_t(self.tail) + random.normal(0.0, self.drift) * np.linspace(0.0, 1.0, count)
        if self.wave:
            steps = random.normal(0.0, self.wave * np.sqrt(1 - self.rho**2), size=count)
            for place in range(1, count):
                steps[place] += self.rho * steps[place - 1]
            logs = logs + steps
        # a second speed lasts as long as a case that is measured alone, wherever that begins
        stretches = np.repeat(random.random(cases + 1) < self.slow, prompts)[random.integers(prompts) :][:count]
        logs = logs + self.slowdown * stretches + 0.7 * (random.random(count) < self.spike)
        logs = logs + self.round * random.standard_t(self.tail, size=count)
        in_turn = np.take_along_axis(logs.reshape(prompts, cases), np.argsort(turns, axis=1), axis=1).T
        own = np.linspace(0.0, -0.6, cases) + self.process * random.normal(size=cases)
        return np.asarray(0.5 * np.exp(in_turn + own[:, None] + work))


QUIET = Machine(run=0.003, round=0.01, drift=0.003)
MACHINES = {
    "quiet": QUIET,
    "heavy tails": Machine(run=0.01, tail=3.0, round=0.03, spike=0.01),
    "drift": Machine(run=0.02, drift=0.06, round=0.02),
    "autocorrelated": Machine(run=0.01, rho=0.95, wave=0.05, round=0.01),
    "bimodal": Machine(run=0.005, round=0.01, slow=0.2, slowdown=0.12),
    "everything": Machine(0.01, 4.0, 0.03, 0.9, 0.03, 0.02, 0.1, 0.08, 0.005),
}


def simulated(
    seconds: np.ndarray, name: str, *, assist: int = 2, changed_output: bool = False, order: str = "blocks"
) -> Run:
    """A run with these seconds, (cases, prompts); the first case is plain decoding. Nothing is written to disk.

    assist: tokens drafted in every step. changed_output: one token of one prompt of every case differs.
    """
    prompts = seconds.shape[1]
    workload = {**WORKLOAD, "num_samples": prompts}
    cases = []
    by_rounds = order == "rounds"
    for point, row in zip(SETTINGS.items(), seconds, strict=False):
        speculative = point[0] != "plain"
        samples = tuple(
            _sample(i, float(value), speculative, assist, changed_output and i == 1, i if by_rounds else None)
            for i, value in enumerate(row)
        )
        cases.append(
            typed(
                CaseResult(
                    f"p/t=none,fp32/{point[0]}",
                    "ok",
                    engine={**ENGINE, "dtype": "fp32"},
                    point=point[1],
                    workload=workload,
                    samples=samples,
                    block=0 if by_rounds else None,
                )
            )
        )
    study = {**HEADER["study"], "workload": workload}
    return Run(Path(name), {**HEADER, "study": study, "order": order}, tuple(cases), True)


def with_metrics(run: Run) -> Run:
    """The run with its metrics derived, as a run file has them."""
    cases = tuple(replace(case, metrics=derive(case.samples, speculative=case.point.speculative)) for case in run.cases)
    return replace(run, cases=cases)


def on_other_machine(run: Run) -> Run:
    return replace(run, header={**run.header, "environment": {"hardware": {"gpu": "Another"}, "versions": {}}})


def _sample(
    prompt: int, seconds: float, speculative: bool, assist: int, changed: bool, round_: int | None = None
) -> Sample:
    tokens = tuple(token + (changed and token == 7) for token in range(TOKENS))
    if not speculative:
        return Sample(prompt, seconds, TOKENS, TOKENS, f"hash{changed}", output_tokens=tokens, round=round_)
    accepted = tuple((assist, min(assist, 1)) for _ in range(5))
    return Sample(
        prompt,
        seconds,
        TOKENS,
        5,
        f"hash{changed}",
        draft_forwards=5 * assist,
        drafted=5 * assist,
        accepted=5,
        rejected=5 * (assist - 1),
        rollbacks=5 if assist > 1 else 0,
        steps=accepted,
        output_tokens=tokens,
        round=round_,
    )
