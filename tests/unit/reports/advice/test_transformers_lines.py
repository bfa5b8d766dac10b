"""The Python lines of an advice are run as they stand against a tiny real pair; only the models' ids are replaced."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from planted_runs import case
from transformers import GenerationMixin

from fixtures.engines.transformers.models import synthetic
from fixtures.engines.transformers.models.quantization import matrices_of, quantization_of
from fixtures.engines.transformers.models.shapes import SHAPES
from reports.advice.transformers_lines import transformers_lines, weights_of
from reports.record.plain_text import cleaned
from reports.record.run import Run
from tests.unit.synthetic_pairs import build_pair, save

PAIR = {"name": "p", "source": "hub", "target": "owner/target@abc123", "draft": "owner/draft", "tokenizers": "same"}
PLAIN = {"strategy": "plain", "do_sample": False, "cache": "dynamic"}
ASSISTED = PLAIN | {
    "strategy": "assisted",
    "assist_toks": 3,
    "confidence_threshold": 0.2,
    "assist_schedule": "heuristic",
}
ENGINE = {"pair": "p", "target_quant": "none", "draft_quant": "none", "dtype": "bf16", "compile": False}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny target and its draft, saved as `from_pretrained` loads them."""
    folder = tmp_path_factory.mktemp("pair")
    pair = build_pair(SHAPES["tiny"], SHAPES["tiny-draft"], 0.8)
    save(pair.target, folder / "target")
    save(pair.draft, folder / "draft")
    return folder / "target", folder / "draft"


@pytest.fixture
def lines_of(planted: Callable[..., Run]) -> Callable[..., list[str]]:
    """`lines_of(point, engine={...})`: the lines of a case of the pair p in a run on a processor."""

    def make(
        point: dict[str, Any], pair: dict[str, Any] = PAIR, aside: dict[str, Any] | None = None, **engine: Any
    ) -> list[str]:
        facts = {"generation_config_put_aside": aside} if aside else {}
        one = case("p/case", [], point=point, engine=ENGINE | engine, facts=facts)
        study = {"name": "s", "pairs": [pair], "workload": {"gen_toks": 10}}
        return transformers_lines(one, planted(one, study=study))

    return make


@pytest.fixture
def execute(checkpoints: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], dict[str, Any]]:
    """Run lines with the ids replaced by folders; returns their names, and what transformers made of the settings:
    `config`, the resolved generation config, and `drafter`, the candidate generator, if there was one."""

    def run(lines: list[str], draft: Path | None = None) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        resolve, candidates = GenerationMixin._prepare_generation_config, GenerationMixin._get_candidate_generator

        def resolving(self: Any, *arguments: Any, **more: Any) -> Any:
            found = resolve(self, *arguments, **more)
            seen.setdefault("config", found[0])
            return found

        def drafting(self: Any, *arguments: Any, **more: Any) -> Any:
            seen["drafter"] = candidates(self, *arguments, **more)
            return seen["drafter"]

        monkeypatch.setattr(GenerationMixin, "_prepare_generation_config", resolving)
        monkeypatch.setattr(GenerationMixin, "_get_candidate_generator", drafting)
        text = "\n".join(lines)
        for name, folder in (("TARGET", checkpoints[0]), ("DRAFT", draft or checkpoints[1])):
            text = re.sub(rf"^{name} = .*$", f"{name} = {str(folder)!r}", text, flags=re.MULTILINE)
        text = text.replace(', revision="abc123"', "")
        names: dict[str, Any] = {}
        exec(compile(text, "advice", "exec"), names)
        return names | seen

    return run


def test_plain_decoding(lines_of: Any, execute: Any) -> None:
    found = execute(lines_of(PLAIN, dtype="fp32"))
    assert found["model"].dtype == torch.float32
    assert found["output"].shape[1] - found["inputs"]["input_ids"].shape[1] == 10
    assert not found["config"].do_sample
    assert found["config"].cache_implementation is None
    assert found["config"].use_cache
    assert "drafter" not in found


def test_4bit_computes_in_the_cases_own_dtype(lines_of: Any, execute: Any) -> None:
    found = execute(lines_of(PLAIN, dtype="fp32", target_quant="4bit"))
    assert found["nf4"].bnb_4bit_compute_dtype == torch.float32


def test_what_was_put_aside_of_the_models_own_settings_does_not_act(
    lines_of: Any, execute: Any, checkpoints: tuple[Path, Path]
) -> None:
    files = [folder / "generation_config.json" for folder in checkpoints]
    before = [file.read_text() for file in files]
    asked = {"repetition_penalty": 5.0, "min_p": 0.3, "num_beams": 3}
    try:
        for file in files:
            file.write_text(json.dumps({"eos_token_id": 511, **asked}))
        found = execute(lines_of(ASSISTED, aside={"target": asked, "draft": asked}))
        used, drafting = found["config"], found["assistant"].generation_config
        assert (used.repetition_penalty, used.min_p, used.num_beams, used.eos_token_id) == (1.0, None, 1, 511)
        assert (drafting.repetition_penalty, drafting.min_p, drafting.num_assistant_tokens) == (None, None, 3)
        acting = PLAIN | {"do_sample": True, "temperature": None, "top_p": None, "generation_config": "model"}
        lines = lines_of(acting)
        assert not any("GenerationConfig" in line or "top_k" in line or "None" in line for line in lines)
    finally:
        for file, text in zip(files, before, strict=True):
            file.write_text(text)


def test_the_drafts_settings_arrive_where_transformers_reads_them(lines_of: Any, execute: Any) -> None:
    found = execute(lines_of(ASSISTED))
    drafter = found["drafter"]
    assert type(drafter).__name__ == "AssistedCandidateGenerator"
    assert drafter.assistant_model is found["assistant"]
    assert found["model"].dtype == found["assistant"].dtype == torch.bfloat16
    settings = found["assistant"].generation_config
    assert settings.num_assistant_tokens_schedule == drafter.assistant_generation_config.num_assistant_tokens_schedule
    assert settings.num_assistant_tokens_schedule == "heuristic"
    assert drafter.assistant_generation_config.assistant_confidence_threshold == 0.2


def test_the_number_of_drafted_tokens_is_what_was_measured(lines_of: Any, execute: Any) -> None:
    found = execute(lines_of(ASSISTED | {"assist_schedule": "constant", "assist_toks": 4, "confidence_threshold": 0.0}))
    assert found["drafter"].num_assistant_tokens == 4
    assert found["drafter"].assistant_generation_config.assistant_confidence_threshold == 0.0


def test_prompt_lookup(lines_of: Any, execute: Any) -> None:
    found = execute(lines_of(PLAIN | {"strategy": "prompt_lookup", "assist_toks": 6, "lookup_ngram": 3}))
    assert type(found["drafter"]).__name__ == "PromptLookupCandidateGenerator"
    assert (found["drafter"].num_output_tokens, found["drafter"].max_matching_ngram_size) == (6, 3)


def test_early_exit(lines_of: Any, execute: Any) -> None:
    found = execute(lines_of(ASSISTED | {"strategy": "early_exit", "exit_layer": 1, "assist_schedule": "constant"}))
    assert type(found["drafter"]).__name__ == "EarlyExitCandidateGenerator"
    assert found["drafter"].num_assistant_tokens == 3
    assert found["config"].assistant_early_exit == 1


def test_quantized_target_and_draft(lines_of: Any, execute: Any) -> None:
    found = execute(lines_of(ASSISTED, target_quant="4bit", draft_quant="8bit"))
    assert quantization_of(matrices_of(found["model"])) == "4bit"
    assert quantization_of(matrices_of(found["assistant"])) == "8bit"
    config = found["model"].config.quantization_config
    assert config.bnb_4bit_quant_type == "nf4"
    assert config.bnb_4bit_use_double_quant
    assert config.bnb_4bit_compute_dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("cache", "implementation", "used"), [("static", "static", True), ("none", None, False), ("dynamic", None, True)]
)
def test_caches(lines_of: Any, execute: Any, cache: str, implementation: str | None, used: bool) -> None:
    found = execute(lines_of(PLAIN | {"cache": cache}))
    assert (found["config"].cache_implementation, found["config"].use_cache) == (implementation, used)


def test_sampling(lines_of: Any, execute: Any) -> None:
    found = execute(lines_of(PLAIN | {"do_sample": True, "temperature": 0.7, "top_p": 0.9}))
    config = found["config"]
    assert (config.do_sample, config.temperature, config.top_p, config.top_k) == (True, 0.7, 0.9, 0)


def test_compiling(lines_of: Any, execute: Any) -> None:
    lines = lines_of(PLAIN | {"cache": "static"}, compile=True)
    assert "model.forward = torch.compile(model.forward, dynamic=False)" in lines
    found = execute([line.replace("dynamic=False)", 'dynamic=False, backend="eager")') for line in lines])
    assert found["model"].forward._torchdynamo_orig_callable.__name__ == "forward"
    assert found["config"].disable_compile


def test_attention_and_the_other_ways_of_compiling(
    lines_of: Any, execute: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[Any, dict[str, Any]]] = []

    def compiled(forward: Any, **settings: Any) -> Any:
        def entered(*arguments: Any, **inputs: Any) -> Any:
            made.append((inputs["input_ids"].shape[1], settings))
            return forward(*arguments, **inputs)

        return entered

    monkeypatch.setattr(torch, "compile", compiled)
    static = {**PLAIN, "cache": "static"}
    found = execute(lines_of(static, dtype="fp32", attention="eager", compile=True, compile_mode="reduce-overhead"))
    assert found["model"].config._attn_implementation == "eager"
    assert found["config"].disable_compile
    assert made == [(1, {"mode": "reduce-overhead", "dynamic": False})] * 9, "every step but the prefill"
    stock = execute(lines_of(static, dtype="fp32", compile=True, compile_mode="stock"))
    assert not stock["config"].disable_compile and stock["config"].cache_implementation == "static"
    assert "forward" not in stock["model"].__dict__


def test_another_tokenizer_of_the_draft_is_handed_over(lines_of: Any, execute: Any, tmp_path: Path) -> None:
    larger = replace(SHAPES["tiny-draft"], vocab=SHAPES["tiny-draft"].vocab + 16)
    save(synthetic.build(larger, synthetic.cycle(larger.vocab, 0)), tmp_path)
    lines = lines_of(ASSISTED | {"assist_schedule": "constant"}, PAIR | {"tokenizers": "different"})
    drafter = execute(lines, tmp_path)["drafter"]
    assert type(drafter).__name__ == "AssistedCandidateGeneratorDifferentTokenizers"


def test_ids_and_revisions_are_those_of_the_run(lines_of: Any) -> None:
    text = "\n".join(lines_of(ASSISTED))
    assert 'TARGET = "owner/target"\n' in text
    assert text.count('revision="abc123"') == 2  # model and tokenizer
    assert 'DRAFT = "owner/draft"\n' in text


def test_the_embedded_pair_is_found_by_its_folders(lines_of: Any) -> None:
    lines = lines_of(ASSISTED, {"name": "p", "source": "embedded", "target": "S", "draft": "D"})
    assert "from fixtures.engines.transformers.models.embedded import draft_folder, target_folder" in lines
    assert "DRAFT = str(draft_folder())" in lines


def test_a_pair_that_the_header_does_not_hold_is_taken_for_a_target(planted: Callable[..., Run]) -> None:
    assert weights_of(planted(), "q").target == "q"


def test_a_hostile_run_file_puts_no_code_into_the_lines(lines_of: Callable[..., list[str]]) -> None:
    hostile = 'a/b"; raise SystemExit #\nraise SystemExit\\@r"; raise SystemExit #\x1b\u202e模'
    pair = PAIR | {"target": hostile, "draft": hostile}
    point = ASSISTED | {"assist_schedule": 'constant"; raise SystemExit #', "cache": '"; raise SystemExit #'}
    lines = lines_of(
        point, pair=pair, aside={"target": [hostile], "draft": [hostile]}, attention='x"; raise SystemExit'
    )
    text = "\n".join(lines)
    assert not any(isinstance(node, ast.Raise) for node in ast.walk(ast.parse(text)))
    assert all(line.isprintable() for line in lines)
    target = next(node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Assign))
    assert ast.literal_eval(target.value) == cleaned(hostile.partition("@")[0])


@pytest.mark.parametrize("let", [["owner/target@abc123"], []])
def test_code_of_a_models_authors_runs_in_the_lines_where_it_was_let_run(
    lines_of: Callable[..., list[str]], let: list[str]
) -> None:
    lines = lines_of(ASSISTED, pair=PAIR | {"own_code": let})
    loading = [line for line in lines if "(TARGET" in line or "TARGET," in line or "DRAFT," in line]
    assert ["trust_remote_code=True" in line for line in loading] == [bool(let), bool(let), False]
