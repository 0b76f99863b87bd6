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
from temporalio.client import Client
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.service import RPCError, RPCStatusCode

from fleet.errors import JournalUnavailable
from fleet.journal import Journal

_LOOK_SECONDS = 1.0
_PRUNE_SECONDS = 600.0
_AGAIN_SECONDS = 0.1
_AFTER_TROUBLE_SECONDS = 30.0
_AWAY = (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED)


async def recover_for_ever(client: Client, journal: Journal) -> None:
    """Look for tasks of dead processes on this host, and prune the journal now and then. Never returns."""
    since_pruned = _PRUNE_SECONDS
    while True:
        try:
            if since_pruned >= _PRUNE_SECONDS:
                since_pruned = 0.0
                await asyncio.to_thread(journal.prune)
            for token in await asyncio.to_thread(journal.take_orphans):
                await _hand_back(client, token)
        except JournalUnavailable as error:
            logger.error("{}", error)
            await asyncio.sleep(_AFTER_TROUBLE_SECONDS)
        await asyncio.sleep(_LOOK_SECONDS)
        since_pruned += _LOOK_SECONDS


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
