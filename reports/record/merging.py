"""Several runs as one file, under the first one's header, each with the sessions, rounds and blocks of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from reports.record.run import Run, RunFileError
from reports.record.writer import RunWriter


def write_merged(runs: Iterable[Run], path: Path) -> None:
    """Concatenate the cases of several runs into a new run file under the first one's header."""
    runs = list(runs)
    if path.exists():
        raise RunFileError(f"{path}: exists already; name a new file for the merged run")
    writer = RunWriter(path)
    header = {key: value for key, value in runs[0].header.items() if key not in ("kind", "schema")}
    header["study"] = _with_all_pairs(header.get("study", {}), runs)
    if any(run.header.get("blocks") for run in runs):
        header["blocks"] = [block for run in runs for block in run.header.get("blocks", ())]
    first_block = 0
    writer.run({**header, "merged_from": [str(run.path.name) for run in runs]})
    for number, run in enumerate(runs):
        for one in run.completions:
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
                    writer.case(dataclasses.replace(case, block=block))
        first_block += run.block_count
    if all(run.complete for run in runs):
        writer.end({"merged": True})
    writer.close()


_OF_A_SESSION = ("environment", "limit", "argv", "started_at", "by_turns", "card", "dtype_auto", "order", "order_seed")
"""Keys of a run line that tell of the process that wrote it; the others tell of the study."""


def _with_all_pairs(study: Mapping[str, Any], runs: Iterable[Run]) -> dict[str, Any]:
    """The study of a merged run: that of the first, with the pairs of all, by whose targets baselines are found."""
    pairs: dict[str, Any] = {}
    for run in runs:
        for pair in run.header.get("study", {}).get("pairs", ()):
            pairs.setdefault(str(pair.get("name")), pair)
    return {**study, "pairs": list(pairs.values())} if pairs else dict(study)
