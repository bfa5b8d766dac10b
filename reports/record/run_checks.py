"""Whether the lines of a run file hold what they must, so that a damaged one is told instead of failing a report.

Knows JSON and the names of keys; raises ValueError whose text names the key, its value and what it must be. The file
and the line are the caller's to name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_OBJECTS = ("study", "study.workload", "environment", "environment.hardware", "environment.versions", "limit")
_OBJECTS_OF_CASE = (
    "engine",
    "point",
    "workload",
    "metrics",
    "facts",
    "facts.losslessness",
    "facts.revisions",
    "telemetry",
)
_NUMBERS_OF_FACTS = (
    "perplexity",
    "memory_allocated_bytes",
    "memory_reserved_bytes",
    "host_rss_bytes",
    "cache_bytes",
    "load_seconds",
    "prompts_left_out",
    "compile_seconds",
    "bytes_moved_per_step",
    "achieved_bytes_per_second",
    "limit_tokens_per_second",
)
_SAMPLERS = ("nvml", "cpu")
_TEXTS_OF_CASE = ("id", "case_kind", "experiment", "reason", "started_at")
_COUNTS = (
    "first_tokens",
    "draft_forwards",
    "drafted",
    "accepted",
    "rejected",
    "censored",
    "rollbacks",
    "visit",
)
_TIMES = ("draft_seconds", "verify_seconds", "other_seconds")
_NEEDED_COUNTS = (("prompt", 0), ("new_tokens", 1), ("target_forwards", 0))
_LONGEST = 60
_ABSENT = object()


def check_header(header: Mapping[str, Any]) -> None:
    """Raise ValueError unless a `run` line's study, environment and limits are laid out as reports read them."""
    _check_objects(header, _OBJECTS)
    _check(header, "study.drift_limit", _is_finite, "a finite number")
    _check(header, "study.pairs", _is_list_of_objects, "a list of objects")
    _check(header, "argv", _is_list_of_texts, "a list of texts")
    _check(header, "order", lambda value: value in ("rounds", "blocks"), "rounds or blocks")
    _check(header, "order_seed", lambda value: value is None or type(value) is int, "a whole number")
    _check(header, "blocks", _is_list_of_lists_of_texts, "a list of lists of texts")
    _check(header, "by_turns", lambda value: isinstance(value, bool), "true or false")
    for dtype, limit in header.get("limit", {}).items():
        _check({dtype: limit}, dtype, lambda value: isinstance(value, dict), "an object", "limit.")
        _check(limit, "copy_bytes_per_second", _is_finite_or_none, "a finite number", f"limit.{dtype}.")


def check_case(line: Mapping[str, Any]) -> None:
    """Raise ValueError unless a `case` line's settings, figures and texts are what they must be; samples apart."""
    _check_objects(line, _OBJECTS_OF_CASE)
    for key in _TEXTS_OF_CASE:
        _check(line, key, lambda value: isinstance(value, str), "a text")
    _check(line, "again", lambda value: isinstance(value, bool), "true or false")
    _check(line, "notes", _is_list_of_texts, "a list of texts")
    for key in ("block", "dropped_round"):
        if line.get(key) is not None:
            _check_count(line, key)
    _check_values(line, "metrics", _is_finite, "a finite number")
    facts = line.get("facts", {})
    for name in _NUMBERS_OF_FACTS:
        _check(line, f"facts.{name}", _is_finite_or_none, "a finite number")
    _check(line, "facts.weight_bytes", lambda value: isinstance(value, dict), "an object")
    _check_values(facts, "weight_bytes", _is_finite, "a finite number", "facts.")
    for sampler in _SAMPLERS:
        _check(line, f"telemetry.{sampler}", lambda value: value is None or isinstance(value, dict), "an object")
        _check_readings(f"telemetry.{sampler}", line.get("telemetry", {}).get(sampler) or {})


def _check_readings(where: str, readings: Mapping[str, Any]) -> None:
    """Of one sampler: `series` holds an object for each series, with its values."""
    _check(readings, "seconds", _is_finite_or_none, "a finite number", f"{where}.")
    _check(readings, "values", lambda value: isinstance(value, dict), "an object", f"{where}.")
    _check(readings, "series", lambda value: isinstance(value, dict), "an object", f"{where}.")
    _check_values(readings, "series", lambda value: isinstance(value, dict), "an object", f"{where}.")
    for name, one in readings.get("series", {}).items():
        _check(one, "values", _is_list_of_numbers, "a list of finite numbers", f"{where}.series.{name}.")


def check_round(line: Mapping[str, Any]) -> None:
    """Raise ValueError unless a `round` line is laid out as readers need it, its samples among it."""
    for key in ("block", "visit", "round"):
        _check_count(line, key)
    _check({"order": line.get("order")}, "order", _is_list_of_texts, "a list of texts")
    _check(line, "disturbed", lambda value: isinstance(value, str), "a text")
    _check_objects(line, ("machine", "cases", "samples"))
    _check_values(line, "cases", lambda value: isinstance(value, dict), "an object")
    for name, samples in line.get("samples", {}).items():
        check_samples(samples, f"samples.{name}")


def check_samples(samples: Any, key: str = "samples") -> None:
    """Raise ValueError unless these are samples: an object each, with finite times and whole counts."""
    if not _is_list_of_objects(samples):
        raise ValueError(_told(key, samples, "a list of objects"))
    check_needed(samples)
    for name in _COUNTS:
        check_counts(name, [row.get(name, 0) for row in samples])
    for name in ("round", "turn"):
        check_counts(name, [value for row in samples if (value := row.get(name)) is not None])
    check_times("started", [value for row in samples if (value := row.get("started")) is not None])
    for name in _TIMES:
        check_times(name, [row.get(name, 0.0) for row in samples])
    check_times("ttft_seconds", [row.get("ttft_seconds") or 0.0 for row in samples])
    if not all(isinstance(row.get("output_sha256", ""), str) for row in samples):
        raise ValueError("samples: output_sha256 is not a text")


def check_needed(samples: Any) -> None:
    """As `check_samples`, of the figures that every sample has; the rest unchecked."""
    if not _is_list_of_objects(samples):
        raise ValueError(_told("samples", samples, "a list of objects"))
    for name, least in _NEEDED_COUNTS:
        check_counts(name, [row.get(name) for row in samples], least)
    check_times("seconds", [row.get("seconds") for row in samples], zero=False)


def check_counts(name: str, values: Sequence[Any], least: int = 0) -> None:
    """Raise ValueError unless every sample's figure of this name is a whole number of at least `least`."""
    if set(map(type, values)) <= {int} and min(values, default=least) >= least:
        return
    place = next(i for i, value in enumerate(values) if type(value) is not int or value < least)
    raise ValueError(_told(f"samples[{place}].{name}", values[place], f"a whole number of at least {least}"))


def check_times(name: str, values: Sequence[Any], *, zero: bool = True) -> None:
    """Raise ValueError unless every sample's figure of this name is a finite number above 0, or 0 where it may be."""
    smallest = 0.0 if zero else math.ulp(0.0)
    if set(map(type, values)) <= {int, float} and _all_finite(values) and min(values, default=1.0) >= smallest:
        return
    place = next(i for i, value in enumerate(values) if not (_is_finite(value) and value >= smallest))
    wanted = "a finite number of at least 0" if zero else "a finite number above 0"
    raise ValueError(_told(f"samples[{place}].{name}", values[place], wanted))


def _check_count(line: Mapping[str, Any], key: str) -> None:
    value = line.get(key)
    if type(value) is not int or value < 0:
        raise ValueError(_told(key, value, "a whole number of at least 0"))


def _check_objects(line: Mapping[str, Any], keys: Sequence[str]) -> None:
    for key in keys:
        _check(line, key, lambda value: isinstance(value, dict), "an object")


def _check_values(
    line: Mapping[str, Any], outer: str, fits: Callable[[Any], bool], wanted: str, prefix: str = ""
) -> None:
    """Every value of an object must fit."""
    for name, value in line.get(outer, {}).items():
        if not fits(value):
            raise ValueError(_told(f"{prefix}{outer}.{name}", value, wanted))


def _check(line: Mapping[str, Any], key: str, fits: Callable[[Any], bool], wanted: str, prefix: str = "") -> None:
    """A key, with dots between levels, must fit where it is present; an outer level must have been checked before."""
    value: Any = line
    for part in key.split("."):
        value = value.get(part, _ABSENT)
        if value is _ABSENT:
            return
    if not fits(value):
        raise ValueError(_told(f"{prefix}{key}", value, wanted))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    try:
        return _is_number(value) and math.isfinite(value)
    except OverflowError:  # a whole number beyond what a float can hold
        return False


def _is_finite_or_none(value: Any) -> bool:
    return value is None or _is_finite(value)


def _all_finite(values: Sequence[float]) -> bool:
    try:
        return all(map(math.isfinite, values))
    except OverflowError:
        return False


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, dict) for one in value)


def _is_list_of_numbers(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_finite_or_none, value))


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)


def _is_list_of_lists_of_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_list_of_texts, value))


def _told(key: str, value: Any, wanted: str) -> str:
    text = " ".join(repr(value).split())
    return f"{key} is {text if len(text) <= _LONGEST else text[:_LONGEST] + '...'}, not {wanted}"
