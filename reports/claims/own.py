"""Claims that users state themselves, as tables [[claim]] in a study or in a file of their own, and their evidence.

    [[claim]]
    name = "lookup_pays"
    says = "Prompt lookup is faster than plain decoding"
    metric = "latency_tok"
    of = { strategy = "prompt_lookup" }
    against = { strategy = "plain", target_quant = "none" }
    expect = "lower"

Every case that `of` selects is compared with every one that `against` selects and that has all other settings alike,
as far as both have them. Knows nothing of studies; what values a setting may have is the caller's to check.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from reports.claims.material import MEASURES, Evidence, Expect, Material, compare, kept, value
from reports.record.checked import Misfit, fitted
from reports.record.run import CaseResult, Run, RunFileError
from reports.record.settings import VALUE_TYPES

Setting = str | int | float | bool
CheckSetting = Callable[[str, str, Any], Setting]  # (where, key, value) -> the value; raises ValueError

BUILT_IN = (
    "best_setting",
    "inner_optimum",
    "greedy_beats_sampling",
    "larger_draft",
    "quantization_slows",
    "utilization_falls",
    "caching_linear",
    "quantized_keeps_humaneval",
)
"""Names that the claims of claims/original.py have."""
NEEDED = ("name", "says", "metric", "of", "against", "expect")
DEFAULT_MARGINS: dict[Expect, float] = {"lower": 0.0, "higher": 0.0, "same": 0.05}


class ClaimError(ValueError):
    """A claim is stated wrongly; the message is one line naming where, the key, the value and the remedy."""


@dataclass(frozen=True)
class OwnClaim:
    """A claim about one metric of the cases `of` selects against those that `against` selects.

    expect: whether the metric is lower, higher or the same. margin: the share by which it has to differ (lower,
    higher), or within which it has to stay (same).
    """

    name: str
    says: str
    metric: str
    of: Mapping[str, Setting]
    against: Mapping[str, Setting]
    expect: Expect
    margin: float

    @property
    def effect(self) -> str:
        """What the effect is a figure of."""
        return f"{self.metric}, of over against"

    def describe(self) -> dict[str, Any]:
        """The claim as the table that it was parsed from."""
        return {**vars(self), "of": dict(self.of), "against": dict(self.against)}


def parse_claims(tables: Any, source: str, check: CheckSetting | None = None) -> tuple[OwnClaim, ...]:
    """Read [[claim]] tables; source is named in errors. check: refuses values that a setting cannot have.

    Raises ClaimError.
    """
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ClaimError(f"{source}: claim must be a list of tables [[claim]]")
    claims = [_claim(table, f"{source}: claim {number}", check) for number, table in enumerate(tables, start=1)]
    names = [*BUILT_IN, *(claim.name for claim in claims)]
    for number, claim in enumerate(claims, start=1):
        if claim.name in names[: len(BUILT_IN) + number - 1]:
            raise ClaimError(
                f"{source}: claim {number}: name {claim.name!r} is taken by another claim; choose another one"
            )
    return tuple(claims)


def read_claims(path: Path) -> tuple[OwnClaim, ...]:
    """The [[claim]] tables of a TOML file, a study or not; raises RunFileError."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        claims = parse_claims(raw.get("claim", []), str(path))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RunFileError(f"{path}: not valid TOML ({error}); correct the file given to --claims") from None
    except OSError as error:
        raise RunFileError(f"{path}: cannot be read ({error.strerror}); check the path given to --claims") from None
    except ClaimError as error:
        raise RunFileError(str(error)) from None
    if not claims:
        raise RunFileError(f"{path}: no [[claim]] in the file given to --claims; add one")
    return claims


def claims_of(run: Run) -> tuple[OwnClaim, ...]:
    """The claims that the run's study carries; raises RunFileError."""
    study = run.header.get("study", {})
    try:
        return parse_claims(list(study.get("claims", ())) if isinstance(study, Mapping) else [], str(run.path))
    except ClaimError as error:
        raise RunFileError(str(error)) from None


def evidence_for(claim: OwnClaim, material: Material) -> Evidence:
    """The comparisons that a claim asks for."""
    heads = [case for case in material.cases if _selected(case, claim.of)]
    bases = [case for case in material.cases if _selected(case, claim.against)]
    named = {*claim.of, *claim.against}
    comparisons = [
        compare(material, f"{head.id} against {base.id}", claim.metric, head, base, claim.expect, claim.margin)
        for head in heads
        for base in bases
        if head is not base and _comparable(head, base, named)
    ]
    found = kept(comparisons)
    if found:
        return Evidence(found)
    for key, cases in (("of", heads), ("against", bases)):
        if not cases:
            return Evidence(missing=(f"any case with {key} = {_shown(getattr(claim, key))}",))
    if comparisons:
        return Evidence(missing=(f"{claim.metric} of both cases on the same prompts",))
    return Evidence(missing=("two selected cases with all settings alike that neither selector names",))


def _claim(table: Mapping[str, Any], where: str, check: CheckSetting | None) -> OwnClaim:
    try:
        made = fitted(table, _ClaimTable)
        for key, selector in (("of", made.of), ("against", made.against)):
            fitted(selector, _SELECTOR, key)
    except Misfit as misfit:
        needs = f"; a claim needs {', '.join(NEEDED)}" if misfit.missing else ""
        raise ClaimError(f"{where}: {misfit.of_setting}{needs}") from None
    if not re.fullmatch(r"\w[\w-]*", made.name):
        raise ClaimError(f"{where}: name is {made.name!r}; use letters, digits, _ and - only")
    if made.metric not in MEASURES:
        raise ClaimError(f"{where}: metric is {made.metric!r}; choose one of {', '.join(MEASURES)}")
    if made.expect == "same" and made.margin == 0:
        raise ClaimError(f'{where}: margin is 0; with expect = "same" it must be above 0, such as 0.05')
    margin = DEFAULT_MARGINS[made.expect] if made.margin is None else made.margin
    of, against = _selector(made.of, f"{where}: of", check), _selector(made.against, f"{where}: against", check)
    return OwnClaim(made.name, made.says, made.metric, of, against, made.expect, margin)


def _selector(raw: Mapping[str, Setting], where: str, check: CheckSetting | None) -> dict[str, Setting]:
    if not raw:
        raise ClaimError(f"{where} is {raw!r}; expected {_OF_SETTINGS}")
    return {key: value if check is None else check(f"{where}.{key}", key, value) for key, value in raw.items()}


_OF_SETTINGS = 'a table of settings, such as { strategy = "plain" }'
_SELECTOR = msgspec.defstruct(
    "_SELECTOR",
    [(name, kinds[0] | msgspec.UnsetType, msgspec.UNSET) for name, kinds in VALUE_TYPES.items()],
    forbid_unknown_fields=True,
)
_Text = Annotated[str, Meta(pattern=r"\S", description="text")]
_Selector = Annotated[dict[str, Any], Meta(description=_OF_SETTINGS)]


class _ClaimTable(Struct, forbid_unknown_fields=True):
    """A table [[claim]]: its keys, and what each may hold."""

    name: _Text
    says: _Text
    metric: _Text
    of: _Selector
    against: _Selector
    expect: Annotated[Expect, Meta(description="text")]
    margin: Annotated[float, Meta(ge=0, lt=1, description="a share from 0 to below 1, such as 0.05")] | None = None


def _selected(case: CaseResult, selector: Mapping[str, Setting]) -> bool:
    return all(value(case, key) == wanted for key, wanted in selector.items())


def _comparable(head: CaseResult, base: CaseResult, named: set[str]) -> bool:
    """Whether two cases have the same prompts and, where both have them, the settings that the claim leaves open."""
    if head.workload != base.workload:
        return False
    for key in VALUE_TYPES.keys() - named:
        first, second = value(head, key), value(base, key)
        if first != second and first is not None and second is not None:
            return False
    return True


def _shown(selector: Mapping[str, Setting]) -> str:
    return "{ " + ", ".join(f"{key} = {setting!r}" for key, setting in selector.items()) + " }"
