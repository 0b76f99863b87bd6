"""What the commands show to people: progress, results, status. Text from outside is made harmless before it is
printed."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich import box
from rich.markup import escape
from rich.table import Table

from fleet.cli.console import Console
from fleet.cli.counted import counted
from fleet.contracts import AssistantState, Progress, Spent, StageRecord
from fleet.errors import OperationError
from fleet.terminal import harmless, harmless_lines

if TYPE_CHECKING:  # every command loads this module, few load these
    from collections.abc import Iterable, Iterator, Mapping

    from fleet.cli.fleet_record import FleetRecord
    from fleet.cli.preview import Preview
    from fleet.cli.run import Outcome, Show
    from fleet.config import Settings
    from fleet.control.health.doctor import Check
    from fleet.control.health.status import FleetStatus, Reachable
    from fleet.provider_settings import ProviderSettings
    from fleet.providers.base import LlmRequest

_STYLES = {"done": "green", "running": "cyan", "queued": "yellow", "failed": "bold red", "waiting": "dim"}
_FILE_WIDTH = 120
_SIMULATED = "Written by the provider simulator, not by a model."


def shown(text: str, at_most: int | None = None) -> str:
    """One line of text from outside, made harmless for a terminal, without markup, and of that many characters."""
    return escape(harmless(text, at_most))


def shown_lines(text: str) -> str:
    """Text from outside with its line breaks; every other control character is made harmless."""
    return escape(harmless_lines(text))


def console_for(*, stderr: bool = False) -> Console:
    """A console; if it is not a terminal, wide enough that a file contains whole tables."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=_FILE_WIDTH)


@contextmanager
def progress_on(console: Console) -> Iterator[Show]:
    """A live table if the console is a terminal, otherwise one line per change."""
    if not console.is_terminal:
        yield _Changes(console).show
        return
    from rich.live import Live

    with Live(console=console, refresh_per_second=8, transient=True) as live:
        yield lambda progress: live.update(_progress_table(progress))


class _Changes:
    """Prints an assistant's line when its state, attempt or note changes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: dict[str, tuple[AssistantState, int, str]] = {}

    def show(self, progress: Progress) -> None:
        """Print what changed since the last call."""
        for assistant in progress.assistants:
            now = (assistant.state, assistant.attempt, assistant.note)
            if self._last.get(assistant.function_key, (AssistantState.WAITING, 0, "")) == now:
                continue
            self._last[assistant.function_key] = now
            attempt = f" (attempt {assistant.attempt})" if assistant.attempt > 1 else ""
            note = f": {shown(assistant.note)}" if assistant.note else ""
            self._console.print(
                f"{progress.seconds:7.1f} s  {shown(assistant.name)} "
                f"({shown(assistant.provider)}/{shown(assistant.model)}) {assistant.state.value}{attempt}{note}",
                soft_wrap=True,
            )


def _progress_table(progress: Progress) -> Table:
    table = Table("assistant", "provider/model", "state", "attempt", "seconds", "")
    table.title = f"{shown(progress.topic)} · {progress.state.value} · {progress.seconds:.1f} s"
    for assistant in progress.assistants:
        table.add_row(
            shown(assistant.name),
            f"{shown(assistant.provider)}/{shown(assistant.model)}",
            f"[{_STYLES[assistant.state.value]}]{assistant.state.value}",
            str(assistant.attempt or ""),
            f"{assistant.seconds:.1f}" if assistant.seconds else "",
            shown(assistant.note, 80),
        )
    return table


def show_outcome(console: Console, outcome: Outcome) -> None:
    """Print the table of the assistants, the output and the totals."""
    names = ("assistant", "provider/model", "state", "tries", "seconds", "tokens", "cost")
    table = Table(*names, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for stage in outcome.stages:
        table.add_row(*_stage_row(stage))
    if outcome.stages:
        console.print(table)
    if outcome.final_output:
        console.rule("output")
        if outcome.written_by_simulator:
            console.print(_SIMULATED, style="yellow")
        console.print(shown_lines(outcome.final_output), highlight=False)
        console.rule()
    for warning in outcome.warnings:
        console.print(f"warning: {shown(warning)}", style="yellow")
    path = outcome.critical_path_seconds
    against = f", {path:.2f} s of that for calls that had to wait for each other" if path else ""
    if outcome.stages:
        console.print(f"cost: {_spent(outcome.spent)}")
    word = "completed" if outcome.completed else "failed"
    if outcome.project_fingerprint:
        console.say(f"project: fingerprint {outcome.project_fingerprint}")
    console.print(f"{outcome.workflow_id} {word} in {outcome.seconds:.2f} s{against}", soft_wrap=True)


def _stage_row(stage: StageRecord) -> tuple[str, ...]:
    data = stage.metadata
    ran = stage.status == "done" or data.get("calls")
    return (
        shown(stage.stage),
        f"{shown(str(data.get('provider')))}/{shown(str(data.get('model')))}",
        f"[{_STYLES[stage.status]}]{'reused' if data.get('reused_from') else stage.status}",
        str(data.get("attempts") or ""),
        f"{stage.duration:.2f}" if stage.started else "",
        f"{data.get('input_tokens')}/{data.get('output_tokens')}" if ran else "",
        cost_of(data) if ran else "",
    )


def cost_of(data: dict[str, Any]) -> str:
    """The cost of an answer, from its stage's metadata."""
    cost = data.get("cost_usd")
    about = "about " if data.get("price_note") else ""
    amount = "unknown" if cost is None else f"{about}${cost:.4f}"
    return f"{amount} simulated" if data.get("simulated") else amount


def _spent(spent: Spent) -> str:
    """The paid amount first; simulated amounts are marked as not paid."""
    parts = [f"${spent.cost_usd:.4f}"]
    if spent.unpriced_calls:
        parts.append(f"{counted(spent.unpriced_calls, 'call')} of unknown price")
    if spent.simulated_cost_usd:
        parts.append(f"${spent.simulated_cost_usd:.4f} simulated, not paid")
    return " + ".join(parts)


def show_request(console: Console, request: LlmRequest | Preview, options: Mapping[str, Any]) -> None:
    """Print a request's sampling, the further options of its model, and its two messages."""
    most = request.max_tokens or "the model's own maximum"
    top_p = "" if request.top_p is None else f", top_p {request.top_p}"
    console.print(f"temperature {request.temperature}{top_p}, max tokens {most}")
    for name, value in options.items():
        console.print(f"{name} {shown(json.dumps(value, ensure_ascii=False))}", highlight=False, soft_wrap=True)
    console.rule("system")
    console.print(shown_lines(request.system_prompt), highlight=False, soft_wrap=True)
    console.rule("user")
    console.print(shown_lines(request.user_message), highlight=False, soft_wrap=True)
    console.rule()


def show_preview(console: Console, preview: Preview) -> None:
    """Print a request and its estimates."""
    console.print(f"{shown(preview.name)} would ask {shown(preview.provider)}/{shown(preview.model)}:")
    show_request(console, preview, preview.options)
    without = f", without the outputs of {shown(', '.join(preview.reads))}" if preview.reads else ""
    console.print(f"about {preview.input_tokens} input tokens{without}: {_usd(preview.input_usd)}", soft_wrap=True)
    most = preview.max_output_tokens
    bound = f"at most {most} output tokens: {_usd(preview.most_usd)} in all" if most else "no bound on the output"
    console.print(bound)
    if preview.warning:
        console.print(f"warning: {shown(preview.warning)}", soft_wrap=True)


def _usd(amount: float | None) -> str:
    return "price unknown" if amount is None else f"${amount:.5f}"


def show_checks(console: Console, checks: list[Check]) -> None:
    """Print one line per check, and the remedy of those that have one. Those that failed only because of another
    one are named below it."""
    for check in checks:
        if check.because:
            continue
        mark = "[green]ok     [/]" if check.ok else "[bold red]problem[/]"
        console.print(f"{mark}  {shown(check.what)}: {shown(check.says)}", soft_wrap=True)
        if check.remedy:
            console.print(f"         remedy: {shown(check.remedy)}", soft_wrap=True)
        if others := [other.what for other in checks if other.because == check.what]:
            console.print(f"         because of that: {shown(', '.join(others))}", soft_wrap=True)


def show_status(console: Console, status: FleetStatus, *, in_all: bool = False) -> None:
    """Print servers, processes, queues and other machines, and below them all problems. ``in_all`` also prints
    this machine's name, and says so if there is no other machine."""
    if in_all:
        console.print(f"machine  {shown(status.machine)}, release {shown(status.version)}")
    console.print(_server("Temporal", status.temporal))
    console.print(_server("backend ", status.backend))
    processes = Table("process", "state", "pid", "uptime")
    for process in status.processes:
        style = "green" if process.state == "RUNNING" else "yellow" if process.state == "STARTING" else "bold red"
        processes.add_row(
            process.process, f"[{style}]{process.state}", str(process.pid or ""), f"{process.uptime_seconds} s"
        )
    queues = Table("queue", "pollers", "backlog", "oldest")
    for queue in status.queues:
        age = "" if queue.backlog_age_seconds is None else f"{queue.backlog_age_seconds:.0f} s"
        queues.add_row(shown(queue.queue), _number(queue.pollers), _number(queue.backlog), age)
    console.print(processes)
    console.print(queues)
    if status.machines or in_all:
        from fleet.cli.machine_table import machines_of

        console.print(machines_of([asdict(machine) for machine in status.machines], time.time()))
    for problem in status.problems():
        console.print(f"[bold red]problem:[/] {shown(problem)}", soft_wrap=True)
    for notice in status.notices():
        console.print(f"[yellow]note:[/] {shown(notice)}", soft_wrap=True)


def _server(name: str, server: Reachable) -> str:
    return (
        f"{name} {shown(server.address)} [{'green' if server.ok else 'bold red'}]{'ok' if server.ok else 'away'}"
    )


def _number(value: int | None) -> str:
    return "?" if value is None else str(value)


def show_addresses(
    console: Console, record: FleetRecord, settings: Settings, providers: Iterable[ProviderSettings]
) -> None:
    """Print the addresses of a fleet that has just come up, with a link to its page, and where each provider's
    calls go. The settings are those that reach it."""
    from fleet.cli.page import page_link
    from fleet.cli.provider_lines import provider_lines

    console.print(f"Temporal  {record.temporal}" + (f"   pages: {record.ui}" if record.ui else ""))
    projects = f"   projects: {shown(record.projects)}" if record.projects else ""
    console.print(f"backend   {record.backend}{projects}", soft_wrap=True)
    console.print(f"control   {record.control}/status")
    try:
        console.say(f"page      {page_link(settings)}")
    except OperationError as error:
        console.say(f"page      {error}")
    else:
        if not settings.control_open_reads:
            console.print("          this link works once, for 15 minutes; `fleet page` prints another")
    if record.simulator:
        console.print(f"simulator {record.simulator}   none of its calls is paid, none of its texts is a model's")
    for line in provider_lines(record, providers):
        console.say(line)
