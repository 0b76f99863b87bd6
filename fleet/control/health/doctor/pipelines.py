"""How the latest pipelines ended, and whether the cause of their failures still exists."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from fleet.config import Settings
from fleet.contracts import WORKFLOW_TYPE, RetryOf
from fleet.control.health.doctor.check import Check, from_error
from fleet.errors import AssistantDamaged, FleetError, InputError, NoAssistants, ProjectNotFound
from fleet.execution.backend_client import Backend
from fleet.execution.load_assistants import load_assistants
from fleet.pipeline.past_runs import beginning_of

_WITHIN_SECONDS = 3600.0
_MAX_LISTED = 5000
_PAGE = 1000
#: The failures whose cause is read, which takes a request each.
_MAX_READ = 50
_CONCURRENT = 10
_RPC = timedelta(seconds=5)
#: Failures caused by whoever started the pipeline; nothing is wrong with the fleet.
_NOT_OURS = (InputError.code, ProjectNotFound.code, NoAssistants.code)


@dataclass(frozen=True)
class Failed:
    """A pipeline whose latest run failed, and whether another one has completed since."""

    workflow_id: str
    project: str
    code: str
    message: str
    overcome: bool


async def pipeline_checks(client: Client, settings: Settings, backend: Backend | None) -> list[Check]:
    """Check the failures of the last hour; without a ``backend`` the projects' assistants are not checked."""
    try:
        failed, unread = await _failed(client)
    except RPCError as error:
        return [from_error("pipelines", error)]
    ours = [failure for failure in failed if failure.code not in _NOT_OURS]
    projects = dict.fromkeys(our.project for our in ours if our.code == AssistantDamaged.code)
    damaged = [await _assistants(settings, backend, project) for project in projects] if backend else []
    return [verdict(ours, unread), *damaged]


def verdict(failed: Sequence[Failed], unread: int = 0) -> Check:
    """The check for these failures, latest first, and for ``unread`` older ones. A failure after which a later
    pipeline completed is reported, but is not a problem."""
    if not failed and not unread:
        return Check("pipelines", True, "none has failed within the last hour")
    count = len(failed) + unread
    if not failed:
        return Check(
            "pipelines",
            False,
            f"{count} failed within the last hour",
            "find them with `fleet list --state failed`",
        )
    latest = next((failure for failure in failed if not failure.overcome), failed[0])
    says = f"{latest.workflow_id} failed: {latest.message}"
    if count > 1:
        says = f"{count} failed within the last hour; {says}"
    retry = f"mend what the message names, then `fleet retry {latest.workflow_id}`, which pays only for the rest"
    if latest.overcome:
        return Check("pipelines", True, f"others have completed since {says}", retry)
    return Check("pipelines", False, says, retry)


async def _failed(client: Client) -> tuple[list[Failed], int]:
    """The newest failures of the last hour, latest first, and the number of further ones whose cause was not read.

    A pipeline counts once, by its latest run: one that was retried has failed only if its retry has.
    """
    since = f"'{datetime.fromtimestamp(time.time() - _WITHIN_SECONDS, UTC):%Y-%m-%dT%H:%M:%SZ}'"
    query = (
        f"WorkflowType = '{WORKFLOW_TYPE}' AND "
        f"(CloseTime > {since} OR (ExecutionStatus = 'Running' AND StartTime > {since}))"
    )
    listed = client.list_workflows(query, page_size=_PAGE, limit=_MAX_LISTED, rpc_timeout=_RPC)
    failed = failures_among([run async for run in listed])
    one_by_one = asyncio.Semaphore(_CONCURRENT)

    async def read(run: WorkflowExecution, overcome: bool) -> Failed:
        async with one_by_one:
            return await _failure(client, run, overcome)

    read_ones = await asyncio.gather(*(read(run, overcome) for run, overcome in failed[:_MAX_READ]))
    return [*read_ones], len(failed[_MAX_READ:])


def failures_among(runs: Sequence[WorkflowExecution]) -> list[tuple[WorkflowExecution, bool]]:
    """The failed pipelines by their latest run, latest first, each with whether another pipeline has completed
    since."""
    latest: dict[str, WorkflowExecution] = {}
    for run in runs:
        known = latest.get(run.id)
        if known is None or run.start_time > known.start_time:
            latest[run.id] = run
    ended = [run for run in latest.values() if run.close_time is not None]
    found = []
    overcome = False
    for run in sorted(ended, key=_closed, reverse=True):
        overcome = overcome or run.status is WorkflowExecutionStatus.COMPLETED
        if run.status in (WorkflowExecutionStatus.FAILED, WorkflowExecutionStatus.TIMED_OUT):
            found.append((run, overcome))
    return found


def _closed(run: WorkflowExecution) -> float:
    return run.close_time.timestamp() if run.close_time else 0.0


async def _failure(client: Client, run: WorkflowExecution, overcome: bool) -> Failed:
    code, message = "ended", "it ended without a word"
    try:
        await client.get_workflow_handle(run.id, run_id=run.run_id).result(follow_runs=False, rpc_timeout=_RPC)
    except WorkflowFailureError as failure:
        cause = failure.cause
        message = str(cause)
        if isinstance(cause, ApplicationError):
            message = cause.message
            record: Any = cause.details[0] if cause.details else None
            code = str(record.get("code", code)) if isinstance(record, dict) else code
    arguments = (await beginning_of(client, RetryOf(run.id, run.run_id))).arguments
    project = str(arguments[1]) if len(arguments) > 1 else ""
    return Failed(run.id, project, code, " ".join(message.split()), overcome)


async def _assistants(settings: Settings, backend: Backend, project: str) -> Check:
    """Check whether a project whose assistants were damaged can be loaded now."""
    what = f"assistants of {project}"
    try:
        found = await load_assistants(backend, settings, project)
    except FleetError as error:
        return from_error(what, error)
    return Check(what, True, f"{len(found)}, in order again")
