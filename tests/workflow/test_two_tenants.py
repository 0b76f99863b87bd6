"""Two tenants on one Temporal server, each with a namespace and workers of its own, are apart."""

import asyncio
import uuid
from collections.abc import Iterator

import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from fleet.control.pipelines.story import story_of
from fleet.errors import OperationError
from tests.temporal import running_temporal
from tests.workflow.test_large import Project, failure_of, started, working_on

NAMESPACES = ("tenant-a", "tenant-b")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with running_temporal() as address:
        asyncio.run(register(address))
        yield address


async def register(address: str) -> None:
    service = (await Client.connect(address)).workflow_service
    for name in NAMESPACES:
        kept = Duration(seconds=86_400)
        request = RegisterNamespaceRequest(namespace=name, workflow_execution_retention_period=kept)
        await service.register_namespace(request)
    for name in NAMESPACES:
        await usable(await Client.connect(address, namespace=name))


async def usable(client: Client) -> None:
    """Wait until the server's cache has the new namespace."""
    async with asyncio.timeout(60):
        while True:
            try:
                await client.count_workflows()
            except RPCError:
                await asyncio.sleep(0.2)
            else:
                return


async def test_two_tenants_neither_serve_nor_see_each_others_pipelines(address: str) -> None:
    mine, other = Project([10], "key_0"), Project([10], "key_0")
    other.mended = True
    workflow_id = f"p-{uuid.uuid4()}"
    async with working_on(address, mine, "tenant-a") as a, working_on(address, other, "tenant-b") as b:
        await failure_of(await started(a, workflow_id))
        with pytest.raises(OperationError, match="knows no pipeline"):
            await story_of(b, workflow_id)
        assert other.asked == [], "its workers were not asked"
        await asyncio.wait_for((await started(b, workflow_id)).result(), 30)
        assert (await story_of(a, workflow_id)).status == "failed"
        assert (await story_of(b, workflow_id)).status == "completed"
    assert mine.asked == other.asked == ["key_0", "last"], "each has paid for its own, and reused nothing"
