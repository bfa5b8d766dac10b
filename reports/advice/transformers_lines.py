"""From a measured case to the Python lines that decode the same way with transformers, runnable as they stand.

Pure text: imports neither torch nor transformers. What the lines must do is what the suite itself does when it
measures; a test runs them against real models. The draft's knobs are set on the draft's own generation config,
the only place where transformers reads them (huggingface/transformers issue 40739).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reports.record.plain_text import one_line, printable
from reports.record.run import CaseResult, Run
from reports.record.settings import DecodingPoint, EngineKey

_DTYPES = {"bf16": "torch.bfloat16", "fp16": "torch.float16", "fp32": "torch.float32"}
_QUANTIZED = {
    "8bit": ("int8", "BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=6.0)"),
    "4bit": (
        "nf4",
        "BitsAndBytesConfig(\n"
        '    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant={double},\n'
        "    bnb_4bit_compute_dtype={dtype},\n"
        ")",
    ),
}


_STEPS_COMPILED = """\
import functools

prefill, step = model.forward, torch.compile(model.forward, mode="reduce-overhead", dynamic=False)


@functools.wraps(prefill)
def forward(*arguments, **inputs):
    return (step if inputs["input_ids"].shape[1] == 1 else prefill)(*arguments, **inputs)


model.forward = forward"""


@dataclass(frozen=True)
class Weights:
    """Where a pair's weights come from, as the run's header names them. target, draft: hub ids, `@revision` after
    it, folders, or names of embedded and synthetic models. own_code: those of them whose authors' code was let run."""

    source: str
    target: str
    draft: str | None
    same_tokenizer: bool
    own_code: frozenset[str] = frozenset()

    def of_code(self, model: str) -> str:
        """The argument with which a model's own code runs, where it was let run."""
        return ", trust_remote_code=True" if model in self.own_code else ""


def weights_of(run: Run, pair: str) -> Weights:
    """The pair's entry in the header; a pair that it does not hold is taken for the id of a target."""
    for entry in run.header.get("study", {}).get("pairs", ()):
        if entry.get("name") == pair:
            return Weights(
                str(entry.get("source", "hub")),
                str(entry.get("target", pair)),
                entry.get("draft"),
                entry.get("tokenizers", "same") == "same",
                frozenset(map(str, entry.get("own_code") or ())),
            )
    return Weights("hub", pair, None, True)


def transformers_lines(case: CaseResult, run: Run) -> list[str]:
    """The lines, without trailing newlines: imports, TARGET and DRAFT, loading, settings, one generation."""
    engine, point = case.engine, case.point
    weights = weights_of(run, engine.pair)
    with_draft = point.strategy == "assisted"
    double = bool(run.header.get("study", {}).get("nf4_double_quant", True))
    device = "cuda:0" if run.header.get("environment", {}).get("hardware", {}).get("gpu") else "cpu"
    quants = [engine.target_quant] + ([str(engine.draft_quant)] if with_draft else [])
    aside = dict(case.facts.get("generation_config_put_aside") or {})
    names = [
        "AutoModelForCausalLM",
        "AutoTokenizer",
        *(["BitsAndBytesConfig"] if set(quants) & set(_QUANTIZED) else []),
        *(["GenerationConfig"] if aside else []),
    ]
    lines = ["import torch", f"from transformers import {', '.join(names)}", ""]
    lines += _ids(weights, with_draft)
    dtype = _DTYPES.get(engine.dtype, "torch.bfloat16")
    for quant in sorted(set(quants) & set(_QUANTIZED)):
        name, made = _QUANTIZED[quant]
        lines += f"{name} = {made.format(double=double, dtype=dtype)}".split("\n")
    settings = f'dtype={dtype}, device_map={{"": "{device}"}}'
    settings += f", attn_implementation={_quoted(engine.attention)}" if engine.attention != "sdpa" else ""
    target, draft = weights.target, weights.draft or ""
    lines += _loading("model", "TARGET", target, settings + weights.of_code(target), quants[0])
    lines.append(f"tokenizer = AutoTokenizer.from_pretrained(TARGET{_revision(target)}{weights.of_code(target)})")
    if with_draft:
        lines += _loading("assistant", "DRAFT", draft, settings + weights.of_code(draft), quants[1])
        if not weights.same_tokenizer:
            own = f"{_revision(draft)}{weights.of_code(draft)}"
            lines.append(f"assistant_tokenizer = AutoTokenizer.from_pretrained(DRAFT{own})")
        lines += _fitting(case)
    lines += _put_aside(aside)
    lines += _draft_knobs(point)
    lines += _compiling(engine, point, with_draft)
    prompt = "The quick brown fox jumps over the lazy dog. The quick brown fox"
    lines += ["", f'inputs = tokenizer("{prompt}", return_tensors="pt").to(model.device)']
    lines += ["output = model.generate(", "    **inputs,"]
    lines += [f"    {name}={value}," for name, value in _arguments(case, weights).items()]
    lines += [")", 'print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))']
    return lines


def _ids(weights: Weights, with_draft: bool) -> list[str]:
    if weights.source == "embedded":
        names = ["target_folder", *(["draft_folder"] if with_draft else [])]
        lines = [f"from fixtures.engines.transformers.models.embedded import {', '.join(sorted(names))}", ""]
        lines.append("TARGET = str(target_folder())  # the embedded model; put your model's id here")
        return [*lines, *(["DRAFT = str(draft_folder())"] if with_draft else []), ""]
    remark = "  # a synthetic shape: put your model's id here" if weights.source == "synthetic" else ""
    lines = [f"TARGET = {_quoted(_identifier(weights.target))}{remark}"]
    if with_draft:
        lines.append(f"DRAFT = {_quoted(_identifier(weights.draft or ''))}")
    return [*lines, ""]


def _loading(name: str, constant: str, model: str, settings: str, quant: str) -> list[str]:
    quantized = f", quantization_config={_QUANTIZED[quant][0]}" if quant in _QUANTIZED else ""
    return [
        f"{name} = AutoModelForCausalLM.from_pretrained(",
        f"    {constant}{_revision(model)}, {settings}{quantized}",
        ")",
    ]


def _put_aside(aside: Mapping[str, Any]) -> list[str]:
    """What of the models' own generation_config.json did not act on the case must not act here either."""
    lines = []
    for role, name in (("target", "model"), ("draft", "assistant")):
        if role in aside:
            own, asked = f"{name}.generation_config", one_line(", ".join(aside[role]))
            lines += [
                f"# measured without what the {role}'s generation_config.json asks for: {asked}",
                f"{own} = GenerationConfig(eos_token_id={own}.eos_token_id, pad_token_id={own}.pad_token_id)",
            ]
    return lines


def _fitting(case: CaseResult) -> list[str]:
    """Where the draft's tables are padded to another length than the target's, transformers refuses the two."""
    had, rows = case.facts.get("draft_rows"), case.facts.get("target_rows")
    if not isinstance(had, int) or not isinstance(rows, int):
        return []
    lines = [
        "# the same tokenizer, but tables padded to another length, which transformers takes for another tokenizer",
        f"assistant.resize_token_embeddings({rows}, mean_resizing=False)",
    ]
    if rows > had:
        lines += [
            "head = assistant.get_output_embeddings()",
            f"never = torch.zeros({rows}, dtype=head.weight.dtype, device=head.weight.device)",
            f"never[{had}:] = torch.finfo(never.dtype).min",
            f"assistant.get_input_embeddings().weight.data[{had}:] = head.weight.data[{had}:] = 0",
            "head.bias = torch.nn.Parameter(never if head.bias is None else head.bias + never)",
        ]
    return lines


def _draft_knobs(point: DecodingPoint) -> list[str]:
    holder = {"assisted": "assistant", "early_exit": "model"}.get(point.strategy)
    if holder is None:
        return []
    return [
        "# transformers reads these three from the drafting model's own generation config, nowhere else",
        f"{holder}.generation_config.num_assistant_tokens = {point.assist_toks}",
        f"{holder}.generation_config.num_assistant_tokens_schedule = {_quoted(point.assist_schedule or 'constant')}",
        f"{holder}.generation_config.assistant_confidence_threshold = {point.confidence_threshold or 0.0}",
    ]


def _compiling(engine: EngineKey, point: DecodingPoint, with_draft: bool) -> list[str]:
    if not engine.compile or engine.compile_mode == "stock":
        return []
    if engine.compile_mode == "reduce-overhead":
        return _STEPS_COMPILED.split("\n")
    dynamic = point.strategy != "plain" or point.cache != "static"
    names = ["model", *(["assistant"] if with_draft else [])]
    return [f"{name}.forward = torch.compile({name}.forward, dynamic={dynamic})" for name in names]


def _arguments(case: CaseResult, weights: Weights) -> dict[str, str]:
    point = case.point
    strategy, cache = point.strategy, point.cache
    found = {"max_new_tokens": str(case.workload.gen_toks), "do_sample": str(point.do_sample)}
    if point.do_sample:
        drawn = {"temperature": point.temperature, "top_p": point.top_p}
        found |= {name: str(value) for name, value in drawn.items() if value is not None}
        if point.generation_config == "neutral":
            found["top_k"] = "0"
    if strategy == "assisted":
        found["assistant_model"] = "assistant"
        if not weights.same_tokenizer:
            found |= {"tokenizer": "tokenizer", "assistant_tokenizer": "assistant_tokenizer"}
    elif strategy == "prompt_lookup":
        found["prompt_lookup_num_tokens"] = str(point.assist_toks)
        found["max_matching_ngram_size"] = str(point.lookup_ngram or 2)
    elif strategy == "early_exit":
        found["assistant_early_exit"] = str(point.exit_layer)
    if cache == "none":
        found["use_cache"] = "False"
    elif cache != "dynamic":
        found["cache_implementation"] = _quoted(cache)
    if (case.engine.compile or cache == "static") and case.engine.compile_mode != "stock":
        found["disable_compile"] = "True"  # of generate's own compiling, which would come on top or uninvited
    return found


def _identifier(model: str) -> str:
    return model.partition("@")[0] if "/" in model and not model.startswith(("/", ".")) else model


def _revision(model: str) -> str:
    revision = model.partition("@")[2] if _identifier(model) != model else ""
    return f", revision={_quoted(revision)}" if revision else ""


def _quoted(text: str) -> str:
    """A text as Python writes it in double quotes: whatever a run file holds, it stays a text."""
    return '"' + printable(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'
