"""A model's generation_config.json does not act on a case unless the case asks for it, and then it does."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, PreTrainedTokenizerFast

from fixtures.engines.transformers.decoding.caches import cache_facts
from fixtures.engines.transformers.decoding.forward_costs import measure_forward_costs
from fixtures.engines.transformers.decoding.measurement import timed_decoder
from fixtures.engines.transformers.decoding.own_settings import (
    asked_for,
    in_words,
    neutral_settings,
    shortened,
    why_contradicting,
)
from fixtures.engines.transformers.decoding.strategies import end_tokens, generation_config, settings_in_force
from fixtures.engines.transformers.models import embedded, hub
from fixtures.engines.transformers.models.engine import load_engine
from fixtures.humaneval import generation as humaneval
from fixtures.study.pairs import Pair
from fixtures.study.study import DecodingPoint, EngineKey, Workload
from tests.unit import checkpoints

pytestmark = pytest.mark.usefixtures("one_thread")

END = checkpoints.VOCAB - 1
WORKLOAD = Workload(gen_toks=12)
PLAIN = DecodingPoint()
SAMPLED = DecodingPoint(do_sample=True, temperature=1.0, top_p=1.0)
ASSISTED = DecodingPoint("assisted", assist_toks=3, confidence_threshold=0.0, assist_schedule="constant")
LOOKUP = DecodingPoint("prompt_lookup", assist_toks=3, lookup_ngram=2)
EARLY_EXIT = replace(ASSISTED, strategy="early_exit", exit_layer=1)
POINTS = [PLAIN, SAMPLED, ASSISTED, replace(ASSISTED, do_sample=True, temperature=1.0, top_p=1.0), LOOKUP, EARLY_EXIT]
PROMPT = [5, 9, 5, 9, 5, 30, 31, 32]

# What people's files hold: each of these changed outputs, forwards or the cache of a case, or ended it.
FILES: dict[str, dict[str, Any]] = {
    "sampling": {"do_sample": True, "temperature": 0.1, "top_k": 2, "top_p": 0.1, "repetition_penalty": 5.0},
    "cut distribution": {"do_sample": True, "min_p": 0.5, "typical_p": 0.2, "epsilon_cutoff": 0.02, "eta_cutoff": 0.02},
    "prompt lookup": {"prompt_lookup_num_tokens": 10},
    "static cache": {"cache_implementation": "static"},
    "guidance": {"guidance_scale": 1.5},
    "n-grams": {"no_repeat_ngram_size": 1},
    "suppressed": {"suppress_tokens": list(range(2, 40)), "begin_suppress_tokens": [41]},
    "forced": {"forced_eos_token_id": END, "forced_bos_token_id": 2},
    "beams": {"num_beams": 4, "num_return_sequences": 2, "length_penalty": 2.0, "early_stopping": True},
    "dictionary": {"return_dict_in_generate": True, "output_scores": True, "output_logits": True},
    "states": {"output_hidden_states": True, "return_dict_in_generate": True},
    "time": {"max_time": 0.0001},
    "stop strings": {"stop_strings": ["t1", "t2", "t3"]},
    "contrastive": {"penalty_alpha": 0.6, "top_k": 4},
    "dola": {"dola_layers": "high"},
    "no cache": {"use_cache": False},
    "lengths": {"max_length": 9, "min_length": 5, "max_new_tokens": 3},
    "decay": {"exponential_decay_length_penalty": [1, 2.0]},
    "bias": {"sequence_bias": [[[3], 10.0]], "bad_words_ids": [[4]]},
    "early exit": {"assistant_early_exit": 1},
    "watermark": {"watermarking_config": {"greenlist_ratio": 0.25, "bias": 5.0}},
    "chunks": {"prefill_chunk_size": 2},
    "of tomorrow": {"a_key_of_tomorrow": 7},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = checkpoints.save(tmp_path_factory.mktemp("models") / "target", checkpoints.llama())
    checkpoints.save(target.parent / "draft", checkpoints.llama(layers=1, seed=1))
    return target


@pytest.fixture(scope="module")
def engine(folder: Path) -> Any:
    pair = Pair.from_hub(str(folder), str(folder.parent / "draft"))
    return load_engine(EngineKey(pair.name, dtype="fp32"), pair, torch.device("cpu"))


def as_in_a_file(content: dict[str, Any], folder: Path) -> GenerationConfig:
    """Read as transformers reads a model's file."""
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": END} | content), encoding="utf-8")
    read = GenerationConfig.from_pretrained(folder)
    assert isinstance(read, GenerationConfig)
    return read


@pytest.fixture
def own(engine: Any, tmp_path: Path) -> Iterator[Any]:
    """`own(content, "target" | "draft" | both)`: a model's generation config is what such a file gives."""
    before = engine.target.generation_config, engine.draft.generation_config

    def give(content: dict[str, Any], *roles: str) -> None:
        for role in roles or ("target", "draft"):
            getattr(engine, role).generation_config = as_in_a_file(content, tmp_path)

    yield give
    engine.target.generation_config, engine.draft.generation_config = before


def figures(engine: Any, point: DecodingPoint) -> Any:
    """Everything of a generation but its times."""
    with timed_decoder(engine, point, WORKLOAD) as decoder:
        made = decoder.generate(0, PROMPT)
    steps = [(step.proposed, step.accepted) for step in made.recording.steps]
    return made.tokens, made.recording.target_forwards, made.recording.draft_forwards, steps


@pytest.fixture(scope="module")
def reference(engine: Any) -> dict[DecodingPoint, Any]:
    return {point: figures(engine, point) for point in POINTS}


def test_the_reference_is_worth_comparing_with(reference: dict[DecodingPoint, Any]) -> None:
    tokens, forwards, _, _ = reference[PLAIN]
    assert forwards == WORKLOAD.gen_toks and len(set(tokens)) > 4
    assert reference[SAMPLED][0] != tokens == reference[ASSISTED][0] == reference[LOOKUP][0] == reference[EARLY_EXIT][0]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_what_a_file_asks_for_changes_no_case(
    engine: Any, own: Any, reference: dict[DecodingPoint, Any], name: str
) -> None:
    for roles in (("target",), ("draft",)):
        own(FILES[name], *roles)
        for point in POINTS[:3] if roles == ("target",) else POINTS[2:4]:
            assert figures(engine, point) == reference[point], (roles, point.id)


def _keys() -> list[str]:
    kept = ("eos_token_id", "bos_token_id", "pad_token_id", "transformers_version")
    return [name for name in vars(GenerationConfig()) if not name.startswith("_") and name not in kept]


def _unusual(name: str) -> Any:
    """A value that no default has; of a kind that transformers accepts where it reads it at once."""
    usual = GenerationConfig()._get_default_generation_params().get(name)
    if isinstance(usual, bool):
        return not usual
    if name == "num_assistant_tokens_schedule":
        return "heuristic"
    return 0.75 if isinstance(usual, float) else 3


def used(engine: Any, point: DecodingPoint) -> list[dict[str, Any]]:
    """What generate makes of the call and each model's own config, and the config that holds the draft's knobs."""
    config = generation_config(engine, point, WORKLOAD)
    with settings_in_force(engine, point):
        prepared = [model._prepare_generation_config(config)[0] for model in (engine.target, engine.draft)]
        return [vars(each) for each in (*prepared, copy.deepcopy(engine.draft.generation_config))]


@pytest.fixture(scope="module")
def usually_used(engine: Any) -> dict[DecodingPoint, list[dict[str, Any]]]:
    return {point: used(engine, point) for point in POINTS}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("key", [*_keys(), "a_key_of_tomorrow"])
def test_no_key_that_transformers_knows_or_will_know_reaches_generate(
    engine: Any, usually_used: dict[DecodingPoint, list[dict[str, Any]]], key: str
) -> None:
    before = engine.target.generation_config, engine.draft.generation_config
    try:
        for role in ("target", "draft"):
            changed = copy.deepcopy(getattr(engine, role).generation_config)
            setattr(changed, key, _unusual(key))
            getattr(engine, role).generation_config = changed
        held = engine.target.generation_config
        assert {point: used(engine, point) for point in POINTS} == usually_used
        assert engine.target.generation_config is held and getattr(held, key) == _unusual(key), "left as it was"
    finally:
        engine.target.generation_config, engine.draft.generation_config = before


def test_settings_of_old_checkpoints_in_config_json_do_not_act_either(
    folder: Path, tmp_path: Path, reference: dict[DecodingPoint, Any]
) -> None:
    """Before generation_config.json they stood beside the model's shape; transformers still reads them from there."""
    for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config |= {"repetition_penalty": 5.0, "no_repeat_ngram_size": 1, "num_beams": 3, "suppress_tokens": [5, 9, 30]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    pair = Pair.from_hub(str(tmp_path))
    legacy = load_engine(EngineKey(pair.name, draft_quant=None, dtype="fp32"), pair, torch.device("cpu"))
    assert legacy.target.generation_config.repetition_penalty == 5.0, "transformers took it over"
    assert figures(legacy, PLAIN) == reference[PLAIN]


def test_forwards_return_logits_only_whatever_config_json_says(
    engine: Any, reference: dict[DecodingPoint, Any]
) -> None:
    returned: list[set[str]] = []
    hook = engine.target.register_forward_hook(lambda module, inputs, output: returned.append(set(output.keys())))
    config = engine.target.config
    config.output_hidden_states, config.return_dict = True, False
    try:
        assert figures(engine, PLAIN) == reference[PLAIN]
        assert set.union(*returned) == {"logits", "past_key_values"}
        assert config.output_hidden_states and not config.return_dict, "left as it was"
    finally:
        config.output_hidden_states, config.return_dict = False, True
        hook.remove()


def test_models_that_ask_for_nothing_decode_as_they_always_did(tiny_engine: Any) -> None:
    """The synthetic pairs and the embedded one: what generate uses is the same with their own settings and without."""
    synthetic = tiny_engine()
    for model in (synthetic.target, synthetic.draft):
        assert asked_for(model.generation_config) == {}
    for point in POINTS:
        config = generation_config(synthetic, point, WORKLOAD)
        as_before = [model._prepare_generation_config(config)[0] for model in (synthetic.target, synthetic.draft)]
        with settings_in_force(synthetic, replace(point, strategy="plain")):
            now = [model._prepare_generation_config(config)[0] for model in (synthetic.target, synthetic.draft)]
        without = ("transformers_version", "_from_model_config", "_original_object_hash")
        for one, other in zip(as_before, now, strict=True):
            assert {k: v for k, v in vars(one).items() if k not in without} == {
                k: v for k, v in vars(other).items() if k not in without
            }


@pytest.mark.embedded
def test_the_embedded_models_files_ask_for_nothing() -> None:
    for folder in (embedded.target_folder(), embedded.draft_folder()):
        assert asked_for(hub.load_generation_config(str(folder))) == {}


@pytest.mark.filterwarnings("ignore")
def test_what_is_examined_off_the_clock_is_neutral_too(engine: Any, own: Any) -> None:
    wanted = cache_facts(engine, PLAIN, WORKLOAD, PROMPT)
    own(FILES["guidance"] | FILES["prompt lookup"] | FILES["n-grams"] | FILES["beams"])
    assert cache_facts(engine, PLAIN, WORKLOAD, PROMPT) == wanted
    before = engine.draft.generation_config
    costs = measure_forward_costs(engine.target, engine.draft, engine.device, PROMPT, repetitions=1)
    assert costs.draft_token_seconds is not None
    assert engine.draft.generation_config is before


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("point", [PLAIN, SAMPLED, ASSISTED], ids=lambda point: point.id)
def test_humaneval_is_generated_without_the_file(engine: Any, own: Any, point: DecodingPoint) -> None:
    def texts() -> list[tuple[str, int]]:
        asked = [humaneval.Request(f"p/{n}", 0, "t1 t2", tuple(PROMPT[: 4 + 2 * n]), seed=n) for n in range(3)]
        workload = replace(WORKLOAD, gen_toks=6, eos_stops=True)
        made = [each for batch in humaneval.generate(engine, point, workload, asked, rows=3) for each in batch]
        return sorted((each.request.task_id + each.text, each.tokens) for each in made)

    own({})
    expected = texts()
    for name in ("sampling", "cut distribution", "n-grams", "suppressed", "beams", "stop strings", "forced"):
        own(FILES[name])
        assert texts() == expected, name


def test_models_get_their_own_settings_back_whatever_happened(engine: Any) -> None:
    before = engine.target.generation_config, engine.draft.generation_config

    def interrupted() -> None:
        with settings_in_force(engine, ASSISTED):
            assert engine.draft.generation_config.num_assistant_tokens == 3
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (engine.target.generation_config, engine.draft.generation_config) == before
    with neutral_settings(None, engine.target):
        assert asked_for(engine.target.generation_config) == {}
    assert engine.target.generation_config is before[0]


# --- special tokens ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own_eos", "tokenizers", "expected", "padding"),
    [
        (0, 3, 0, 3),  # 0 is an end token
        ([0, 4], None, [0, 4], 0),
        ([4, 0], None, [4, 0], 4),
        (None, 3, 3, 3),
        (None, 0, 0, 0),
        ([], 3, 3, 3),
        (-1, 3, 3, 3),
        (None, None, None, None),
    ],
)
def test_end_and_padding_tokens(
    engine: Any, monkeypatch: pytest.MonkeyPatch, own_eos: Any, tokenizers: Any, expected: Any, padding: Any
) -> None:
    monkeypatch.setattr(type(engine.tokenizer), "eos_token_id", property(lambda self: tokenizers), raising=False)
    monkeypatch.setattr(type(engine.tokenizer), "pad_token_id", property(lambda self: tokenizers), raising=False)
    monkeypatch.setattr(engine.target, "generation_config", GenerationConfig(eos_token_id=own_eos))
    config = generation_config(engine, PLAIN, WORKLOAD)
    assert (config.eos_token_id, config.pad_token_id) == (expected, padding)
    ends = expected if isinstance(expected, list) else [] if expected is None else [expected]
    assert end_tokens(config) == frozenset(ends)
    stopping = replace(WORKLOAD, eos_stops=True)
    for point in (PLAIN, ASSISTED, LOOKUP):
        with timed_decoder(engine, point, stopping) as decoder:
            tokens = decoder.generate(0, PROMPT).tokens
        assert len(tokens) == WORKLOAD.gen_toks or tokens[-1] in ends
        assert not set(tokens[:-1]) & set(ends)


def test_a_padding_token_without_a_row_of_the_table_is_not_fed(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokenizers with a [PAD] added behind the vocabulary, whose model was never resized."""
    monkeypatch.setattr(type(engine.tokenizer), "pad_token_id", property(lambda self: checkpoints.VOCAB), raising=False)
    assert generation_config(engine, PLAIN, WORKLOAD).pad_token_id == END


def test_humaneval_rows_end_where_zero_is_the_end_token(engine: Any, own: Any) -> None:
    own({}, "target")
    workload = replace(WORKLOAD, eos_stops=True)
    asked = [humaneval.Request(f"p/{n}", 0, "t1", tuple(PROMPT[: 3 + n]), seed=0) for n in range(3)]

    def tokens() -> dict[str, int]:
        made = [each for batch in humaneval.generate(engine, PLAIN, workload, asked, rows=3) for each in batch]
        return {each.request.task_id: each.tokens for each in made}

    with timed_decoder(engine, PLAIN, WORKLOAD) as decoder:
        first = decoder.generate(0, asked[0].ids).tokens[1]
    engine.target.generation_config.eos_token_id = [0, first]
    assert tokens()["p/0"] == 2
    engine.target.generation_config.eos_token_id = None


# --- told, and asked for ----------------------------------------------------------------------------


def test_what_is_put_aside_is_told_and_nothing_else(tmp_path: Path) -> None:
    usual = as_in_a_file({"bos_token_id": 1, "max_length": 4096, "temperature": 1.0, "use_cache": True}, tmp_path)
    assert asked_for(usual) == {}
    llama = as_in_a_file({"do_sample": True, "temperature": 0.6, "top_p": 0.9, "guidance_scale": 1.0}, tmp_path)
    assert asked_for(llama) == {"do_sample": True, "temperature": 0.6, "top_p": 0.9}
    assert in_words(asked_for(llama)) == "do_sample true, temperature 0.6, top_p 0.9"
    zero = as_in_a_file({"forced_eos_token_id": 0, "prompt_lookup_num_tokens": 0, "use_mtp": False}, tmp_path)
    assert asked_for(zero) == {"forced_eos_token_id": 0, "prompt_lookup_num_tokens": 0}, "0 is a value, as a token is"
    many = as_in_a_file({"suppress_tokens": list(range(300)), "use_cache": False, "a_key_of_tomorrow": 7}, tmp_path)
    assert set(asked_for(many)) == {"suppress_tokens", "use_cache", "a_key_of_tomorrow"}
    assert len(in_words(asked_for(many))) < 120
    recorded = shortened(asked_for(many))
    assert recorded["suppress_tokens"].startswith("[0, 1, 2, ") and len(recorded["suppress_tokens"]) < 80
    assert (recorded["use_cache"], recorded["a_key_of_tomorrow"]) == (False, 7)


@pytest.mark.filterwarnings("ignore")
def test_the_models_own_settings_act_where_they_are_asked_for(
    engine: Any, own: Any, reference: dict[DecodingPoint, Any]
) -> None:
    content = {"do_sample": True, "temperature": 0.3, "top_k": 3, "repetition_penalty": 1.8, "suppress_tokens": [5, 9]}
    own(content, "target")
    given = torch.tensor([PROMPT])
    torch.manual_seed(0)
    theirs = engine.target.generate(
        given, do_sample=False, max_new_tokens=12, min_new_tokens=12, attention_mask=torch.ones_like(given)
    )[0, len(PROMPT) :].tolist()
    greedy = {point: figures(engine, replace(point, generation_config="model"))[0] for point in POINTS[::2]}
    assert list(greedy[PLAIN]) == theirs != list(reference[PLAIN][0])
    assert greedy[ASSISTED] == greedy[LOOKUP] == greedy[PLAIN], "the target's own settings decide on drafted tokens too"
    torch.manual_seed(0)  # as the decoder seeds prompt 0
    theirs = engine.target.generate(given, max_new_tokens=12, min_new_tokens=12, attention_mask=torch.ones_like(given))[
        0, len(PROMPT) :
    ].tolist()
    sampled = DecodingPoint(do_sample=True, generation_config="model")
    assert list(figures(engine, sampled)[0]) == theirs
    own(FILES["n-grams"] | FILES["sampling"], "draft")
    assert figures(engine, replace(ASSISTED, generation_config="model"))[0] == greedy[PLAIN]


@pytest.mark.parametrize(
    ("name", "point", "says"),
    [
        ("beams", PLAIN, "num_beams 4"),
        ("prompt lookup", PLAIN, "prompt_lookup_num_tokens 10"),
        ("prompt lookup", LOOKUP, None),  # the point has a number of its own
        ("early exit", EARLY_EXIT, None),
        ("early exit", PLAIN, "assistant_early_exit 1"),
        ("static cache", PLAIN, "cache_implementation static"),
        ("static cache", DecodingPoint(cache="static"), None),
        ("no cache", PLAIN, "use_cache false"),
        ("no cache", DecodingPoint(cache="none"), None),
        ("guidance", ASSISTED, "guidance_scale 1.5"),
        ("guidance", PLAIN, "guidance_scale 1.5"),
        ("time", PLAIN, "max_time"),
        ("stop strings", PLAIN, "stop_strings"),
        ("contrastive", PLAIN, "penalty_alpha"),
        ("contrastive", SAMPLED, None),
        ("dola", SAMPLED, "dola_layers"),
        ("chunks", PLAIN, "prefill_chunk_size"),
        ("sampling", ASSISTED, None),
        ("suppressed", EARLY_EXIT, None),
        ("dictionary", PLAIN, None),
        ("lengths", PLAIN, None),
    ],
)
def test_a_file_that_contradicts_the_point_is_refused_in_one_line(
    tmp_path: Path, name: str, point: DecodingPoint, says: str | None
) -> None:
    refusal = why_contradicting(as_in_a_file(FILES[name], tmp_path), point, WORKLOAD)
    if says is None:
        assert refusal is None
    else:
        assert refusal is not None and says in refusal and "\n" not in refusal
        assert refusal.endswith("use --generation-config neutral")


def test_stop_strings_end_an_output_where_it_may_end(engine: Any, tmp_path: Path) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    letters.pre_tokenizer, letters.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    target = checkpoints.llama(vocab_size=len(alphabet))
    spelling = replace(engine, target=target, tokenizer=PreTrainedTokenizerFast(tokenizer_object=letters))
    stopping = replace(WORKLOAD, eos_stops=True)
    target.generation_config = GenerationConfig()
    whole = figures(spelling, PLAIN)[0]
    content = {"eos_token_id": None, "stop_strings": [next(alphabet[token] for token in whole[2:] if token < 90)]}
    target.generation_config = as_in_a_file(content, tmp_path)
    assert why_contradicting(target.generation_config, PLAIN, stopping) is None
    assert "drafting model" in (why_contradicting(target.generation_config, ASSISTED, stopping) or "")
    with timed_decoder(spelling, replace(PLAIN, generation_config="model"), stopping) as decoder:
        assert len(decoder.generate(0, PROMPT).tokens) < len(whole)
