"""The parts of a small run file whose figures are known by hand."""

from __future__ import annotations

import dataclasses
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from reports.record.run import CaseResult, Sample
from reports.record.settings import PARTS

HEADER = {
    "study": {
        "name": "planted",
        "drift_limit": 0.05,
        "workload": {"prompts": "embedded", "num_samples": 2, "max_prompt": 64, "gen_toks": 10},
    },
    "environment": {"hardware": {"cpu": "A processor", "cpu_cores": 2}, "versions": {"torch": "2.13.0"}},
}
WORKLOAD = {"prompts": "embedded", "num_samples": 2, "max_prompt": 64, "gen_toks": 10, "prompts_sha256": "abc"}
ENGINE = {"pair": "p", "target_quant": "none", "draft_quant": "none", "dtype": "bf16", "compile": False}


def plain(prompt: int, seconds: float) -> Sample:
    return Sample(prompt, seconds, 10, 10, f"hash{prompt}", ttft_seconds=seconds / 10)


def assisted(prompt: int, seconds: float) -> Sample:
    return Sample(
        prompt,
        seconds,
        10,
        4,
        f"hash{prompt}",
        ttft_seconds=seconds / 4,
        first_tokens=4,
        draft_forwards=9,
        drafted=9,
        accepted=6,
        rejected=2,
        censored=1,
        rollbacks=2,
        proposed_at=(3, 3, 3),
        accepted_at=(3, 2, 1),
        steps=((3, 3), (3, 2), (3, 1), (0, 0)),
        draft_seconds=seconds / 4,
        verify_seconds=seconds / 2,
        other_seconds=seconds / 4,
        output_tokens=tuple(range(10)),
    )


def case(name: str, samples: list[Sample], **changes: Any) -> CaseResult:
    """A case that ended well; one that decodes otherwise than plainly was found equal, unless its facts say more."""
    values: dict[str, Any] = {
        "id": name,
        "status": "ok",
        "experiment": "speculative_decoding",
        "engine": ENGINE,
        "point": {"strategy": "plain", "do_sample": False, "cache": "dynamic"},
        "workload": WORKLOAD,
        "samples": tuple(samples),
    }
    values |= changes
    if values["point"].get("strategy") != "plain" and not values["point"].get("do_sample") and samples:
        values["facts"] = {"losslessness": {"verdict": "equal"}} | dict(values.get("facts") or {})
    return typed(CaseResult(**values))


def changed(given: CaseResult, **changes: Any) -> CaseResult:
    """The case with other fields; its settings may be given as mappings."""
    return typed(dataclasses.replace(given, **changes))


def typed(given: CaseResult) -> CaseResult:
    """A case whose settings may be mappings, as a run file writes them; absent settings have their defaults."""
    parts = {part: getattr(given, part) for part in PARTS}
    made = {
        part: PARTS[part](**({"pair": ""} if part == "engine" else {}) | values)
        for part, values in parts.items()
        if isinstance(values, dict)
    }
    return dataclasses.replace(given, **made)


def write_large(path: Path, cases: int, samples: int, seed: int) -> None:
    """A run file of many cases, alternately plain and assisted, with random times; written line by line."""
    random = np.random.default_rng(seed)
    hashes = [sha256(f"{i}".encode()).hexdigest() for i in range(samples)]
    plain_rest, assisted_rest = (
        [f'"new_tokens":24,"target_forwards":{forwards},"output_sha256":"{each}"{more}' for each in hashes]
        for forwards, more in ((24, ""), (12, ',"drafted":36,"accepted":12,"rejected":20,"rollbacks":10'))
    )
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps({"kind": "run", "schema": 1, **HEADER}) + "\n")
        for number in range(cases):
            assists = number % 2
            point = {"strategy": "assisted" if assists else "plain", "assist_toks": number, "do_sample": False}
            head = {"kind": "case", "case_kind": "decode", "id": f"p/{number}", "status": "ok", "experiment": "large"}
            head |= {"engine": ENGINE, "point": point, "workload": WORKLOAD}
            seconds = random.lognormal(0, 0.2, samples).tolist()
            rows = ",".join(
                f'{{"prompt":{i},"seconds":{time!r},{rest},"ttft_seconds":{time / 10!r}}}'
                for i, (time, rest) in enumerate(zip(seconds, assisted_rest if assists else plain_rest, strict=True))
            )
            file.write(f'{json.dumps(head, separators=(",", ":"))[:-1]},"samples":[{rows}]}}\n')
        file.write('{"kind":"end"}\n')
