"""The operator's hand on the budgets: see them, set limits, pause and resume."""

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
    STANDING_QUERY,
    Standing,
    budget_id,
)
from fleet.budgets.task_queues import queue_rate
from fleet.contracts import LimitSettings
from fleet.errors import OperationError

_RPC = timedelta(seconds=3)
_OBEYED_SECONDS = 8.0
_LOOK_SECONDS = 0.1


async def standing_of(client: Client, queue: str) -> Standing | None:
    """How a queue's budget stands; None where there is none or nobody keeps it."""
    try:
        found: Standing = await _budget(client, queue).query(
            STANDING_QUERY, result_type=Standing, rpc_timeout=_RPC
        )
    except (RPCError, WorkflowQueryFailedError):
        return None
    return found


async def standings_of(client: Client, queues: list[str]) -> dict[str, Standing | None]:
    """How the budgets of these queues stand."""
    found = await asyncio.gather(*(standing_of(client, queue) for queue in queues))
    return dict(zip(queues, found, strict=True))


async def set_limits(client: Client, queue: str, limits: LimitSettings) -> Standing:
    """Set the operator's limits; they win over those of the settings until they are reset.

    Raises:
        OperationError: the queue has no budget, or nobody keeps it.
    """
    return await _order(client, queue, LIMIT_SIGNAL, [limits], lambda standing: standing.set_limits == limits)


async def all_of(
    client: Client, queues: Iterable[str], act: Callable[[Client, str], Awaitable[Standing]]
) -> dict[str, Standing]:
    """Have all queues of a provider paused or resumed, at once.

    Raises:
        OperationError: it was done to some, and not to those that it names.
    """
    named = [*queues]
    ended = await asyncio.gather(*(act(client, queue) for queue in named), return_exceptions=True)
    done = {queue: one for queue, one in zip(named, ended, strict=True) if isinstance(one, Standing)}
    failed = [one for one in ended if isinstance(one, BaseException)]
    for error in failed:
        if not isinstance(error, OperationError):
            raise error
    if failed:
        so_far = f"done for {', '.join(done)}; " if done else ""
        raise OperationError(so_far + "\n".join(str(error) for error in failed))
    return done


async def pause(client: Client, queue: str, why: str) -> Standing:
    """Shut a queue: what waits there waits on, calls that are under way end as usual."""
    return await _order(client, queue, PAUSE_SIGNAL, [why], lambda standing: standing.breaker == "paused")


async def resume(client: Client, queue: str) -> Standing:
    """Open a queue, whatever shut it: an operator, a spent quota, a rejected key."""
    return await _order(client, queue, RESUME_SIGNAL, [], lambda standing: standing.breaker == "closed")


async def _order(
    client: Client, queue: str, signal: str, arguments: list[Any], obeyed: Callable[[Standing], bool]
) -> Standing:
    """Tell the budget, and wait until it stands so and the server hands out tasks accordingly."""
    try:
        await _budget(client, queue).signal(signal, args=arguments, rpc_timeout=_RPC)
    except RPCError as error:
        raise OperationError(
            f"{queue} has no budget ({error.message}). Remedy: start a worker of that provider; the first one "
            "starts its budget"
        ) from None
    given_up = time.monotonic() + _OBEYED_SECONDS
    while time.monotonic() < given_up:
        standing = await standing_of(client, queue)
        if standing is not None and obeyed(standing) and await _holds(client, standing):
            return standing
        await asyncio.sleep(_LOOK_SECONDS)
    raise OperationError(
        f"the budget of {queue} was told, and nobody acted on it for {_OBEYED_SECONDS:.0f} s. Remedy: see that a "
        "pipeline process runs (`fleet status`); the budget will act when one does"
    )


async def _holds(client: Client, standing: Standing) -> bool:
    """Whether the server's rate says the same about an open or a shut queue."""
    if not standing.exact:
        return True
    try:
        found = await queue_rate(client, standing.queue)
    except RPCError:
        return False
    return (found.rate == 0) == (standing.rate == 0)


def _budget(client: Client, queue: str) -> WorkflowHandle[Any, Any]:
    return client.get_workflow_handle(budget_id(queue))
