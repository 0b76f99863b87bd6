"""The fleet's status, with a Temporal server in the test's hand."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from temporalio.api.taskqueue.v1 import PollerInfo
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, DescribeTaskQueueResponse
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from fleet.config import Settings
from fleet.control.health.status import status_of
from fleet.execution.backend_client import Backend


class Server:
    """Describes its queues; ``polled`` names those that a process of another machine polls."""

    namespace, identity = "default", "fleet@host+abc:1"

    def __init__(self, *polled: str) -> None:
        self.polled = polled
        self.queries = 0
        self.workflow_service = SimpleNamespace(describe_task_queue=self.describe)

    async def describe(self, request: DescribeTaskQueueRequest, **options: Any) -> DescribeTaskQueueResponse:
        answer = DescribeTaskQueueResponse()
        if request.task_queue.name in self.polled:
            poller = PollerInfo(identity="pipeline_00@other+def:1")
            poller.last_access_time.FromDatetime(datetime.now(UTC))
            answer.pollers.append(poller)
        return answer

    def get_workflow_handle(self, workflow_id: str, **options: Any) -> Any:
        return SimpleNamespace(query=self.query)

    async def query(self, *arguments: Any, **options: Any) -> Any:
        self.queries += 1
        raise RPCError("Timeout expired", RPCStatusCode.CANCELLED, b"")


class Healthy(Backend):
    async def health(self) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize(
    ("polled", "answered", "queries"), [((), False, 0), (("pipeline", "control"), False, 3), ((), True, 3)]
)
async def test_budgets_are_asked_only_where_a_process_runs_them_or_just_did(
    tmp_path: Path, polled: tuple[str, ...], answered: bool, queries: int
) -> None:
    settings = Settings(API_BASE_URL="http://localhost:8000", state_dir=tmp_path)
    server = Server(*polled)

    async def connected() -> Client:
        return cast(Client, server)

    found = await status_of(settings, connected, Healthy("http://localhost:8000"), budgets_answered=answered)
    assert found.temporal.ok and found.budgets == {} and server.queries == queries
    assert {queue.queue for queue in found.queues if queue.pollers == 0} >= {"llm-openai"}
