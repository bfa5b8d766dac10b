"""A machine that drifts as a recorded one did: its speed over time is made of what a published run saw of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reports.record.reader import read_run
from reports.record.run import CaseResult, Run, Sample
from reports.record.settings import DecodingPoint, EngineKey, WorkloadDone

Array = npt.NDArray[np.float64]
ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT / "reports/published/embedded.jsonl"
TOKENS = 64


@dataclass(frozen=True)
class RecordedMachine:
    """slowness: log of how much slower the machine was, (measurements, generations): of one baseline, measured several
    times through a run, less what each prompt takes on average. prompts: log seconds per token of each prompt, by case;
    cases: what they are."""

    slowness: Array
    prompts: dict[str, Array]
    cases: dict[str, CaseResult]

    def long_run(self, rounds: int, random: np.random.Generator) -> Run:
        """A run by rounds of every case that was recorded."""
        seconds = self.by_rounds(list(self.cases), rounds, random)
        cases = [
            replace(case, samples=_samples(seconds[:, place], by_rounds=True), block=0)
            for place, case in enumerate(self.cases.values())
        ]
        return run_of(cases, order="rounds")

    def over(self, generations: int, random: np.random.Generator) -> Array:
        """The log slowness of so many generations in a row: recorded stretches in random order, begun anywhere."""
        count, length = self.slowness.shape
        order = random.integers(count, size=generations // length + 2)
        stretches: Array = self.slowness[order].ravel()[random.integers(length) :]
        return stretches[:generations]

    def by_rounds(self, settings: list[str], rounds: int, random: np.random.Generator, *, fixed: bool = False) -> Array:
        """Seconds per token, (rounds, settings): all settings decode the prompt of a round, in an order drawn anew.

        fixed: the prompts are the same in every run, else they are drawn, too.
        """
        turns = random.permuted(np.tile(np.arange(len(settings)), (rounds, 1)), axis=1)
        slowness = self.over(turns.size, random).reshape(turns.shape)
        prompts = random.integers(self.slowness.shape[1], size=rounds)
        if fixed:
            prompts = np.arange(rounds) % self.slowness.shape[1]
        logs = np.column_stack([self.prompts[name][prompts] for name in settings])
        return np.asarray(np.exp(logs + np.take_along_axis(slowness, np.argsort(turns, axis=1), axis=1)))

    def in_blocks(self, settings: list[str], rounds: int, random: np.random.Generator) -> Array:
        """The same, but each setting decodes all its prompts before the next one begins."""
        slowness = self.over(rounds * len(settings), random).reshape(len(settings), rounds).T
        prompts = random.integers(self.slowness.shape[1], size=rounds)
        logs = np.column_stack([self.prompts[name][prompts] for name in settings])
        return np.asarray(np.exp(logs + slowness))


def recorded_machine(path: Path = RECORDED) -> RecordedMachine:
    """The machine of a run that measured its baseline several times; the settings are those of its full length."""
    run = read_run(path)
    gen_toks = run.header["study"]["workload"]["gen_toks"]
    cases = [
        case for case in run.cases if case.kind == "decode" and case.samples and case.workload.gen_toks == gen_toks
    ]
    baseline = next(case for case in cases if run.is_own_baseline(case))
    logs = np.array([_logs(case) for case in cases if case.id == baseline.id])
    once = {case.id: case for case in cases if not case.again}
    prompts = {name: _logs(case) for name, case in once.items()} | {baseline.id: logs.mean(axis=0)}
    return RecordedMachine(slowness=logs - logs.mean(axis=0), prompts=prompts, cases=once)


def _logs(case: CaseResult) -> Array:
    samples = sorted(case.samples, key=lambda sample: sample.prompt)
    return np.log([sample.seconds / sample.new_tokens for sample in samples])


def measured_case(
    name: str, seconds: Array, *, by_rounds: bool, again: bool = False, plain: bool = True, drafted: int = 3
) -> CaseResult:
    """A case with these seconds per token, prompt i being round i."""
    return CaseResult(
        id=name,
        status="ok",
        engine=EngineKey("simulated", draft_quant=None),
        point=DecodingPoint() if plain else DecodingPoint("prompt_lookup", drafted),
        workload=WorkloadDone(),
        samples=_samples(seconds, by_rounds=by_rounds),
        again=again,
        block=0 if by_rounds else None,
    )


def run_of(cases: list[CaseResult], *, order: str) -> Run:
    """A run of these cases, in memory."""
    return Run(Path("simulated.jsonl"), {"order": order, "study": {}}, tuple(cases), True)


def _samples(seconds: Array, *, by_rounds: bool) -> tuple[Sample, ...]:
    return tuple(
        Sample(i, TOKENS * value, TOKENS, TOKENS, "", round=i if by_rounds else None)
        for i, value in enumerate(seconds.tolist())
    )
