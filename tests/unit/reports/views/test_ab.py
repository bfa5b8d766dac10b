"""Ratios by block of planted runs, and their tables."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from planted_runs import case, plain

from reports.gate.block_ratios import BlockRatios, block_ratios
from reports.record.run import Run
from reports.views.block_tables import TITLE, block_sheet
from reports.views.sheet import markdown

Planted = Callable[..., Run]


@pytest.fixture
def runs(planted: Planted) -> Callable[..., list[Run]]:
    """`runs("base", 1.0, 2.0)`: two runs of one case of two prompts, in which each prompt takes that many seconds."""

    def plant(side: str, *seconds: float | None) -> list[Run]:
        return [
            planted(
                case("p/plain", [plain(0, value), plain(1, value)])
                if value is not None
                else case("p/plain", [], status="failed"),
                name=f"{side}-{number}.jsonl",
            )
            for number, value in enumerate(seconds, start=1)
        ]

    return plant


def test_ratios_are_of_head_over_base_in_the_same_block(runs: Callable[..., list[Run]]) -> None:
    (found,) = block_ratios(runs("base", 1.0, 2.0), runs("head", 1.1, 1.8))
    assert found.case == "p/plain"
    assert found.blocks == pytest.approx((1.1, 0.9))
    assert found.mean == pytest.approx((1.1 * 0.9) ** 0.5)


def test_a_block_that_a_side_lacks_is_left_open(runs: Callable[..., list[Run]]) -> None:
    (found,) = block_ratios(runs("base", 1.0, 1.0), runs("head", None, 1.5))
    assert found.blocks == (None, pytest.approx(1.5))
    assert found.mean == pytest.approx(1.5)
    assert markdown(block_sheet([found])).splitlines()[-1] == "| `p/plain` | - | 1.500 | 1.500 |"


def test_repeated_measurements_count_with_their_mean(planted: Planted, runs: Callable[..., list[Run]]) -> None:
    head = planted(case("p/plain", [plain(0, 1.0)]), case("p/plain", [plain(0, 2.0)], again=True), name="head.jsonl")
    (found,) = block_ratios(runs("base", 1.0), [head])
    assert found.blocks == pytest.approx((1.5,))


def test_the_table_has_a_column_for_every_block() -> None:
    sheet = block_sheet([BlockRatios("a", (1.0, 1.25)), BlockRatios("b", (None, None))])
    lines = markdown(sheet).splitlines()
    assert sheet.title == TITLE
    assert lines[0] == "| case | 1 | 2 | mean |"
    assert lines[2:] == ["| `a` | 1.000 | 1.250 | 1.118 |", "| `b` | - | - | - |"]  # sqrt(1.25) = 1.118
