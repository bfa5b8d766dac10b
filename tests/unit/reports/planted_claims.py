"""Run files in which every claim is true, false, or cannot be told; their speeds, counts and scores are set here."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from planted_runs import typed

from reports.numbers import humaneval
from reports.numbers.metrics import derive
from reports.record.lines import SCHEMA
from reports.record.reader import read_run
from reports.record.run import CaseResult, Completion, Run, Sample
from reports.record.writer import case_line, completion_line, verdict_line

PAIRS = [
    {"name": "small", "target": "T", "draft": "D-1B"},
    {"name": "large", "target": "T", "draft": "D-3B"},
]
TOKENS, PROMPT = 16, 64
LENGTHS = (16, 64, 256)
QUANTIZATIONS = ("none", "8bit", "4bit")


@dataclass(frozen=True)
class World:
    """Seconds per token by setting, and what else decides on the claims.

    curve: assist_toks -> seconds per token of assisted greedy decoding; sampled: at k=3. large: (seconds per token,
    share accepted) of the larger draft at k=3, where the smaller one accepts 0.6. quantized: factors on the seconds of
    (plain 8bit, plain 4bit, every assisted combination). utilization: of quantized cases, of others it is 90.
    uncached, cached: exponents of the seconds per token with the length. solved: HumanEval problems solved with the
    target in none, 8bit, 4bit.
    """

    curve: dict[int, float]
    sampled: float
    large: tuple[float, float]
    quantized: tuple[float, float, float]
    utilization: float
    uncached: float
    cached: float
    solved: tuple[int, int, int]
    prompts: int = 12
    spread: float = 0.01
    problems: int = 164
    readings: int = 40


TRUE = World(
    {1: 0.070, 2: 0.060, 3: 0.050, 5: 0.056, 8: 0.066},
    0.058,
    (0.060, 0.8),
    (1.5, 1.2, 1.4),
    60.0,
    1.0,
    0.0,
    (100, 100, 99),
)
FALSE = World(
    {1: 0.080, 2: 0.075, 3: 0.070, 5: 0.060, 8: 0.050},
    0.060,
    (0.060, 0.4),
    (1.5, 0.8, 1.1),
    95.0,
    0.0,
    0.0,
    (100, 100, 70),
)
SCARCE = dataclasses.replace(TRUE, prompts=2, spread=0.3, problems=12, solved=(8, 7, 6), readings=3)


def sample(prompt: int, seconds: float, tokens: int = TOKENS, *, ttft: float = 0.0, accepted: int = 0) -> Sample:
    return Sample(
        prompt,
        seconds + ttft,
        tokens,
        tokens,
        f"hash{prompt}",
        ttft_seconds=ttft,
        drafted=100 if accepted else 0,
        accepted=accepted,
        rejected=100 - accepted if accepted else 0,
        rollbacks=10 if accepted else 0,
    )


def decode(pair: str, name: str, samples: list[Sample], *, gen_toks: int = TOKENS, **settings: Any) -> CaseResult:
    """A case with these settings; engine and point keys alike. `utilization`: the readings of the process."""
    readings = settings.pop("utilization", None)
    point = {"strategy": "plain", "do_sample": False, "cache": "dynamic"}
    engine = {"pair": pair, "target_quant": "none", "draft_quant": "none", "dtype": "bf16", "compile": False}
    for key, setting in settings.items():
        (engine if key in engine else point)[key] = setting
    quants = f"t={engine['target_quant']},d={engine['draft_quant']},bf16"
    assisted = point["strategy"] != "plain"
    found = CaseResult(
        f"{pair}/{quants}/{name}",
        "ok",
        engine=engine,
        point=point,
        workload={"prompts": "embedded", "num_samples": len(samples), "max_prompt": PROMPT, "gen_toks": gen_toks},
        samples=tuple(samples),
        metrics=derive(samples, speculative=assisted),
        telemetry={}
        if readings is None
        else {"cpu": {"series": {"process_utilization_percent": {"values": [round(one, 3) for one in readings]}}}},
    )
    return typed(found)


def cases_of(world: World, seed: int = 0) -> list[CaseResult]:
    """The decoding cases of a world; every timing differs from what was set by the world's spread."""
    random = np.random.default_rng(seed)
    difficulty = random.lognormal(0, 0.2, world.prompts)

    def timed(per_token: float, accept: float = 0.0) -> list[Sample]:
        noise = random.lognormal(0, world.spread, world.prompts)
        accepted = np.clip(random.normal(100 * accept, 200 * world.spread, world.prompts), 1, 99).astype(int)
        return [
            sample(i, TOKENS * per_token * difficulty[i] * noise[i], accepted=int(accepted[i]) if accept else 0)
            for i in range(world.prompts)
        ]

    def readings(level: float) -> list[float]:
        return list(random.normal(level, 3.0, world.readings))

    slow8, slow4, slow = world.quantized
    found = [decode("small", "plain,greedy,dynamic", timed(0.100), utilization=readings(90))]
    for quant, factor in (("8bit", slow8), ("4bit", slow4)):
        found.append(
            decode(
                "small",
                "plain,greedy,dynamic",
                timed(0.100 * factor),
                target_quant=quant,
                utilization=readings(world.utilization),
            )
        )
    assisted: dict[str, Any] = {"strategy": "assisted", "confidence_threshold": 0.2, "assist_schedule": "constant"}
    for k, per_token in world.curve.items():
        found.append(
            decode("small", f"assisted,k={k},p=0.2,greedy,dynamic", timed(per_token, 0.6), assist_toks=k, **assisted)
        )
    assisted["assist_toks"] = 3
    found.append(
        decode("small", "assisted,k=3,p=0.2,sampled,dynamic", timed(world.sampled, 0.6), do_sample=True, **assisted)
    )
    found.append(decode("large", "assisted,k=3,p=0.2,greedy,dynamic", timed(*world.large), **assisted))
    for target in QUANTIZATIONS:
        for draft in QUANTIZATIONS:
            if (target, draft) != ("none", "none"):
                samples = timed(world.curve[3] * slow, 0.6)
                quants = {"target_quant": target, "draft_quant": draft}
                found.append(decode("small", "assisted,k=3,p=0.2,greedy,dynamic", samples, **quants, **assisted))
    for cache, exponent in (("none", world.uncached), ("dynamic", world.cached)):
        for tokens in LENGTHS:
            per_token = 0.1 * ((PROMPT + tokens / 2) / PROMPT) ** exponent
            noise = random.lognormal(0, world.spread, world.prompts)
            lengths = [
                sample(i, (tokens - 1) * per_token * difficulty[i] * noise[i], tokens, ttft=0.3)
                for i in range(world.prompts)
            ]
            name = f"plain,greedy,{cache},n={tokens}"
            if (cache, tokens) != ("dynamic", TOKENS):
                found.append(decode("small", name, lengths, gen_toks=tokens, cache=cache))
    if world.cached == 0:  # the baseline itself is the shortest length with a cache: give it a first forward as well
        first = [dataclasses.replace(one, ttft_seconds=one.seconds / TOKENS) for one in found[0].samples]
        found[0] = dataclasses.replace(found[0], samples=tuple(first))
    return found


def solved_cases(world: World) -> list[tuple[CaseResult, list[Completion]]]:
    """HumanEval of the target in every quantization, each solving the first problems of the list."""
    found = []
    for quant, solved in zip(QUANTIZATIONS, world.solved, strict=True):
        name = f"small/t={quant},bf16/plain,greedy,dynamic/humaneval,base"
        completions = [
            Completion(name, f"task/{i}", 0, "", 10, 0.5, "passed" if i < solved else "failed")
            for i in range(world.problems)
        ]
        case = CaseResult(
            name,
            "ok",
            "humaneval",
            engine={"pair": "small", "target_quant": quant, "draft_quant": "none", "dtype": "bf16"},
            point={"strategy": "plain", "do_sample": False, "cache": "dynamic"},
            metrics=humaneval.derive(completions, (1,)),
        )
        found.append((typed(case), completions))
    return found


def write_claims(
    path: Path, cases: list[CaseResult], solved: list[tuple[CaseResult, list[Completion]]] | None = None, **study: Any
) -> Run:
    """A run file of these cases, read back. study: keys of the header's study. Written at once, not line by line."""
    header = {"study": {"name": "planted", "pairs": PAIRS, **study}, "environment": {"hardware": {}, "versions": {}}}
    lines: list[dict[str, Any]] = [{"kind": "run", "schema": SCHEMA, **header}, *map(case_line, map(typed, cases))]
    for case, completions in solved or []:
        lines += [completion_line(one) for one in completions] + [verdict_line(one) for one in completions]
        lines.append(case_line(case))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in [*lines, {"kind": "end"}]), encoding="utf-8")
    return read_run(path)
