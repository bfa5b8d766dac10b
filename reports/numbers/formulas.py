"""What metrics are worked out by: a ratio of totals, a total or a quantile over the columns of samples.

Each also gives its terms, the figures of every prompt that statistics work with. Knows no metric by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from reports.record.columns import Column


class Columns(Protocol):
    """Samples by figure: one array for each name, NaN where a sample was not measured."""

    def column(self, name: str, /) -> Column: ...


Of = Callable[[Columns], Column]
"""A figure of every prompt; NaN where a prompt has none."""


@dataclass(frozen=True)
class Ratio:
    """What is summed above and below the line, over the prompts that have both."""

    top: Of
    bottom: Of

    def terms(self, columns: Columns) -> tuple[Column, Column]:
        """Both figures of every prompt; NaN in both where either is not known."""
        top, bottom = self.top(columns), self.bottom(columns)
        unknown = np.isnan(top) | np.isnan(bottom)
        return np.where(unknown, np.nan, top), np.where(unknown, np.nan, bottom)

    def value(self, columns: Columns) -> float | None:
        """None where nothing was measured or counted."""
        top, bottom = (float(np.nansum(term)) for term in self.terms(columns))
        return top / bottom if bottom > 0 else None


@dataclass(frozen=True)
class Total:
    """What is summed over prompts."""

    of: Of

    def terms(self, columns: Columns) -> tuple[Column, Column]:
        """As a mean over prompts: the figure of each, and 1."""
        values = self.of(columns)
        return values, np.where(np.isnan(values), np.nan, 1.0)

    def value(self, columns: Columns) -> float | None:
        """A whole number stays one."""
        values = self.of(columns)
        total = float(np.nansum(values))
        return None if not values.size else int(total) if total.is_integer() else total


@dataclass(frozen=True)
class Quantile:
    """A quantile over prompts; share 0.5 is the median."""

    of: Of
    share: float

    def terms(self, columns: Columns) -> tuple[Column, Column]:
        """The figure of each prompt, and 1."""
        values = self.of(columns)
        return values, np.where(np.isnan(values), np.nan, 1.0)

    def value(self, columns: Columns) -> float | None:
        """Over the prompts that have the figure; None if none has."""
        values = self.of(columns)
        known = values[~np.isnan(values)]
        return float(np.quantile(known, self.share)) if known.size else None


Formula = Ratio | Total | Quantile


def column_of(name: str) -> Of:
    return lambda columns: columns.column(name)


def sum_of(name: str, other: str) -> Of:
    return lambda columns: columns.column(name) + columns.column(other)


def one_each(columns: Columns) -> Column:
    return np.where(np.isnan(columns.column("ttft_seconds")), np.nan, 1.0)


def later_seconds(columns: Columns) -> Column:
    """After the first forward, of the prompts that went on and whose first forward was timed."""
    seconds = columns.column("seconds") - columns.column("ttft_seconds")
    return np.where((seconds > 0) & (_later(columns) > 0), seconds, np.nan)


def later_tokens(columns: Columns) -> Column:
    return np.where(np.isnan(later_seconds(columns)), np.nan, _later(columns))


def _later(columns: Columns) -> Column:
    return columns.column("new_tokens") - columns.column("first_tokens")


SECONDS, NEW_TOKENS, FORWARDS = column_of("seconds"), column_of("new_tokens"), column_of("target_forwards")


def per_token(columns: Columns) -> Column:
    return SECONDS(columns) / NEW_TOKENS(columns)
