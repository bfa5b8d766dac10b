"""`reports schema`: the JSON Schema of a run file's lines, made from the types by which they are read."""

from __future__ import annotations

import argparse
import json
from typing import Any


def register(commands: Any) -> None:
    command = commands.add_parser("schema", help="the JSON Schema of a run file's lines", description=__doc__)
    command.set_defaults(run=print_schema)


def print_schema(options: argparse.Namespace) -> int:
    """Print the schema that every single line of a run file keeps."""
    from reports.record.lines import schema

    print(json.dumps(schema(), indent=2))
    return 0
