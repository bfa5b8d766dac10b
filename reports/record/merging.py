"""Several runs as one file, under the first one's header, each with the sessions, rounds and blocks of its own.

Shards of a study make one run of it: a case counts once, and what several shards measured for themselves, their
baselines, stays as further measurements, with which each session's cases are compared.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reports.record.run import Run, RunFileError
from reports.record.writer import RunWriter


def write_merged(runs: Iterable[Run], path: Path) -> None:
    """Concatenate the cases of several runs into a new run file under the first one's header.

    Raises RunFileError where the file is there already, or where shards do not go together.
    """
    runs = list(runs)
    shards = shards_of(runs)
    kept_in = _where_measured(runs) if shards else {}
    if path.exists():
        raise RunFileError(f"{path}: exists already; name a new file for the merged run")
    writer = RunWriter(path)
    header = {key: value for key, value in runs[0].header.items() if key not in ("kind", "schema", *_OF_SHARDS)}
    header["study"] = _with_all_pairs(header.get("study", {}), runs)
    if any(run.header.get("blocks") for run in runs):
        header["blocks"] = [block for run in runs for block in run.header.get("blocks", ())]
    first_block = 0
    ended = all(run.complete or run.header.get("shards_ended") for run in runs)
    told = {"shards": [*shards], "shards_ended": ended} if shards else {}
    writer.run({**header, **told, "merged_from": [str(run.path.name) for run in runs]})
    for number, run in enumerate(runs):
        for one in run.completions:
            if kept_in.get(one.case, number) != number:
                continue
            writer.completion(one)
            if one.status:
                writer.verdict(one)
        for session, environment in enumerate(run.sessions):
            if number or session:
                writer.session({name: environment[name] for name in _OF_A_SESSION if name in environment})
            for done in run.rounds:
                if done.session == session:
                    writer.round(dataclasses.replace(done, block=first_block + done.block), {})
            for case in run.cases:
                if case.session == session:
                    block = None if case.block is None else first_block + case.block
                    again = case.again or kept_in.get(case.id, number) != number
                    writer.case(dataclasses.replace(case, block=block, again=again))
        first_block += run.block_count
    if ended and not missing_shards(shards):
        writer.end({"merged": True})
    writer.close()


def shards_of(runs: Sequence[Run]) -> tuple[str, ...]:
    """The shards that runs hold, as `i/n` in the order of the files; none where they are no shards, or whole by now.

    Raises RunFileError where one is there twice, or where they are not of one study in one number of parts.
    """
    found: dict[str, Run] = {}
    first = runs[0]
    for run in runs:
        merged = () if run.complete else run.header.get("shards", ())
        held = [shard for shard in (run.header.get("shard"), *merged) if shard]
        if bool(held) != bool(found) and run is not first:
            raise RunFileError(f"{run.path}: shards and whole runs do not go together; merge either by themselves")
        for shard in held:
            if shard in found:
                other = found[shard].path
                raise RunFileError(f"{run.path}: shard {shard} is in {other} as well; leave one of them out")
            found[shard] = run
            leading = next(iter(found))
            if _parts(shard) != _parts(leading):
                raise RunFileError(f"{run.path}: shard {shard} does not go with {leading}; measure both with one n")
        if held and _asked(run) != _asked(first):
            raise RunFileError(f"{run.path}: a shard of another study than {first.path}; merge shards of one study")
    return tuple(found)


def missing_shards(shards: Sequence[str]) -> tuple[str, ...]:
    """The shards, as `i/n`, that are not among those of a study; none where there are no shards at all."""
    if not shards:
        return ()
    parts = _parts(shards[0])
    there = {int(shard.partition("/")[0]) for shard in shards}
    return tuple(f"{number}/{parts}" for number in range(1, parts + 1) if number not in there)


def _parts(shard: str) -> int:
    return int(shard.partition("/")[2])


def _asked(run: Run) -> dict[str, Any]:
    """What of a study decides which cases it has."""
    study = run.header.get("study", {})
    return {key: study.get(key) for key in ("name", "pairs", "sweeps", "workload")} | {"order": run.order}


def _where_measured(runs: Sequence[Run]) -> dict[str, int]:
    """Case -> the place of the run whose result counts: the first in which it was measured, else that has it."""
    places: dict[str, int] = {}
    measured: set[str] = set()
    for number, run in enumerate(runs):
        for case in run.finished.values():
            if case.id not in places or (case.measured and case.id not in measured):
                places[case.id] = number
            if case.measured:
                measured.add(case.id)
    return places


_OF_SHARDS = ("shard", "shards", "shards_ended")
_OF_A_SESSION = ("environment", "limit", "argv", "started_at", "by_turns", "card", "dtype_auto", "order", "order_seed")
"""Keys of a run line that tell of the process that wrote it; the others tell of the study."""


def _with_all_pairs(study: Mapping[str, Any], runs: Iterable[Run]) -> dict[str, Any]:
    """The study of a merged run: that of the first, with the pairs of all, by whose targets baselines are found."""
    pairs: dict[str, Any] = {}
    for run in runs:
        for pair in run.header.get("study", {}).get("pairs", ()):
            pairs.setdefault(str(pair.get("name")), pair)
    return {**study, "pairs": list(pairs.values())} if pairs else dict(study)
