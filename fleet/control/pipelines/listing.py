"""Finds pipelines on the Temporal server, running and ended, within its retention."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus
from temporalio.service import RPCError

from fleet.contracts import PROJECT_MEMO, TOPIC_MEMO, TRY_TYPE, TYPES_QUERY, RetryOf
from fleet.errors import OperationError, TemporalUnavailable
from fleet.pipeline.past_runs import beginning_of

#: The states by which pipelines are searched, as Temporal spells them in queries.
STATES = {
    "running": "Running",
    "completed": "Completed",
    "failed": "Failed",
    "canceled": "Canceled",
    "terminated": "Terminated",
    "timed_out": "TimedOut",
}
_RPC = timedelta(seconds=10)
_PAGE = 200


@dataclass(frozen=True)
class Wanted:
    """Which pipelines: in that state, of that project, started or ended since then, with that text in id or topic.
    None or empty: any."""

    state: str | None = None
    project: str | None = None
    since: datetime | None = None
    text: str = ""
    ended_since: datetime | None = None

    def query(self) -> str:
        """The part that the server can filter.

        Raises:
            OperationError: there is no such state.
        """
        parts = [TYPES_QUERY]
        if self.state is not None:
            state = self.state.lower().replace("cancelled", "canceled")
            if state not in STATES:
                raise OperationError(f"unknown state {self.state!r}. Remedy: use one of {', '.join(STATES)}")
            parts.append(f"ExecutionStatus = '{STATES[state]}'")
        if self.since is not None:
            parts.append(f"StartTime > '{self.since.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}'")
        if self.ended_since is not None:
            parts.append(f"CloseTime > '{self.ended_since.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}'")
        return " AND ".join(parts)


@dataclass(frozen=True)
class Listed:
    """A pipeline. Times are ISO 8601 in UTC; ``ended`` is None and ``seconds`` so far while it runs. ``kind`` is
    ``pipeline``, or ``try`` for one assistant alone."""

    workflow_id: str
    run_id: str
    state: str
    project_id: str
    topic: str
    started: str
    ended: str | None
    seconds: float
    retry: bool
    kind: str = "pipeline"


async def pipelines_of(client: Client, wanted: Wanted, limit: int | None = None) -> list[Listed]:
    """The pipelines, newest first; at most ``limit`` of them.

    Raises:
        OperationError: there is no such state.
        TemporalUnavailable: the server does not answer.
    """
    query, found = wanted.query(), list[Listed]()
    try:
        async for listed in _matching(client, query, wanted):
            found.append(listed)
            if limit is not None and len(found) >= limit:
                break
    except RPCError as error:
        raise TemporalUnavailable(
            f"Temporal does not list its pipelines ({error.message}). Remedy: see `fleet status`"
        ) from None
    return found


async def _matching(client: Client, query: str, wanted: Wanted) -> AsyncIterator[Listed]:
    text = wanted.text.casefold()
    async for execution in client.list_workflows(query, page_size=_PAGE, rpc_timeout=_RPC):
        memo = await execution.memo()
        if PROJECT_MEMO not in memo:  # started by another client, or by a release before these memos
            memo = await _beginning(client, execution)
        listed = _listed(execution, memo)
        if wanted.project not in (None, listed.project_id):
            continue
        if text in listed.workflow_id.casefold() or text in listed.topic.casefold():
            yield listed


async def _beginning(client: Client, execution: WorkflowExecution) -> dict[str, Any]:
    """The memos that a pipeline would have, from its arguments."""
    began = await beginning_of(client, RetryOf(execution.id, execution.run_id))
    topic, project = [*began.arguments, "", ""][:2]
    memo = dict(await execution.memo())
    return memo | {TOPIC_MEMO: str(topic), PROJECT_MEMO: str(project)}


def _listed(execution: WorkflowExecution, memo: Mapping[str, Any]) -> Listed:
    ended = execution.close_time or datetime.now(UTC)
    status = execution.status or WorkflowExecutionStatus.RUNNING
    return Listed(
        workflow_id=execution.id,
        run_id=execution.run_id,
        state=status.name.lower(),
        project_id=str(memo[PROJECT_MEMO]),
        topic=str(memo[TOPIC_MEMO]),
        started=execution.start_time.isoformat(timespec="seconds"),
        ended=execution.close_time.isoformat(timespec="seconds") if execution.close_time else None,
        seconds=round((ended - execution.start_time).total_seconds(), 3),
        retry="retry_of" in memo,
        kind="try" if execution.workflow_type == TRY_TYPE else "pipeline",
    )
