"""Reads and sets the rate of a task queue on the Temporal server.

A server that divides a queue gives each partition its share of the rate. Measured on four partitions (server
1.32): at a total of 1 per second, the first call after a pause may take 5 s; at 0.5 calls come in groups of four,
every 8 s. So each partition is given the whole rate, and calls that are dispatched too early wait in the gates,
which keep the rate.

Source: ``UpdateTaskQueueConfig`` and ``DescribeTaskQueue`` of Temporal's workflow service.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from temporalio import activity
from temporalio.api.enums.v1 import DescribeTaskQueueMode, TaskQueueKind, TaskQueueType
from temporalio.api.taskqueue.v1 import PollerInfo, RateLimit, TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    ListTaskQueuePartitionsRequest,
    UpdateTaskQueueConfigRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from fleet.budgets.messages import SET_QUEUE_RATE
from fleet.process.machine_id import place_of, runs_here

_RPC = timedelta(seconds=5)
#: A poll waits on the server for up to a minute; an older one has been abandoned by its process.
POLLER_SECONDS = 75.0
_DIVIDED_SECONDS = 60.0
_REFUSED = frozenset(
    {RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.INVALID_ARGUMENT}
)


@dataclass(frozen=True)
class QueueRate:
    """The rate at which a queue dispatches tasks, per second. ``rate`` None: no limit is set. ``settable`` is
    False where the server does not let it be set; with ``partitions`` above 1, each partition dispatches up to
    ``rate``."""

    rate: float | None
    settable: bool = True
    partitions: int = 1

    @property
    def exact(self) -> bool:
        """Whether the queue keeps exactly the rate that is set."""
        return self.settable and self.partitions == 1


async def queue_rate(client: Client, queue: str) -> QueueRate:
    """The queue's current rate.

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
    partitions = await _partitions(client, queue)
    return QueueRate(None if rate is None else rate / partitions, partitions=partitions)


async def _partitions(client: Client, queue: str) -> int:
    name = TaskQueue(name=queue, kind=TaskQueueKind.TASK_QUEUE_KIND_NORMAL)
    try:
        listed = await client.workflow_service.list_task_queue_partitions(
            ListTaskQueuePartitionsRequest(namespace=client.namespace, task_queue=name), timeout=_RPC
        )
    except RPCError as error:
        if error.status in _REFUSED:
            return 1
        raise
    return max(len(listed.activity_task_queue_partitions), 1)


async def pollers(client: Client, queue: str) -> int:
    """How many processes poll the queue.

    Raises:
        RPCError: the server does not answer.
    """
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=queue, kind=TaskQueueKind.TASK_QUEUE_KIND_NORMAL),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        report_pollers=True,
    )
    described = await client.workflow_service.describe_task_queue(request, timeout=_RPC)
    return len({process_of(poller) for poller in described.pollers if still_polls(poller, client.identity)})


async def machines_that_polled(client: Client, queue: str) -> set[str]:
    """The machines (``HOST+MACHINE``) whose processes have polled the queue within the last minutes, including
    processes that have ended; one that names no machine counts as a machine of its own. The answer covers all
    partitions of the queue.

    Raises:
        RPCError: the server does not answer, or does not answer this request.
    """
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=queue, kind=TaskQueueKind.TASK_QUEUE_KIND_NORMAL),
        api_mode=DescribeTaskQueueMode.DESCRIBE_TASK_QUEUE_MODE_ENHANCED,
        task_queue_types=[TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY],
        report_pollers=True,
    )
    described = await client.workflow_service.describe_task_queue(request, timeout=_RPC)
    return {
        process_of(poller).rpartition("@")[2]
        for version in described.versions_info.values()
        for by_type in version.types_info.values()
        for poller in by_type.pollers
    }


def process_of(poller: PollerInfo) -> str:
    """Name of the polling process, without its pid: a restarted process keeps its name."""
    place = place_of(poller.identity)
    return poller.identity if place is None else f"{place.process}@{place.host}+{place.machine}"


def still_polls(poller: PollerInfo, own_identity: str) -> bool:
    """Whether the poller's process still polls; the server lists ended ones for some minutes. ``own_identity`` is
    this process's identity."""
    age = datetime.now(UTC) - poller.last_access_time.ToDatetime(UTC)
    if age.total_seconds() > POLLER_SECONDS:
        return False
    # Processes of another machine cannot be checked from here.
    return runs_here(poller.identity, own_identity) is not False


async def set_rate(client: Client, queue: str, rate: float, why: str, partitions: int = 1) -> bool:
    """Set how many tasks per second the queue, or each of its partitions, dispatches; False where the server does
    not allow it.

    Raises:
        RPCError: the server does not answer.
    """
    request = UpdateTaskQueueConfigRequest(
        namespace=client.namespace,
        identity="fleet budget",
        task_queue=queue,
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        update_queue_rate_limit=UpdateTaskQueueConfigRequest.RateLimitUpdate(
            rate_limit=RateLimit(requests_per_second=rate * partitions), reason=why[:200]
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
    """Argument of ``set_queue_rate``; ``set`` False: the change is too small to ask the server."""

    queue: str
    rate: float
    why: str
    set: bool = True


class QueueActivities:
    """The activity ``set_queue_rate``, which runs on the queue ``control`` next to the budgets."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._divided: dict[str, tuple[int, float]] = {}

    @activity.defn(name=SET_QUEUE_RATE)
    async def set_queue_rate(self, order: RateOrder) -> bool:
        """Set the rate; returns False where the server does not allow it."""
        if not order.set:
            return True
        return await set_rate(
            self._client, order.queue, order.rate, order.why, await self._partitions_of(order.queue)
        )

    async def _partitions_of(self, queue: str) -> int:
        """Number of partitions, cached for a minute: it changes only with the server's settings."""
        known = self._divided.get(queue)
        if known is None or time.monotonic() - known[1] > _DIVIDED_SECONDS:
            known = self._divided[queue] = (await _partitions(self._client, queue), time.monotonic())
        return known[0]
