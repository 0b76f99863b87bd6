"""Commands that look at pipelines and end them: explain, list, show, results, cancel; and ``try``.

Each command imports what it needs when it runs: importing everything takes a second of CPU time, even for
``--help``.
"""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet.cli.output import Json, print_json
from fleet.errors import InputError, OperationError
from fleet.exit_codes import EXIT_FAILED, EXIT_OK
from fleet.terminal import write_document, write_error

if TYPE_CHECKING:
    from fleet.cli.topics import Row

app = typer.Typer()

TopicsFile = Annotated[
    Path | None,
    typer.Option(
        "--topics", metavar="FILE", help="A .csv file with a column of topics, or one topic on each line."
    ),
]
TopicColumn = Annotated[str | None, typer.Option("--column", help="The column of topics in a .csv file; `topic`.")]
WorkflowId = Annotated[str, typer.Argument(metavar="WORKFLOW_ID", help="The pipeline; see `fleet list`.")]


def rows_of(topics: Path, other: str | None, project: str | None, column: str | None) -> "list[Row]":
    """The rows of a topics file.

    Raises:
        InputError: the file cannot be used, ``other`` than it was named too, or no project.
    """
    from fleet.cli.topics import read_topics

    if other is not None:
        raise InputError(f"{other!r} and --topics exclude each other. Remedy: leave one of them out")
    if project is None:
        raise InputError("the project of --topics is not named. Remedy: add --project PROJECT")
    return read_topics(topics, project, column)


@app.command()
def explain(workflow_id: WorkflowId, as_json: Json = False) -> None:
    """Say where each assistant of a pipeline stands and why, with the command that would move it."""
    from fleet.cli import waits
    from fleet.cli.find_fleet import find_fleet
    from fleet.cli.show import console_for

    settings, _ = find_fleet()
    found = asyncio.run(waits.explanation(settings, workflow_id))
    if as_json:
        print_json(found.to_json())
    else:
        waits.show_explanation(console_for(), found)


@app.command(name="list")
def list_pipelines(
    state: Annotated[
        str | None,
        typer.Option(help="running, completed, failed, canceled, terminated or timed_out; all without it."),
    ] = None,
    project: Annotated[str | None, typer.Option(help="Of one project.")] = None,
    since: Annotated[str | None, typer.Option(help="Started since: 10m, 2h, 1d, or a local time.")] = None,
    text: Annotated[str, typer.Option(help="With this in the topic or the id.")] = "",
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="The newest so many.")] = 50,
    as_json: Json = False,
) -> None:
    """List pipelines, running and ended, newest first."""
    from fleet.cli import look_back
    from fleet.cli.find_fleet import find_fleet
    from fleet.cli.logs import moment
    from fleet.cli.show import console_for
    from fleet.control.pipelines.listing import Wanted

    settings, _ = find_fleet()
    wanted = Wanted(state, project, moment(since) if since is not None else None, text)
    found = asyncio.run(look_back.listed(settings, wanted, limit))
    if as_json:
        print_json({"pipelines": [asdict(listed) for listed in found]})
    else:
        look_back.show_list(console_for(), found, limit)


@app.command()
def show(
    workflow_id: WorkflowId,
    assistant: Annotated[
        str | None, typer.Argument(metavar="[ASSISTANT]", help="By functionKey or name, for --output and --input.")
    ] = None,
    output: Annotated[
        bool, typer.Option("--output", help="Print the output, of the last assistant without ASSISTANT.")
    ] = False,
    sent: Annotated[bool, typer.Option("--input", help="Print exactly what ASSISTANT was sent.")] = False,
    as_json: Json = False,
) -> None:
    """Show a pipeline: its assistants, times, tokens, cost and error; or one output, or what one was sent."""
    from fleet.cli import look_back
    from fleet.cli.find_fleet import find_fleet
    from fleet.cli.show import console_for

    settings, _ = find_fleet()
    if output and sent:
        raise OperationError(
            f"--output and --input exclude each other. Remedy: `fleet show {workflow_id} --output`"
        )
    if assistant is not None and not (output or sent):
        raise OperationError(
            f"what of {assistant!r}? Remedy: `fleet show {workflow_id} --output {assistant}`, or --input"
        )
    if sent:
        found = asyncio.run(look_back.sent(settings, workflow_id, assistant or ""))
        if as_json:
            print_json(found.to_json())
        else:
            look_back.show_sent(console_for(), found)
        return
    detail = asyncio.run(look_back.detail(settings, workflow_id))
    if output:
        stage = look_back.output_of(detail, assistant)
        if as_json:
            names = ("function_key", "name", "simulated", "output", "output_json")
            print_json({name: stage[name] for name in names if name in stage})
        else:
            write_document(stage["output"])
    elif as_json:
        print_json(detail)
    else:
        look_back.show_detail(console_for(), detail)


@app.command()
def results(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder; it is made if it is missing.")],
    workflow_id: Annotated[
        str | None, typer.Argument(metavar="WORKFLOW_ID", help="The pipeline; see `fleet list`.")
    ] = None,
    topics: TopicsFile = None,
    column: TopicColumn = None,
    project: Annotated[str | None, typer.Option(help="With --topics: the project of its pipelines.")] = None,
    form: Annotated[
        str, typer.Option("--format", help="md, json or html; in html every output is text, never a page.")
    ] = "md",
    as_json: Json = False,
) -> None:
    """Write a pipeline's outputs to a file in a folder; with --topics, those of all its pipelines and an index."""
    from fleet.cli import look_back
    from fleet.cli.find_fleet import find_fleet
    from fleet.cli.show import console_for
    from fleet.control.pipelines.result_files import write_result

    settings, _ = find_fleet()
    wanted = look_back.format_of(form)
    if topics is not None:
        from fleet.cli.many_results import write_all

        rows = rows_of(topics, workflow_id, project, column)
        raise typer.Exit(write_all(settings, rows, wanted, out, as_json=as_json))
    if workflow_id is None:
        raise InputError("which pipeline? Remedy: `fleet results WORKFLOW_ID --out DIR`, or --topics FILE")
    detail = asyncio.run(look_back.detail(settings, workflow_id))
    path = write_result(detail, wanted, out)
    done = sum(stage["state"] == "done" for stage in detail["stages"])
    if as_json:
        print_json({"workflow_id": workflow_id, "status": detail["status"], "outputs": done, "file": str(path)})
    else:
        look_back.show_written(console_for(), detail, path, done)


@app.command()
def cancel(
    workflow_id: Annotated[
        str | None, typer.Argument(metavar="WORKFLOW_ID", help="The pipeline; see `fleet list`.")
    ] = None,
    project: Annotated[str | None, typer.Option(help="All running pipelines of a project.")] = None,
    as_json: Json = False,
) -> None:
    """End a running pipeline, or all of a project: calls on their way are kept, what waits is dropped."""
    from fleet.cli import look_back
    from fleet.cli.find_fleet import find_fleet
    from fleet.cli.show import console_for

    if (workflow_id is None) == (project is None):
        raise InputError("which pipeline? Remedy: `fleet cancel WORKFLOW_ID`, or `fleet cancel --project PROJECT`")
    settings, _ = find_fleet()
    if workflow_id is None:
        ended = asyncio.run(look_back.all_cancelled(settings, project or ""))
        if as_json:
            print_json({"cancelled": [asdict(each) for each in ended]})
        else:
            look_back.show_all_cancelled(console_for(), ended, project or "")
        return
    done = asyncio.run(look_back.cancelled(settings, workflow_id))
    if as_json:
        print_json(asdict(done))
    else:
        look_back.show_cancelled(console_for(), done)


@app.command(name="try")
def try_one(
    name: Annotated[
        str, typer.Argument(metavar="PROJECT/ASSISTANT", help="The assistant, by functionKey or name.")
    ],
    topic: Annotated[str | None, typer.Option(help="The topic, if it reads one.")] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--input", metavar="KEY=FILE", help="What an assistant that it reads has answered; repeat it for each."
        ),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="CSV, if the assistant reads one.")
    ] = None,
    date: Annotated[
        str | None, typer.Option("--date", metavar="YYYY-MM-DD", help="The current date; today by default.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", metavar="PROVIDER/MODEL", help="Ask this model instead; repeat it to compare several."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run one assistant alone, on its own model or on others side by side; shows time, tokens, cost and text."""
    from fleet.cli import try_assistant as trying
    from fleet.cli.find_fleet import find_fleet
    from fleet.cli.run import read_inputs
    from fleet.cli.show import console_for

    project, assistant = trying.split_name(name)
    inputs = read_inputs(trying.NO_TOPIC if topic is None else topic, project, csv, date)
    outputs = trying.read_texts(given or ())
    settings, _ = find_fleet()
    console = console_for(stderr=as_json)
    models = trying.models_of(settings, model or ())
    found = asyncio.run(trying.try_assistant(settings, assistant, inputs, outputs, models, console.say))
    if as_json:
        print_json({"project": project, "assistant": assistant, "tries": [each.to_json() for each in found]})
    else:
        trying.show_tried(console, found)
    failed = [each.outcome.error for each in found if each.outcome.error is not None]
    for error in failed:
        write_error(f"fleet: {error.message}")
    raise typer.Exit(EXIT_FAILED if failed else EXIT_OK)
