"""Engines: loaded as their key says, refused with a clear line, and gone when nobody holds them."""

from __future__ import annotations

import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures.engines.transformers.decoding.measurement import timed_decoder
from fixtures.engines.transformers.models import synthetic
from fixtures.engines.transformers.models.engine import evict, load_engine, resolve_device, synthetic_maps
from fixtures.engines.transformers.models.frames import without_frames
from fixtures.engines.transformers.models.shapes import SHAPES
from fixtures.engines.transformers.models.vocabulary import TokenizerMismatch
from fixtures.study.pairs import Pair, PairError, find_pair, split_revision
from fixtures.study.study import DecodingPoint, EngineKey, Workload
from tests.unit.synthetic_pairs import build_pair, save

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A target, a draft with its tokenizer, and a draft with a tokenizer of other words."""
    root = tmp_path_factory.mktemp("models")
    pair = build_pair(SHAPES["tiny"], SHAPES["tiny-draft"], 1.0)
    found = {name: root / name for name in ("target", "draft", "stranger", "weightless")}
    save(pair.target, found["target"])
    save(pair.draft, found["draft"])
    stranger = replace(SHAPES["tiny-draft"], vocab=500)
    save(synthetic.build(stranger, synthetic.cycle(500, 0)), found["stranger"])
    save(pair.draft, found["weightless"])
    (found["weightless"] / "model.safetensors").unlink()
    return found


@pytest.mark.parametrize(
    ("name", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", torch.float32)]
)
def test_both_models_have_the_keys_dtype(tiny_engine: Any, folders: dict[str, Path], name: str, dtype: Any) -> None:
    pair = Pair.from_hub(str(folders["target"]), str(folders["draft"]))
    for engine in (tiny_engine(dtype=name), load_engine(EngineKey(pair.name, dtype=name), pair, CPU)):
        assert {weight.dtype for weight in engine.target.parameters()} == {dtype}
        assert {weight.dtype for weight in engine.draft.parameters()} == {dtype}
        assert not engine.target.training and not engine.draft.training


def test_an_engine_tells_what_it_is(tiny_engine: Any) -> None:
    engine = tiny_engine()
    assert engine.weight_bytes["target"] > engine.weight_bytes["draft"] > 0
    assert engine.revisions == {"target": "synthetic tiny seed 0", "draft": "synthetic tiny-draft seed 0"}
    assert engine.load_seconds > 0


def test_a_key_without_a_draft_loads_none() -> None:
    engine = load_engine(EngineKey("synthetic-tiny", draft_quant=None), find_pair("synthetic-tiny"), CPU)
    assert engine.draft is None
    assert set(engine.weight_bytes) == set(engine.revisions) == {"target"}


def test_tokenizers_that_differ_are_refused_before_any_model_loads(folders: dict[str, Path], monkeypatch: Any) -> None:
    from fixtures.engines.transformers.models import hub

    monkeypatch.setattr(hub, "load_model", lambda *names, **settings: pytest.fail("a model was loaded"))
    pair = Pair.from_hub(str(folders["target"]), str(folders["stranger"]))
    with pytest.raises(TokenizerMismatch) as refusal:
        load_engine(EngineKey(pair.name), pair, CPU)
    message = str(refusal.value)
    assert "512 and 500 tokens" in message
    assert "--tokenizers different" in message
    assert "\n" not in message


def test_tokenizers_that_differ_are_used_when_asked_for_by_name(folders: dict[str, Path]) -> None:
    pair = Pair.from_hub(str(folders["target"]), str(folders["stranger"]), tokenizers="different")
    engine = load_engine(EngineKey(pair.name, dtype="fp32"), pair, CPU)
    assert len(engine.draft_tokenizer) == 500
    point = DecodingPoint("assisted", assist_toks=3, confidence_threshold=0.0, assist_schedule="constant")
    with timed_decoder(engine, point, Workload(gen_toks=8)) as decoder:
        generation = decoder.generate(0, [3, 141, 59])
    truth, _ = synthetic_maps(find_pair("synthetic-tiny-same"), 0)
    assert list(generation.tokens) == synthetic.continuation(truth, 59, 8)
    assert generation.sample().drafted > 0


def test_a_device_that_is_not_there_is_refused_with_what_there_is() -> None:
    with pytest.raises(
        ValueError, match=r"--device 'cuda:99': this machine has .* CUDA devices; use --device cpu or auto"
    ):
        resolve_device("cuda:99")
    assert resolve_device("cpu") == CPU
    assert resolve_device("auto").type in ("cpu", "cuda")


def test_a_dropped_engine_is_freed_even_after_a_failure_that_holds_its_frames() -> None:
    engine = load_engine(EngineKey("synthetic-tiny"), find_pair("synthetic-tiny"), CPU)
    alive = [weakref.ref(engine.target), weakref.ref(engine.draft)]

    def fails(held: Any) -> None:
        raise RuntimeError("a failing case")

    try:
        fails(engine)
    except RuntimeError as error:
        sys.last_exc = sys.last_value = error  # as pytest and the interactive shell leave it
        sys.last_traceback = error.__traceback__
    del engine
    evict()
    assert [reference() for reference in alive] == [None, None]


def test_a_target_is_freed_when_its_draft_cannot_be_loaded(folders: dict[str, Path], monkeypatch: Any) -> None:
    from fixtures.engines.transformers.models import hub

    loaded, original = [], hub.load_model

    def counted(*names: Any, **settings: Any) -> Any:
        model = original(*names, **settings)
        loaded.append(weakref.ref(model))
        return model

    monkeypatch.setattr(hub, "load_model", counted)
    pair = Pair.from_hub(str(folders["target"]), str(folders["weightless"]))
    try:
        load_engine(EngineKey(pair.name), pair, CPU)
        raise AssertionError("a folder without weights was loaded")
    except hub.ModelUnavailable as error:
        kept = without_frames(error)
    evict()
    assert len(loaded) == 1
    assert loaded[0]() is None, f"held by {kept!r}"


def test_a_pair_is_named_after_its_models() -> None:
    pair = Pair.from_hub("meta-llama/Llama-3.1-8B-Instruct@v1", "/models/My Draft/")
    assert pair.name == "llama-3.1-8b-instruct--my-draft"
    assert pair.prompt_form == "instruct"
    assert Pair.from_hub("meta-llama/Llama-3.1-8B").prompt_form == "base"
    with pytest.raises(
        PairError, match=r"'llama4': unknown pair; choose one of embedded, .* or name models with --model"
    ):
        find_pair("llama4")


def test_a_revision_follows_the_at_sign_unless_it_is_part_of_a_folder(tmp_path: Path) -> None:
    assert split_revision("owner/name@abc") == ("owner/name", "abc")
    assert split_revision("owner/name") == ("owner/name", None)
    folder = tmp_path / "me@home"
    folder.mkdir()
    assert split_revision(str(folder)) == (str(folder), None)


def test_a_pair_is_named_after_the_last_folder_in_any_script() -> None:
    names = {
        "/models/模型": "模型",
        "/models/Модель-7B": "модель-7b",
        "/models/u\u0308bung_2": "übung-2",  # the letter and its dots apart, as some file systems store it
        "/models/run1/final/": "final",
        "/cache/models--Qwen--Qwen2.5-0.5B/snapshots/0123abc": "qwen2.5-0.5b",
        "TinyLlama/TinyLlama_v1.1": "tinyllama-v1.1",
    }
    assert {place: Pair.from_hub(place).name for place in names} == names
    nameless = {Pair.from_hub(f"/models/{name}").name for name in ("\U0001f999", "\U0001f42b", "--")}
    assert len(nameless) == 3 and all(name.startswith("model-") for name in nameless)


def test_the_prompt_form_is_guessed_from_the_last_name_alone(tmp_path: Path) -> None:
    (tmp_path / "chat-project" / "base").mkdir(parents=True)
    forms = {
        str(tmp_path / "chat-project" / "base"): "base",
        "instruct-lab/base-7b": "base",
        "owner/Base@instruct": "base",
        "google/gemma-2b-it": "instruct",
        "/models/Llama-2-7b-Chat/": "instruct",
        "/cache/models--Qwen--Qwen2.5-0.5B-Instruct/snapshots/0123abc": "instruct",
    }
    assert {model: Pair.from_hub(model).prompt_form for model in forms} == forms


def test_a_run_file_tells_a_folder_s_name_and_not_its_place(tmp_path: Path) -> None:
    pair = Pair.from_hub(str(tmp_path), "owner/draft@v1")
    assert (pair.describe()["target"], pair.describe()["draft"]) == (f"./{tmp_path.name}", "owner/draft@v1")
    assert Pair.from_hub("/no/such/folder").describe()["target"] == "./folder"
