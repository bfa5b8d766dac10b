"""`python -m reports.readme` (`make readme`): the README's tables, made again from committed run files.

A block between `<!-- RUN.jsonl WHAT -->` and `<!-- end -->` is replaced by what its first line names; a test
checks that the README is what this makes of it. Nothing else of the README is touched.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from reports import humaneval
from reports.run import Run, read_run
from reports.tables import legend, markdown_table, notes, title

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BLOCK = re.compile(r"<!-- (?P<file>reports/published/\S+) (?P<what>\w+) -->\n.*?<!-- end -->", re.DOTALL)


def speed(run: Run) -> str:
    """The table of all decode cases, with the machine above and what it means below."""
    below = [legend(run), *notes(run)]
    return "\n\n".join([f"**{title(run)}**", markdown_table(run), *below])


def solved(run: Run) -> str:
    """The table of HumanEval cases and their paired comparison."""
    return f"**{title(run)}**\n\n{humaneval.markdown_table(run)}"


BLOCKS: dict[str, Callable[[Run], str]] = {"speed": speed, "solved": solved}


def renewed(text: str, root: Path = ROOT) -> str:
    """The README with every block made again from its run file; raises RunFileError or KeyError for a wrong block."""

    def block(found: re.Match[str]) -> str:
        run = read_run(root / found["file"])
        return f"<!-- {found['file']} {found['what']} -->\n{BLOCKS[found['what']](run)}\n<!-- end -->"

    return BLOCK.sub(block, text)


def main() -> int:
    """Rewrite README.md in place."""
    README.write_text(renewed(README.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
