"""Which engines are in memory together: all that fit, each model once; what is larger than memory stands alone."""

from __future__ import annotations

from itertools import pairwise

import pytest

from fixtures.estimate.costs import Costs
from fixtures.estimate.devices import profile
from fixtures.estimate.sharing import SharedBlock, shared_blocks
from fixtures.study.pairs import Pair, find_pair
from fixtures.study.study import Case, Study, Sweep, Workload
from fixtures.study.study_file import load_study

WORKLOAD = Workload("synthetic", num_samples=2, max_prompt=64, gen_toks=64)
GIB = 2**30
LARGE = find_pair("synthetic-llama3-8b-1b")
AXES = {"dtype": ("bf16",), "strategy": ("assisted",), "assist_toks": (2, 5)}


def costs_of(*sweeps: Sweep, pair: Pair = LARGE) -> tuple[Costs, list[Case]]:
    study = Study("unit", "", (pair,), sweeps, WORKLOAD)
    return Costs(study, profile("l4")), study.cases()


def peak(costs: Costs, cases: list[Case], target_quant: str, draft_quant: str | None) -> int:
    own = [case for case in cases if (case.engine.target_quant, case.engine.draft_quant) == (target_quant, draft_quant)]
    found = costs.peak_bytes(own[0].engine, own)
    assert found is not None
    return found


DRAFTS = Sweep("speculative_decoding", {**AXES, "draft_quant": ("none", "8bit", "4bit")})
TARGETS = Sweep("quantization", {"dtype": ("bf16",), "target_quant": ("8bit", "4bit")})


def engines(blocks: list[SharedBlock]) -> list[list[str]]:
    return [[key.id for key in block.engines] for block in blocks]


def test_with_memory_enough_everything_shares_one_block() -> None:
    costs, cases = costs_of(DRAFTS, TARGETS)
    (block,) = shared_blocks(costs, cases, 1e12)
    assert block.cases == cases, "in the study's order"
    assert len(block.engines) == len({case.engine for case in cases}) > 4


def test_the_embedded_study_is_one_block_on_a_machine_of_four_gibibytes() -> None:
    study = load_study("embedded", {"dtype": "fp32"})
    (block,) = shared_blocks(Costs(study, profile("l4")), study.cases(), 4 * GIB)
    assert block.cases == study.cases()


def test_weights_that_engines_have_in_common_count_once() -> None:
    costs, cases = costs_of(DRAFTS)
    (block,) = shared_blocks(costs, cases, 1e12)
    roles = sorted(load.role for load in block.loads)
    assert roles == ["draft"] * 3 + ["target"], "one target for the engines of all drafts"
    sizes = costs.sizes(LARGE.name)
    assert sizes is not None and sizes.draft is not None
    drafts = [sizes.draft.weight_bytes(quant, "bf16") for quant in ("none", "8bit", "4bit")]
    assert block.weights == sizes.target.weight_bytes("none", "bf16") + sum(drafts)
    twice = 2 * sizes.target.weight_bytes("none", "bf16")
    assert block.weights + block.working < twice
    assert len(shared_blocks(costs, cases, block.weights + block.working)) == 1, "to the byte"
    assert len(shared_blocks(costs, cases, block.weights + block.working - 1)) == 2


@pytest.mark.parametrize("gibibytes", [6, 10, 14, 18, 22, 26, 30, 40])
def test_no_block_is_larger_than_memory_unless_it_is_one_engine(gibibytes: int) -> None:
    costs, cases = costs_of(DRAFTS, TARGETS)
    blocks = shared_blocks(costs, cases, gibibytes * GIB)
    assert sorted(case.id for block in blocks for case in block.cases) == sorted(case.id for case in cases)
    for block in blocks:
        assert block.weights + block.working <= gibibytes * GIB or len(block.engines) == 1
        keys = block.engines
        assert not any(key in other.engines for other in blocks if other is not block for key in keys)


def test_more_memory_never_makes_more_blocks() -> None:
    costs, cases = costs_of(DRAFTS, TARGETS)
    counts = [len(shared_blocks(costs, cases, gibibytes * GIB)) for gibibytes in range(2, 48, 2)]
    assert all(more <= fewer for fewer, more in pairwise(counts)), counts
    assert counts[0] == len({case.engine for case in cases}) and counts[-1] == 1


def test_what_fits_nowhere_stands_alone() -> None:
    costs, cases = costs_of(DRAFTS, TARGETS)
    blocks = shared_blocks(costs, cases, 7 * GIB)
    places = {key.id: number for number, block in enumerate(blocks) for key in block.engines}
    large = [case for case in cases if case.engine.target_quant == "none"]
    assert peak(costs, cases, "none", None) > 7 * GIB
    for case in large:
        assert blocks[places[case.engine.id]].engines == [case.engine]


def test_without_a_models_size_only_engines_of_one_target_share_a_block() -> None:
    pair = Pair.from_hub("/nowhere/target", "/nowhere/draft")
    costs, cases = costs_of(DRAFTS, TARGETS, pair=pair)
    blocks = shared_blocks(costs, cases, 1e15)
    for block in blocks:
        assert len({case.engine.target_quant for case in block.cases}) == 1
    assert [len(block.engines) for block in blocks] == [4, 1, 1]
