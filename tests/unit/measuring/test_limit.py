"""The hardware's limit: rates that the machine confirms, and bytes and operations counted by hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fixtures.engines.transformers.models import synthetic
from fixtures.engines.transformers.models.quantization import quantize_in_place
from fixtures.engines.transformers.models.shapes import SHAPES
from fixtures.measuring import limit as limit_module
from fixtures.measuring.limit import (
    COPY_BYTES,
    DeviceLimit,
    Footprint,
    footprint,
    forward_cost,
    limit_facts,
    measure_copy,
    measure_limit,
)
from reports.record.run import Sample

CPU = torch.device("cpu")
TINY = SHAPES["tiny"]
BLOCK_PARAMETERS = 2 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128)  # q and o, k and v, gate, up and down; two layers
NORMS = 5 * 64
HEAD = TABLE = 512 * 64
UNIT = DeviceLimit(copy_bytes_per_second=1.0, matrix_operations_per_second=1e12, seconds=0.0, how="")


def tiny(dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    return synthetic.build(TINY, synthetic.cycle(TINY.vocab, 0), dtype=dtype)


def test_a_real_machine_gives_rates_and_says_how() -> None:
    began = time.perf_counter()
    limit = measure_limit(CPU, torch.float32)
    assert 0 < limit.seconds <= time.perf_counter() - began
    assert limit.copy_bytes_per_second > 0 and limit.matrix_operations_per_second > 0
    assert "MiB" in limit.how and "float32" in limit.how


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], list[int]]:
    """`machine(rate)`: copies take 0.25 s here and products follow this rate; returns the sizes that were built."""

    def of(operations_per_second: float) -> list[int]:
        sizes: list[int] = []

        def product(size: int, dtype: torch.dtype, device: torch.device) -> Callable[[], int]:
            sizes.append(size)
            return lambda: size

        def timed(work: Callable[[], Any], device: torch.device, budget: float, *, at_least: int = 3) -> list[float]:
            size = work()
            seconds = 2 * size**3 / operations_per_second if isinstance(size, int) else 0.25
            return [1.5 * seconds] * (at_least - 1) + [seconds]

        monkeypatch.setattr(limit_module, "_product", product)
        monkeypatch.setattr(limit_module, "_timed", timed)
        return sizes

    return of


def test_rates_are_those_of_the_best_repetition(machine: Callable[[float], list[int]]) -> None:
    sizes = machine(150e9)
    limit = measure_limit(CPU, torch.float32)
    assert limit.copy_bytes_per_second == 2 * COPY_BYTES / 0.25, "bytes read plus bytes written"
    assert limit.matrix_operations_per_second == pytest.approx(150e9), "two operations per multiply-add"
    assert sizes == [256, 512, 1024, 2048], "2048 is the first of which one product takes 20 ms"


def test_a_copy_is_measured_again_where_there_is_room_for_it_and_ends_nothing(
    machine: Callable[[float], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(150e9)
    assert measure_copy(CPU) == 2 * COPY_BYTES / 0.25
    monkeypatch.setattr(limit_module, "_copy", lambda device: torch.empty(2**60, dtype=torch.uint8))
    assert measure_copy(CPU) is None, "no memory for it after all"
    monkeypatch.undo()
    monkeypatch.setattr(limit_module, "free_memory", lambda device: (3 * COPY_BYTES, 2**40))
    assert measure_copy(CPU) is None


def test_a_dtype_that_the_device_only_emulates_is_measured_on_small_matrices(
    machine: Callable[[float], list[int]],
) -> None:
    sizes = machine(1.4e9)
    assert measure_limit(CPU, torch.bfloat16).matrix_operations_per_second == pytest.approx(1.4e9)
    assert sizes == [256]


def test_untied_table_is_looked_up_and_head_is_read() -> None:
    found = footprint(tiny())
    assert found.matrix_parameters == BLOCK_PARAMETERS + HEAD
    assert found.row_bytes == 64 * 4
    assert found.weight_bytes == pytest.approx(4 * (BLOCK_PARAMETERS + NORMS + HEAD), abs=256)  # rotary tables
    assert found.kv_bytes == 2 * 2 * 16 * 4
    assert found.windows == (None, None)


def test_tied_table_is_read_once_as_the_head() -> None:
    from transformers import LlamaForCausalLM

    tied = LlamaForCausalLM(TINY.config(tied=True))
    assert footprint(tied).weight_bytes == footprint(tiny()).weight_bytes
    assert footprint(tied).matrix_parameters == BLOCK_PARAMETERS + HEAD


def test_quantized_weights_count_as_stored() -> None:
    model = tiny(torch.bfloat16)
    quantize_in_place(model, "4bit")
    found = footprint(model)
    packed = BLOCK_PARAMETERS // 2
    rest = 2 * (NORMS + HEAD)
    assert packed + rest < found.weight_bytes < 1.3 * packed + rest + 256
    assert found.matrix_parameters == BLOCK_PARAMETERS + HEAD, "operations are those of the unpacked matrices"


def test_early_exit_reads_its_layers_and_the_head() -> None:
    model = tiny()
    part, whole = footprint(model, layers=1), footprint(model)
    assert whole.matrix_parameters - part.matrix_parameters == BLOCK_PARAMETERS // 2
    assert whole.weight_bytes - part.weight_bytes == 4 * (BLOCK_PARAMETERS // 2 + 2 * 64)
    assert len(part.windows) == 1


def test_forward_cost_by_hand() -> None:
    model = Footprint(
        weight_bytes=1000, row_bytes=8, matrix_parameters=50, windows=(None, None), kv_bytes=6, heads_width=10
    )
    one = forward_cost(model, cached=7)
    assert one.bytes == 1000 + 8 + 6 * 2 * (7 + 1)
    assert one.operations == 2 * 50 + 4 * 10 * 2 * 8
    three = forward_cost(model, cached=7, positions=3)
    assert three.bytes == 1000 + 3 * 8 + 6 * 2 * (7 + 3)
    assert three.operations == 3 * 2 * 50 + 4 * 10 * 2 * (8 + 9 + 10)


def test_sliding_window_bounds_what_attention_reads() -> None:
    model = Footprint(weight_bytes=0, row_bytes=0, matrix_parameters=0, windows=(4, None), kv_bytes=1, heads_width=1)
    assert forward_cost(model, cached=10).bytes == (4 + 1) + (10 + 1)
    assert forward_cost(model, cached=10).operations == 4 * (4 + 11)


def test_mistral_has_windows_and_llama_none() -> None:
    with torch.device("meta"):
        from transformers import AutoModelForCausalLM

        mistral = AutoModelForCausalLM.from_config(SHAPES["mistral-1b"].config())
    assert footprint(mistral).windows == (4096,) * 16


SIMPLE = Footprint(weight_bytes=100, row_bytes=0, matrix_parameters=1, windows=(None,), kv_bytes=1, heads_width=0)
SMALL = Footprint(weight_bytes=10, row_bytes=0, matrix_parameters=1, windows=(None,), kv_bytes=0, heads_width=0)


def sample(**more: object) -> Sample:
    values = {"prompt": 0, "seconds": 5.0, "new_tokens": 3, "target_forwards": 3, "output_sha256": "x"}
    return Sample(**{**values, "ttft_seconds": 1.0, **more})  # type: ignore[arg-type]


def test_plain_decoding_against_the_limit_by_hand() -> None:
    facts = limit_facts([sample()], [4], UNIT, SIMPLE)
    moved = (100 + 4 + 1) + (100 + 5 + 1)  # two forwards after the first token, on caches of 4 and 5
    assert facts["bytes_moved_per_step"] == moved / 2
    assert facts["achieved_bytes_per_second"] == moved / 4.0
    assert facts["bandwidth_share"] == moved / 4.0
    assert facts["limit_tokens_per_second"] == pytest.approx(2 / moved)
    assert facts["limit_bound"] == "bandwidth"


def test_speculative_steps_count_the_drafts_and_the_wider_forward() -> None:
    steps = ((2, 1), (2, 2), (1, 0))  # the first is the prefill's; then three tokens, then one
    speculative = sample(new_tokens=6, first_tokens=2, target_forwards=3, steps=steps)
    facts = limit_facts([speculative], [4], UNIT, SIMPLE, SMALL)
    moved = (2 * 10 + 100 + 5 + 3) + (1 * 10 + 100 + 8 + 2)
    assert facts["bytes_moved_per_step"] == moved / 2
    assert facts["limit_tokens_per_second"] == pytest.approx(4 / moved)
    free = limit_facts([speculative], [4], UNIT, SIMPLE)
    assert free["bytes_moved_per_step"] == (moved - 30) / 2, "prompt lookup drafts without reading weights"


def test_without_a_cache_operations_grow_and_can_bind() -> None:
    slow = DeviceLimit(copy_bytes_per_second=1e9, matrix_operations_per_second=1.0, seconds=0.0, how="")
    facts = limit_facts([sample()], [4], slow, SIMPLE, cache=False)
    assert facts["limit_bound"] == "compute"
    assert facts["limit_tokens_per_second"] == pytest.approx(2 / (2 * 5 + 2 * 6))


def test_nothing_to_say_where_one_forward_makes_all_tokens() -> None:
    assert limit_facts([sample(new_tokens=1)], [4], UNIT, SIMPLE) == {}
