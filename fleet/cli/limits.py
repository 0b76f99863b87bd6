"""``fleet limits``, ``fleet pause`` and ``fleet resume``: see and change what the providers' queues dispatch."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from rich.table import Table
from temporalio.client import Client

from fleet.budgets.limits_and_pauses import all_of, budget_status_of, budget_statuses_of, pause, resume, set_limits
from fleet.budgets.messages import BudgetStatus
from fleet.cli.console import Console
from fleet.cli.named_provider import provider_named
from fleet.cli.show import shown
from fleet.config import Settings
from fleet.contracts import LimitSettings
from fleet.errors import OperationError
from fleet.process.temporal_connection import connect_once

_STYLES = {"healthy": "green", "probing": "yellow", "paused": "yellow", "parked": "bold red"}
BudgetStatuses = dict[str, BudgetStatus | None]


def llm_queues(settings: Settings, provider: str | None) -> list[str]:
    """The queues of a provider, or of all.

    Raises:
        OperationError: there is no such provider.
    """
    named = settings.providers.values() if provider is None else [provider_named(settings, provider)]
    return [queue for provider_settings in named for queue in provider_settings.limits]


def queue_of(settings: Settings, provider: str, model: str | None) -> str:
    """The queue whose limits are meant: the model's own, or the provider's if ``model`` is None.

    Raises:
        OperationError: there is no such provider, or the model has no queue of its own.
    """
    named = provider_named(settings, provider)
    if model is None:
        return named.queue
    if model not in named.models:
        raise OperationError(
            f"{named.name} has no limits of its own for {model!r}. Remedy: give the model a section under "
            f"[providers.{named.name}.models] in fleet.toml, or leave --model out"
        )
    return named.queue_of(model)


async def see(settings: Settings, provider: str | None) -> BudgetStatuses:
    """The status of the budgets."""
    queues = llm_queues(settings, provider)
    return await budget_statuses_of(await connect_once(settings), queues)


async def change(
    settings: Settings, provider: str, model: str | None, limits: LimitSettings, *, reset: bool
) -> BudgetStatuses:
    """Set the given limits and keep the others; ``reset`` first restores the limits of the settings.

    Raises:
        OperationError: it cannot be done, or the limits to keep cannot be read.
    """
    queue = queue_of(settings, provider, model)
    client = await connect_once(settings)
    now = await budget_status_of(client, queue)
    if now is None and not reset:
        raise OperationError(
            f"the budget workflow of {queue} is not running (no pipeline worker), so the limits that are "
            "set now cannot be read, and these would replace them all. Remedy: see that a pipeline process runs "
            "(`fleet status`), or add --reset"
        )
    old = LimitSettings() if reset or now is None else now.set_limits
    given = {name: value for name, value in asdict(limits).items() if value is not None}
    return {queue: await set_limits(client, queue, replace(old, **given))}


async def shut(settings: Settings, provider: str, why: str) -> BudgetStatuses:
    """Pause all queues of a provider.

    Raises:
        OperationError: there is no such provider, or a queue could not be paused.
    """
    return await _each(settings, provider, lambda client, queue: pause(client, queue, why))


async def open_again(settings: Settings, provider: str) -> BudgetStatuses:
    """Resume all queues of a provider.

    Raises:
        OperationError: there is no such provider, or a queue could not be resumed.
    """
    return await _each(settings, provider, resume)


async def _each(
    settings: Settings, provider: str, act: Callable[[Client, str], Awaitable[BudgetStatus]]
) -> BudgetStatuses:
    queues = llm_queues(settings, provider)
    done = await all_of(await connect_once(settings), queues, act)
    return {**done}


def to_json(budget_statuses: BudgetStatuses, cut_off: Mapping[str, list[str]]) -> dict[str, Any]:
    """The form of ``--json``; null if no budget workflow answers. ``problems``: one line for each process of this
    machine that cannot send calls."""
    told = {queue: asdict(status) if status else None for queue, status in budget_statuses.items()}
    return {"queues": told, "problems": _problems(budget_statuses, cut_off)}


def _problems(budget_statuses: BudgetStatuses, cut_off: Mapping[str, list[str]]) -> list[str]:
    return list(dict.fromkeys(line for queue in budget_statuses for line in cut_off.get(queue, [])))


def show_budget_statuses(
    console: Console, budget_statuses: BudgetStatuses, cut_off: Mapping[str, list[str]]
) -> None:
    """One line per queue, and below them what an operator should know. ``cut_off``: the queues for which none of
    this machine's processes can send a call, with what each of them says."""
    table = Table("queue", "rate now", "limit", "used", "429s", "state", "why", pad_edge=False)
    for queue, status in budget_statuses.items():
        if status is None:
            table.add_row(
                shown(queue),
                "?",
                "",
                "",
                "",
                "[yellow]?",
                "the budget workflow is not running (no pipeline worker)",
            )
            continue
        table.add_row(
            shown(queue),
            f"{status.rate:.2f}/s" + ("" if status.exact else " (approximate)"),
            _limits(status),
            f"{status.calls_per_minute:.0f}/min",
            str(status.refused),
            _state(status, cut_off=queue in cut_off),
            shown(status.why),
        )
    console.print(table)
    for line in _problems(budget_statuses, cut_off):
        console.say(line)
    if any(status is not None and not status.exact for status in budget_statuses.values()):
        console.print(
            "approximate: the server divides the queue or does not let its rate be set, so each process's own "
            "gate keeps the rate, and learns of a change within two seconds",
            soft_wrap=True,
        )


def _state(budget_status: BudgetStatus, *, cut_off: bool) -> str:
    """The state as a cell: a healthy queue whose calls no process here can send is not shown as healthy."""
    if cut_off and budget_status.state == "healthy":
        return "[yellow]cut off here"
    return f"[{_STYLES[budget_status.state]}]{budget_status.state}"


def _limits(budget_status: BudgetStatus) -> str:
    units = {"requests": "rpm", "tokens": "tpm", "input_tokens": "input tpm", "output_tokens": "output tpm"}
    chosen = budget_status.set_limits.refills()
    return (
        "\n".join(
            f"{limit.per_minute:,.0f} {units[limit.what]}{' (set)' if limit.what in chosen else ''}"
            for limit in budget_status.limits
        )
        or "unknown"
    )
