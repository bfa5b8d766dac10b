"""The one vocabulary of what is measured: engine, decoding point, workload; their ids; which case is whose baseline.

`fixtures` plans with these types and `reports` reads run files into them. A setting at its default is not in an id, and
a run file that does not know a setting holds its default: a new setting is one new field here, and what was measured
before it existed stays the same case. Must not import torch.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reports.record.plain_text import with_its_letters

DRAFTING = "assisted"
"""The one strategy that decodes with the draft model that is loaded."""

_KEPT_BY_BASELINE: Mapping[str, bool] = {"baseline_keeps": True}
"""Metadata of a setting that decides what is asked for, not how fast: a baseline has it from the case."""


@dataclass(frozen=True)
class Workload:
    """What every case decodes: num_samples prompts of at most max_prompt tokens, gen_toks new tokens each.

    prompts: embedded, wikitext, humaneval, synthetic, or the path of a .txt or .jsonl file.
    eos_stops: whether an end-of-text token ends a generation early; by default every prompt yields gen_toks tokens.
    max_prompt 0: prompts of mixed lengths, as they are. chat: whether they go through the model's chat template.
    prompt_key: of a .jsonl file, the key that holds the prompt; empty for the usual ones.
    """

    prompts: str = "wikitext"
    num_samples: int = 500
    max_prompt: int = 128
    gen_toks: int = 128
    seed: int = 0
    eos_stops: bool = False
    chat: bool = False
    prompt_key: str = ""

    @property
    def lengths(self) -> str:
        """How long its prompts are, for a sentence: `of 128 tokens`."""
        return f"of {self.max_prompt} tokens" if self.max_prompt else "as long as they are"

    @property
    def expected_prompt(self) -> int:
        """Tokens of a prompt, for estimates; of mixed lengths a usual one."""
        return self.max_prompt or Workload.max_prompt

    def describe(self) -> dict[str, Any]:
        """The workload for the run file, which tells of a file of prompts its last name only."""
        told = vars(self) | {"prompts": with_its_letters(Path(self.prompts).name)}
        for newer in ("chat", "prompt_key"):  # an older run that does not know them can still be resumed
            if not told[newer]:
                del told[newer]
        return told


@dataclass(frozen=True)
class WorkloadDone(Workload):
    """A workload as it was carried out: the same, and what its prompts turned out to be.

    prompts_sha256: of all prompts in tokens; None where they were never read. prompt_form, problems and samples are of
    HumanEval: how its problems were put, how many, and how many completions of each.
    """

    prompts_sha256: str | None = None
    prompt_form: str | None = None
    problems: int | None = None
    samples: int | None = None

    @classmethod
    def of(cls, workload: Workload, **known: Any) -> WorkloadDone:
        """A planned workload, with what is known of it by now."""
        return cls(**workload.describe(), **known)


@dataclass(frozen=True)
class EngineKey:
    """What is loaded, and how its forwards run: a pair with its quantizations, its attention, compiled or not.

    draft_quant None: no draft, as for all that does not use one. attention: transformers' implementation of it.
    compile_mode: how compiled forwards are compiled; "default" where they are not.
    """

    pair: str
    target_quant: str = "none"
    draft_quant: str | None = "none"
    dtype: str = "bf16"
    compile: bool = False
    attention: str = "sdpa"
    compile_mode: str = "default"

    @property
    def id(self) -> str:
        parts = [f"t={self.target_quant}"]
        if self.draft_quant is not None:
            parts.append(f"d={self.draft_quant}")
        parts.append(self.dtype)
        parts += _beyond_default(self, after="dtype", but=("compile", "compile_mode"))
        if self.compile:
            parts.append("compile" if self.compile_mode == "default" else f"compile={self.compile_mode}")
        return f"{self.pair}/{','.join(parts)}"

    def of_case(self, point: DecodingPoint) -> EngineKey:
        """The engine as a case of this point uses it: without a draft, unless it decodes with one."""
        return self if point.strategy == DRAFTING else dataclasses.replace(self, draft_quant=None)


@dataclass(frozen=True)
class DecodingPoint:
    """How an engine decodes. Fields that a strategy does not use are None.

    assist_toks: tokens drafted per step (for prompt_lookup: tokens copied per match). confidence_threshold: the
    draft stops after a token below this probability; 0.0 turns it off. exit_layer: layers that early_exit drafts with.
    lookup_ngram: longest n-gram that prompt_lookup matches. generation_config: whether the model's own
    generation_config.json is put aside (neutral) or acts (model); then temperature and top_p are its own where None.
    """

    strategy: str = "plain"
    assist_toks: int | None = None
    confidence_threshold: float | None = None
    assist_schedule: str | None = None
    exit_layer: int | None = None
    lookup_ngram: int | None = None
    do_sample: bool = field(default=False, metadata=_KEPT_BY_BASELINE)
    temperature: float | None = field(default=None, metadata=_KEPT_BY_BASELINE)
    top_p: float | None = field(default=None, metadata=_KEPT_BY_BASELINE)
    cache: str = "dynamic"
    generation_config: str = field(default="neutral", metadata=_KEPT_BY_BASELINE)

    @property
    def speculative(self) -> bool:
        """Whether tokens are drafted in some way."""
        return self.strategy != "plain"

    @property
    def id(self) -> str:
        parts = [self.strategy]
        if self.assist_toks is not None:
            parts.append(f"k={self.assist_toks}")
        if self.confidence_threshold is not None:
            parts.append(f"p={self.confidence_threshold:g}")
        if self.assist_schedule not in (None, "constant"):
            parts.append(str(self.assist_schedule))
        if self.exit_layer is not None:
            parts.append(f"layer={self.exit_layer}")
        if self.lookup_ngram not in (None, 2):
            parts.append(f"ngram={self.lookup_ngram}")
        parts.append("sampled" if self.do_sample else "greedy")
        if self.do_sample:
            drawn = (("T", self.temperature), ("top_p", self.top_p))
            parts += [f"{name}={value:g}" for name, value in drawn if value is not None]
        parts.append(self.cache)
        return ",".join([*parts, *_beyond_default(self, after="cache")])


PARTS: Mapping[str, type[EngineKey | DecodingPoint | WorkloadDone]] = {
    "engine": EngineKey,
    "point": DecodingPoint,
    "workload": WorkloadDone,
}
"""The parts of a case's settings, as a run file names them."""


def case_id(engine: EngineKey, point: DecodingPoint, *, length: str = "", variant: str = "") -> str:
    """The id of a case. length: `,n=16` where it is not the study's own; variant: of HumanEval."""
    return "/".join(part for part in (engine.of_case(point).id, f"{point.id}{length}", variant) if part)


def current_id(name: str) -> str:
    """A case id as it is spelled today: a case that decodes without a draft model names none in its engine.

    `pair/t=none,d=none,bf16/plain,greedy,dynamic` was written by versions that loaded a draft for every case.
    """
    return _OLD_DRAFT.sub(r"\1\2", name, count=1)


_OLD_DRAFT = re.compile(rf"(/t=[^/,]*),d=[^/,]*((?:,[^/]*)?/(?!{DRAFTING}(?:[,/]|$)))")


def baseline_settings(
    engine: EngineKey, point: DecodingPoint, *, same_engine: bool = False
) -> tuple[EngineKey, DecodingPoint]:
    """What a case is compared with: plain decoding with a dynamic cache, and everything else at its default.

    Target and dtype are those of the case, and what decides which tokens are asked for (sampling). same_engine: with
    the target's quantization, compilation and all else of the case's own engine instead, and then with a static cache
    where it is compiled, since plain decoding needs one there.
    """
    kept = {item.name: getattr(point, item.name) for item in dataclasses.fields(point) if _is_kept(item)}
    plain = DecodingPoint(**kept)
    if not same_engine:
        return EngineKey(engine.pair, draft_quant=None, dtype=engine.dtype), plain
    own = dataclasses.replace(engine, draft_quant=None)
    return own, dataclasses.replace(plain, cache="static") if engine.compile else plain


def decided_by(engine: EngineKey, point: DecodingPoint, workload: Workload) -> dict[str, Any]:
    """Every setting that decides what a case does, by name; those that do not apply to it are left out."""
    merged = {**vars(workload), **vars(engine.of_case(point)), **vars(point)}
    return {name: value for name, value in merged.items() if value is not None}


def _value_types() -> Iterator[tuple[str, tuple[type, ...]]]:
    for item in (*dataclasses.fields(EngineKey), *dataclasses.fields(DecodingPoint)):
        kind = str(item.type).removesuffix(" | None")
        yield item.name, {"str": (str,), "bool": (bool,), "int": (int,), "float": (float, int)}[kind]


VALUE_TYPES: Mapping[str, tuple[type, ...]] = dict(_value_types())
"""Settings of engine and point -> what a value of theirs may be written as: for those who select cases by settings."""


def _is_kept(item: dataclasses.Field[Any]) -> bool:
    return bool(item.metadata.get("baseline_keeps"))


def _beyond_default(settings: EngineKey | DecodingPoint, *, after: str, but: tuple[str, ...] = ()) -> Iterator[str]:
    """How an id tells the settings that are defined after `after`, those at their default aside: `attention=eager`."""
    fields = dataclasses.fields(settings)
    start = 1 + [item.name for item in fields].index(after)
    for item in fields[start:]:
        value = getattr(settings, item.name)
        if value != item.default and item.name not in but:
            yield item.name if value is True else f"{item.name}={value}"
