"""Reports outcomes that Temporal may not have received: tasks of dead processes, and answers that it has not
taken.

A task whose process is dead is completed with its answer where the journal has one. Otherwise it fails at once, by
its token, and is retried; the next attempt, on any machine, gets what the journal knows of its calls. Temporal
alone would notice after the heartbeat timeout, by default three minutes.

An answer that comes while Temporal is unavailable, or while its process is frozen, finds its task given to another
machine. It is delivered by the pipeline's and the assistant's names, which ends any current attempt; the other
machine waits for that before it sends the call itself.

Tasks that Temporal had dispatched and the process had not begun are dispatched again only after the heartbeat
timeout. A killed process has such tasks for the milliseconds from their arrival until the journal has their
tokens; a process that was frozen, or whose event loop was blocked, before it was replaced may have one for each of
its pollers. Activities without a journal, such as loading a project's assistants, also wait for their heartbeat
timeout, which is half a minute.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from loguru import logger
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.service import RPCError, RPCStatusCode

from fleet.errors import JournalUnavailable
from fleet.execution.assistant_results import About, result_of
from fleet.execution.async_journal import AsyncJournal
from fleet.execution.attempts import Attempts
from fleet.execution.journal_records import CallName, Left
from fleet.execution.recorded_answer import Recorded
from fleet.provider_settings import ProviderSettings

_STARTED = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
_LOOK_SECONDS = 1.0
_PRUNE_SECONDS = 600.0
_SETTLE_SECONDS = 10.0
_AGAIN_SECONDS = 0.1
_AFTER_TROUBLE_SECONDS = 30.0
_RPC = timedelta(seconds=10)
# Any other error, such as a connection reset or a busy server, says nothing about the task.
_HEARD = (RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.FAILED_PRECONDITION)
#: How many answers are in memory at once, and after how many failed requests the server counts as unavailable.
_AT_ONCE, _MAX_UNHEARD = 20, 3


@dataclass(frozen=True)
class Recovery:
    """The recovery of one provider's process. ``doubts`` counts events in Temporal's SDK by which an answer may be
    lost: requests that were not answered, or that came too late."""

    client: Client
    provider: ProviderSettings
    journal: AsyncJournal
    doubts: Callable[[], int]

    async def run(self) -> None:
        """Look every second for outcomes that Temporal may not have received, and regularly for what the journal
        may delete. Never returns."""
        passing = asyncio.create_task(self._pass_time(), name="time")
        since_pruned = since_settled = _PRUNE_SECONDS
        known_doubts = 0
        try:
            while True:
                try:
                    if since_pruned >= _PRUNE_SECONDS:
                        since_pruned = 0.0
                        await self.journal.prune()
                    if since_settled >= _SETTLE_SECONDS:
                        since_settled = 0.0
                        await self.settle()
                    if (doubts := self.doubts()) != known_doubts:
                        known_doubts = doubts
                        self.journal.doubt()
                    await self.journal.take_orphans()
                    await self.answer_for_all()
                except JournalUnavailable as error:
                    logger.error("{}", error)
                    await asyncio.sleep(_AFTER_TROUBLE_SECONDS)
                await asyncio.sleep(_LOOK_SECONDS)
                since_pruned += _LOOK_SECONDS
                since_settled += _LOOK_SECONDS
        finally:
            passing.cancel()

    async def _pass_time(self) -> None:
        """In a separate task: slow work in :meth:`run` must not look like a frozen process."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self.journal.passed(_LOOK_SECONDS)

    async def answer_for_all(self) -> None:
        """Report to Temporal the outcome of each task that it may not have received; while it is unavailable, try
        the next time."""
        tokens, unheard = self.journal.doubtful(), 0
        for first in range(0, len(tokens), _AT_ONCE):
            for left in await self.journal.left(tokens[first : first + _AT_ONCE]):
                if left.running:
                    continue
                unheard = 0 if await self._answer_for(left) else unheard + 1
                if unheard >= _MAX_UNHEARD:
                    return

    async def _answer_for(self, left: Left) -> bool:
        """Report a task's outcome and let the task go; False where Temporal does not answer."""
        try:
            if left.answer and _may_deliver(left):
                await self._deliver(left)
            elif left.orphaned:
                await self._hand_back(left)
        except RPCError as error:
            if error.status not in _HEARD:
                return False
            logger.debug("Temporal had heard of a task, or handed it out again: {}", error.message)
        except (ValueError, KeyError, TypeError) as error:
            logger.error("{} of {}: what its journal has cannot be read: {!r}", *_names(left), error)
        await self.journal.let_go(left.task)
        return True

    async def _deliver(self, left: Left) -> None:
        """Complete the assistant with its answer, unless the pipeline has continued without it."""
        pending = await self._pending(left)
        if pending is None:
            return
        task, last = left.task, await self._last_details(pending)
        answer = Recorded.from_json(left.answer, left.maybe_paid)
        paid_beside = int(last.get("maybe_paid", 0))
        result = result_of(self.provider, task.function_key, About.from_json(left.about), answer, paid_beside)
        assistant = self.client.get_async_activity_handle(
            workflow_id=task.workflow_id, run_id=task.run_id, activity_id=task.function_key
        )
        await assistant.complete(result, rpc_timeout=_RPC)
        logger.warning("📬 ANSWER DELIVERED: {} of {}: Temporal had not taken it", *_names(left))

    async def _hand_back(self, left: Left) -> None:
        """Fail the task of a dead process so that it is retried, with what is known of its calls."""
        error = ApplicationError(
            "worker lost: the process that worked on this is gone",
            type="worker_process_lost",
            category=ApplicationErrorCategory.BENIGN,
            next_retry_delay=timedelta(seconds=_AGAIN_SECONDS),
        )
        details: list[Any] = []
        if not left.untold:
            if (pending := await self._pending(left)) is None or pending.state != _STARTED:
                return  # it was reported, or is waiting for its retry already
            if (last := await self._last_details(pending)) or pending.attempt <= 1:
                place = await self.journal.place()
                maybe_paid = max(left.maybe_paid, left.paid_in_all)
                details = [Attempts.handed_back(last, place, maybe_paid, left.response_id)]
        task = self.client.get_async_activity_handle(task_token=left.task.token)
        await task.fail(error, last_heartbeat_details=details, rpc_timeout=_RPC)
        logger.warning("a process died: what it worked on is dispatched again")

    async def _pending(self, left: Left) -> PendingActivityInfo | None:
        """The assistant's activity, as long as its pipeline waits for it."""
        run = self.client.get_workflow_handle(left.task.workflow_id, run_id=left.task.run_id)
        for activity in _pending_in(await run.describe(rpc_timeout=_RPC)):
            if activity.activity_id == left.task.function_key:
                return activity
        return None

    async def _last_details(self, pending: PendingActivityInfo) -> dict[str, Any]:
        """The details of its last heartbeat; see :class:`fleet.execution.attempts.Attempts`."""
        details = await self.client.data_converter.decode(pending.heartbeat_details.payloads)
        return details[-1] if details and isinstance(details[-1], dict) else {}

    async def settle(self) -> None:
        """Mark in a journal that is at least half full the calls that pipelines no longer need: the pipeline has
        ended, or the call's activity is no longer open."""
        calls: dict[str, list[CallName]] = {}
        for name in await self.journal.unsettled():
            calls.setdefault(name.workflow_id, []).append(name)
        for workflow_id, names in calls.items():
            open_ones = await self._open_assistants(workflow_id)
            if open_ones is not None:
                await self.journal.settled([name for name in names if name.function_key not in open_ones])

    async def _open_assistants(self, workflow_id: str) -> set[str] | None:
        """The functionKeys that a pipeline still executes; None where Temporal does not answer."""
        try:
            description = await self.client.get_workflow_handle(workflow_id).describe(rpc_timeout=_RPC)
        except RPCError as error:
            return set() if error.status is RPCStatusCode.NOT_FOUND else None
        return {activity.activity_id for activity in _pending_in(description)}


def _may_deliver(left: Left) -> bool:
    """Whether the answer is one that its assistant takes: another attempt asks again otherwise."""
    return About.from_json(left.about).takes(Recorded.from_json(left.answer, left.maybe_paid).answer)


def _pending_in(description: WorkflowExecutionDescription) -> list[PendingActivityInfo]:
    if description.status is not WorkflowExecutionStatus.RUNNING:
        return []
    return list(description.raw_description.pending_activities)


def _names(left: Left) -> tuple[str, str]:
    return left.task.function_key, left.task.workflow_id
