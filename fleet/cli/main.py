"""The ``fleet`` command: its subcommands, and the one place where it exits.

Each command imports what it needs when it runs: importing everything takes a second of CPU time, even for
``--help``.
"""

import asyncio
import os
import shlex
import sys
import traceback
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.exceptions import TyperException

from fleet.cli import operator_commands as operating
from fleet.cli import pipeline_commands as looking_back
from fleet.cli import project_commands, provider_commands
from fleet.cli.not_permitted import denied
from fleet.cli.output import Json, print_json
from fleet.cli.pipeline_commands import TopicColumn, TopicsFile, rows_of
from fleet.devstack.simulated_settings import without_proxy
from fleet.errors import FleetError, InputError, SettingsError
from fleet.exit_codes import EXIT_BAD_SETTINGS, EXIT_FAILED, EXIT_OK
from fleet.process.file_rights import withhold_from_others
from fleet.setting_files import CONFIG_VARIABLE
from fleet.terminal import harmless, write_error, write_line

if TYPE_CHECKING:
    from fleet.cli.console import Console
    from fleet.cli.fleet_record import FleetRecord
    from fleet.cli.run import Outcome, Started

EXIT_USAGE, EXIT_INTERRUPTED = 2, 130

app = typer.Typer(
    name="fleet",
    help="A supervised fleet of Temporal workers that runs LLM assistant pipelines.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(operating.app)
app.add_typer(looking_back.app)
app.add_typer(provider_commands.app, name="provider")
app.add_typer(project_commands.app, name="project")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        write_line(f"assistant-fleet {version('assistant-fleet')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="A settings file, or a folder with .env and fleet.toml."),
    ] = None,
) -> None:
    """A supervised fleet of Temporal workers that runs LLM assistant pipelines."""
    if config is not None:  # also for the processes that it starts
        os.environ[CONFIG_VARIABLE] = str(config.absolute())


CsvFile = Annotated[
    Path | None, typer.Option("--csv", metavar="FILE", help="CSV for the assistants that read one.")
]
Day = Annotated[
    str | None, typer.Option("--date", metavar="YYYY-MM-DD", help="The current date; today by default.")
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return once the pipeline is started.")]
PortBase = Annotated[
    int | None, typer.Option(min=1024, max=65_531, help="First of five ports in a row for the embedded stack.")
]


@app.command()
def up(
    detach: Annotated[bool, typer.Option("--detach", help="Return once the fleet works.")] = False,
    port_base: PortBase = None,
    external: Annotated[
        bool, typer.Option("--external", help="Use the Temporal and backend that the settings name.")
    ] = False,
    real_providers: Annotated[
        bool,
        typer.Option("--real-providers", help="Send all calls to the providers themselves; they are paid."),
    ] = False,
    projects: Annotated[
        Path | None, typer.Option("--projects", metavar="DIR", help="Serve the projects in this folder too.")
    ] = None,
) -> None:
    """Start the fleet, by default on an embedded stack with simulated providers."""
    from fleet.cli.down import take_down
    from fleet.cli.find_fleet import find_fleet, settings_for_embedded
    from fleet.cli.foreground import ended_in_order, signalled, stay_until
    from fleet.cli.show import console_for, show_addresses
    from fleet.cli.up import UpOptions, bring_up, example_project
    from fleet.control.supervision.supervisord_home import Home

    console = console_for()
    with ended_in_order():
        record = bring_up(UpOptions(port_base, external, real_providers, projects=projects), console.say)
        if detach:
            show_addresses(console, record, find_fleet()[0], settings_for_embedded().providers.values())
            example = example_project(record)
            console.say(f"The fleet is up: `fleet status`, `fleet run TOPIC --project {example}`, `fleet down`.")
            return
        try:
            with signalled() as stop:
                show_addresses(console, record, find_fleet()[0], settings_for_embedded().providers.values())
                console.say("The fleet is up; Ctrl-C ends it.")
                stay_until(stop, record)
        finally:
            console.say("ending the fleet ...")
            take_down(Home.of(settings_for_embedded()), record, say=console.say)


@app.command()
def down() -> None:
    """End the fleet of this state folder; its workers finish their calls first."""
    from fleet.cli.down import take_down
    from fleet.cli.find_fleet import settings_for_embedded
    from fleet.cli.fleet_record import FleetRecord
    from fleet.cli.show import console_for
    from fleet.control.supervision.supervisord_home import Home

    console = console_for()
    home = Home.of(settings_for_embedded())
    found = take_down(home, FleetRecord.load(home.state), say=console.say)
    console.say("The fleet has ended." if found else f"No fleet is up in {home.state}: nothing to end.")


@app.command()
def run(
    project: Annotated[str, typer.Option(help="The project whose assistants run, e.g. seo-demo.")],
    topic: Annotated[str | None, typer.Argument(metavar="TOPIC", help="What the pipeline is about.")] = None,
    topics: TopicsFile = None,
    column: TopicColumn = None,
    max_open: Annotated[
        int, typer.Option(min=1, max=10_000, help="With --topics: so many pipelines at a time at most.")
    ] = 100,
    csv: CsvFile = None,
    date: Day = None,
    priority: Annotated[int | None, typer.Option(min=1, max=5, help="1 goes first, 5 last; 3 by default.")] = None,
    no_wait: NoWait = False,
    as_json: Json = False,
) -> None:
    """Run a pipeline; shows its progress, then a table and the output. With --topics, run one for each topic."""
    from fleet.cli.find_fleet import find_fleet
    from fleet.cli.run import read_inputs, start_pipeline

    if topics is not None:
        from fleet.cli.many import run_topics

        rows = rows_of(topics, topic, project, column)
        inputs = read_inputs(rows[0].topic, project, csv, date)
        settings, _ = find_fleet()
        again = shlex.join(["fleet", *sys.argv[1:]])
        code = run_topics(
            settings, rows, inputs, priority, max_open, wait=not no_wait, as_json=as_json, again=again
        )
        raise typer.Exit(code)
    if topic is None:
        raise InputError(
            "no topic is given. Remedy: `fleet run TOPIC --project PROJECT`, or --topics FILE for many"
        )
    inputs = read_inputs(topic, project, csv, date)
    settings, record = find_fleet()
    _start_and_show(record, start_pipeline(settings, inputs, priority), no_wait=no_wait, as_json=as_json)


@app.command()
def retry(
    workflow_id: Annotated[
        str | None, typer.Argument(metavar="WORKFLOW_ID", help="The pipeline that failed.")
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="All that failed since --since, of --project.")] = False,
    since: Annotated[str | None, typer.Option(help="With --failed: 10m, 2h, 1d, or a local time.")] = None,
    project: Annotated[str | None, typer.Option(help="With --failed: of one project.")] = None,
    no_wait: NoWait = False,
    as_json: Json = False,
) -> None:
    """Run a failed pipeline again from the assistant that failed; finished outputs are reused at no cost."""
    from fleet.cli.find_fleet import find_fleet
    from fleet.cli.run import retry_pipeline

    if failed:
        from fleet.cli.many import retry_failed

        settings, _ = find_fleet()
        raise typer.Exit(retry_failed(settings, workflow_id, since, project, as_json=as_json))
    if workflow_id is None or since is not None or project is not None:
        raise InputError("which pipeline? Remedy: `fleet retry WORKFLOW_ID`, or `fleet retry --failed --since 1h`")
    settings, record = find_fleet()
    _start_and_show(record, retry_pipeline(settings, workflow_id), no_wait=no_wait, as_json=as_json)


def _start_and_show(
    record: "FleetRecord | None", starting: "Coroutine[Any, Any, Started]", *, no_wait: bool, as_json: bool
) -> None:
    from fleet.cli.show import console_for

    if no_wait:
        _show_started(record, asyncio.run(starting), as_json=as_json)
        return
    console = console_for(stderr=as_json)
    outcome = _run(record, starting, console)
    raise typer.Exit(_show(outcome, record, console, as_json=as_json))


def _show_started(record: "FleetRecord | None", started: "Started", *, as_json: bool) -> None:
    if as_json:
        print_json({"workflow_id": started.workflow_id, "run_id": started.run_id, "status": "running"})
        return
    pages = f"{record.ui}/namespaces/{record.namespace}/workflows/" if record and record.ui else ""
    write_line(f"started {started.workflow_id}")
    if pages:
        write_line(f"Temporal's page: {pages}{started.workflow_id}")
    write_line(f"look at it: fleet show {started.workflow_id}")


def _run(record: "FleetRecord | None", starting: "Coroutine[Any, Any, Started]", console: "Console") -> "Outcome":
    """Run one pipeline to its end and show its progress."""
    from fleet.cli.run import critical_path_of

    simulator = record.simulator if record else None
    outcome = asyncio.run(_follow(starting, console))
    return outcome.with_critical_path(critical_path_of(outcome, simulator))


def _show(
    outcome: "Outcome", record: "FleetRecord | None", console: "Console", *, as_json: bool, look_again: bool = True
) -> int:
    """Show the result of a pipeline, the JSON object last; returns the exit status. ``look_again``: its fleet
    stays up, so it can be looked at again."""
    from fleet.cli.show import show_outcome

    if not as_json:
        show_outcome(console, outcome)
        if look_again:
            console.say(f"see it again: fleet show {outcome.workflow_id}")
    if outcome.error is not None:
        _complain(outcome.error.message)
    if as_json:
        print_json(outcome.to_json())
    return EXIT_OK if outcome.completed else EXIT_FAILED


async def _follow(starting: "Coroutine[Any, Any, Started]", console: "Console") -> "Outcome":
    from fleet.cli.run import follow
    from fleet.cli.show import progress_on

    started = await starting
    console.say(f"pipeline {started.workflow_id}")
    try:
        with progress_on(console) as show:
            return await follow(started, show, console.say)
    except asyncio.CancelledError:
        console.say(
            f"left {started.workflow_id} running: it goes on without this command; see it with `fleet show "
            f"{started.workflow_id}`, end it with `fleet cancel {started.workflow_id}`"
        )
        raise


@app.command(name="preview")
def show_preview_of(
    project: Annotated[str, typer.Option(help="The project.")],
    assistant: Annotated[str, typer.Option(help="The assistant, by functionKey or name.")],
    topic: Annotated[str, typer.Option(help="What the pipeline would be about.")] = "(topic)",
    csv: CsvFile = None,
    date: Day = None,
    as_json: Json = False,
) -> None:
    """Show what an assistant would be sent, with its estimated tokens and cost. No call is made."""
    from fleet.cli.find_fleet import find_fleet
    from fleet.cli.preview import preview
    from fleet.cli.run import read_inputs
    from fleet.cli.show import console_for, show_preview

    inputs = read_inputs(topic, project, csv, date)
    settings, _ = find_fleet()
    found = asyncio.run(preview(settings, inputs, assistant))
    if as_json:
        print_json(found.to_json())
    else:
        show_preview(console_for(), found)


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the fleet up afterwards.")] = False,
    port_base: PortBase = None,
    as_json: Json = False,
) -> None:
    """Start a fleet on the embedded stack, run the sample pipeline, end the fleet. Nothing is paid."""
    from fleet.cli import demo as demonstration
    from fleet.cli.find_fleet import find_fleet
    from fleet.cli.foreground import ended_in_order
    from fleet.cli.run import start_pipeline
    from fleet.cli.show import console_for, show_addresses

    console = console_for(stderr=as_json)
    demonstration.forget_own_servers()
    with ended_in_order():
        record = demonstration.demo_up(port_base, console.say)
        try:
            settings, _ = find_fleet()
            show_addresses(console, record, settings, settings.providers.values())
            outcome = _run(record, start_pipeline(settings, demonstration.demo_inputs()), console)
            status = _show(outcome, record, console, as_json=as_json, look_again=keep)
        except BaseException:
            demonstration.demo_down(record, console.say)
            raise
    if keep:
        console.say("The fleet stays up: `fleet status`, `fleet run TOPIC --project seo-demo`, `fleet down`.")
    else:
        demonstration.demo_down(record, console.say)
    raise typer.Exit(status)


def _complain(message: str) -> None:
    for line in message.split("\n") if message else ():
        write_error(f"fleet: {line}")


def main() -> NoReturn:
    """Run the command and exit with its true exit status.

    Exits through ``os._exit``: a short-lived Temporal client has been seen to crash the interpreter during
    shutdown, after all work was done.
    """
    withhold_from_others()
    os.environ.update(without_proxy(os.environ))
    code = _guarded()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            code = code or EXIT_FAILED
    os._exit(code)


def _guarded() -> int:
    """The exit status of the command; an error that a user can cause is printed in one line."""
    try:
        left = app(standalone_mode=False)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else EXIT_OK if ended.code is None else EXIT_FAILED
    except TyperException as error:
        _complain(_usage(error))
        return error.exit_code
    except SettingsError as error:
        _complain(str(error))
        return EXIT_BAD_SETTINGS
    except FleetError as error:
        _complain(str(error))
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_FAILED
    except PermissionError as error:
        _complain(str(denied(error)))
        return EXIT_FAILED
    except UnicodeEncodeError:
        if (word := next((word for word in sys.argv if not _is_text(word)), None)) is None:
            write_error(traceback.format_exc())
            return EXIT_FAILED
        _complain(f"{word!r:.100} is not valid UTF-8. Remedy: set the terminal to UTF-8, and type it again")
        return EXIT_USAGE
    except Exception:
        write_error(traceback.format_exc())
        return EXIT_FAILED
    return left if isinstance(left, int) else EXIT_OK


def _is_text(word: str) -> bool:
    """Whether an argument of the command line was valid UTF-8."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _usage(error: TyperException) -> str:
    """What is wrong with the words of a command, and where they are explained; empty for a command that shows its
    help if it is given none."""
    if type(error).__name__ == "NoArgsIsHelpError":
        return ""
    context = getattr(error, "ctx", None)
    words = context.command_path if context is not None else "fleet"
    said = harmless(error.format_message())
    return f"{said if said.endswith(('.', '?')) else f'{said}.'} Remedy: see `{words} --help`"
