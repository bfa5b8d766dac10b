"""The ratios of an A/B comparison by block, as a table. Computes nothing itself."""

from __future__ import annotations

from collections.abc import Sequence

from reports.gate.block_ratios import BlockRatios
from reports.views.sheet import Sheet, SheetColumn, SheetRow

TITLE = "time per token, head / base, by block (above 1: head is slower)"


def block_sheet(ratios: Sequence[BlockRatios]) -> Sheet:
    """The case, every block, and their geometric mean; the last blocks leave first where there is no room."""
    blocks = max((len(row.blocks) for row in ratios), default=0)
    return Sheet(
        columns=(
            SheetColumn("case", "case", code=True),
            *(SheetColumn(f"block_{number}", str(number), "", number, "right") for number in range(1, blocks + 1)),
            SheetColumn("mean", "mean", align="right"),
        ),
        rows=tuple(_row(row) for row in ratios),
        title=TITLE,
    )


def _row(row: BlockRatios) -> SheetRow:
    """A block in which a side has no time is "-"."""
    ratios = (*row.blocks, row.mean)
    return SheetRow(
        (row.case, *("-" if ratio is None else f"{ratio:.3f}" for ratio in ratios)),
        (row.case, *ratios),
    )
