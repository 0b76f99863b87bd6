"""What every command's ``--json`` has in common."""

import json
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]


def print_json(answer: dict[str, Any]) -> None:
    """Print the object on one line."""
    print(json.dumps(answer), flush=True)  # noqa: T201 - what --json is for
