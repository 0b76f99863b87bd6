"""The operator's commands for budgets: see their status, set limits, pause and resume."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Any

from temporalio.client import Client, WorkflowHandle, WorkflowQueryFailedError
from temporalio.service import RPCError

from fleet.budgets.messages import (
    LIMIT_SIGNAL,
    PAUSE_SIGNAL,
    RESUME_SIGNAL,
    STATUS_QUERY,
    BudgetStatus,
    budget_id,
)
from fleet.budgets.queue_client import queue_rate
from fleet.contracts import LimitSettings
from fleet.errors import OperationError

_RPC = timedelta(seconds=3)
_OBEYED_SECONDS = 8.0
_LOOK_SECONDS = 0.1


async def budget_status_of(client: Client, queue: str) -> BudgetStatus | None:
    """The status of a queue's budget; None where there is no budget or no pipeline worker runs it."""
    try:
        found: BudgetStatus = await _budget(client, queue).query(
            STATUS_QUERY, result_type=BudgetStatus, rpc_timeout=_RPC
        )
    except (RPCError, WorkflowQueryFailedError):
        return None
    return found


async def budget_statuses_of(client: Client, queues: list[str]) -> dict[str, BudgetStatus | None]:
    """The status of the budget of each of these queues."""
    found = await asyncio.gather(*(budget_status_of(client, queue) for queue in queues))
    return dict(zip(queues, found, strict=True))


async def set_limits(client: Client, queue: str, limits: LimitSettings) -> BudgetStatus:
    """Set the operator's limits; they override those of the settings until they are reset.

    Raises:
        OperationError: the queue has no budget, or no pipeline worker runs it.
    """
    return await _order(
        client, queue, LIMIT_SIGNAL, [limits], lambda budget_status: budget_status.set_limits == limits
    )


async def all_of(
    client: Client, queues: Iterable[str], act: Callable[[Client, str], Awaitable[BudgetStatus]]
) -> dict[str, BudgetStatus]:
    """Pause or resume all queues of a provider at once.

    Raises:
        OperationError: it failed for some queues, which the message names.
    """
    named = [*queues]
    ended = await asyncio.gather(*(act(client, queue) for queue in named), return_exceptions=True)
    done = {queue: status for queue, status in zip(named, ended, strict=True) if isinstance(status, BudgetStatus)}
    failed = [error for error in ended if isinstance(error, BaseException)]
    for error in failed:
        if not isinstance(error, OperationError):
            raise error
    if failed:
        so_far = f"done for {', '.join(done)}; " if done else ""
        raise OperationError(so_far + "\n".join(str(error) for error in failed))
    return done


async def pause(client: Client, queue: str, why: str) -> BudgetStatus:
    """Pause a queue: waiting calls keep waiting, calls in flight end as usual."""
    return await _order(
        client, queue, PAUSE_SIGNAL, [why], lambda budget_status: budget_status.breaker == "paused"
    )


async def resume(client: Client, queue: str) -> BudgetStatus:
    """Resume a queue, whatever stopped it: an operator, a spent quota, a rejected key."""
    return await _order(client, queue, RESUME_SIGNAL, [], lambda budget_status: budget_status.breaker == "closed")


async def _order(
    client: Client, queue: str, signal: str, arguments: list[Any], obeyed: Callable[[BudgetStatus], bool]
) -> BudgetStatus:
    """Signal the budget, then wait until its status shows the change and the server dispatches tasks
    accordingly."""
    try:
        await _budget(client, queue).signal(signal, args=arguments, rpc_timeout=_RPC)
    except RPCError as error:
        raise OperationError(
            f"{queue} has no budget ({error.message}). Remedy: start a worker of that provider; the first one "
            "starts its budget"
        ) from None
    given_up = time.monotonic() + _OBEYED_SECONDS
    while time.monotonic() < given_up:
        budget_status = await budget_status_of(client, queue)
        if budget_status is not None and obeyed(budget_status) and await _holds(client, budget_status):
            return budget_status
        await asyncio.sleep(_LOOK_SECONDS)
    raise OperationError(
        f"the budget of {queue} was told, and nobody acted on it for {_OBEYED_SECONDS:.0f} s. Remedy: see that a "
        "pipeline process runs (`fleet status`); the budget will act when one does"
    )


async def _holds(client: Client, budget_status: BudgetStatus) -> bool:
    """Whether the server's rate agrees with the budget on whether the queue dispatches at all."""
    if not budget_status.exact:
        return True
    try:
        found = await queue_rate(client, budget_status.queue)
    except RPCError:
        return False
    return (found.rate == 0) == (budget_status.rate == 0)


def _budget(client: Client, queue: str) -> WorkflowHandle[Any, Any]:
    return client.get_workflow_handle(budget_id(queue))
