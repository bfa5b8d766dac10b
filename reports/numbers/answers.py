"""Whether a setting gives plain decoding's answers: three questions that are kept apart. Pure; renders nothing.

- same model and distribution: nothing that decides on tokens is quantized, no output was found wrong or unexplained;
- same tokens: on how many of the common prompts the greedy output is plain decoding's, token by token;
- rounding: of the outputs that differ, how many were examined and found to part at a near tie of the target.

"Lossless" is said only where the model is the same and every output too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reports.record.run import CaseResult, Run


@dataclass(frozen=True)
class SameOutput:
    """same of `compared` prompts have plain decoding's output; `rounding` of the others were examined and part at a
    near tie of the target. prompts: all that the case decoded."""

    same: int
    compared: int
    prompts: int
    rounding: int = 0

    @property
    def text(self) -> str:
        """`9/20`."""
        return f"{self.same}/{self.compared}"

    @property
    def differing(self) -> int:
        return self.compared - self.same

    @property
    def everywhere(self) -> bool:
        """Whether all prompts were compared and all outputs are the same."""
        return self.same == self.compared == self.prompts


def same_output(case: CaseResult, run: Run) -> SameOutput | None:
    """A greedy case against plain decoding of the unquantized target on the same prompts, by the hashes of the outputs.

    None for sampled cases, for plain decoding itself, and where no output of it is known. Where the run holds no such
    baseline, what the suite found while it measured.
    """
    if case.kind != "decode" or case.point.do_sample or not case.measured or not case.samples:
        return None
    if run.is_own_baseline(case):
        return None
    found = _found(case)
    reference: dict[int, str] = {}
    for _, measured in run.baseline_measurements(case):
        for sample in measured.samples:
            reference.setdefault(sample.prompt, sample.output_sha256)
    compared = [sample for sample in case.samples if sample.output_sha256 and reference.get(sample.prompt)]
    same = sum(sample.output_sha256 == reference[sample.prompt] for sample in compared)
    number = len(compared)
    if not number:
        number = int(found.get("compared") or 0)
        same = number - int(found.get("diverged") or 0)
    if not number:
        return None
    examined = int(found.get("near_ties") or 0) if keeps_answers(case) else 0
    return SameOutput(same, number, len(case.samples), rounding=min(examined, number - same))


def keeps_answers(case: CaseResult) -> bool:
    """Whether the case decodes the baseline's own model: nothing quantized that decides on tokens."""
    return case.engine.target_quant == "none" and case.point.cache != "quantized"


def is_unproven(case: CaseResult) -> bool:
    """Whether greedy outputs differ from plain decoding's and nothing shows that rounding explains it."""
    found = _found(case)
    return found.get("verdict") == "not comparable" and bool(found.get("diverged"))


def is_uncompared(case: CaseResult) -> bool:
    """Whether the case is to reproduce plain decoding's greedy output and nobody looked whether it does.

    That is any greedy decoding of another strategy, cache or kernels than plain decoding's own. Not asked of sampled
    cases, whose distribution is tested; nor of published figures, which come without samples.
    """
    otherwise = case.point.strategy != "plain" or case.point.cache != "dynamic"
    if case.kind != "decode" or not case.samples or case.point.do_sample:
        return False
    found = _found(case)
    compared = found.get("verdict") not in (None, "not comparable") or bool(found.get("diverged"))
    return (otherwise or case.engine.compile) and not compared


def is_same_model(case: CaseResult) -> bool:
    """Whether the case decodes the baseline's model and distribution as far as anybody can say: where outputs were
    compared they are the same, or part where rounding explains it."""
    return keeps_answers(case) and not (is_wrong(case) or is_unproven(case) or is_uncompared(case))


def is_lossless(case: CaseResult, run: Run) -> bool:
    """Whether the case gives plain decoding's very answers: its model, and its tokens on every prompt.

    Plain decoding itself does; a sampled case does where its model is the same, since it has no tokens to repeat.
    """
    if not is_same_model(case):
        return False
    found = same_output(case, run)
    return found.everywhere if found is not None else case.point.do_sample or run.is_own_baseline(case)


def is_wrong(case: CaseResult) -> bool:
    """Whether the case's greedy output was found to differ from plain decoding's by more than rounding explains."""
    return _found(case).get("verdict") == "wrong"


def answers_text(case: CaseResult, run: Run) -> str:
    """In words: model, tokens and rounding, such as `same output 9/20; 4 of the 11 others examined: rounding`."""
    if is_wrong(case):
        return "wrong output"
    found = same_output(case, run)
    tokens = "" if found is None else f"same output {found.text}"
    if not keeps_answers(case):
        return f"quantized: answers may change{f'; {tokens}' if tokens else ''}"
    if found is None:
        return "output not compared" if is_uncompared(case) else ""
    if not found.differing:
        return tokens if is_same_model(case) else f"{tokens}; not compared by the suite"
    if is_unproven(case):
        return f"{tokens}; the {found.differing} others are unexplained"
    if is_uncompared(case):
        return f"{tokens}; the {found.differing} others were not examined"
    return f"{tokens}; {found.rounding} of the {found.differing} others examined: rounding"


def _found(case: CaseResult) -> Mapping[str, Any]:
    return dict(case.facts.get("losslessness") or {})
