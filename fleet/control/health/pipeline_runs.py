"""The pipelines of the whole fleet, as the Temporal server lists them, within its retention."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, timedelta

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import ListWorkflowExecutionsRequest
from temporalio.client import Client

from fleet.contracts import RETRY_MEMO, WORKFLOW_TYPE

#: The maximum number of listed pipelines; the newest come first.
MAX_LISTED = 1000
MAX_ENDED = 50
STATUSES = ("running", "completed", "failed", "canceled", "terminated", "timed_out")

_MAX_PAGES = 20
_RPC = timedelta(seconds=5)
_OURS = f"WorkflowType = '{WORKFLOW_TYPE}'"


@dataclass(frozen=True, slots=True)
class Run:
    """One pipeline. Times are unix seconds; ``ended_at`` is None while it runs. ``retry``: it was started by
    ``fleet retry``."""

    workflow_id: str
    run_id: str
    status: str
    started_at: float
    ended_at: float | None
    retry: bool


@dataclass(frozen=True)
class Runs:
    """``counts`` has the number of pipelines in each status, ``running`` the newest running ones, ``ended`` the
    latest ended ones; ``oldest_at`` is the start of the oldest running one."""

    at: float
    counts: dict[str, int] = field(default_factory=dict)
    running: list[Run] = field(default_factory=list)
    ended: list[Run] = field(default_factory=list)
    oldest_at: float | None = None


async def runs_of(client: Client) -> Runs:
    """Ask the server for the pipelines.

    Raises:
        RPCError: the server does not answer.
    """
    at = time.time()
    running: list[Run] = []
    oldest: float | None = None
    async for page in _pages(client, f"{_OURS} AND ExecutionStatus = 'Running'", MAX_LISTED, _MAX_PAGES):
        oldest = min([run.started_at for run in page] + ([] if oldest is None else [oldest]), default=oldest)
        running += page[: MAX_LISTED - len(running)]
    ended = [
        run
        async for page in _pages(client, f"{_OURS} AND ExecutionStatus != 'Running'", MAX_ENDED, 1)
        for run in page
    ]
    return Runs(at, await _counts(client), sorted(running, key=_started, reverse=True), ended, oldest)


def _started(run: Run) -> float:
    return run.started_at


async def _counts(client: Client) -> dict[str, int]:
    answer = await client.count_workflows(f"{_OURS} GROUP BY ExecutionStatus", rpc_timeout=_RPC)
    found = dict.fromkeys(STATUSES, 0)
    for group in answer.groups:
        name = str(group.group_values[0]).lower().replace("timedout", "timed_out")
        found[name] = group.count
    return found


async def _pages(client: Client, query: str, size: int, most: int) -> AsyncIterator[list[Run]]:
    token = b""
    for _ in range(most):
        request = ListWorkflowExecutionsRequest(
            namespace=client.namespace, page_size=size, query=query, next_page_token=token
        )
        answer = await client.workflow_service.list_workflow_executions(request, timeout=_RPC)
        yield [_run(execution) for execution in answer.executions]
        token = answer.next_page_token
        if not token:
            return


def _run(info: WorkflowExecutionInfo) -> Run:
    name = WorkflowExecutionStatus.Name(info.status).removeprefix("WORKFLOW_EXECUTION_STATUS_").lower()
    return Run(
        workflow_id=info.execution.workflow_id,
        run_id=info.execution.run_id,
        status=name,
        started_at=unix(info.start_time),
        ended_at=unix(info.close_time) if info.HasField("close_time") else None,
        retry=RETRY_MEMO in info.memo.fields,
    )


def unix(moment: Timestamp) -> float:
    """A timestamp of the server in unix seconds."""
    return round(moment.ToDatetime(UTC).timestamp(), 3)
