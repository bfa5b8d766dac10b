"""What the gate lets pass: thresholds per metric, overrides per case, the error rate; read, checked, layered.

Defaults, then `[tool.decodebench.gate]` of pyproject.toml, then `[gate]` of the study as the run file tells it, then
the command line; the later wins. Knows no runs and no statistics, and imports nothing heavy:
studies check their own table with it.

    [tool.decodebench.gate]
    alpha = 0.005                              # chance of any false "regressed" over all tests of one gate
    thresholds = { latency_tok = 0.03 }        # relative; naming a metric gates it, false leaves it out
    [[tool.decodebench.gate.override]]
    case = "*,compile/*"                       # pattern of case ids; the last that fits wins
    thresholds = { latency_tok = 0.10, speedup = false }
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from reports.record.checked import Misfit, fitted
from reports.record.run import RunFileError

TIMING_METRICS = (
    "latency_tok",
    "assisted_latency_tok",
    "speedup",
    "decode_latency_tok",
    "ttft_seconds",
    "ttft_mean_seconds",
)
# Well below the 5% that people ask about: of changes as large as the threshold only half are measured above it.
DEFAULT_THRESHOLDS = {"latency_tok": 0.03, "assisted_latency_tok": 0.03, "speedup": 0.03}
ALPHA = 0.005
PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
_REMEDY = f"choose from {', '.join(TIMING_METRICS)}; exact metrics have no threshold"


@dataclass(frozen=True)
class Override:
    """Other thresholds for the cases whose id fits `case`; None: the metric is not gated there."""

    case: str
    thresholds: Mapping[str, float | None]


@dataclass(frozen=True)
class GateRules:
    """thresholds: metric -> smallest relative change for the worse that counts. allow_missing: patterns of case ids."""

    thresholds: Mapping[str, float | None] = field(default_factory=lambda: dict(DEFAULT_THRESHOLDS))
    overrides: tuple[Override, ...] = ()
    alpha: float = ALPHA
    strict: bool = False
    allow_missing: tuple[str, ...] = ()

    def threshold(self, metric: str, case: str) -> float | None:
        """The threshold of a metric in a case, or None where it is not gated."""
        found = self.thresholds.get(metric)
        for override in self.overrides:
            if metric in override.thresholds and fits(case, override.case):
                found = override.thresholds[metric]
        return found

    def allows_missing(self, case: str) -> bool:
        return any(fits(case, pattern) for pattern in self.allow_missing)


def fits(case: str, pattern: str) -> bool:
    """Whether a case id fits a pattern with `*` and `?`, upper and lower case told apart."""
    return fnmatchcase(case, pattern)


def read_rules(pyproject: Path, study: Mapping[str, Any] | None = None, options: Sequence[str] = ()) -> GateRules:
    """The rules from pyproject.toml (may be absent), the study's `gate` table and METRIC=REL options, in this order.

    Raises RunFileError with one line that names the file, the key and what is allowed.
    """
    rules = GateRules()
    if pyproject.is_file():
        try:
            raw = tomllib.loads(pyproject.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RunFileError(f"{pyproject}: not valid TOML ({error}); correct the file") from None
        for name in ("tool", "decodebench", "gate"):
            raw = raw.get(name, {}) if isinstance(raw, Mapping) else raw
        rules = _overlaid(rules, raw, f"{pyproject}: [gate]")
    if study:
        rules = _overlaid(rules, study.get("gate") or {}, f"study {study.get('name', '')}: [gate]")
    given = dict(_option(text) for text in options)
    if given:  # what is asked for on the command line holds for every case
        kept = tuple(
            replace(one, thresholds={name: limit for name, limit in one.thresholds.items() if name not in given})
            for one in rules.overrides
        )
        rules = replace(rules, thresholds={**rules.thresholds, **given}, overrides=kept)
    return rules


def check_rules(raw: Any, source: str) -> dict[str, Any]:
    """A `gate` table as written, once it is known to be valid; raises RunFileError in one line that names `source`."""
    _overlaid(GateRules(), raw, source)
    return dict(raw)


class _OverrideTable(Struct, forbid_unknown_fields=True):
    """A table [[override]]."""

    case: Annotated[str, Meta(description="a pattern of case ids")]
    thresholds: dict[str, float | bool] = {}


class _GateTable(Struct, forbid_unknown_fields=True):
    """The table [gate]: its keys, and what each may hold; thresholds see `_threshold`."""

    alpha: Annotated[float, Meta(gt=0, le=0.2, description="a share above 0 and at most 0.2")] | None = None
    thresholds: dict[str, float | bool] = {}
    override: list[_OverrideTable] = []
    strict: bool | None = None
    allow_missing: Annotated[list[str], Meta(description="a list of patterns of case ids")] = []


def _overlaid(rules: GateRules, raw: Any, source: str) -> GateRules:
    if not isinstance(raw, Mapping):
        raise RunFileError(f"{source} must be a table")
    try:
        table = fitted(raw, _GateTable)
    except Misfit as misfit:
        tables = {"thresholds": "a table", "override": "a list of tables [[override]]"}
        if misfit.key in tables and not misfit.unknown:
            raise RunFileError(f"{source} {misfit.key} must be {tables[misfit.key]}") from None
        if misfit.missing:
            raise RunFileError(f"{source} override: case is None; expected a pattern of case ids") from None
        raise RunFileError(f"{source} {misfit.of_setting}") from None
    overrides = [
        Override(one.case, _thresholds(one.thresholds, f"{source} override {one.case!r}")) for one in table.override
    ]
    return replace(
        rules,
        alpha=rules.alpha if table.alpha is None else table.alpha,
        strict=rules.strict if table.strict is None else table.strict,
        thresholds={**rules.thresholds, **_thresholds(table.thresholds, source)},
        overrides=(*rules.overrides, *overrides),
        allow_missing=(*rules.allow_missing, *table.allow_missing),
    )


def _thresholds(values: Mapping[str, float | bool], source: str) -> dict[str, float | None]:
    return {name: _threshold(name, value, f"{source} thresholds") for name, value in values.items()}


def _threshold(metric: str, value: float | bool, source: str) -> float | None:
    if metric not in TIMING_METRICS:
        raise RunFileError(f"{source} {metric!r}: unknown timing metric; {_REMEDY}")
    if value is False:
        return None
    if value is True or not 0 < value < 10:
        raise RunFileError(f"{source} {metric} is {value!r}; expected a relative change such as 0.05, or false")
    return float(value)


def _option(text: str) -> tuple[str, float | None]:
    metric, _, value = text.partition("=")
    try:
        number: Any = False if value == "false" else float(value)
    except ValueError:
        raise RunFileError(f"--threshold {text!r}: expected METRIC=REL such as latency_tok=0.05") from None
    return metric, _threshold(metric, number, "--threshold")
