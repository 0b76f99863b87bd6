"""``fleet provider``: commands about one provider. Each imports what it needs when it runs."""

import asyncio
from typing import Annotated

import typer

from fleet.cli.output import Json, print_json

app = typer.Typer(no_args_is_help=True, help="Try a provider.")


@app.callback()
def options() -> None:
    """Try a provider."""


@app.command()
def test(
    name: Annotated[str, typer.Argument(metavar="PROVIDER", help="openai, anthropic, gemini, or an added one.")],
    model: Annotated[str | None, typer.Option(help="The model to ask; by default a cheap one.")] = None,
    as_json: Json = False,
) -> None:
    """Make one call; shows model, tokens, time and the headers that tell limits. It is paid like any other."""
    from fleet.cli.find_fleet import find_fleet, settings_for_embedded
    from fleet.cli.fleet_record import FleetRecord
    from fleet.cli.not_permitted import NotPermitted
    from fleet.cli.provider_test import test_provider
    from fleet.errors import OperationError
    from fleet.terminal import write_line

    record: FleetRecord | None = None
    try:
        settings, record = find_fleet()
        with_backend = True
    except NotPermitted:
        raise
    except OperationError:  # no fleet and no backend yet: a provider can be tried before there are any
        settings, with_backend = settings_for_embedded(), False
    found = asyncio.run(test_provider(settings, record, name, model, with_backend=with_backend))
    if as_json:
        print_json(found.to_json())
    else:
        write_line("\n".join(found.lines()))
