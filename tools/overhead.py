"""`python -m tools.overhead` (`make overhead`): what the harness itself costs.

The suite's timed path, recorder on, alternates with a bare loop of `model.generate` on the same prompts: AB, BA,
AB, ... so that a drifting machine slows both alike. Generations are short, so that many pairs fit into minutes and what
the harness does once per generation weighs more than in a study. Printed is the median of the paired ratios with an
interval, per strategy and over all pairs; the bar for the latter is 1.01. `--turns` measures in the same way what a
generation loses because other cases had their turns before it: their weights are in the processor's caches then.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import gc
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import logging as transformers_logging

from fixtures.engines.transformers.decoding.measurement import timed_decoder
from fixtures.engines.transformers.decoding.strategies import generation_config, model_arguments, settings_in_force
from fixtures.engines.transformers.models.anatomy import text_config
from fixtures.engines.transformers.models.engine import Engine, load_engine, resolve_device
from fixtures.measuring.device import choose_dtype
from fixtures.measuring.environment import hardware, versions
from fixtures.study.pairs import Pair, find_pair
from fixtures.study.study import DecodingPoint, EngineKey, Workload
from fixtures.study.workload import load_prompts
from fixtures.telemetry import for_device

BAR = 1.01
TURNS = "in turn / alone"
POINTS = (
    DecodingPoint(),
    DecodingPoint("assisted", assist_toks=3, confidence_threshold=0.4, assist_schedule="constant"),
    DecodingPoint("prompt_lookup", assist_toks=3, lookup_ngram=2),
)


@dataclass(frozen=True)
class Overhead:
    """Median of the paired ratios side / bare, and a 95% interval of that median from its order statistics."""

    median: float
    low: float
    high: float
    pairs: int


@dataclass(frozen=True)
class Turns:
    """What is decoded in turn: how long, which prompts, and how many passes over them."""

    workload: Workload
    prompts: Sequence[tuple[int, ...]]
    rounds: int


def measure_overhead(
    engine: Engine, point: DecodingPoint, workload: Workload, prompts: Any, rounds: int
) -> list[float]:
    """Ratios of the timed path with recorder to bare `generate`, of rounds x prompts pairs."""
    arguments = {"generation_config": generation_config(engine, point, workload), **model_arguments(engine, point)}
    generate: Any = engine.target.generate
    with timed_decoder(engine, point, workload) as decoder, settings_in_force(engine, point):

        def suite(number: int, ids: tuple[int, ...]) -> Callable[[], Any]:
            inputs = decoder.prepare(number, ids)
            return lambda: decoder.decode(**inputs)

        def bare(number: int, ids: tuple[int, ...]) -> Callable[[], Any]:
            inputs = decoder.prepare(number, ids)
            return lambda: generate(inputs["inputs"], attention_mask=inputs["mask"], **arguments)

        return _paired(suite, bare, prompts, rounds)


def measure_telemetry(
    engine: Engine, point: DecodingPoint, workload: Workload, prompts: Any, rounds: int
) -> list[float]:
    """Ratios of the timed path with telemetry sampling beside it to the same without."""
    uuid = str(torch.cuda.get_device_properties(engine.device).uuid) if engine.device.type == "cuda" else None
    with timed_decoder(engine, point, workload) as decoder:

        def silent(number: int, ids: tuple[int, ...]) -> Callable[[], Any]:
            inputs = decoder.prepare(number, ids)
            return lambda: decoder.decode(**inputs)

        def sampled(number: int, ids: tuple[int, ...]) -> Callable[[], Any]:
            inputs = decoder.prepare(number, ids)
            samplers = for_device(str(engine.device), uuid)
            for sampler in samplers:
                sampler.start()

            def run() -> Any:
                return decoder.decode(**inputs)

            run.after = lambda: [sampler.stop() for sampler in samplers]  # type: ignore[attr-defined]
            return run

        return _paired(sampled, silent, prompts, rounds)


def measure_forbidden_ends(
    engine: Engine, point: DecodingPoint, workload: Workload, prompts: Any, rounds: int
) -> list[float]:
    """Ratios of `generate` with end tokens forbidden, as every case of fixed length has them, to one without any.

    Both yield as many tokens. Forbidding (`min_new_tokens`) is a logits processor of a few small kernels for each
    token, and when verifying for each drafted position: what that costs is greatest where launches bind.
    """
    forbidden = generation_config(engine, point, workload)
    endless = copy.deepcopy(forbidden)
    endless.min_new_tokens = endless.eos_token_id = None
    models = model_arguments(engine, point)
    generate: Any = engine.target.generate
    with timed_decoder(engine, point, workload) as decoder, settings_in_force(engine, point):

        def side(config: Any) -> Callable[..., Any]:
            def prepared(number: int, ids: tuple[int, ...]) -> Callable[[], Any]:
                given = decoder.prepare(number, ids)
                return lambda: generate(
                    given["inputs"], attention_mask=given["mask"], generation_config=config, **models
                )

            return prepared

        return _paired(side(forbidden), side(endless), prompts, rounds)


def measure_turns(
    engine: Engine, others: Sequence[tuple[Engine, DecodingPoint]], point: DecodingPoint, options: Turns
) -> list[float]:
    """Ratios of a generation after other cases' turns to the same after generations of its own case.

    Both decode the same prompt as their last generation, which alone is timed: after one generation of each of
    `others` with this prompt, as in a round, and after as many of the case itself with other prompts, as when it is
    measured alone. Which of the two comes first alternates, and the others' order is drawn anew each time.
    """
    drawn = random.Random(0)

    def decoded(by: Engine, at: DecodingPoint, number: int) -> float:
        with timed_decoder(by, at, options.workload) as decoder:
            inputs = decoder.prepare(number, options.prompts[number])
            return _timed(lambda: decoder.decode(**inputs), generation=0)  # as between the generations of a run

    def in_turn(number: int) -> float:
        for by, at in drawn.sample(others, len(others)):
            decoded(by, at, number)
        return decoded(engine, point, number)

    def alone(number: int) -> float:
        for before in range(len(others), 0, -1):
            decoded(engine, point, (number - before) % len(options.prompts))
        return decoded(engine, point, number)

    ratios = []
    for turn in range(options.rounds):
        for number in range(len(options.prompts)):
            if (turn + number) % 2 == 0:
                first = in_turn(number)
                ratios.append(first / alone(number))
            else:
                first = alone(number)
                ratios.append(in_turn(number) / first)
    return ratios


def _turns(pair: Pair, dtype: str, device: torch.device, options: Turns, out: Path | None) -> Overhead:
    """The cost of taking turns for each point, beside the others and plain decoding of the quantized target."""
    engine, quantized = (
        load_engine(EngineKey(pair.name, dtype=dtype, target_quant=quantization), pair, device)
        for quantization in ("none", "4bit")
    )
    cases = [(engine, point) for point in POINTS] + [(quantized, DecodingPoint())]
    ratios: dict[str, list[float]] = {}
    for by, point in cases:
        others = [case for case in cases if case != (by, point)]
        name = f"t={by.key.target_quant},{dtype}/{point.id}"
        ratios[name] = measure_turns(by, others, point, options)
        _print(name, TURNS, summary(ratios[name]))
    overall = summary([ratio for each in ratios.values() for ratio in each])
    _print("all", TURNS, overall)
    if out is not None:
        document = {
            "what": f"seconds of a generation, {TURNS}; last of {len(cases)} generations, paired by prompt",
            "pair": pair.name,
            "gen_toks": options.workload.gen_toks,
            "hardware": hardware(device),
            "versions": versions(),
            "overall": dataclasses.asdict(overall),
            "cases": {name: dataclasses.asdict(summary(each)) for name, each in ratios.items()},
            "ratios": {name: [round(ratio, 5) for ratio in each] for name, each in ratios.items()},
        }
        out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return overall


def _paired(side: Callable[..., Any], bare: Callable[..., Any], prompts: Any, rounds: int) -> list[float]:
    ratios = []
    for each in (side, bare):
        _timed(each(0, prompts[0]))
    for turn in range(rounds):
        for number, ids in enumerate(prompts):
            first, second = (side, bare) if (turn + number) % 2 == 0 else (bare, side)
            times = {first: _timed(first(number, ids)), second: _timed(second(number, ids))}
            ratios.append(times[side] / times[bare])
    return ratios


def _timed(run: Callable[[], Any], generation: int = 2) -> float:
    """Seconds of a run. generation: what is collected before it; walking all objects would empty the caches as well."""
    gc.collect(generation)
    gc.disable()
    try:
        started = time.perf_counter()
        run()
        return time.perf_counter() - started
    finally:
        gc.enable()
        after = getattr(run, "after", None)
        if after is not None:
            after()


def summary(ratios: list[float]) -> Overhead:
    """The median of paired ratios and its interval."""
    from scipy.stats import binom

    ordered = np.sort(ratios)
    tail = int(binom.ppf(0.025, len(ordered), 0.5))
    low, high = ordered[max(0, tail - 1)], ordered[min(len(ordered) - 1, len(ordered) - tail)]
    return Overhead(float(np.median(ordered)), float(low), float(high), len(ordered))


def main() -> int:
    """Print one line per point and one over all; exit code 1 if that one is over the bar."""
    parser = argparse.ArgumentParser(prog="python -m tools.overhead", description=__doc__)
    parser.add_argument("--pair", default="embedded")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--prompts", type=int, default=10, help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=8, help="passes over the prompts (%(default)s)")
    parser.add_argument("--gen-toks", type=int, default=8, help="(%(default)s)")
    others = parser.add_mutually_exclusive_group()
    others.add_argument("--telemetry", action="store_true", help="compare telemetry on with off instead")
    others.add_argument("--turns", action="store_true", help="compare a case in turn with others with the same alone")
    others.add_argument("--end-tokens", action="store_true", help="compare end tokens forbidden with none instead")
    parser.add_argument("--out", type=Path, help="with --turns: a file for all ratios")
    options = parser.parse_args()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    pair = find_pair(options.pair)
    source = "synthetic" if pair.source == "synthetic" else "embedded"
    workload = Workload(source, options.prompts, 128, options.gen_toks)
    dtype = choose_dtype(options.device).dtype if options.dtype == "auto" else options.dtype
    engine = load_engine(EngineKey(pair.name, dtype=dtype), pair, resolve_device(options.device))
    prompts = load_prompts(
        workload, lambda text: list(engine.tokenizer(text).input_ids), vocab_size=text_config(engine.target).vocab_size
    ).ids
    if options.turns:
        turns = Turns(workload, prompts, options.rounds)
        return int(_turns(pair, dtype, engine.device, turns, options.out).median > BAR)
    measured, what = measure_overhead, "suite / bare generate"
    if options.telemetry:
        measured, what = measure_telemetry, "telemetry on / off"
    elif options.end_tokens:
        measured, what = measure_forbidden_ends, "end tokens forbidden / none"
    pooled: list[float] = []
    for point in POINTS:
        ratios = measured(engine, point, workload, prompts, options.rounds)
        pooled += ratios
        _print(point.id, what, summary(ratios))
    overall = summary(pooled)
    _print("all", what, overall)
    return int(overall.median > BAR)


def _print(name: str, what: str, found: Overhead) -> None:
    print(
        f"{name}: {what} {found.median:.4f} [{found.low:.4f}, {found.high:.4f}], median of {found.pairs} pairs",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
