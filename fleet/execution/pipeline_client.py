"""The link of an activity to its pipeline: fetches the assistant's inputs, and reports the progress of the
call."""

import asyncio
from dataclasses import asdict
from datetime import timedelta

from loguru import logger
from temporalio import activity
from temporalio.client import AsyncActivityCancelledError, Client, WorkflowQueryFailedError
from temporalio.service import RPCError, RPCStatusCode

from fleet.contracts import (
    ASSIGNMENT_QUERY,
    ASSISTANT_SIGNAL,
    LATER_FIELDS,
    Assignment,
    AssistantCall,
    AssistantMoved,
    AssistantState,
)
from fleet.errors import AssignmentRefused, AssignmentUnavailable, TaskTaken
from fleet.execution.attempts import current_attempts

_ASK_SECONDS = 15.0
_TELL_SECONDS = 5.0


class PipelineLink:
    """What the running attempt sends to its pipeline, and receives from it."""

    def __init__(self, temporal: Client, call: AssistantCall) -> None:
        info = activity.info()
        self._call = call
        self._task = temporal.get_async_activity_handle(task_token=info.task_token)
        self._pipeline = temporal.get_workflow_handle(info.workflow_id or "", run_id=info.workflow_run_id)

    async def assignment(self) -> Assignment:
        """The inputs of the assistant, from the task, or from the pipeline where they are large.

        Raises:
            AssignmentUnavailable: the pipeline could not be asked.
            AssignmentRefused: it answered with an error.
        """
        if self._call.assignment is not None:
            return self._call.assignment
        try:
            # A pipeline of 0.2.0 takes the functionKey alone, and needs nothing.
            understood = [list(LATER_FIELDS)] if self._call.needs else []
            assignment: Assignment = await self._pipeline.query(
                ASSIGNMENT_QUERY,
                args=[self._call.function_key, *understood],
                result_type=Assignment,
                rpc_timeout=timedelta(seconds=_ASK_SECONDS),
            )
        except WorkflowQueryFailedError as error:
            raise AssignmentRefused(
                f"{self._call.name}: the pipeline answered with an error when asked for the inputs ({error}). "
                "Remedy: look into the pipeline workers' log; after a broken update go back to the release before"
            ) from error
        except RPCError as error:
            raise AssignmentUnavailable(
                f"{self._call.name}: the pipeline could not be asked for the inputs ({error}). "
                "Remedy: see that a pipeline worker runs; it is asked again"
            ) from error
        return assignment

    async def confirm(self) -> None:
        """Check that Temporal has not given the task to another worker meanwhile.

        Raises:
            TaskTaken: it has, or the pipeline no longer waits for the task.
            AssignmentUnavailable: Temporal does not answer.
        """
        try:
            await self._task.heartbeat(asdict(current_attempts()), rpc_timeout=timedelta(seconds=_TELL_SECONDS))
        except AsyncActivityCancelledError as error:
            activity.heartbeat(asdict(current_attempts()))  # the response makes the SDK cancel this attempt
            await asyncio.sleep(_TELL_SECONDS)
            raise TaskTaken from error
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                raise TaskTaken from error
            raise AssignmentUnavailable(
                f"{self._call.name}: Temporal did not say whether the task is still this one's ({error.message}). "
                "Remedy: see that the server can be reached; it is asked again"
            ) from error

    async def sending(self, attempt: int) -> None:
        """The call is being sent, or is already in flight; ``attempt`` is its number."""
        await self._tell(AssistantMoved(self._call.function_key, AssistantState.RUNNING, attempt, "", False))

    async def failed(self, attempt: int, why: str, *, unsettled: bool) -> None:
        """The call failed; ``unsettled``: the provider may charge for it, or for an earlier one."""
        await self._tell(AssistantMoved(self._call.function_key, AssistantState.QUEUED, attempt, why, unsettled))

    async def _tell(self, moved: AssistantMoved) -> None:
        """Report progress; a failure here harms nothing else."""
        try:
            await self._pipeline.signal(ASSISTANT_SIGNAL, moved, rpc_timeout=timedelta(seconds=_TELL_SECONDS))
        except RPCError as error:
            logger.warning("the pipeline's progress could not be updated: {}", error)
