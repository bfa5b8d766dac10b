"""`python -m tools.families` makes the table of docs/families.md again; `--check` says whether it is still true.

For every family a tiny random checkpoint is made and put through the suite's own code: configuration looked at, engine
loaded, points decoded, cases examined, two HumanEval problems completed. A cell says `runs` where every part of that
went well and greedy output is plain decoding's; else the reason for which the suite skips such a case before it loads
anything. Anything else is a fault, is printed, and ends with exit code 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fixtures.study.pairs import Pair, without_place
from fixtures.study.study import Case, HumanEvalSettings, Study, Sweep, Workload
from fixtures.study.workload import Prompts
from reports.views.sheet import Align, markdown, plain_sheet
from tools.tiny_families import FAMILIES, VOCABULARY, Family

if TYPE_CHECKING:
    from fixtures.engines.transformers.models.engine import Engine
    from fixtures.measuring.examination import Examiner

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "families.md"
BLOCK = re.compile(r"<!-- families -->\n.*?<!-- end -->", re.DOTALL)
RUNS = "runs"
COLUMNS = ("plain", "assisted", "lookup", "early exit", "8bit", "4bit", "no cache", "static", "quantized", "HumanEval")
PROMPTS, PROMPT_TOKENS, NEW_TOKENS, PERPLEXITY_TOKENS, COMPLETION_TOKENS = 2, 24, 16, 48, 6
EXIT_LAYER = 2
MEASURED_ELSEWHERE = {"copy_bytes_per_second": 1e10, "matrix_operations_per_second": 1e11, "seconds": 0.0, "how": ""}


@dataclass(frozen=True)
class Row:
    """One family: column -> `runs` or the reason why not. faults: what went otherwise, in words."""

    family: Family
    cells: Mapping[str, str]
    faults: tuple[str, ...] = ()


class _Brief:
    """A tokenizer that reads the beginning of a long text only, which is all that so few tokens of perplexity need."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __call__(self, text: str) -> Any:
        return self._tokenizer(text[:2000])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def study_of(pair: Pair) -> Study:
    """All columns as one study: exact in fp32, quantized in bf16."""
    decoding = {"dtype": ("fp32",)}
    drafting = {"assist_toks": (3,), "confidence_threshold": (0.0,)}
    return Study(
        name="families",
        description="",
        pairs=(pair,),
        sweeps=(
            Sweep("baseline", decoding),
            Sweep("kv_cache", {**decoding, "cache": ("none", "static", "quantized")}),
            Sweep("quantization", {"dtype": ("bf16",), "target_quant": ("8bit", "4bit")}),
            Sweep("speculative_decoding", {**decoding, **drafting, "strategy": ("assisted", "prompt_lookup")}),
            Sweep(
                "speculative_decoding",
                {**decoding, **drafting, "strategy": ("early_exit",), "exit_layer": (EXIT_LAYER,)},
            ),
            Sweep("humaneval", decoding),
        ),
        workload=Workload("embedded", PROMPTS, PROMPT_TOKENS, NEW_TOKENS),
        device="cpu",
        ppl_tokens=PERPLEXITY_TOKENS,
        humaneval=HumanEvalSettings(limit=2, tokens=COMPLETION_TOKENS),
    )


def column_of(case: Case) -> str | None:
    """The column that a case answers for; None for baselines that other cases need."""
    if case.experiment == "humaneval":
        return "HumanEval"
    if case.engine.target_quant != "none":
        return case.engine.target_quant
    if case.engine.dtype != "fp32":
        return None
    if case.point.strategy != "plain":
        return {"prompt_lookup": "lookup", "early_exit": "early exit"}.get(case.point.strategy, case.point.strategy)
    return {"dynamic": "plain", "none": "no cache"}.get(case.point.cache, case.point.cache)


def row_of(family: Family, folder: Path) -> Row:
    """Make the family's checkpoints below `folder` and put them through everything.

    The draft is the target with a little noise, so that some of what it drafts is accepted and some is not.
    """
    import torch

    from fixtures.engines.transformers.models.engine import load_engine
    from fixtures.measuring.examination import Examiner
    from fixtures.measuring.prospects import Prospects

    target, draft = family.save(folder / "target"), family.save(folder / "draft", noise=0.1)
    pair = Pair.from_hub(str(target), str(draft))
    study = study_of(pair)
    examiner, prospects = Examiner(study, torch.device("cpu")), Prospects(study)
    examiner.restore_limits({"limit": {"fp32": MEASURED_ELSEWHERE, "bf16": MEASURED_ELSEWHERE}})
    cells: dict[str, str] = {}
    faults: list[str] = []
    engine: Engine | None = None
    for case in study.cases():
        reason = prospects.why_refused(case) or examiner.why_unsupported(case)
        column = column_of(case)
        if reason is None:
            try:
                if engine is None or engine.key != case.engine:
                    engine = load_engine(case.engine, pair, torch.device("cpu"))
                    engine = dataclasses.replace(engine, tokenizer=_Brief(engine.tokenizer))  # type: ignore[arg-type]
                problems = _tried(case, engine, examiner)
            except Exception as error:
                problems = [f"{type(error).__name__}: {' '.join(str(error).split())}"]
            faults += [f"{case.id.partition('/')[2]}: {problem}" for problem in problems]
            reason = RUNS if not problems else "fails"
        if column is not None:
            cells[column] = _general(reason, pair)
    return Row(family, {column: cells[column] for column in COLUMNS}, tuple(faults))


def _tried(case: Case, engine: Engine, examiner: Examiner) -> list[str]:
    """Decode and examine one case; what of it went wrong."""
    if case.experiment == "humaneval":
        return _completed(case, engine)
    from fixtures.engines.transformers.decoding.measurement import timed_decoder

    prompts = _prompts()
    with timed_decoder(engine, case.point, case.workload) as decoder:
        samples = [decoder.generate(number, ids).sample() for number, ids in enumerate(prompts.ids)]
    examined = examiner.examine(case, engine, prompts, samples)
    problems = [f"{part} could not be examined: {error}" for part, error in examined.failures.items()]
    found = examined.facts.get("losslessness", {})
    if found.get("verdict") == "wrong":
        problems.append(f"wrong output: {found}")
    return problems + list(examined.notes)


def _completed(case: Case, engine: Engine) -> list[str]:
    from fixtures.humaneval.generation import Request, generate
    from fixtures.humaneval.scoring import read_problems

    problems = list(read_problems().items())[: case.workload.num_samples]
    requests = [
        Request(name, 0, problem["prompt"], tuple(engine.tokenizer(problem["prompt"]).input_ids), seed=0)
        for name, problem in problems
    ]
    completions = [done for batch in generate(engine, case.point, case.workload, requests) for done in batch]
    return [] if len(completions) == len(requests) else [f"{len(completions)} of {len(requests)} completions"]


def _prompts() -> Prompts:
    """Prompts of random tokens in which some repeat, so that prompt lookup finds something to copy."""
    draw = random.Random(0)
    part = PROMPT_TOKENS // 2
    halves = [tuple(draw.randrange(3, VOCABULARY) for _ in range(part)) for _ in range(PROMPTS)]
    return Prompts("random", tuple(half + half for half in halves))


def _general(reason: str, pair: Pair) -> str:
    """A reason without what its column says already, without this run's folder and a tiny model's shares."""
    said = r"^strategy \S+ is impossible: |^cache \S+ is impossible: |^\S+ in quantization \S+: "
    reason = re.sub(said, "", reason.removeprefix(f"pair {pair.name}: "))
    reason = re.sub(r"^\d+% of its weights stay", "part of its weights stays", reason)
    for place in (pair.target, without_place(pair.target)):  # the draft's folder has the same name
        reason = reason.replace(place, "the target")
    return reason


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown, with a numbered note for every reason why not."""
    reasons = list(dict.fromkeys(cell for row in rows for cell in row.cells.values() if cell != RUNS))
    marks = {RUNS: RUNS} | {reason: f"no ({number})" for number, reason in enumerate(reasons, start=1)}
    columns: dict[str, Align] = {"family": "left"}
    sheet = plain_sheet(
        columns | dict.fromkeys(COLUMNS, "centre"),
        [[row.family.title, *(marks[row.cells[column]] for column in COLUMNS)] for row in rows],
    )
    return "\n".join([markdown(sheet), "", *(f"{number}. {reason}" for number, reason in enumerate(reasons, start=1))])


def told(document: str) -> dict[str, dict[str, str]]:
    """What a document's table says: title -> column -> `runs` or the reason."""
    block = BLOCK.search(document)
    lines = block.group().splitlines() if block else []
    notes = {mark: text for mark, _, text in (line.partition(". ") for line in lines) if mark.isdigit()}
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return {
        title: {
            column: notes[mark[4:-1]] if mark.startswith("no (") else mark
            for column, mark in zip(COLUMNS, marks, strict=True)
        }
        for title, *marks in cells[1:]
    }


def rows_of(names: Iterable[str]) -> list[Row]:
    """The rows of these families, in temporary folders."""
    rows = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(row_of(FAMILIES[name], Path(folder)))
    return rows


def differences(rows: Sequence[Row], document: str) -> list[str]:
    """Where rows and the document's table say something else, and what went wrong, one line each."""
    known = told(document)
    lines = [f"{row.family.title}: {fault}" for row in rows for fault in row.faults]
    for row in rows:
        for column, cell in row.cells.items():
            said = known.get(row.family.title, {}).get(column, "nothing")
            if said != cell:
                lines.append(f"{row.family.title}, {column}: {cell!r}, and the table says {said!r}")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the table; exit code 1 for faults, or a table that is not true."""
    import warnings

    from transformers.utils import logging

    parser = argparse.ArgumentParser(prog="python -m tools.families", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these (all): {', '.join(FAMILIES)}")
    parser.add_argument("--check", action="store_true", help="compare with docs/families.md instead of writing it")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(FAMILIES))
    if unknown or (options.names and not options.check):
        parser.error(f"unknown: {', '.join(unknown)}" if unknown else "a part of the table can only be checked")
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    rows = rows_of(options.names or FAMILIES)
    document = DOCUMENT.read_text(encoding="utf-8")
    if not options.check:
        document = BLOCK.sub(lambda _: f"<!-- families -->\n{table(rows)}\n<!-- end -->", document)
        DOCUMENT.write_text(document, encoding="utf-8")
    wrong = differences(rows, document)
    print("\n".join(wrong) or f"{len(rows)} families as the table says")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
