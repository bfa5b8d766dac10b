"""Which case of one run is which case of another, and what else differs between the two runs.

Cases are matched by what they are, never by position, experiment or how many others were run. Knows the run file and
nothing of metrics, statistics or rendering.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.record.published import is_reference
from reports.record.run import CaseResult, Run, RunFileError

UNKNOWN_WEIGHTS = "local folder"  # what run files said of any folder before its weights were looked at
_PROMPTS = ("num_samples", "prompts_sha256")
_STUDY_SETTINGS = ("warmup", "nf4_double_quant", "ppl_tokens", "keep_tokens")


@dataclass(frozen=True)
class Difference:
    """One key of the environment, and its value in either run; empty where a run does not have it."""

    key: str
    base: str
    head: str


@dataclass(frozen=True)
class Matching:
    """The cases of two runs, each in exactly one of the four; repeated measurements of baselines are in none.

    renamed: equal in every setting, but under another id. Order: that of the base, for `new` that of the head.
    """

    pairs: tuple[tuple[CaseResult, CaseResult], ...]
    new: tuple[CaseResult, ...]
    gone: tuple[CaseResult, ...]
    renamed: tuple[tuple[CaseResult, CaseResult], ...]


def identity(case: CaseResult) -> str:
    """The key under which a case is found in other runs: its id, and the settings that the id does not carry.

    Left out, because they depend on what else was run: the experiment, the loaded draft where decoding does not use
    it, the ending `,n=` that an id has only where the length differs from the study's own, and the number of prompts
    (the prompts themselves are in it, by their hash). Settings that only a newer version knows are left out, too: an id
    tells those that are not at their default.
    """
    return f"{_plain_id(case)} {_known_settings(case)}"


def hardware_key(run: Run) -> str:
    """The machine in a few characters fit for a file name: `cpu-amd-epyc-2c-avx512`, `gpu-nvidia-l4-72w-on-amd-epyc`.

    A GPU's decoding is bound by its power as well as by the processor that launches its kernels; one whose memory
    corrects no errors reads faster. A processor that uses fewer threads than it has cores says so (`-1t`): it is
    another machine to a clock. One with other vector instructions rounds differently under the same name.
    """
    hardware = environment(run).get("hardware") or {}
    if gpu := hardware.get("gpu"):
        limit, host = hardware.get("gpu_power_limit_watts"), hardware.get("cpu")
        parts = ["gpu", _slug(gpu), *([f"{limit:.0f}w"] if isinstance(limit, int | float) else [])]
        parts += ["no-ecc"] if hardware.get("gpu_ecc") is False else []
        return "-".join([*parts, *(["on", _slug(host)] if host else [])])
    cores, threads = hardware.get("cpu_cores"), hardware.get("cpu_threads_used")
    parts = ["cpu", _slug(hardware.get("cpu") or "unknown")]
    if cores:
        parts.append(f"{cores}c")
    if threads and threads != cores:
        parts.append(f"{threads}t")
    if capability := hardware.get("cpu_capability"):
        parts.append(_slug(capability))
    return "-".join(parts)


def versions_key(run: Run) -> str:
    """The software that decides speed and rounding: `python=3.11.7,torch=2.13.0,...`, in alphabetical order."""
    found = environment(run)
    versions = {"python": found.get("python", "unknown"), **(found.get("versions") or {})}
    return ",".join(f"{name}={versions[name]}" for name in sorted(versions))


def environment(run: Run) -> Mapping[str, Any]:
    """What the run says about its machine and software; empty if it says nothing."""
    found = run.header.get("environment")
    return found if isinstance(found, Mapping) else {}


def environment_differences(base: Run, head: Run) -> tuple[Difference, ...]:
    """What differs in hardware, software, commit, model revisions and how the suite was told to measure."""
    first, second = _surroundings(base), _surroundings(head)
    keys = [*first, *(key for key in second if key not in first)]
    return tuple(
        Difference(key, first.get(key, ""), second.get(key, ""))
        for key in keys
        if first.get(key, "") != second.get(key, "")
    )


def weights_differences(base: Run, head: Run) -> tuple[Difference, ...]:
    """Models of pairs that both runs measured, under one name, with different weights: two models, not two states.

    A folder whose weights an older suite did not look at is not called different.
    """
    first, second = _revisions(base), _revisions(head)
    return tuple(
        Difference(key, first[key], second[key])
        for key in first
        if key in second and first[key] != second[key] and UNKNOWN_WEIGHTS not in (first[key], second[key])
    )


def refuse_other_workloads(base: Run, head: Run) -> None:
    """Raise RunFileError, naming the keys, if the two runs decoded different things.

    Compared per pair and kind of case, over the keys that both know: a key's values are different if no case of one
    run shares its value with a case of the other, so that a sweep over lengths and a part of it are comparable. Fewer
    prompts are another workload too: the hash covers all prompts, so that nothing shows the common ones to be equal.
    """
    second = _workloads(head)
    for place, first in _workloads(base).items():
        other = second.get(place, {})
        differing = [key for key in first if key in other and not first[key] & other[key]]
        if differing:
            told = ", ".join(f"{key} {_values(first[key])} != {_values(other[key])}" for key in differing)
            raise RunFileError(
                f"{head.path}: another workload than {base.path} ({place[1]}): {told}; "
                "measure both with the same prompts, lengths and seed"
            )


def match(base: Run, head: Run) -> Matching:
    """Match the cases of two runs by `identity`; where either is a reference, by the settings that both state.

    A case that ended before its prompts were read has no hash of them: it is matched by the rest of its identity. The
    repeats of a pair's cases are in `repeats`.
    """
    first, second = _once(base), _once(head)
    keys: list[Callable[[CaseResult], str]]
    if is_reference(base) or is_reference(head):
        known = _stated(first) & _stated(second)
        keys = [lambda case: _settings(case, known)]
    else:
        keys = [identity, lambda case: f"{_plain_id(case)} {_known_settings(case, leave_out=_PROMPTS)}"]
    pairs: dict[int, tuple[CaseResult, CaseResult]] = {}
    for number, key in enumerate(keys):
        found, first, second = _pair_up(first, second, key)
        hashless = [pair for pair in found if not all(case.workload.prompts_sha256 for case in pair)]
        kept = found if number == 0 else hashless
        pairs |= {id(one): (one, other) for one, other in kept}
        first += [one for one, _ in found if id(one) not in pairs]
        second += [other for one, other in found if id(one) not in pairs]
    renamed, first, second = _pair_up(first, second, _settings)
    place = {id(case): number for number, case in enumerate((*base.cases, *head.cases))}
    return Matching(
        tuple(sorted(pairs.values(), key=lambda pair: place[id(pair[0])])),
        tuple(sorted(second, key=lambda case: place[id(case)])),
        tuple(sorted(first, key=lambda case: place[id(case)])),
        tuple(sorted(renamed, key=lambda pair: place[id(pair[0])])),
    )


def repeats(case: CaseResult, run: Run) -> tuple[CaseResult, ...]:
    """The repeated measurements of a baseline in its run, in order; empty for other cases."""
    found = [other for other in run.results.get(case.id, ()) if other.again]
    wanted = identity(case) if found else ""
    return tuple(other for other in found if identity(other) == wanted)


def _settings(case: CaseResult, known: Iterable[str] | None = None, leave_out: Sequence[str] = ("num_samples",)) -> str:
    found = {"kind": case.kind, **case.settings}
    kept = {key: value for key, value in found.items() if key not in leave_out}
    if known is not None:
        allowed = set(known)
        kept = {key: value for key, value in kept.items() if key in allowed}
    return json.dumps({key: _number(value) for key, value in kept.items()}, sort_keys=True, default=str)


def _known_settings(case: CaseResult, leave_out: Sequence[str] = ("num_samples",)) -> str:
    return _settings(case, leave_out=(*leave_out, *case.unknown_settings))


def _number(value: Any) -> Any:
    """0.0 and 0 are one threshold, but False is not 0."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _plain_id(case: CaseResult) -> str:
    return re.sub(r",n=\d+(?=$|/)", "", case.id)


def _pair_up(
    first: Sequence[CaseResult], second: Sequence[CaseResult], key: Callable[[CaseResult], str]
) -> tuple[list[tuple[CaseResult, CaseResult]], list[CaseResult], list[CaseResult]]:
    """Pairs of equal key, and what is left over on either side; of several with one key, equal ids go first."""
    waiting: dict[str, list[CaseResult]] = defaultdict(list)
    for case in second:
        waiting[key(case)].append(case)
    keyed = [(case, key(case)) for case in first]
    found: dict[int, CaseResult] = {}
    for same_id in (True, False):
        for case, wanted in keyed:
            partners = waiting.get(wanted, [])
            place = next((i for i, other in enumerate(partners) if not same_id or other.id == case.id), None)
            if id(case) not in found and place is not None:
                found[id(case)] = partners.pop(place)
    pairs = [(case, found[id(case)]) for case in first if id(case) in found]
    taken = {id(other) for other in found.values()}
    return pairs, [case for case in first if id(case) not in found], [case for case in second if id(case) not in taken]


def _once(run: Run) -> list[CaseResult]:
    """The last result of every case; one that was measured twice under one identity counts with its last result.

    A case that ended before its prompts were read has no hash of them: it is the same as one that has.
    """
    found: dict[tuple[str, str], dict[str, CaseResult]] = {}
    for case in run.cases:
        if case.again:
            continue
        of_case = found.setdefault((case.id, _settings(case, leave_out=_PROMPTS)), {})
        prompts = case.workload.prompts_sha256 or ""
        if not prompts:
            of_case.clear()
        of_case.pop("", None)
        of_case[prompts] = case
    return [case for of_case in found.values() for case in of_case.values()]


def _stated(cases: Iterable[CaseResult]) -> set[str]:
    return {key for case in cases for key in case.settings} | {"kind"}


def _workloads(run: Run) -> dict[tuple[str, str], dict[str, set[str]]]:
    """(kind, pair) -> key of the workload -> its values over the cases, as text."""
    found: dict[tuple[str, str], dict[str, set[str]]] = {}
    for case in run.cases:
        of_pair = found.setdefault((case.kind, case.engine.pair), {})
        for key, value in vars(case.workload).items():
            if value is not None and key not in case.unstated:
                of_pair.setdefault(key, set()).add(_short(value))
    return found


def _surroundings(run: Run) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in environment(run).items():
        if key == "conditions":  # what the machine was doing when the run began: never twice the same
            continue
        if isinstance(value, Mapping):
            found |= {name: str(one) for name, one in value.items()}
        else:
            found[key] = str(value)
    study = run.header.get("study")
    if isinstance(study, Mapping):
        found |= {name: str(study[name]) for name in _STUDY_SETTINGS if name in study}
    if run.header.get("by_turns"):
        found["by_turns"] = "true"
    return found | _revisions(run)


def _revisions(run: Run) -> dict[str, str]:
    """What identifies the weights of every model of the run: `target of PAIR` -> revision."""
    found: dict[str, str] = {}
    for case in run.cases:
        revisions = case.facts.get("revisions")
        for role, revision in (revisions if isinstance(revisions, Mapping) else {}).items():
            found[f"{role} of {case.engine.pair or '?'}"] = str(revision)
    return found


def _values(values: Iterable[str]) -> str:
    return "/".join(sorted(values))


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}..." if re.fullmatch(r"[0-9a-f]{40,}", text) else text


def _slug(text: Any) -> str:
    return re.sub(r"[^a-z0-9]+", "-", str(text).lower()).strip("-") or "unknown"
