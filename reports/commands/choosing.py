"""The options that choose what a table shows and what a machine costs. No command itself."""

from __future__ import annotations

import argparse
import math
from typing import Any

from reports.record.run import RunFileError


def add_choice(command: Any) -> None:
    """--columns, --sort and --top."""
    command.add_argument(
        "--columns", metavar="KEY,...", help="only these, such as ttft_seconds; a wrong one tells which there are"
    )
    command.add_argument("--sort", metavar="KEY", help="the best value of this column first; -KEY: the worst (=-KEY)")
    command.add_argument("--top", metavar="N", type=int, help="only the first N rows")


def add_price(command: Any) -> None:
    """--price-per-hour."""
    command.add_argument("--price-per-hour", metavar="PRICE", help="of the machine: tells the cost per million tokens")


def price_of(options: argparse.Namespace) -> float | None:
    """The price asked for; raises RunFileError for what is none."""
    text = options.price_per_hour
    if text is None:
        return None
    try:
        price = float(text)
    except ValueError:
        price = math.nan
    if not 0 < price < math.inf:
        raise RunFileError(f"--price-per-hour {text!r}: not a price; write a number above 0, such as 1.20")
    return price
