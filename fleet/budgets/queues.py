"""What the Temporal server is asked about a queue's rate, and told.

Source: ``UpdateTaskQueueConfig`` and ``DescribeTaskQueue`` of Temporal's workflow service.
"""

from dataclasses import dataclass
from datetime import timedelta

from temporalio import activity
from temporalio.api.enums.v1 import TaskQueueKind, TaskQueueType
from temporalio.api.taskqueue.v1 import RateLimit, TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    ListTaskQueuePartitionsRequest,
    UpdateTaskQueueConfigRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from fleet.budgets.reports import SET_QUEUE_RATE

_RPC = timedelta(seconds=5)
_REFUSED = frozenset(
    {RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.INVALID_ARGUMENT}
)


@dataclass(frozen=True)
class QueueRate:
    """The rate at which a queue hands out tasks. ``rate`` None: no limit is set. ``settable`` is False where the
    server does not let it be set; ``partitions`` above 1 divide it, so that it holds only roughly."""

    rate: float | None
    settable: bool = True
    partitions: int = 1

    @property
    def exact(self) -> bool:
        """Whether a rate that is set there holds."""
        return self.settable and self.partitions == 1


async def queue_rate(client: Client, queue: str) -> QueueRate:
    """The queue's rate now.

    Raises:
        RPCError: the server does not answer.
    """
    service, name = client.workflow_service, TaskQueue(name=queue, kind=TaskQueueKind.TASK_QUEUE_KIND_NORMAL)
    described = await service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=name,
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
            report_config=True,
        ),
        timeout=_RPC,
    )
    limit = described.config.queue_rate_limit
    rate = limit.rate_limit.requests_per_second if limit.HasField("rate_limit") else None
    return QueueRate(rate, partitions=await _partitions(client, name))


async def _partitions(client: Client, queue: TaskQueue) -> int:
    try:
        listed = await client.workflow_service.list_task_queue_partitions(
            ListTaskQueuePartitionsRequest(namespace=client.namespace, task_queue=queue), timeout=_RPC
        )
    except RPCError as error:
        if error.status in _REFUSED:
            return 1
        raise
    return max(len(listed.activity_task_queue_partitions), 1)


async def set_rate(client: Client, queue: str, rate: float, why: str) -> bool:
    """Have the queue hand out that many tasks a second; False where the server does not allow it.

    Raises:
        RPCError: the server does not answer.
    """
    request = UpdateTaskQueueConfigRequest(
        namespace=client.namespace,
        identity="fleet budget",
        task_queue=queue,
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        update_queue_rate_limit=UpdateTaskQueueConfigRequest.RateLimitUpdate(
            rate_limit=RateLimit(requests_per_second=rate), reason=why[:200]
        ),
    )
    try:
        await client.workflow_service.update_task_queue_config(request, timeout=_RPC)
    except RPCError as error:
        if error.status in _REFUSED:
            return False
        raise
    return True


@dataclass(frozen=True)
class RateOrder:
    """Argument of ``set_queue_rate``; ``set`` False: nothing has changed enough to ask the server."""

    queue: str
    rate: float
    why: str
    set: bool = True


class QueueActivities:
    """``set_queue_rate``: on the queue ``control``, beside the budgets."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @activity.defn(name=SET_QUEUE_RATE)
    async def set_queue_rate(self, order: RateOrder) -> bool:
        """Whether the rate holds now."""
        if not order.set:
            return True
        return await set_rate(self._client, order.queue, order.rate, order.why)
