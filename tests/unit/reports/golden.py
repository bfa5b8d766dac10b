"""What the commands of `reports` print for every committed run file, as plain text that can be committed and compared.

`python tests/unit/reports/golden.py` writes the texts anew: only where a figure is meant to change, and the difference
is then part of the same commit. White space and lines of tables are not kept, since they follow the widths of ids.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FOLDER = Path(__file__).with_name("golden")
_BASELINE = "reports/baselines/smoke/cpu-amd-epyc-2c-avx512"
_PUBLISHED = "reports/published"
_TABLE = f"{_PUBLISHED}/seed_study_l4.csv"
_UPGRADE = f"{_PUBLISHED}/transformers-5.24"
_LONGEST_KEPT = 16_000  # characters of one answer; of a longer one its lines are hashed, a few at a time
_AT_A_TIME = 8


def questions() -> dict[str, tuple[str, ...]]:
    """Name of a text -> the command whose answer it is."""
    runs = {
        "embedded": f"{_PUBLISHED}/embedded.jsonl",
        "compile": f"{_PUBLISHED}/compile.jsonl",
        "smoke": f"{_BASELINE}.jsonl",
        "upgrade-base": f"{_UPGRADE}/base-1.jsonl",
        "upgrade-head": f"{_UPGRADE}/head-1.jsonl",
    }
    asked: dict[str, tuple[str, ...]] = {}
    for name, file in runs.items():
        asked |= {
            f"{name}-show": ("show", file, "--format", "markdown"),
            f"{name}-claims": ("claims", file, _TABLE, "--format", "markdown"),
            f"{name}-claims-json": ("claims", file, "--format", "json"),
            f"{name}-advise": ("advise", file, "--format", "markdown"),
            f"{name}-csv": ("export", file, "--format", "csv"),
            f"{name}-samples": ("export", file, "--format", "csv", "--samples"),
            f"{name}-bencher": ("export", file, "--format", "bencher"),
            f"{name}-comment": ("export", file, "--format", "markdown"),
            f"{name}-smaller": ("export", file, "--format", "github-action-benchmark", "--direction", "smaller"),
        }
    bases = [f"{_UPGRADE}/base-{number}.jsonl" for number in range(1, 13)]
    heads = [f"{_UPGRADE}/head-{number}.jsonl" for number in range(1, 13)]
    return asked | {
        "table-csv": ("export", _TABLE, "--format", "csv"),
        "compare-upgrade": ("compare", runs["upgrade-base"], runs["upgrade-head"], "--format", "markdown"),
        "compare-blocks": ("compare", *bases, *heads, "--format", "markdown"),
        "compare-table": ("compare", _TABLE, runs["embedded"], "--format", "markdown"),
        "compare-smoke-json": ("compare", runs["smoke"], f"{_BASELINE}/00001.jsonl", "--format", "json"),
        "gate-upgrade": ("gate", runs["upgrade-base"], runs["upgrade-head"]),
        "gate-upgrade-sarif": ("gate", runs["upgrade-base"], runs["upgrade-head"], "--format", "sarif"),
        "gate-smoke": ("gate", runs["smoke"], f"{_BASELINE}/00001.jsonl"),
        "history-published": ("history", _PUBLISHED, "--format", "json"),
        "history-baselines": ("history", _BASELINE, "--format", "json"),
    }


def answer(command: tuple[str, ...]) -> str:
    """What the command prints and its exit code, without what only lays it out."""
    from reports.__main__ import main

    printed, told = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    with redirect_stdout(printed), redirect_stderr(told):
        code = main(list(command))
    printed.flush()
    text = printed.buffer.getvalue().decode()  # type: ignore[attr-defined]
    if "csv" in command:
        text = without_constant_columns(text)
    return shortened(normalized(f"{text}\n{told.getvalue()}\nexit code {code}\n"))


def without_constant_columns(table: str) -> str:
    """Of a CSV table those columns that tell rows apart, settings aside: these are in the ids."""
    every = zip(*csv.reader(io.StringIO(table)), strict=True)
    columns = [
        column
        for column in every
        if len(set(column[1:])) > 1 and not column[0].startswith(("engine.", "point.", "workload."))
    ]
    return "\n".join(map(",".join, zip(*columns, strict=True)))


def normalized(text: str) -> str:
    """White space, rules, last digits and identities out; ids of cases without a draft model as they are today."""
    text = re.sub(r"[─━┃│┏┓┗┛┡┩└┘├┤┬┴┼┳╇╈╞╡═]", " ", text)
    text = re.sub(r"\b(t=[^/,]*),d=[^/,]*(,[^/]*/(?:plain|prompt_lookup|early_exit))", r"\1\2", text)
    text = re.sub(r"\d+\.\d{7,}(?:e[-+]\d+)?", lambda figure: f"{float(figure[0]):.6g}", text)
    lines = [" ".join(line.split()) for line in text.splitlines() if '"identity":' not in line]
    return "\n".join(line for line in lines if line) + "\n"


def shortened(text: str) -> str:
    """A long answer as a hash for every few lines, with how the first of them begins."""
    if len(text) <= _LONGEST_KEPT:
        return text
    lines = text.splitlines()
    groups = [lines[start : start + _AT_A_TIME] for start in range(0, len(lines), _AT_A_TIME)]
    hashes = [hashlib.sha256("\n".join(group).encode()).hexdigest()[:12] for group in groups]
    return "".join(f"{digest} {group[0][:60].rstrip()}\n" for digest, group in zip(hashes, groups, strict=True))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    FOLDER.mkdir(exist_ok=True)
    for name, command in questions().items():
        (FOLDER / f"{name}.txt").write_text(answer(command), encoding="utf-8")
