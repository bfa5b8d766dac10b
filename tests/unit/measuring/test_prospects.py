"""What models' files rule out is known before weights are loaded, and told in one line that ends with the remedy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from fixtures.engines.transformers.models.engine import load_engine
from fixtures.measuring.first_look import FirstLook
from fixtures.measuring.prospects import Prospects, beyond_positions
from fixtures.study.pairs import Pair
from fixtures.study.study import Case, DecodingPoint, EngineKey, HumanEvalSettings, Study, Sweep, Workload
from tests.unit import checkpoints

PLAIN = DecodingPoint()
ASSISTED = DecodingPoint("assisted", assist_toks=3, confidence_threshold=0.0, assist_schedule="constant")
TEMPLATE = "{% for turn in messages %}<t>{{ turn.content }}{% endfor %}"
BROKEN = "{{ raise_exception('System role not supported') }}"


def gpt2(positions: int) -> Any:
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=checkpoints.VOCAB, n_positions=positions, n_embd=32, n_layer=1, n_head=4, eos_token_id=0
        )
    )


@pytest.fixture
def case_of(tmp_path: Path) -> Callable[..., tuple[Prospects, Case, Study]]:
    """`case_of(target, draft, point=..., gen_toks=..., words=...)`: checkpoints, and a prompt of so many words."""

    def make(
        target: Any,
        draft: Any = None,
        *,
        name: str = "target",
        point: DecodingPoint = PLAIN,
        gen_toks: int = 8,
        words: int = 4,
        experiment: str = "baseline",
        form: str | None = None,
        **saved: Any,
    ) -> tuple[Prospects, Case, Study]:
        prompts = tmp_path / "prompts.txt"
        prompts.write_text(" ".join(["t1"] * words), encoding="utf-8")
        folder = checkpoints.save(tmp_path / name, target, **saved)
        drafting = checkpoints.save(tmp_path / "draft", draft) if draft is not None else None
        pair = Pair.from_hub(str(folder), str(drafting) if drafting else None)
        pair = replace(pair, prompt_form=form) if form else pair
        workload = Workload(str(prompts), 1, 200, gen_toks, eos_stops=experiment == "humaneval")
        humaneval = HumanEvalSettings(limit=2, tokens=gen_toks)
        study = Study("s", "", (pair,), (Sweep(experiment),), workload, humaneval=humaneval)
        case = Case(EngineKey(pair.name, dtype="fp32"), point, workload, experiment)
        return Prospects(study), case, study

    return make


def without_weights(folder: str) -> None:
    for path in Path(folder).glob("*.safetensors"):
        path.unlink()


@pytest.mark.parametrize(("words", "gen_toks", "refused"), [(40, 24, False), (41, 24, True), (60, 16, True)])
def test_learned_positions_that_end_are_refused_before_weights_are_read(
    case_of: Any, words: int, gen_toks: int, refused: bool
) -> None:
    prospects, case, study = case_of(gpt2(64), words=words, gen_toks=gen_toks)
    without_weights(study.pairs[0].target)
    reason = prospects.why_refused(case)
    assert (reason is not None) == refused
    if reason is not None:
        assert f"{words} + {gen_toks} > 64" in reason and "\n" not in reason
        assert reason.startswith("./target") and reason.endswith("lower --max-prompt or --gen-toks")
        assert prospects.why_all_refused([case, case]) == reason


def test_a_drafts_positions_end_the_cases_that_use_it(case_of: Any) -> None:
    prospects, plain, _ = case_of(gpt2(128), gpt2(64), words=60, gen_toks=16)
    assisted = replace(plain, point=ASSISTED)
    assert prospects.why_refused(plain) is None
    assert "./draft has 64 positions" in (prospects.why_refused(assisted) or "")
    assert prospects.why_all_refused([plain, assisted]) is None


def test_rotary_positions_are_no_refusal_but_a_note(case_of: Any) -> None:
    model = checkpoints.llama(max_position_embeddings=64)
    prospects, case, study = case_of(model, words=60, gen_toks=16)
    assert prospects.why_refused(case) is None
    engine = load_engine(replace(case.engine, draft_quant=None), study.pairs[0], torch.device("cpu"))
    (note,) = beyond_positions(case, engine, [3, 60])
    assert "76 tokens" in note and "64 positions" in note
    assert beyond_positions(case, engine, [3, 48]) == []


def test_humanevals_own_prompts_count(case_of: Any) -> None:
    prospects, case, _ = case_of(gpt2(64), experiment="humaneval", gen_toks=40)
    reason = prospects.why_refused(case)
    assert reason is not None and reason.endswith("> 64); lower --humaneval-tokens")
    assert case_of(gpt2(1024), experiment="humaneval", gen_toks=40)[0].why_refused(case) is None


@pytest.mark.parametrize(
    ("template", "form", "says"),
    [
        (TEMPLATE, "instruct", None),
        (None, "instruct", "the tokenizer has no chat template; use --prompt-form base"),
        (BROKEN, "instruct", "System role not supported); use --prompt-form base"),
        (BROKEN, "base", None),
    ],
)
def test_a_chat_template_that_is_missing_or_broken_is_refused(
    case_of: Any, template: str | None, form: str, says: str | None
) -> None:
    prospects, case, _ = case_of(checkpoints.llama(), experiment="humaneval", chat_template=template, form=form)
    reason = prospects.why_refused(case)
    assert (reason is None) if says is None else (says in (reason or "") and "\n" not in (reason or ""))


def test_a_file_that_is_to_act_and_contradicts_the_case_is_refused(case_of: Any) -> None:
    prospects, case, study = case_of(checkpoints.llama(), generation={"num_beams": 4, "eos_token_id": 0})
    without_weights(study.pairs[0].target)
    assert prospects.why_refused(case) is None, "it is put aside"
    acting = replace(case, point=replace(PLAIN, generation_config="model"))
    assert "num_beams 4" in (prospects.why_refused(acting) or "")


def test_files_that_cannot_be_read_rule_nothing_out(tmp_path: Path) -> None:
    pair = Pair.from_hub(str(tmp_path / "nowhere"))
    study = Study("s", "", (pair,), (Sweep("baseline"),), Workload())
    case = Case(EngineKey(pair.name), replace(PLAIN, generation_config="model"), Workload(), "baseline")
    assert Prospects(study).why_refused(case) is None
    assert Prospects(study).why_all_refused([]) is None


# --- when the models are there ----------------------------------------------------------------------


@pytest.fixture
def met(case_of: Any) -> tuple[Any, Case]:
    generation = {"do_sample": True, "temperature": 0.6, "eos_token_id": 0}
    _, case, study = case_of(checkpoints.llama(), checkpoints.llama(layers=1), generation=generation)
    return load_engine(replace(case.engine, draft_quant="none"), study.pairs[0], torch.device("cpu")), case


def test_what_is_put_aside_is_recorded_with_every_case_and_told_once(met: tuple[Any, Case]) -> None:
    engine, case = met
    look = FirstLook()
    first, again = look.at(case, engine, [[1, 2]]), look.at(case, engine, [[1, 2]])
    asked = {"do_sample": True, "temperature": 0.6}
    assert first.facts == again.facts == {"generation_config_put_aside": {"target": asked}}
    (line,) = first.news
    assert line.startswith("./target: generation_config.json asks for do_sample true, temperature 0.6, which is put")
    assert "--generation-config model" in line and again.news == ()
    acting = look.at(replace(case, point=replace(PLAIN, generation_config="model")), engine, [[1, 2]])
    assert acting.facts == {"generation_config_used": {"target": asked}}
    assert "--do-sample" in acting.notes[0] and len(acting.news) == 1
    engine.draft.generation_config.repetition_penalty = 5.0
    drafted = look.at(replace(case, point=ASSISTED), engine, [[1, 2]])
    assert drafted.facts["generation_config_put_aside"]["draft"] == {"repetition_penalty": 5.0}
    assert (first.failure, drafted.failure) == ("", "")


def test_a_chat_by_name_without_a_template_is_asked_as_a_base_model_and_that_is_noted(case_of: Any) -> None:
    _, case, study = case_of(checkpoints.llama(), name="tiny-chat", experiment="humaneval")
    engine = load_engine(replace(case.engine, draft_quant=None), study.pairs[0], torch.device("cpu"))
    assert study.pairs[0].prompt_form == "base"
    assert FirstLook().at(case, engine, [[1, 2]]).notes[0].startswith("prompt form base: the tokenizer has no chat")
    assert FirstLook().at(replace(case, experiment="baseline"), engine, [[1, 2]]).notes == ()


def test_a_draft_that_overflows_fails_the_cases_that_use_it(met: tuple[Any, Case]) -> None:
    engine, case = met
    engine.draft.half()
    with torch.no_grad():
        engine.draft.model.layers[0].mlp.down_proj.weight.mul_(6e4)
    look = FirstLook()
    assert look.at(case, engine, [[1, 2]]).failure == ""
    failure = look.at(replace(case, point=ASSISTED), engine, [[1, 2]]).failure
    assert failure == "the draft: fp16 overflows: logits are not finite; use --dtype bf16 (or fp32)"
    with torch.no_grad():
        engine.draft.model.layers[0].mlp.down_proj.weight.zero_()
    assert look.at(replace(case, point=ASSISTED), engine, [[1, 2]]).failure == failure, "looked at once per engine"


def test_the_prompt_form_follows_last_name_and_chat_template(tmp_path: Path) -> None:
    def form(path: str, template: str | None) -> str:
        folder = checkpoints.save(tmp_path / path, checkpoints.llama(layers=1), chat_template=template)
        return Pair.from_hub(str(folder)).prompt_form

    assert form("chat-project/base", TEMPLATE) == "base"
    assert form("chat-project/tiny-instruct", TEMPLATE) == "instruct"
    assert form("chat-project/other-chat", None) == "base"
    assert Pair.from_hub("owner/Model-7B-Instruct").prompt_form == "instruct", "seen when it is loaded"


def test_a_model_that_does_not_continue_its_text_is_refused_before_weights_are_read(case_of: Any) -> None:
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    t5 = transformers.T5ForConditionalGeneration(transformers.T5Config(vocab_size=checkpoints.VOCAB, **sizes))
    prospects, case, study = case_of(t5)
    without_weights(study.pairs[0].target)
    told = "./target holds a T5Config, which is no causal language model of transformers: give a model that continues"
    assert (prospects.why_all_refused([case]) or "").startswith(told)
    prospects, plain, _ = case_of(checkpoints.llama(), t5)
    assert prospects.why_refused(plain) is None
    assert "./draft holds a T5Config" in (prospects.why_refused(replace(plain, point=ASSISTED)) or "")
