"""What ``fleet list``, ``show``, ``results`` and ``cancel`` do and print. Text from outside is made harmless for a
terminal; a file or another program gets it unchanged."""

import asyncio
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from temporalio.client import Client

from fleet.cli.console import Console
from fleet.cli.machine_table import seconds
from fleet.cli.show import show_request, shown
from fleet.config import Settings
from fleet.contracts import Spent
from fleet.control.pipelines.cancelling import Cancelled, cancel_pipeline
from fleet.control.pipelines.listing import Listed, Wanted, pipelines_of
from fleet.control.pipelines.result_files import Format
from fleet.control.pipelines.sent import Sent, sent_to
from fleet.control.pipelines.story import story_of
from fleet.control.web.pipeline_detail import detail_of
from fleet.control.web.shapes import Stage
from fleet.errors import InputError, OperationError
from fleet.process.temporal_connection import connect_once

_STYLES = {
    "running": "cyan",
    "completed": "green",
    "done": "green",
    "failed": "bold red",
    "queued": "yellow",
    "waiting": "dim",
}
Json = dict[str, Any]
#: How many pipelines are asked at a time.
_AT_ONCE = 8


async def listed(settings: Settings, wanted: Wanted, limit: int) -> list[Listed]:
    """The pipelines that are wanted, newest first."""
    return await pipelines_of(await connect_once(settings), wanted, limit)


async def detail(settings: Settings, workflow_id: str) -> Json:
    """Everything that is known of a pipeline, as the page shows it, with what it spent."""
    return await detail_for(await connect_once(settings), settings, workflow_id)


async def detail_for(client: Client, settings: Settings, workflow_id: str) -> Json:
    """The same, with a client that is connected."""
    found = await detail_of(client, settings, workflow_id)
    return found | {"spent": _spent(found["stages"])}


async def sent(settings: Settings, workflow_id: str, assistant: str) -> Sent:
    """What an assistant was sent."""
    client = await connect_once(settings)
    return await sent_to(client, await story_of(client, workflow_id), assistant)


async def cancelled(settings: Settings, workflow_id: str) -> Cancelled:
    """Cancel a pipeline."""
    return await cancel_pipeline(await connect_once(settings), workflow_id)


async def all_cancelled(settings: Settings, project: str) -> list[Cancelled]:
    """Cancel all running pipelines of a project; those that end meanwhile are left alone."""
    client, done = await connect_once(settings), list[Cancelled]()
    waiting = iter(await pipelines_of(client, Wanted("running", project)))

    async def cancel() -> None:
        for listed in waiting:  # shared: each worker takes the next one
            with suppress(OperationError):
                done.append(await cancel_pipeline(client, listed.workflow_id))

    await asyncio.gather(*(cancel() for _ in range(_AT_ONCE)))
    return done


def format_of(text: str) -> Format:
    """The format of that name.

    Raises:
        InputError: there is none.
    """
    try:
        return Format(text.lower())
    except ValueError:
        raise InputError(f"unknown format {text!r}. Remedy: use one of {', '.join(Format)}") from None


def output_of(detail: Json, assistant: str | None) -> Json:
    """The stage with the output that is asked for: of that assistant, or of the last one that answered.

    Raises:
        InputError: the pipeline has no such assistant.
        OperationError: there is no output yet.
    """
    stages, name = detail["stages"], detail["workflow_id"]
    done = [stage for stage in stages if stage["state"] == "done"]
    if assistant is None:
        if not done:
            raise OperationError(f"{name} has no output yet. Remedy: see where it stands with `fleet show {name}`")
        last: Json = done[-1]
        return last
    for stage in stages:
        if assistant in (stage["function_key"], stage["name"]):
            if stage not in done:
                raise OperationError(
                    f"{assistant} of {name} has no output: it is {stage['state']}. Remedy: see why with "
                    f"`fleet show {name}`"
                )
            found: Json = stage
            return found
    keys = ", ".join(stage["function_key"] for stage in stages)
    raise InputError(f"{name} has no assistant {assistant!r}. Remedy: name one of {keys or 'its assistants'}")


def show_list(console: Console, found: list[Listed], limit: int) -> None:
    """One line per pipeline."""
    if not found:
        console.print("No pipeline matches.")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("id", no_wrap=True, min_width=max(len(each.workflow_id) for each in found))
    for name in ("state", "project", "topic", "started", "took"):
        table.add_column(name)
    for each in found:
        style = _STYLES.get(each.state, "yellow")
        table.add_row(
            shown(each.workflow_id),
            f"[{style}]{each.state}",
            shown(each.project_id),
            shown(f"(try) {each.topic}" if each.kind == "try" else each.topic, 60),
            _local(datetime.fromisoformat(each.started)),
            seconds(each.seconds),
        )
    console.print(table)
    if len(found) == limit:
        console.print(f"the newest {limit}; -n shows more", style="dim")


def show_detail(console: Console, detail: Json) -> None:
    """A pipeline's head, its assistants and what may be asked next."""
    ended = detail["ended_at"] or detail["at"]
    style = _STYLES.get(detail["status"], "yellow")
    console.print(
        f"{shown(detail['workflow_id'])} [{style}]{detail['status']}[/] · {shown(detail['project_id'])} · "
        f"{shown(detail['topic'])}",
        soft_wrap=True,
    )
    started = _local(datetime.fromtimestamp(detail["started_at"]).astimezone())
    console.print(f"started {started}, took {seconds(ended - detail['started_at'])}, run {detail['run_id']}")
    if detail["stages"]:
        console.print(_stages(detail))
    for warning in detail["warnings"]:
        console.print(f"warning: {shown(warning)}", style="yellow", soft_wrap=True)
    if detail["error"]:
        console.print(f"[bold red]failed:[/] {shown(detail['error']['message'])}", soft_wrap=True)
    spent = detail["spent"]
    console.print(f"cost: ${spent['cost_usd']:.4f}" + _not_paid(spent))
    for line in _next_commands(detail):
        console.print(line, style="dim", soft_wrap=True)


def _stages(detail: Json) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("assistant", no_wrap=True)  # its key, which other commands take
    table.add_column("provider/model", overflow="fold")
    for name in ("state", "tries", "waited", "ran", "tokens", "cost"):
        table.add_column(name, no_wrap=True)
    table.add_column("note", overflow="fold")
    until, runs = detail["ended_at"] or detail["at"], detail["status"] == "running"
    for stage in detail["stages"]:
        ran = stage["state"] == "done" or stage["calls"]
        table.add_row(
            shown(stage["function_key"]),
            f"{shown(stage['provider'])}/{shown(stage['model'])}",
            f"[{_STYLES[stage['state']]}]{_state_of(stage, runs=runs)}",
            str(stage["attempts"] or ""),
            _lasted(stage, "waiting", until),
            _lasted(stage, "running", until),
            f"{stage['input_tokens']}/{stage['output_tokens']}" if ran else "",
            _cost(stage) if ran else "",
            shown(stage["note"], 120),
        )
    return table


def _state_of(stage: Json, *, runs: bool) -> str:
    """The state as a word for people; ``runs``: the pipeline does."""
    if stage["reused"]:
        return "reused"
    return "not run" if stage["state"] == "waiting" and not runs else str(stage["state"])


def _lasted(stage: Json, kind: str, until: float) -> str:
    spans = [span for span in stage["spans"] if span["kind"] == kind]
    total = sum(max((span["until"] or until) - span["from"], 0.0) for span in spans)
    return seconds(total) if spans else ""


def _cost(stage: Json) -> str:
    about = "about " if stage["price_note"] else ""
    amount = "unknown" if stage["cost_usd"] is None else f"{about}${stage['cost_usd']:.4f}"
    return f"{amount} simulated" if stage["simulated"] else amount


def _not_paid(spent: Json) -> str:
    calls = spent["unpriced_calls"]
    unpriced = f" + {calls} call{'' if calls == 1 else 's'} of unknown price" if calls else ""
    simulated = spent["simulated_cost_usd"]
    return unpriced + (f" + ${simulated:.4f} simulated, not paid" if simulated else "")


def _spent(stages: list[Stage]) -> Json:
    spent = Spent.of((stage["cost_usd"], stage["simulated"], stage["unpriced_calls"]) for stage in stages)
    return {
        "cost_usd": spent.cost_usd,
        "simulated_cost_usd": spent.simulated_cost_usd,
        "unpriced_calls": spent.unpriced_calls,
    }


def _next_commands(detail: Json) -> list[str]:
    name = shown(detail["workflow_id"])
    lines = []
    if any(stage["state"] == "done" for stage in detail["stages"]):
        lines.append(f"an output: fleet show {name} --output [ASSISTANT]")
        lines.append(f"what an assistant was sent: fleet show {name} --input ASSISTANT")
    if detail["status"] == "running":
        lines.append(f"where it stands and why: fleet explain {name}")
        lines.append(f"end it: fleet cancel {name}")
    elif detail["status"] != "completed" and detail["kind"] == "pipeline":
        lines.append(f"go on from here: fleet retry {name}")
    return lines


def show_sent(console: Console, found: Sent) -> None:
    """An assistant's request, message by message."""
    request = found.request
    said = "was sent to" if found.sent else "will be sent to"
    console.print(f"{shown(found.name)} {said} {shown(found.provider)}/{shown(request.model)}:", soft_wrap=True)
    show_request(console, request, request.model_options.given)


def show_written(console: Console, detail: Json, path: Path, outputs: int) -> None:
    """Where the file is, and whether the pipeline has more to come."""
    of = f"{outputs} of {len(detail['stages'])} outputs"
    console.print(f"wrote {shown(str(path))}: {of}", soft_wrap=True)
    if detail["status"] != "completed":
        console.print(f"{shown(detail['workflow_id'])} is {detail['status']}", style="yellow", soft_wrap=True)


def show_cancelled(console: Console, done: Cancelled) -> None:
    """What is awaited and what was dropped."""
    console.print(f"{shown(done.workflow_id)} is being cancelled", soft_wrap=True)
    if done.awaited:
        console.print(f"on its way, awaited and kept: {shown(', '.join(done.awaited))}", soft_wrap=True)
    if done.dropped:
        console.print(f"not sent any more: {shown(', '.join(done.dropped))}", soft_wrap=True)
    console.print(f"see it end: fleet show {shown(done.workflow_id)}", style="dim", soft_wrap=True)


def show_all_cancelled(console: Console, done: list[Cancelled], project: str) -> None:
    """How many, and what is awaited."""
    if not done:
        console.say(f"no pipeline of project {project!r} runs: nothing is cancelled")
        console.say("see those of all projects: fleet list --state running")
        return
    awaited = sum(len(each.awaited) for each in done)
    many = "1 pipeline" if len(done) == 1 else f"{len(done)} pipelines"
    console.say(
        f"{many} of {project} being cancelled; {awaited} call{'' if awaited == 1 else 's'} in flight awaited"
    )
    console.say(f"see them end: fleet list --project {project} --state running")


def _local(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"
