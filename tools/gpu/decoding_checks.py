"""Checks of decoding: what is stored and counted in every quantization, compiled code, what the suite itself costs."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch

from fixtures.engines.transformers.decoding.measurement import TimedDecoder, timed_decoder
from fixtures.engines.transformers.models import synthetic
from fixtures.engines.transformers.models.compiling import compiled_forwards, unsupported
from fixtures.engines.transformers.models.engine import TORCH_DTYPES, Engine
from fixtures.estimate.sizes import draft_size, target_size
from fixtures.measuring.limit import DeviceLimit, footprint, limit_facts, measure_limit
from fixtures.measuring.memory import free_memory
from fixtures.study.study import DecodingPoint
from reports.record.reader import read_run
from reports.record.run import Sample
from tools.gpu.outcomes import CheckFailed, CheckImpossible
from tools.gpu.setting import Setting
from tools.overhead import BAR, measure_forbidden_ends, measure_overhead, measure_telemetry, summary
from tools.walks import expected_counts

Figures = dict[str, float | int | str]

DRAFTED = (1, 3, 5)
CONTEXT_BYTES = 2**30  # of a CUDA context, caches and activations, beside the weights
BACKENDS = {"true": "inductor", "tiny": "eager"}  # inductor takes minutes for what proves nothing of a GPU
BEYOND_THE_LIMIT = 1.5
"""A share of the copy bandwidth above this is no cache at work, but bytes that were counted and not read."""


def pair_in_16_bits(setting: Setting) -> Figures:
    """Stored, accepted and emitted as planted, both models in the native dtype."""
    return _pair(setting, "none")


def pair_in_8_bits(setting: Setting) -> Figures:
    """Stored, accepted and emitted as planted, the target in LLM.int8()."""
    return _pair(setting, "8bit")


def pair_in_4_bits(setting: Setting) -> Figures:
    """Stored, accepted and emitted as planted, the target in NF4."""
    return _pair(setting, "4bit")


def stored_bytes(setting: Setting, quantization: str) -> int:
    """Bytes of a pair with the target so quantized, by arithmetic on its published dimensions."""
    target, draft = target_size(setting.pair), draft_size(setting.pair)
    assert target is not None and draft is not None
    return target.weight_bytes(quantization, setting.dtype) + draft.weight_bytes("none", setting.dtype)


def planted_output(setting: Setting) -> None:
    """Raise CheckFailed unless a pair that is loaded now decodes what its maps say, in every count."""
    with setting.engine() as engine:
        _decode(setting, engine, DecodingPoint())
        for drafted in DRAFTED:
            _decode(setting, engine, _assisted(drafted))


def compiled(setting: Setting, mode: str) -> Figures:
    """Compiled plain decoding with a static cache emits the same, is compiled once, and is entered at every token."""
    why = unsupported(setting.device.type, mode)
    if why and (setting.size == "true" or mode == "stock"):  # tiny models need no compiler
        raise CheckImpossible(why)
    point = DecodingPoint(cache="static")
    with setting.engine(draft_quant=None) as engine:
        eager = _decode(setting, engine, point)
    with setting.engine(draft_quant=None, compile_mode=mode) as engine:
        backend = BACKENDS[setting.size]
        with compiled_forwards(engine.target, None, dynamic=False, mode=mode, backend=backend) as watch:
            with timed_decoder(engine, point, setting.workload) as decoder:
                _generate(setting, decoder)
                watch.timing_begins()
                samples = _generate(setting, decoder)
            facts = watch.facts()
            notes = watch.notes(sum(sample.target_forwards for sample in samples), len(samples))
    if notes:
        raise CheckFailed("; ".join(notes))
    return {
        "eager tokens/s": _rate(eager),
        "compiled tokens/s": _rate(samples),
        "compile s": float(facts["compile_seconds"]),
    }


def overhead(setting: Setting) -> Figures:
    """The suite's path against a bare `generate`, on the same prompts by turns."""
    with setting.engine() as engine:
        ratios = [
            ratio
            for point in (DecodingPoint(), _assisted(3))
            for ratio in measure_overhead(engine, point, setting.workload, *_turns(setting))
        ]
        forbidding = summary(measure_forbidden_ends(engine, _assisted(3), setting.workload, *_turns(setting)))
    told: Figures = {"end tokens forbidden / none": forbidding.median}
    return _cost(setting, ratios, "suite / bare generate") | told


def telemetry(setting: Setting) -> Figures:
    """Decoding with telemetry beside it against decoding without, by turns."""
    with setting.engine(draft_quant=None) as engine:
        ratios = measure_telemetry(engine, DecodingPoint(), setting.workload, *_turns(setting))
    return _cost(setting, ratios, "telemetry on / off")


def suite(setting: Setting, results: Path) -> Figures:
    """The gpu-smoke study by pytest, as a user runs it, into the run file: every case measured, telemetry and all."""
    results.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "perf_tests", "--study", "gpu-smoke", "-p", "no:cacheprovider"]
    command += ["--device", str(setting.device), "--dtype", setting.dtype, "--results", str(results)]
    if setting.size == "tiny":
        command += ["--pair", setting.pair.name, "--num-samples", "2", "--max-prompt", "12", "--gen-toks", "12"]
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
        output.seek(0)
        said = output.read().strip().splitlines()
    if done.returncode or not results.exists():
        raise CheckFailed(f"pytest ended with {done.returncode}: {' / '.join(said[-3:])}")
    run = read_run(results)
    bad = {case.id: f"{case.status} {case.reason}" for case in run.finished.values() if case.status != "ok"}
    if bad or not run.complete:
        raise CheckFailed(f"not measured: {json.dumps(bad) if bad else 'the run has no end'}")
    plain = next(case for case in run.finished.values() if case.point.strategy == "plain")
    figures: Figures = {"cases": len(run.finished), "plain tokens/s": plain.metrics["thr"], "run file": results.name}
    if setting.on_gpu:
        card = plain.telemetry.get("nvml", {})
        if not card.get("values", {}).get("utilization_mean_percent"):
            raise CheckFailed(f"no utilization in the case's telemetry: {card.get('unavailable')}")
        held, stored = plain.facts["memory_allocated_bytes"], plain.facts["weight_bytes"]["target"]
        if not stored <= held < 1.25 * stored:
            raise CheckFailed(f"plain decoding held {held} bytes of the card, its target's weights are {stored}")
        figures["allocated / weights"] = held / stored
    return figures


def _pair(setting: Setting, quantization: str) -> Figures:
    expected = stored_bytes(setting, quantization)
    free, _ = free_memory(setting.device)
    if free < expected + (CONTEXT_BYTES if setting.size == "true" else 0):
        raise CheckImpossible(f"the pair takes {expected / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free")
    if setting.on_gpu:
        torch.cuda.reset_peak_memory_stats(setting.device)
    limit = _limit(setting.device, setting.dtype)
    figures: Figures = {}
    with setting.engine(quantization) as engine:
        stored = sum(engine.weight_bytes.values())
        if stored != expected:
            raise CheckFailed(f"{stored} bytes are stored, {expected} by arithmetic")
        figures["stored GiB"] = stored / 2**30
        if setting.on_gpu:
            peak = torch.cuda.max_memory_allocated(setting.device)
            figures["peak while loading GiB"] = peak / 2**30
            if peak > stored + CONTEXT_BYTES:
                raise CheckFailed(f"loading took {peak} bytes at its peak for {stored} stored")
        plain = _decode(setting, engine, DecodingPoint())
        figures["plain tokens/s"] = _rate(plain)
        facts = limit_facts(plain, [len(prompt) for prompt in setting.prompts], limit, footprint(engine.target))
        share = facts["bandwidth_share"]
        figures["bandwidth share"] = share
        if setting.size == "true" and not 0 < share < BEYOND_THE_LIMIT:
            raise CheckFailed(f"{share:.2f} of the copy bandwidth: bytes are counted that are not read")
        for drafted in DRAFTED:
            samples = _decode(setting, engine, _assisted(drafted))
            figures[f"k={drafted} tokens/s"] = _rate(samples)
            figures[f"k={drafted} accepted"] = sum(s.accepted for s in samples) / sum(s.drafted for s in samples)
    return figures


@cache
def _limit(device: torch.device, dtype: str) -> DeviceLimit:
    return measure_limit(device, TORCH_DTYPES[dtype])


def _assisted(drafted: int) -> DecodingPoint:
    return DecodingPoint("assisted", assist_toks=drafted, confidence_threshold=0.0, assist_schedule="constant")


def _decode(setting: Setting, engine: Engine, point: DecodingPoint) -> list[Sample]:
    """Decode every prompt; raises CheckFailed for another output, or other counts, than planted."""
    with timed_decoder(engine, point, setting.workload) as decoder:
        _generate(setting, decoder, warming=True)
        samples = _generate(setting, decoder)
    truth, guess = setting.maps
    for sample, prompt in zip(samples, setting.prompts, strict=True):
        if point.assist_toks is None:
            continue
        counts = expected_counts(truth, guess, prompt[-1], setting.workload.gen_toks, point.assist_toks)
        found = (sample.target_forwards, sample.drafted, sample.accepted, sample.rollbacks)
        planted = (counts.target_forwards, counts.drafted, counts.accepted, counts.rollbacks)
        if found != planted:
            raise CheckFailed(
                f"k={point.assist_toks}: forwards, drafted, accepted, rollbacks are {found}, planted were {planted}"
            )
    return samples


def _generate(setting: Setting, decoder: TimedDecoder, *, warming: bool = False) -> list[Sample]:
    """A sample per prompt, or of the first only; raises CheckFailed where an output is not the planted one."""
    samples = []
    for number, prompt in enumerate(setting.prompts[:1] if warming else setting.prompts):
        generation = decoder.generate(number, prompt)
        planted = synthetic.continuation(setting.maps[0], prompt[-1], setting.workload.gen_toks)
        if list(generation.tokens) != planted:
            both = enumerate(zip(generation.tokens, planted, strict=False))
            first = next((place for place, (found, truth) in both if found != truth), len(generation.tokens))
            raise CheckFailed(f"prompt {number}: the output parts from the planted one at token {first}")
        samples.append(generation.sample())
    return samples


def _rate(samples: Sequence[Sample]) -> float:
    return sum(sample.new_tokens for sample in samples) / sum(sample.seconds for sample in samples)


def _turns(setting: Setting) -> tuple[list[list[int]], int]:
    """Prompts, and how often both sides take turns on each: of tiny models few, for they tell nothing."""
    return (setting.prompts, 4) if setting.size == "true" else (setting.prompts[:1], 1)


def _cost(setting: Setting, ratios: list[float], what: str) -> Figures:
    """At true size it must be within the bar; of tiny models a generation is too short to tell."""
    cost = summary(ratios)
    if setting.size == "true" and cost.low > BAR:
        raise CheckFailed(f"{what} is {cost.median:.4f} [{cost.low:.4f}, {cost.high:.4f}], more than {BAR}")
    return {what: cost.median, "low": cost.low, "high": cost.high, "pairs": cost.pairs}
