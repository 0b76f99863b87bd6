"""Checks the servers that the fleet needs: Temporal with queues and pipelines, the backend with API keys; and the
clock."""

import asyncio
import ctypes
import time
from collections.abc import Iterable, Mapping
from datetime import timedelta
from email.utils import parsedate_to_datetime

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    GetSystemInfoRequest,
    UpdateTaskQueueConfigRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from fleet.budgets.limits_and_pauses import budget_status_of
from fleet.budgets.messages import BudgetStatus
from fleet.budgets.queue_client import QueueRate, queue_rate
from fleet.config import Settings
from fleet.control.health.doctor.certificates import certificate_checks
from fleet.control.health.doctor.check import NOT_SET, Check, from_error, unseen
from fleet.control.health.doctor.pipelines import pipeline_checks
from fleet.control.health.doctor.projects import project_checks
from fleet.control.health.status import providers_by_queue
from fleet.errors import FleetError, remedy_in, without_remedy
from fleet.execution.backend_client import Backend, ToldProject
from fleet.execution.load_assistants import load_assistants
from fleet.execution.provider_keys import provider_key
from fleet.process.temporal_connection import connect_once
from fleet.process.wall_clock import unix_time
from fleet.provider_settings import ProviderSettings

#: The name of the check of the Backend API.
BACKEND = "Backend API and its database"
_MAX_SKEW_SECONDS = 5.0
# A Date header has whole seconds, and a server may send the same one for a second.
_DATE_SECONDS = 2.0
_TIME_ERROR = 5
_RPC = timedelta(seconds=5)


async def server_checks(settings: Settings) -> list[Check]:
    """One check for each thing that the servers are asked for."""
    async with Backend.from_settings(settings) as backend:
        found = await asyncio.gather(
            _temporal(settings, backend), certificate_checks(settings), _backend(settings, backend)
        )
    return [check for checks in found for check in checks]


async def _temporal(settings: Settings, backend: Backend) -> list[Check]:
    queues = providers_by_queue(settings)
    if NOT_SET in settings.temporal_host:
        return _without_temporal(queues, unseen("Temporal", "TEMPORAL_HOST is not known"))
    began = time.monotonic()
    try:
        client = await connect_once(settings)
        took = time.monotonic() - began
        answer = await client.workflow_service.get_system_info(GetSystemInfoRequest(), timeout=_RPC)
    except (FleetError, RPCError) as error:
        return _without_temporal(queues, from_error("Temporal", error))
    says = f"{settings.temporal_host}, server {answer.server_version}, connected in {took:.2f} s"
    found = [Check("Temporal", True, says), await namespace_check(client)]
    found += await asyncio.gather(*(_queue(client, queue, provider) for queue, provider in queues.items()))
    return found + await pipeline_checks(client, settings, None if NOT_SET in settings.api_base_url else backend)


def _without_temporal(queues: Iterable[str], why: Check) -> list[Check]:
    rest = ["namespace", *(f"queue {queue}" for queue in queues), "pipelines"]
    return [why, *(unseen(what, "Temporal is away", "Temporal") for what in rest)]


async def namespace_check(client: Client) -> Check:
    """The namespace, and whether a process that drains loses the tasks that are on their way to it."""
    name = client.namespace
    try:
        request = DescribeNamespaceRequest(namespace=name)
        described = await client.workflow_service.describe_namespace(request, timeout=_RPC)
    except RPCError as error:
        return from_error("namespace", error)
    if described.namespace_info.capabilities.worker_poll_complete_on_shutdown:
        return Check("namespace", True, name)
    says = f"{name}; a task that is on its way to a process which drains waits for the heartbeat timeout"
    return Check("namespace", True, says, "set frontend.enableCancelWorkerPollsOnShutdown on the server (1.32)")


async def _queue(client: Client, queue: str, provider: str) -> Check:
    """Check whether calls are dispatched, and whether the server applies a rate that is set for the queue."""
    what = f"queue {queue}"
    try:
        known, settable = await asyncio.gather(queue_rate(client, queue), limits_settable(client, queue))
    except RPCError as error:
        return from_error(what, error)
    budget_status = await budget_status_of(client, queue)
    trouble = _rate_trouble(known, settable) or _budget_trouble(budget_status, provider)
    if trouble is not None:
        return Check(what, False, *trouble)
    rate = "no rate set yet" if known.rate is None else f"{known.rate:g} a second"
    state = (
        "the budget workflow is not running (no pipeline worker)" if budget_status is None else budget_status.state
    )
    return Check(what, True, f"one partition, its limit can be set, {rate}, {state}")


def _rate_trouble(known: QueueRate, settable: bool) -> tuple[str, str] | None:
    if not settable:
        says = "the server does not let its limit be set, so that each process keeps a share of its own"
        return says, "allow UpdateTaskQueueConfig to this client, or update a server that does not know it"
    if known.partitions > 1:
        says = f"{known.partitions} partitions divide its limit, so that it holds approximately"
        return says, "give it one: matching.numTaskqueueReadPartitions, matching.numTaskqueueWritePartitions"
    return None


def _budget_trouble(budget_status: BudgetStatus | None, provider: str) -> tuple[str, str] | None:
    if budget_status is None or budget_status.breaker not in ("parked", "probing"):
        return None
    if budget_status.breaker == "parked":
        first = remedy_in(budget_status.why) or "pay, or mend the key"
        return f"parked: {without_remedy(budget_status.why)}", f"{first}; then `fleet resume {provider}`"
    return f"only probed: {budget_status.why}", "wait: it opens by itself when the provider is well again"


async def limits_settable(client: Client, queue: str) -> bool:
    """Whether the server lets a queue's limit be set. The request changes nothing.

    Raises:
        RPCError: the server does not answer.
    """
    nothing = UpdateTaskQueueConfigRequest(
        namespace=client.namespace,
        identity="fleet doctor",
        task_queue=queue,
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
    )
    try:
        await client.workflow_service.update_task_queue_config(nothing, timeout=_RPC)
    except RPCError as error:
        if error.status in (RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.PERMISSION_DENIED):
            return False
        if error.status is not RPCStatusCode.INVALID_ARGUMENT:  # the request is known but incomplete
            raise
    return True


async def _backend(settings: Settings, backend: Backend) -> list[Check]:
    wanting = [provider for _, provider in sorted(settings.providers.items()) if provider.needs_key]
    health, told = unseen(BACKEND, "API_BASE_URL is not known"), {}
    if NOT_SET not in settings.api_base_url:
        try:
            told = await backend.health()
            health = Check(BACKEND, True, settings.api_base_url)
        except FleetError as error:
            health = from_error(BACKEND, error)
    checks = [health, *project_checks(settings, await _with_unusable(settings, backend, told))]
    if not health.ok:
        keys = [
            unseen(_key_of(provider.name), "the backend is away", BACKEND)
            if provider.key_from_backend
            else await _key(backend, provider)
            for provider in wanting
        ]
        return [*checks, *keys, _own_clock()]
    found = await asyncio.gather(*(_key(backend, provider) for provider in wanting))
    return [*checks, *found, await _clock(backend)]


async def _with_unusable(
    settings: Settings, backend: Backend, told: Mapping[str, ToldProject]
) -> dict[str, ToldProject]:
    """The projects, with what a worker would refuse although the files are sound: a provider that this fleet does
    not have, an option that its model does not take."""
    found = dict(told)
    for project_id, project in told.items():
        if not project.problems:
            try:
                await load_assistants(backend, settings, project_id)
            except FleetError as error:
                found[project_id] = ToldProject("", [str(error)])
    return found


def _key_of(provider: str) -> str:
    return f"API key of {provider}"


async def _key(backend: Backend, provider: ProviderSettings) -> Check:
    """Check whether there is an API key, without showing it."""
    what = _key_of(provider.name)
    try:
        key = await provider_key(backend, provider)
    except FleetError as error:
        return from_error(what, error)
    where = "there" if provider.key_from_backend else f"in {provider.api_key_file}"
    return Check(what, True, f"{where}, {len(key)} characters")


async def _clock(backend: Backend) -> Check:
    """Compare this machine's clock with the backend's."""
    sent_at = unix_time()
    try:
        told = await backend.date()
        return compared_clock(sent_at, unix_time(), parsedate_to_datetime(told).timestamp())
    except (FleetError, ValueError, TypeError):
        return _own_clock()


def compared_clock(sent_at: float, answered_at: float, told: float) -> Check:
    """The check for a backend whose Date header was ``told`` to a request of that time, all in unix seconds: only
    a difference that the header shows for certain is reported."""
    ahead, behind = sent_at - (told + _DATE_SECONDS), told - answered_at
    if max(ahead, behind) <= 0:
        return Check("clock", True, "agrees with the backend's, as far as its Date header shows: to 2 s")
    ok = max(ahead, behind) <= _MAX_SKEW_SECONDS - _DATE_SECONDS
    how = "ahead of" if ahead > behind else "behind"
    remedy = "" if ok else "turn time synchronisation on: timedatectl set-ntp true"
    return Check("clock", ok, f"at least {max(ahead, behind):.1f} s {how} the backend's", remedy)


def _own_clock() -> Check:
    """The kernel's own opinion of its clock, for when the backend's clock is not available. Source:
    adjtimex(2)."""
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    if state == _TIME_ERROR:
        says = "the backend's cannot be had to compare it with, and the kernel says that it is not synchronised"
        return Check("clock", False, says, "timedatectl set-ntp true")
    says = "the kernel keeps it synchronised" if state >= 0 else "nothing is known of it"
    return Check("clock", state >= 0, says, "" if state >= 0 else "compare `date -u` with another machine's")
