"""Bytes by configs alone: equal to what loaded models hold, in every quantization."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fixtures.engines.transformers.models.engine import Engine
from fixtures.estimate.sizes import draft_size, target_size
from fixtures.study.pairs import Pair, find_pair

GIB = 2**30


@pytest.mark.parametrize(
    ("quantization", "dtype"),
    [("none", "bf16"), ("none", "fp32"), ("8bit", "bf16"), ("4bit", "bf16"), ("4bit", "fp32")],
)
def test_a_size_is_what_a_loaded_model_holds(tiny_engine: Callable[..., Engine], quantization: str, dtype: str) -> None:
    engine = tiny_engine(dtype=dtype, target_quant=quantization, draft_quant=quantization)
    sizes = {"target": target_size(engine.pair), "draft": draft_size(engine.pair)}
    assert {role: size and size.weight_bytes(quantization, dtype) for role, size in sizes.items()} == {
        **engine.weight_bytes
    }


def test_a_cache_is_keys_and_values_of_every_layer() -> None:
    size = target_size(find_pair("llama3-8b"))
    assert size is not None
    assert size.cache_bytes(256, "bf16") == 2 * 32 * 8 * 128 * 256 * 2


def test_published_models_have_their_published_sizes_without_access_to_them() -> None:
    target, small, large = (
        target_size(find_pair("llama3-8b")),
        draft_size(find_pair("llama3-8b-1b")),
        draft_size(find_pair("llama3-8b-3b")),
    )
    assert target is not None and small is not None and large is not None
    assert target.matrix_parameters + target.table + target.rest == 8_030_261_248
    assert small.matrix_parameters + small.table + small.rest == 1_235_814_400
    assert large.matrix_parameters + large.table + large.rest == 3_212_749_824
    both = target.weight_bytes("none", "bf16") + large.weight_bytes("none", "bf16")
    assert both / GIB == pytest.approx(20.94, abs=0.005)


def test_a_size_that_nothing_tells_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert target_size(Pair.from_hub("nobody/such-a-model-as-this")) is None
