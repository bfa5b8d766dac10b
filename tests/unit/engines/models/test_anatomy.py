"""Parts of many families by transformers' own accessors: what a forward reads, computes and caches, by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from fixtures.engines.transformers.decoding.caches import cache_bytes, cache_tokens
from fixtures.engines.transformers.models.anatomy import (
    decoder_layers,
    filled_cache,
    forward,
    keeps_all_in_cache,
    new_cache,
)
from fixtures.engines.transformers.models.engine import Engine
from fixtures.engines.transformers.models.experts import FootprintUnknown
from fixtures.humaneval.generation import row_bytes
from fixtures.measuring.limit import footprint, forward_cost
from fixtures.measuring.perplexity import perplexity
from tools.tiny_families import FAMILIES, LAYERS, VOCABULARY, WIDTH

HEAD = VOCABULARY * WIDTH
CAUSAL = sorted(set(FAMILIES) - {"t5"})
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def built() -> Callable[[str], Any]:
    """`built(family)`: its tiny model in fp32, made once."""
    models: dict[str, Any] = {}
    return lambda name: (
        models.setdefault(name, None) or models.__setitem__(name, FAMILIES[name].build()) or models[name]
    )


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("family", CAUSAL)
def test_a_forward_reads_all_weights_but_the_tables_rows_that_it_does_not_look_up(family: str, built: Any) -> None:
    """Of every family: decoder and head once, no table, no other tower. Experts are those of one token."""
    model = built(family)
    found, decoder, head = footprint(model), model.get_decoder(), model.get_output_embeddings()
    tables = sum(parameters(module) for module in decoder.modules() if isinstance(module, nn.Embedding))
    whole = 4 * (parameters(decoder) + parameters(head) - tables)
    buffers = sum(b.numel() * b.element_size() for b in decoder.buffers())
    assert 0 <= found.weight_bytes + found.expert_bytes - whole <= buffers
    assert found.row_bytes == 4 * sum(
        module.embedding_dim for module in decoder.modules() if isinstance(module, nn.Embedding)
    )
    assert found.matrix_parameters >= HEAD + WIDTH * WIDTH * len(decoder_layers(model)) / 2, "blocks are counted"
    assert found.matrix_parameters + found.expert_parameters <= whole // 4
    assert forward_cost(found, 10).bytes > found.weight_bytes


def test_the_layers_of_gpt_2_are_counted_though_they_are_no_linear_ones(built: Any) -> None:
    blocks = LAYERS * (WIDTH * 3 * WIDTH + WIDTH * WIDTH + 2 * WIDTH * 4 * WIDTH)
    assert footprint(built("gpt2")).matrix_parameters == blocks + HEAD


def test_the_towers_of_a_multimodal_model_are_not_read(built: Any) -> None:
    model = built("gemma3_multimodal")
    assert footprint(model).weight_bytes < 4 * parameters(model) - 4 * parameters(model.model.vision_tower)
    assert footprint(model).windows == (16, 16, 16, 16, 16, None)


def test_a_token_reads_and_computes_its_own_experts_only(built: Any) -> None:
    found = footprint(built("mixtral"))
    experts = LAYERS * 8 * 3 * WIDTH * 128
    assert (found.experts, found.active_experts) == (8, 2)
    assert found.expert_parameters == experts and found.expert_bytes == 4 * experts
    none = dataclasses.replace(found, expert_bytes=0, expert_parameters=0)
    token, without = forward_cost(found, 5), forward_cost(none, 5)
    assert token.bytes - without.bytes == pytest.approx(4 * experts * 2 / 8)
    assert token.operations - without.operations == pytest.approx(2 * experts * 2 / 8)


def test_several_positions_read_the_experts_that_they_are_expected_to_draw(built: Any) -> None:
    """Against drawing: 4 positions draw 2 of 8 each, 20,000 times."""
    found = footprint(built("mixtral"))
    none = dataclasses.replace(found, expert_bytes=0, expert_parameters=0)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(20_000, 4, 8, generator=generator).topk(2).indices.flatten(1)
    distinct = sum(len(set(row)) for row in drawn.tolist()) / len(drawn)
    read = (forward_cost(found, 0, 4).bytes - forward_cost(none, 0, 4).bytes) / found.expert_bytes
    assert read == pytest.approx(distinct / 8, rel=0.01)
    computed = forward_cost(found, 0, 4).operations - forward_cost(none, 0, 4).operations
    assert computed == pytest.approx(4 * 2 * found.expert_parameters * 2 / 8), "each position computes its own"


def test_shared_experts_and_the_router_count_whole(built: Any) -> None:
    found = footprint(built("qwen2_moe"))
    assert found.expert_parameters == LAYERS * 8 * 3 * WIDTH * 32
    shared, gate, router, attention = 3 * WIDTH * 64, WIDTH, 8 * WIDTH, 2 * WIDTH * WIDTH + 2 * WIDTH * WIDTH // 2
    assert found.matrix_parameters == LAYERS * (shared + gate + router + attention) + HEAD


def test_experts_in_a_list_are_found_as_well(built: Any) -> None:
    """As older architectures hold them: one module each."""
    model = FAMILIES["mixtral"].build()
    for layer in decoder_layers(model):
        moe: Any = layer.mlp
        moe.experts = nn.ModuleList([nn.Linear(WIDTH, 96, bias=False) for _ in range(8)])
    model.get_decoder().forward = lambda **named: None
    found = footprint(model)
    assert (found.expert_parameters, found.expert_bytes) == (LAYERS * 8 * WIDTH * 96, 4 * LAYERS * 8 * WIDTH * 96)


@pytest.mark.parametrize("unknown", ["active", "parameters"])
def test_what_cannot_be_known_of_experts_is_said_and_not_guessed(unknown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = FAMILIES["mixtral"].build()
    if unknown == "active":
        monkeypatch.setattr("fixtures.engines.transformers.models.experts._ACTIVE", ("a_name_that_nobody_gave",))
    else:
        for layer in decoder_layers(model):
            moe: Any = layer.mlp
            moe.experts = nn.Identity()
    with pytest.raises(FootprintUnknown, match="8 experts"):
        footprint(model)


def test_a_state_is_read_and_written_whatever_came_before(built: Any) -> None:
    found = footprint(built("mamba"))
    inner = 2 * WIDTH
    assert found.state_bytes == 4 * LAYERS * (inner * 8 + inner * 4), "states of 8, convolutions over 4"
    assert (found.windows, found.kv_bytes, found.heads_width) == ((), 0.0, 0)
    assert forward_cost(found, 0) == forward_cost(found, 1000)
    assert forward_cost(found, 0).bytes == found.weight_bytes + found.row_bytes + 2 * found.state_bytes


def test_early_exit_reads_the_experts_of_its_layers(built: Any) -> None:
    model = built("mixtral")
    assert footprint(model, layers=1).expert_bytes == footprint(model).expert_bytes / LAYERS


@pytest.mark.parametrize("family", CAUSAL)
def test_a_row_needs_memory_that_grows_with_its_length(family: str, built: Any) -> None:
    engine = Engine(None, None, CPU, built(family), None, None, None, 0.0)  # type: ignore[arg-type]
    assert row_bytes(engine, 400) > row_bytes(engine, 100) > 8 * VOCABULARY * 4


def test_a_row_holds_no_more_than_its_windows(built: Any) -> None:
    """Against the same model without: what is left are activations and scores."""
    engine = Engine(None, None, CPU, built("mistral"), None, None, None, 0.0)  # type: ignore[arg-type]
    full = dataclasses.replace(engine, target=FAMILIES["llama"].build())
    position = 2 * 2 * 16 * 4
    assert row_bytes(full, 100) - row_bytes(engine, 100) == (LAYERS + 2) * position * (100 - 16)


@pytest.mark.parametrize(("family", "tokens"), [("mamba", 0), ("jamba", 5), ("mistral", 5), ("llama", 5)])
def test_what_a_cache_holds_counts_states_too(family: str, tokens: int, built: Any) -> None:
    model = built(family)
    cache = filled_cache(model, [1, 2, 3, 4, 5])
    assert cache_tokens(cache) == tokens
    assert cache_bytes(cache) > 0
    assert (cache_bytes(cache) == cache_bytes(filled_cache(model, [1]))) == (tokens == 0)


@pytest.mark.parametrize("family", ["mamba", "mamba2", "jamba", "bamba", "lfm2", "qwen3_next", "mistral", "gpt2"])
def test_perplexity_in_pieces_is_that_of_one_forward(family: str, built: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = built(family)
    ids = torch.randint(3, VOCABULARY, (90,), generator=torch.Generator().manual_seed(1)).tolist()
    whole = perplexity(model, ids, CPU, stride=60, window=100)
    monkeypatch.setattr("fixtures.measuring.perplexity.CHUNK", 7)
    assert perplexity(model, ids, CPU, stride=60, window=100).nll_sum == pytest.approx(whole.nll_sum, rel=1e-4)


def test_a_model_that_takes_no_cache_is_fed_all_at_once() -> None:
    import transformers

    torch.manual_seed(0)
    config = transformers.RwkvConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, context_length=128)
    model = transformers.RwkvForCausalLM(config).eval()
    assert new_cache(model) is None and not keeps_all_in_cache(model)
    ids = [5, 9, 33, 7, 8, 12]
    logits = forward(model, ids[:-1], None).double().log_softmax(-1)
    expected = -sum(float(logits[place, token]) for place, token in enumerate(ids[1:]))
    assert perplexity(model, ids, CPU, stride=3, window=6).nll_sum == pytest.approx(expected, rel=1e-5)


def test_a_state_outside_the_cache_is_noticed(built: Any) -> None:
    assert {name for name in CAUSAL if not keeps_all_in_cache(built(name))} == {"recurrent_gemma"}
