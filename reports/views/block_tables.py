"""The ratios of an A/B comparison by block, in the terminal and in Markdown. Computes nothing itself."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from reports.gate.block_ratios import BlockRatios
from reports.record.plain_text import printable

TITLE = "time per token, head / base, by block (above 1: head is slower)"


def columns(ratios: Sequence[BlockRatios]) -> list[str]:
    """Names of the columns: the case, every block, the geometric mean of the blocks."""
    blocks = max((len(row.blocks) for row in ratios), default=0)
    return ["case", *(str(number) for number in range(1, blocks + 1)), "mean"]


def cells(row: BlockRatios) -> list[str]:
    """One row as text; a block in which a side has no time is "-"."""
    return [row.case, *("-" if ratio is None else f"{ratio:.3f}" for ratio in (*row.blocks, row.mean))]


def terminal_table(ratios: Sequence[BlockRatios]) -> Table:
    """The table for a terminal."""
    table = Table(title=TITLE, title_justify="left")
    for number, name in enumerate(columns(ratios)):
        table.add_column(name, justify="right" if number else "left", overflow="fold", no_wrap=number > 0)
    for row in ratios:
        table.add_row(*(Text(printable(cell)) for cell in cells(row)))
    return table


def markdown_table(ratios: Sequence[BlockRatios]) -> str:
    """The same table in Markdown, under its title."""
    names = columns(ratios)
    lines = ["| " + " | ".join(names) + " |", "|:---|" + "---:|" * (len(names) - 1)]
    for row in ratios:
        first, *rest = cells(row)
        lines.append("| " + " | ".join([f"`{first}`", *rest]) + " |")
    return f"{TITLE}\n\n" + "\n".join(lines)
