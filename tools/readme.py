"""`python -m tools.readme` (`make readme`): tables and pictures of README and docs, made again from committed runs.

A block between `<!-- RUN... WHAT -->` and `<!-- end -->` is replaced by what its first line names (RUN: a run file, a
file of figures, or the folder of a comparison, by its path from the checkout's root); a test checks that every document
is what this makes of it. Nothing else of a document is touched.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path

from reports.claims.original import CLAIMS, evaluate
from reports.gate.calibration import read_noise
from reports.gate.judging import gate
from reports.gate.thresholds import DEFAULT_THRESHOLDS, PYPROJECT, read_rules
from reports.numbers.reading import read_measured
from reports.page.pictures import Picture, pictures
from reports.record.matching import environment_differences
from reports.record.run import Run, RunFileError
from reports.views import claims_text
from reports.views.cost_table import cost_sheet
from reports.views.gate_text import change_text, headline, remarks
from reports.views.headline import recommended_lines
from reports.views.humaneval_table import humaneval_sheet
from reports.views.sheet import Sheet, SheetColumn, SheetRow, markdown
from reports.views.tables import legend, markdown_table, notes, title

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PUBLISHED = "reports/published"
SHORT_TABLE_ROWS = 8
BLOCK = re.compile(
    r"<!-- (?P<files>(?:reports/(?:published|baselines)/\S+ )+)(?P<what>\w+) -->\n.*?<!-- end -->", re.DOTALL
)


def speed(run: Run) -> str:
    """The table of all decode cases, with the machine above and what it means below."""
    below = "\n".join(f"- {note}" for note in (*recommended_lines(run), *notes(run)))
    return "\n\n".join([f"**{title(run)}**", markdown_table(run), legend(run), below])


def fastest(run: Run) -> str:
    """The table of the fastest decode cases and of the baseline that they are compared with, without remarks."""
    told = "; ".join(recommended_lines(run))
    return "\n\n".join([f"**{title(run)}**", markdown_table(run, most=SHORT_TABLE_ROWS), f"{told}.", legend(run)])


def solved(run: Run) -> str:
    """The table of HumanEval cases and their paired comparison."""
    return _with_notes(humaneval_sheet(run), run)


def beside_time(run: Run) -> str:
    """The table of what settings cost apart from time."""
    return _with_notes(cost_sheet(run), run)


def _with_notes(sheet: Sheet, run: Run) -> str:
    return "\n\n".join([f"**{title(run)}**", markdown(sheet), *sheet.notes])


def claims(*runs: Run) -> str:
    """The original study's claims on several runs, side by side."""
    return claims_text.markdown_table([claims_text.ClaimsOfRun(run, evaluate(run, CLAIMS)) for run in runs])


def pictured(run: Run) -> str:
    """The charts of a run, which lie beside its file; see `drawn`."""
    return "\n\n".join(_shown(chart) for chart in pictures(run))


def picture(run: Run) -> str:
    """The first chart of a run alone."""
    return _shown(pictures(run)[0])


def _shown(chart: Picture) -> str:
    return f"![{chart.alt}]({PUBLISHED}/{chart.name})\n\n{chart.caption}"


def said(path: Path) -> str:
    """What a JSON file of figures says for a reader."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["says"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFileError(f"{path}: tells no figures under `says` ({error}); measure again") from None


def floors(path: Path) -> str:
    """The noise of a machine in the timings that are gated by default."""
    noise = read_noise(path)
    told = ", ".join(f"{100 * math.expm1(noise.floor[name]):.1f}% in `{name}`" for name in DEFAULT_THRESHOLDS)
    return f"{noise.pairs} pairs of runs of the same code, {noise.study} on {noise.hardware}, differ by up to {told}."


def compared(folder: Path) -> str:
    """A comparison by turns, from the run files that `reports ab` left in a folder: what differs, timings, verdict."""
    base, head = _blocks(folder, "base"), _blocks(folder, "head")
    found = gate(base, head, read_rules(PYPROJECT, head[0].header.get("study")), interleaved=True)
    differs = ", ".join(f"{one.key} {one.base} -> {one.head}" for one in environment_differences(base[0], head[0]))
    timings = Sheet(
        columns=(
            SheetColumn("case", "case", code=True),
            SheetColumn("metric", "metric"),
            SheetColumn("change", "head against base [98%]", align="right"),
            SheetColumn("verdict", "verdict"),
        ),
        rows=tuple(
            SheetRow((one.case, one.metric, change_text(one), one.verdict)) for one in found.judgements if not one.exact
        ),
    )
    lines = [markdown(timings)]
    lines += ["", *(f"- {line}" for line in (*remarks(found), headline(found)))]
    return f"**{title(base[0])}; {len(base)} blocks; {differs}**\n\n" + "\n".join(lines)


def _blocks(folder: Path, side: str) -> list[Run]:
    found = {int(path.stem.rpartition("-")[2]): path for path in folder.glob(f"{side}-*.jsonl")}
    if not found:
        raise RunFileError(f"{folder}: no {side}-1.jsonl; give a folder of `python -m reports ab -o`")
    return [read_measured(found[number]) for number in sorted(found)]


BLOCKS: dict[str, Callable[[Run], str]] = {
    "speed": speed,
    "fastest": fastest,
    "costs": beside_time,
    "solved": solved,
    "pictured": pictured,
    "picture": picture,
}
BLOCKS_OF_SEVERAL: dict[str, Callable[..., str]] = {"claims": claims}
BLOCKS_OF_FIGURES: dict[str, Callable[[Path], str]] = {"said": said, "floors": floors, "compared": compared}


def renewed(text: str, root: Path = ROOT, folder: Path | None = None) -> str:
    """A document with every block made again from its run files; raises RunFileError or KeyError for a wrong block.

    folder: where the document lies, for its links to pictures; the root if None.
    """
    up = "../" * len((folder or root).resolve().relative_to(root.resolve()).parts)

    def block(found: re.Match[str]) -> str:
        what, files = found["what"], found["files"].split()
        if what in BLOCKS_OF_FIGURES:
            return f"<!-- {found['files']}{what} -->\n{BLOCKS_OF_FIGURES[what](root / files[0])}\n<!-- end -->"
        runs = [read_measured(root / file) for file in files]
        if what in BLOCKS and len(files) > 1:
            raise RunFileError(f"{files[1]}: a block {what} is of one run; give it a block of its own")
        made = BLOCKS_OF_SEVERAL[what](*runs) if what in BLOCKS_OF_SEVERAL else BLOCKS[what](runs[0])
        made = made.replace(f"]({PUBLISHED}/", f"]({up}{PUBLISHED}/")
        return f"<!-- {found['files']}{what} -->\n{made}\n<!-- end -->"

    return BLOCK.sub(block, text)


def drawn(text: str, root: Path = ROOT) -> dict[Path, str]:
    """The pictures that a document shows: file and SVG."""
    found: dict[Path, str] = {}
    for block in BLOCK.finditer(text):
        if block["what"] in ("pictured", "picture"):
            file = root / block["files"].split()[0]
            charts = pictures(read_measured(file))
            shown = charts if block["what"] == "pictured" else charts[:1]
            found |= {file.parent / chart.name: chart.svg for chart in shown}
    return found


def documents() -> list[Path]:
    """README and every file of docs."""
    return [README, *sorted(DOCS.glob("*.md"))]


def main() -> int:
    """Rewrite the documents and their pictures in place."""
    for document in documents():
        text = renewed(document.read_text(encoding="utf-8"), folder=document.parent)
        document.write_text(text, encoding="utf-8")
        for path, svg in drawn(text).items():
            path.write_text(svg, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
