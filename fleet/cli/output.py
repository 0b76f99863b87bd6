"""What every command's ``--json`` has in common."""

from typing import Annotated, Any

import typer

from fleet.terminal import write_json

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]


def print_json(answer: dict[str, Any]) -> None:
    """Print the object on one line."""
    write_json(answer)
