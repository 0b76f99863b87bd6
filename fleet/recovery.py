"""Hands back what a dead process held: its tasks fail at once, by their tokens, and are tried again.

Temporal alone would notice after the heartbeat timeout, by default three minutes. That it still takes for a task
whose token nobody has: one that Temporal had handed out and that the process had not begun. A process that is
killed has such tasks for the milliseconds from their arrival until the journal has their tokens; one that stood
still, or whose event loop was blocked, before it was replaced may have one for each of its pollers. What has no
journal, such as loading a project's assistants, waits for Temporal's word too, which is given after half a minute.
"""

import asyncio
from datetime import timedelta

from loguru import logger
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.service import RPCError, RPCStatusCode

from fleet.errors import JournalUnavailable
from fleet.journal import CallName, Journal

_LOOK_SECONDS = 1.0
_PRUNE_SECONDS = 600.0
_SETTLE_SECONDS = 10.0
_AGAIN_SECONDS = 0.1
_AFTER_TROUBLE_SECONDS = 30.0
_AWAY = (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED)


async def recover_for_ever(client: Client, journal: Journal) -> None:
    """Look for tasks of dead processes on this host, and now and then for what the journal may forget. Never
    returns."""
    since_pruned = since_settled = _PRUNE_SECONDS
    while True:
        try:
            if since_pruned >= _PRUNE_SECONDS:
                since_pruned = 0.0
                await asyncio.to_thread(journal.prune)
            if since_settled >= _SETTLE_SECONDS:
                since_settled = 0.0
                await settle(client, journal)
            for token in await asyncio.to_thread(journal.take_orphans):
                await _hand_back(client, token)
        except JournalUnavailable as error:
            logger.error("{}", error)
            await asyncio.sleep(_AFTER_TROUBLE_SECONDS)
        await asyncio.sleep(_LOOK_SECONDS)
        since_pruned += _LOOK_SECONDS
        since_settled += _LOOK_SECONDS


async def settle(client: Client, journal: Journal) -> None:
    """Tell a journal that fills up of which calls the pipelines need nothing more: those that have ended, or whose
    activity is not open any more."""
    calls: dict[str, list[CallName]] = {}
    for name in await asyncio.to_thread(journal.unsettled):
        calls.setdefault(name.workflow_id, []).append(name)
    for workflow_id, names in calls.items():
        open_ones = await _open_assistants(client, workflow_id)
        if open_ones is not None:
            settled = [name for name in names if name.function_key not in open_ones]
            await asyncio.to_thread(journal.settled, settled)


async def _open_assistants(client: Client, workflow_id: str) -> set[str] | None:
    """The functionKeys that a pipeline still executes; None where Temporal does not say."""
    try:
        description = await client.get_workflow_handle(workflow_id).describe()
    except RPCError as error:
        return set() if error.status is RPCStatusCode.NOT_FOUND else None
    if description.status is not WorkflowExecutionStatus.RUNNING:
        return set()
    return {one.activity_id for one in description.raw_description.pending_activities}


async def _hand_back(client: Client, token: bytes) -> None:
    error = ApplicationError(
        "worker lost: the process that worked on this is gone",
        type="worker_process_lost",
        category=ApplicationErrorCategory.BENIGN,
        next_retry_delay=timedelta(seconds=_AGAIN_SECONDS),
    )
    while True:
        try:
            await client.get_async_activity_handle(task_token=token).fail(error)
        except RPCError as refused:
            if refused.status in _AWAY:
                await asyncio.sleep(_LOOK_SECONDS)
                continue
            logger.debug("a dead process's task had been reported, or handed out again: {}", refused.message)
        else:
            logger.warning("a process died: what it worked on is handed out again")
        return
