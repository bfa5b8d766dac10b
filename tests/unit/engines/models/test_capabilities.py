"""What a model can do, by its configuration: held against what the loaded model then does, and refused before it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures.engines.transformers.models.capabilities import capabilities, of_config, why_unable
from fixtures.engines.transformers.models.hub import why_not_causal
from fixtures.study.pairs import Pair, find_pair
from fixtures.study.study import Case, DecodingPoint, EngineKey, Workload
from tools.tiny_families import FAMILIES

EXIT = {"strategy": "early_exit", "assist_toks": 3, "confidence_threshold": 0.0, "exit_layer": 2}


def config_of(family: str) -> Any:
    import transformers

    made = FAMILIES[family]
    return getattr(transformers, made.config)(**made.settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configurations of all families as a checkpoint has them; without weights, which nothing may ask for."""
    path = tmp_path_factory.mktemp("configurations")
    for name in FAMILIES:
        config_of(name).save_pretrained(path / name)
    return path


def reason(folder: Path, target: str, draft: str | None = None, **point: Any) -> str:
    pair = Pair.from_hub(str(folder / target), str(folder / draft) if draft else None)
    engine = EngineKey(pair.name, dtype="fp32")
    return why_unable(Case(engine, DecodingPoint(**point), Workload(), "baseline"), pair) or ""


@pytest.mark.parametrize("family", ["mamba", "mamba2", "jamba", "bamba", "qwen3_next", "recurrent_gemma"])
@pytest.mark.parametrize("strategy", ["assisted", "prompt_lookup", "early_exit"])
def test_what_cannot_be_rolled_back_does_not_speculate(folder: Path, family: str, strategy: str) -> None:
    said = reason(folder, family, family, **(EXIT if strategy == "early_exit" else {"strategy": strategy}))
    assert "keeps a state that cannot be rolled back" in said and said.endswith("use --strategy plain")
    assert not reason(folder, family), "plain decoding is possible"


def test_a_draft_that_cannot_be_rolled_back_is_no_draft(folder: Path) -> None:
    said = reason(folder, "llama", "mamba", strategy="assisted", assist_toks=3)
    assert "cannot draft" in said and "cannot be rolled back" in said
    assert not reason(folder, "llama", "mamba", strategy="prompt_lookup", assist_toks=3)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "bloom", "falcon", "opt"])
def test_a_forward_that_runs_all_layers_cannot_leave_early(folder: Path, family: str) -> None:
    said = reason(folder, family, **EXIT)
    assert "runs all its layers" in said and said.endswith("use --strategy plain")


@pytest.mark.parametrize("family", ["llama", "phi", "phi3", "qwen2", "qwen3", "gemma2", "gemma3", "mistral", "mixtral"])
def test_a_forward_over_the_configured_layers_leaves_early(folder: Path, family: str) -> None:
    assert not reason(folder, family, **EXIT)
    assert reason(folder, family, **EXIT | {"exit_layer": 9}) == (
        "exit_layer 9 is not below the target's 4 layers; lower --exit-layer"
    )


def test_the_text_part_of_a_multimodal_model_cannot_leave_early(folder: Path) -> None:
    assert "of its own for its text part" in reason(folder, "gemma3_multimodal", **EXIT)


@pytest.mark.parametrize("family", ["gemma2", "gemma3", "gemma3_multimodal", "mistral", "jamba", "lfm2"])
def test_a_quantized_cache_takes_full_attention_only(folder: Path, family: str) -> None:
    assert "than those of full attention" in reason(folder, family, cache="quantized")
    assert not reason(folder, family, cache="static")


@pytest.mark.parametrize("cache", ["static", "quantized", "offloaded"])
def test_a_model_without_keys_and_values_has_one_kind_of_cache(folder: Path, cache: str) -> None:
    assert "no keys and values" in reason(folder, "mamba", cache=cache)
    assert not reason(folder, "mamba", cache="none")


@pytest.mark.parametrize("config", ["RwkvConfig", "xLSTMConfig"])
def test_a_state_of_its_own_kind_takes_no_cache_of_transformers(config: str) -> None:
    import transformers

    found = of_config(getattr(transformers, config)())
    assert set(found.caches) == {"static", "quantized", "offloaded"} and found.speculation


@pytest.mark.parametrize(
    "config", ["T5Config", "BartConfig", "BertConfig", "RobertaConfig", "Qwen2VLConfig", "Mistral3Config", "ViTConfig"]
)
def test_what_is_no_causal_language_model_is_known(config: str) -> None:
    """Also where transformers has a class for it: BART's and BERT's continue no text as they are."""
    import transformers

    said = why_not_causal("a/b", getattr(transformers, config)())
    assert said.startswith(f"a/b holds a {config}, which is no causal language model")


@pytest.mark.parametrize("config", ["LlamaConfig", "GPTNeoXConfig", "Gemma3Config", "Llama4Config", "MambaConfig"])
def test_what_continues_text_is_not_refused(config: str) -> None:
    import transformers

    assert why_not_causal("a/b", getattr(transformers, config)()) == ""


def test_where_only_the_text_part_is_loaded_its_configuration_is_shortened() -> None:
    import transformers

    assert of_config(transformers.Llama4Config()).early_exit == ""
    assert of_config(transformers.Gemma3Config()).early_exit != ""


def test_whose_configuration_cannot_be_had_nothing_stands_against(tmp_path: Path) -> None:
    assert capabilities("hub", str(tmp_path / "missing")).caches == {}


def test_a_synthetic_pair_of_windows_is_known_as_well() -> None:
    pair = find_pair("synthetic-mistral-7b")
    case = Case(EngineKey(pair.name), DecodingPoint(cache="quantized"), Workload(), "kv_cache")
    assert "than those of full attention" in (why_unable(case, pair) or "")
    embedded = find_pair("embedded")
    assert why_unable(Case(EngineKey("embedded"), DecodingPoint(cache="quantized"), Workload(), "x"), embedded) is None


def test_what_cannot_be_quantized_is_known_too(folder: Path) -> None:
    pair = Pair.from_hub(str(folder / "mixtral"))
    case = Case(EngineKey(pair.name, target_quant="4bit"), DecodingPoint(), Workload(), "quantization")
    assert " in quantization 4bit: " in (why_unable(case, pair) or "")
