"""Whether open pipelines and budgets can continue on this release: their histories are replayed on its code."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from temporalio.client import Client, WorkflowExecution, WorkflowHistory
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Replayer

from fleet.budgets.messages import BUDGET_WORKFLOW
from fleet.budgets.workflow import ProviderBudgetWorkflow
from fleet.config import PROJECT_ROOT
from fleet.contracts import TRY_TYPE, WORKFLOW_TYPE
from fleet.errors import TemporalUnavailable
from fleet.pipeline.try_workflow import AssistantTryWorkflow
from fleet.pipeline.workflow import AssistantPipelineWorkflow
from fleet.process.data_converter import data_converter
from fleet.redaction import excerpt

#: Histories that earlier releases recorded.
RECORDED = PROJECT_ROOT / "tests" / "workflow" / "histories"
_OPEN = f"ExecutionStatus = 'Running' AND WorkflowType IN ('{WORKFLOW_TYPE}', '{TRY_TYPE}', '{BUDGET_WORKFLOW}')"


@dataclass
class Replayed:
    """How many histories were replayed, and the errors of those that failed, by workflow id."""

    count: int = 0
    failures: dict[str, str] = field(default_factory=dict)


def recorded(folder: Path = RECORDED) -> Iterable[WorkflowHistory]:
    """The histories in a folder."""
    for path in sorted(folder.glob("*.json")):
        yield WorkflowHistory.from_json(path.stem, path.read_text("utf-8"))


async def replay(histories: Iterable[WorkflowHistory], into: Replayed) -> None:
    """Replay these histories."""
    replayer = Replayer(
        workflows=[AssistantPipelineWorkflow, AssistantTryWorkflow, ProviderBudgetWorkflow],
        data_converter=data_converter(),
    )
    for history in histories:
        result = await replayer.replay_workflow(history, raise_on_replay_failure=False)
        into.count += 1
        if result.replay_failure is not None:
            into.failures[history.workflow_id] = excerpt(" ".join(str(result.replay_failure).split()), 300)


async def replay_open(client: Client, into: Replayed) -> None:
    """Replay all open pipelines and budgets on the server.

    Raises:
        TemporalUnavailable: the server stopped answering, so nothing is known of the rest.
    """
    try:
        async for execution in client.list_workflows(_OPEN):
            if (history := await _history(client, execution)) is not None:
                await replay([history], into)
    except RPCError as error:
        raise TemporalUnavailable(
            f"Temporal server connection failed: after {into.count} histories it did not dispatch the next "
            f"({error.message}). Remedy: see that the server is well (`fleet status`), then replay again"
        ) from None


async def _history(client: Client, execution: WorkflowExecution) -> WorkflowHistory | None:
    """The history of a workflow; None if it has been removed since it was listed."""
    handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
    try:
        return await handle.fetch_history()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise
