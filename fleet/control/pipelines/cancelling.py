"""Cancels a pipeline: calls in flight are awaited and kept, what waits is dropped."""

from dataclasses import dataclass
from typing import Any

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.service import RPCError

from fleet.contracts import PIPELINE_TYPES
from fleet.control.pipelines.story import state_in, story_of, unknown_pipeline
from fleet.errors import OperationError


@dataclass(frozen=True)
class Cancelled:
    """A pipeline that was told to end. ``awaited`` are the assistants whose calls are in flight, ``dropped`` those
    that are not sent any more."""

    workflow_id: str
    awaited: list[str]
    dropped: list[str]


async def cancel_pipeline(client: Client, workflow_id: str) -> Cancelled:
    """Cancel a running pipeline; returns before it has ended.

    Raises:
        OperationError: there is no such pipeline, or it has ended.
    """
    handle: WorkflowHandle[Any, Any] = client.get_workflow_handle(workflow_id)
    try:
        described = await handle.describe()
        if described.workflow_type not in PIPELINE_TYPES:
            raise OperationError(
                f"{workflow_id} is a {described.workflow_type}, which is not a pipeline. Remedy: find one's id "
                "with `fleet list`"
            )
        if described.status is not WorkflowExecutionStatus.RUNNING:
            state = described.status.name.lower() if described.status else "ended"
            raise OperationError(
                f"{workflow_id} has already ended ({state}). Remedy: nothing to do; see it with `fleet show "
                f"{workflow_id}`"
            )
        await handle.cancel()
    except RPCError as error:
        raise unknown_pipeline(workflow_id, error) from None
    story = await story_of(client, workflow_id, described.run_id)
    keys = [assistant.function_key for assistant in story.plan.assistants] if story.plan else []
    states = {key: state_in(story, key) for key in keys}
    return Cancelled(
        workflow_id,
        [key for key, state in states.items() if state == "running"],
        [key for key, state in states.items() if state in ("waiting", "queued")],
    )
