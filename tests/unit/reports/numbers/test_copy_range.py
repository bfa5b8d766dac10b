"""Which copy bandwidth a run's limits rest on, where it was measured several times, and what is said of the range."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from planted_runs import HEADER, case, plain

from reports.advice.bottleneck import bottleneck
from reports.numbers.cases import share_of_limit
from reports.numbers.copy_range import copy_range, with_largest_copy
from reports.record.run import CaseResult, Run
from reports.views.cost_table import copy_words


def limited(name: str, share: float, *copies: float, bound: str = "bandwidth", session: int = 0) -> CaseResult:
    """Plain decoding at this share of its limit; copies: what had been measured when the case was over."""
    facts: dict[str, Any] = {"limit_tokens_per_second": 10 / share, "limit_bound": bound, "bandwidth_share": share}
    if copies:
        facts["copy_bandwidth"] = {"lowest": min(copies), "highest": max(copies)}
    made = case(name, [plain(0, 1.0)], metrics={"decode_latency_tok": 0.1}, facts=facts)
    return dataclasses.replace(made, session=session, engine=dataclasses.replace(made.engine, dtype="bf16"))


def read(*cases: CaseResult, later: tuple[dict[str, Any], ...] = (), **limits: float) -> Run:
    limit = {dtype: {"copy_bytes_per_second": rate} for dtype, rate in limits.items()}
    return with_largest_copy(
        Run(Path("planted"), HEADER | {"limit": limit}, cases, complete=True, later_sessions=later)
    )


def shares(run: Run) -> list[float | None]:
    return [None if (share := share_of_limit(each)) is None else round(share, 4) for each in run.cases]


def test_a_case_is_held_against_the_largest_copy_of_its_session() -> None:
    """The first block was measured while copies ran at 42 GB/s; they reached 84 in the second."""
    run = read(limited("a", 0.9, 42e9), limited("b", 0.5, 42e9, 84e9), bf16=42e9)
    assert shares(run) == [0.45, 0.5]
    assert run.cases[0].facts["bandwidth_share"] == pytest.approx(0.45)
    assert [each.facts["copy_bandwidth"] for each in run.cases] == [{"lowest": 42e9, "highest": 84e9}] * 2
    assert copy_words(run.cases) == "84.0 GB/s of copies, the largest of 42.0 to 84.0"
    assert shares(with_largest_copy(run)) == [0.45, 0.5], "once is enough"


def test_what_was_measured_at_the_start_in_several_dtypes_counts_for_files_that_know_no_more() -> None:
    run = read(limited("a", 0.9), bf16=42e9, fp32=84e9)
    assert shares(run) == [0.45]
    assert copy_range(run.cases[0]) == 2.0
    assert shares(read(limited("a", 0.9), bf16=42e9)) == [0.9]
    assert copy_words(read(limited("a", 0.9), bf16=42e9).cases) == "42.0 GB/s of copies"


def test_a_limit_that_computation_binds_is_left_alone_and_sessions_are_apart() -> None:
    later = ({"limit": {"bf16": {"copy_bytes_per_second": 20e9}}},)
    run = read(
        limited("a", 0.9, bound="compute"), limited("b", 0.8, 20e9, session=1), later=later, bf16=42e9, fp32=84e9
    )
    assert shares(run) == [0.9, 0.8]
    assert run.cases[1].facts["copy_bandwidth"] == {"lowest": 20e9, "highest": 20e9}


def test_without_a_measurement_nothing_is_changed() -> None:
    bare = case("a", [plain(0, 1.0)])
    assert read(bare).cases == (bare,)
    assert read(limited("a", 0.9)).cases == (limited("a", 0.9),)
    assert copy_range(bare) == 1.0 and copy_words([bare]) == ""


@pytest.mark.parametrize(
    ("share", "copies", "kind"),
    [
        (0.6, (40e9, 80e9), "bandwidth"),
        (0.4, (70e9, 80e9), "overhead"),  # 0.457 by the smallest
        (0.4, (40e9, 80e9), "unknown"),  # 0.8 by the smallest
        (0.4, (64e9, 80e9), "unknown"),  # 0.5 by the smallest
        (0.4, (80e9,), "overhead"),
    ],
)
def test_overhead_is_told_only_where_the_range_of_copies_cannot_explain_it(
    share: float, copies: tuple[float, ...], kind: str
) -> None:
    found = bottleneck(limited("a", share, *copies))
    assert (found.kind, found.share_of_limit) == (kind, pytest.approx(share))
    if kind == "unknown":
        assert f"{share:.0%} to {share * max(copies) / min(copies):.0%}" in found.why
    assert bottleneck(limited("a", share, *copies, bound="compute")).kind in ("compute", "overhead")
