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
from typing import Any, cast, get_args

from reports.claims.material import MEASURES, Evidence, Expect, Material, compare, kept, value
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
    allowed = (*NEEDED, "margin")
    for key in table:
        if key not in allowed:
            raise ClaimError(f"{where}: unknown key {key!r}; allowed are {', '.join(allowed)}")
    for key in NEEDED:
        if key not in table:
            raise ClaimError(f"{where}: {key} is missing; a claim needs {', '.join(NEEDED)}")
    for key in ("name", "says", "metric", "expect"):
        if not isinstance(table[key], str) or not table[key].strip():
            raise ClaimError(f"{where}: {key} is {table[key]!r}; expected text")
    if not re.fullmatch(r"\w[\w-]*", table["name"]):
        raise ClaimError(f"{where}: name is {table['name']!r}; use letters, digits, _ and - only")
    if table["metric"] not in MEASURES:
        raise ClaimError(f"{where}: metric is {table['metric']!r}; choose one of {', '.join(MEASURES)}")
    expects = get_args(Expect)
    if table["expect"] not in expects:
        raise ClaimError(f"{where}: expect is {table['expect']!r}; choose one of {', '.join(expects)}")
    expect = cast(Expect, table["expect"])
    margin = table.get("margin", DEFAULT_MARGINS[expect])
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 <= margin < 1:
        raise ClaimError(f"{where}: margin is {margin!r}; expected a share from 0 to below 1, such as 0.05")
    if expect == "same" and margin == 0:
        raise ClaimError(f'{where}: margin is 0; with expect = "same" it must be above 0, such as 0.05')
    return OwnClaim(
        table["name"],
        table["says"],
        table["metric"],
        _selector(table["of"], f"{where}: of", check),
        _selector(table["against"], f"{where}: against", check),
        expect,
        float(margin),
    )


def _selector(raw: Any, where: str, check: CheckSetting | None) -> dict[str, Setting]:
    if not isinstance(raw, dict) or not raw:
        raise ClaimError(f'{where} is {raw!r}; expected a table of settings, such as {{ strategy = "plain" }}')
    found: dict[str, Setting] = {}
    for key, setting in raw.items():
        if key not in VALUE_TYPES:
            raise ClaimError(f"{where}: unknown key {key!r}; allowed are {', '.join(VALUE_TYPES)}")
        kinds: tuple[Any, ...] = VALUE_TYPES[key]
        if not isinstance(setting, kinds) or (isinstance(setting, bool) and bool not in kinds):
            raise ClaimError(f"{where}.{key} is {setting!r}; expected {_NAMES[kinds[0]]}")
        found[key] = setting if check is None else check(f"{where}.{key}", key, setting)
    return found


_NAMES = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}


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
