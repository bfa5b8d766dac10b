"""`python -m tools.batching`: how much faster a batch writes its completions than one prompt at a time.

Problems spread over HumanEval are completed greedily in batches, some of them also one by one, half of these before
and half after, so that a drifting machine slows both alike. Printed are the rates and the ratio of tokens per second.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fixtures.engines.transformers.models.engine import Engine, load_engine, resolve_device
from fixtures.humaneval.generation import Request, generate
from fixtures.humaneval.prompting import prompt_ids
from fixtures.humaneval.scoring import read_problems
from fixtures.measuring.device import choose_dtype
from fixtures.measuring.environment import environment
from fixtures.study.pairs import find_pair
from fixtures.study.study import DecodingPoint, EngineKey, Workload


def measure(engine: Engine, requests: Sequence[Request], tokens: int, rows: int | None) -> tuple[int, float]:
    """New tokens and seconds of completing all requests, `rows` at a time (None: as many as memory holds)."""
    workload = Workload("humaneval", len(requests), gen_toks=tokens, eos_stops=True)
    started = time.perf_counter()
    made = sum(
        one.tokens for batch in generate(engine, DecodingPoint(), workload, requests, rows=rows) for one in batch
    )
    return made, time.perf_counter() - started


def main() -> int:
    """Print one line per measurement and the ratio."""
    parser = argparse.ArgumentParser(prog="python -m tools.batching", description=__doc__)
    parser.add_argument("--pair", default="embedded")
    parser.add_argument("--problems", type=int, default=64, help="completed in batches (%(default)s)")
    parser.add_argument("--singles", type=int, default=8, help="of them also one by one (%(default)s)")
    parser.add_argument("--tokens", type=int, default=256, help="new tokens at most (%(default)s)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("-o", "--output", type=Path, help="a JSON file that keeps the figures and the machine")
    options = parser.parse_args()
    pair = find_pair(options.pair)
    key = EngineKey(pair.name, draft_quant=None, dtype=choose_dtype(options.device).dtype)
    engine = load_engine(key, pair, resolve_device(options.device))
    problems = list(read_problems().values())
    chosen = problems[:: max(1, len(problems) // options.problems)][: options.problems]
    requests = [
        Request(one["task_id"], 0, one["prompt"], prompt_ids(one["prompt"], pair.prompt_form, engine.tokenizer), 0)
        for one in chosen
    ]
    singles = requests[:: max(1, len(requests) // options.singles)][: options.singles]
    measure(engine, singles[:1], 8, 1)
    totals = {"batched": [0.0, 0.0], "one by one": [0.0, 0.0]}
    halves = (singles[: len(singles) // 2], singles[len(singles) // 2 :])
    for name, part, rows in (
        ("one by one", halves[0], 1),
        ("batched", requests, None),
        ("one by one", halves[1], 1),
    ):
        made, seconds = measure(engine, part, options.tokens, rows)
        totals[name][0] += made
        totals[name][1] += seconds
        rate = made / seconds
        print(f"{name}: {len(part)} problems, {made} tokens in {seconds:.1f} s, {rate:.1f} tokens/s", flush=True)
    rates = {name: made / seconds for name, (made, seconds) in totals.items()}
    ratio = rates["batched"] / rates["one by one"]
    print(f"batched / one by one: {ratio:.1f} times the tokens/s")
    if options.output is not None:
        options.output.write_text(json.dumps(_kept(engine, rates, ratio, options), indent=1) + "\n", encoding="utf-8")
    return 0


def _kept(engine: Engine, rates: Mapping[str, float], ratio: float, options: argparse.Namespace) -> dict[str, Any]:
    """The figures with their machine; `says` is one sentence for a reader."""
    where = environment(engine.device)
    hardware, versions = where["hardware"], where["versions"]
    machine = hardware.get("gpu") or f"{hardware['cpu']}, {hardware['cpu_cores']} cores"
    says = (
        f"{rates['batched']:.0f} against {rates['one by one']:.0f} tokens/s one by one, {ratio:.1f} times "
        f"({options.pair}, {options.problems} problems; {machine}; torch {versions['torch']})"
    )
    return {"says": says, "tokens_per_second": dict(rates), "ratio": ratio, "environment": where}


if __name__ == "__main__":
    sys.exit(main())
