"""`python -m tools.equal_settings`: how often the interval of two equal settings contains 1, on this machine.

Each of three settings of the embedded pair decodes under two names, by rounds and then case after case on the same
prompts. Over windows of rounds the 95% interval of every equal pair is asked whether it contains 1. Writes the two run
files and the answer beside them, which docs/statistics.md shows. Takes about ten minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from fixtures.measuring.device import choose_dtype
from fixtures.study.pairs import find_pair
from fixtures.study.study import Case, Impossible, Study, Sweep, Workload
from fixtures.suite.session import BenchSession
from reports.numbers.pairing import compared
from reports.numbers.speedups import PER_TOKEN
from reports.numbers.statistics import paired_ratio_of_totals
from reports.record.reader import read_run
from reports.record.run import CaseResult, Run

WINDOWS = (10, 20, 60)
FOLDER = Path("tools/results/equal-settings")
NAMES = ("a", "b")
SWEEPS = (
    Sweep("baseline"),
    Sweep("speculative_decoding", {"strategy": ("assisted",), "assist_toks": (3,), "confidence_threshold": (0.4,)}),
    Sweep("speculative_decoding", {"strategy": ("prompt_lookup",), "assist_toks": (3,)}),
)


@dataclasses.dataclass(frozen=True)
class TwiceNamed(Study):
    """A study whose every case stands under two names, which are the last part of the ids."""

    def expansion(self) -> tuple[list[Case], list[Impossible]]:
        cases, impossible = super().expansion()
        return [dataclasses.replace(case, variant=name) for name in NAMES for case in cases], impossible


def study_of(order: str, rounds: int, dtype: str) -> Study:
    """The study, its cases one after the other or in turn."""
    sweeps = tuple(dataclasses.replace(sweep, axes={**sweep.axes, "dtype": (dtype,)}) for sweep in SWEEPS)
    workload = Workload("embedded", num_samples=rounds, max_prompt=64, gen_toks=16)
    return TwiceNamed(
        "equal-settings",
        "each of three settings under two names",
        (find_pair("embedded"),),
        sweeps,
        workload,
        warmup=1,
        order=order,  # type: ignore[arg-type]
        keep_tokens=False,
    )


def measure(study: Study, path: Path) -> Run:
    """Every case of the study, in a run file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    session = BenchSession(study, path, resume=False, argv=["-m", "tools.equal_settings"])
    session.begin(session.cases)
    for case in session.in_order():
        session.measure_until(case)
    session.end()
    return read_run(path)


def coverage(run: Run) -> dict[str, dict[str, int]]:
    """By window of rounds: how many windows of equal pairs there are, without overlap, and how many contain 1."""
    answer = {}
    for window in WINDOWS:
        hits = [
            contains
            for one, other in _equal_pairs(run.cases)
            for start in range(0, len(one.samples) - window + 1, window)
            if (contains := _contains_1(one, other, run, range(start, start + window))) is not None
        ]
        answer[str(window)] = {"pairs": len(hits), "contain_1": sum(hits)}
    return answer


def in_words(answer: dict[str, dict[str, dict[str, int]]]) -> str:
    """The answer as a table for the docs."""
    names = {
        "rounds": "by rounds",
        "blocks": "case after case, with what is assumed of the machine",
        "blocks, over prompts alone": "case after case, over prompts alone",
    }
    rows = [f"| equal settings on one machine | {' | '.join(f'{window} rounds' for window in WINDOWS)} |"]
    rows.append("|:---|" + "---:|" * len(WINDOWS))
    for key, name in names.items():
        shares = (f"{cell['contain_1']} of {cell['pairs']}" for cell in answer[key].values())
        rows.append(f"| {name} | {' | '.join(shares)} |")
    return "\n".join(rows)


def _equal_pairs(cases: Sequence[CaseResult]) -> list[tuple[CaseResult, CaseResult]]:
    return [
        (one, other)
        for one, other in combinations(cases, 2)
        if one.status == other.status == "ok" and (one.engine, one.point) == (other.engine, other.point)
    ]


def over_prompts_alone(run: Run) -> dict[str, dict[str, int]]:
    """As `coverage`, with the interval that knows of prompts only and not of what the machine did meanwhile."""
    answer = {}
    for window in WINDOWS:
        hits = []
        for one, other in _equal_pairs(run.cases):
            for start in range(0, len(one.samples) - window + 1, window):
                columns = [
                    [getattr(sample, name) for sample in case.samples[start : start + window]]
                    for case in (one, other)
                    for name in ("seconds", "new_tokens")
                ]
                hits.append(not paired_ratio_of_totals(*columns).excludes(1.0))
        answer[str(window)] = {"pairs": len(hits), "contain_1": sum(hits)}
    return answer


def _contains_1(one: CaseResult, other: CaseResult, run: Run, prompts: range) -> bool | None:
    parts = [
        dataclasses.replace(
            case,
            samples=tuple(sample for sample in case.samples if sample.prompt in prompts),
            repeats=tuple(sample for sample in case.repeats if sample.prompt in prompts),
        )
        for case in (one, other)
    ]
    ratio = compared(parts[:1], parts[1:], run, PER_TOKEN)
    return None if ratio is None else not ratio.interval.excludes(1.0)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.equal_settings", description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    given = parser.parse_args(arguments)
    dtype = choose_dtype("cpu").dtype
    answer: dict[str, Any] = {}
    for order in ("rounds", "blocks"):
        run = measure(study_of(order, given.rounds, dtype), given.folder / f"{order}.jsonl")
        answer[order] = coverage(run)
        answer[f"{order}, over prompts alone"] = over_prompts_alone(run)
    print(json.dumps(answer, indent=1))
    answer = {"says": in_words(answer), **answer}
    (given.folder / "coverage.json").write_text(json.dumps(answer, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
