"""A server that divides a queue, or does not let its rate be set: the processes' gates keep the peace.

The server and the budget are real; three processes' ways in and the provider, which sends no headers, are acted.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from fleet.budgets import queue_client as queues
from fleet.budgets.limits_and_pauses import pause, resume, set_limits
from fleet.budgets.messages import BudgetStatus
from fleet.budgets.queue_client import QueueActivities
from fleet.budgets.worker import reporter
from fleet.budgets.worker.admission import Admission
from fleet.budgets.worker.call_costs import Costs, first_cost
from fleet.budgets.worker.gate import Gate
from fleet.budgets.worker.reporter import Reporter
from fleet.budgets.workflow import ProviderBudgetWorkflow
from fleet.contracts import CONTROL_QUEUE, LimitSettings
from fleet.errors import HeldBack, ProviderError
from fleet.failures import FailureKind
from fleet.providers.base import LlmAnswer, LlmRequest
from tests.temporal import running_temporal
from tests.waiting import wait_for

REFILL, BURST = 8.0, 8.0
CALLS = 60
REQUEST = LlmRequest("m", "", "x" * 350, 0.7, None, None, "k")
ANSWER = LlmAnswer("y", "m", "stop", 100, 20)
#: For a call that had passed when its process heard that it shall not.
PASSED_SECONDS = 1.0
#: On a busy machine a budget may be out of reach for half a minute.
HEARD_SECONDS = 120.0


@dataclass
class Provider:
    """A bucket of requests; remembers when it was called."""

    level: float = BURST
    at: float = field(default_factory=time.monotonic)
    taken: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)

    async def ask(self) -> LlmAnswer:
        now = time.monotonic()
        self.level, self.at = min(self.level + REFILL * (now - self.at), BURST), now
        if self.level < 1:
            self.refused.append(now)
            wait = (1 - self.level) / REFILL
            raise ProviderError(FailureKind.RATE, "test", "too many", status=429, wait_seconds=wait)
        self.level -= 1
        self.taken.append(now)
        await asyncio.sleep(0.2)
        return ANSWER

    def called(self, begin: float, end: float) -> int:
        return sum(begin <= at < end for at in [*self.taken, *self.refused])


@workflow.defn
class Backlog:
    """More calls than can be made in the test."""

    @workflow.run
    async def run(self, queue: str, count: int) -> None:
        await asyncio.gather(
            *(
                workflow.execute_activity(
                    "call", task_queue=queue, start_to_close_timeout=timedelta(seconds=60), activity_id=str(number)
                )
                for number in range(count)
            )
        )


class Process:
    """What one worker process has between its queue and the provider."""

    def __init__(self, client: Client, queue: str, number: int, provider: Provider) -> None:
        self.reporter = Reporter(
            client, queue, LimitSettings(rpm=60 * REFILL), f"w{number}", first_cost("openai"), 600.0, self.no_key
        )
        self._admission = Admission(Gate(), Costs("openai"), self.reporter, lambda: "")
        self._provider = provider

    async def no_key(self) -> str:
        return ""

    @activity.defn(name="call")
    async def call(self) -> None:
        try:
            async with self._admission.admitted(REQUEST) as admitted:
                admitted.take()
                with admitted.sending():
                    answer = await self._provider.ask()
                admitted.answered(answer)
        except (HeldBack, ProviderError) as error:
            raise ApplicationError(
                str(error),
                category=ApplicationErrorCategory.BENIGN,
                next_retry_delay=timedelta(seconds=max(error.wait_seconds or 0.0, 0.05)),
            ) from None


@asynccontextmanager
async def working(address: str, queue: str, provider: Provider) -> AsyncIterator[tuple[Client, list[Process]]]:
    """Three processes poll the queue, a budget is kept, and there is no end of calls."""
    client = await Client.connect(address)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(
            Worker(
                client,
                task_queue=CONTROL_QUEUE,
                workflows=[ProviderBudgetWorkflow, Backlog],
                activities=[QueueActivities(client).set_queue_rate],
                workflow_runner=UnsandboxedWorkflowRunner(),
            )
        )
        backlog = await client.start_workflow(
            Backlog.run, args=[queue, 400], id=f"backlog-{uuid.uuid4()}", task_queue=CONTROL_QUEUE
        )
        processes = [
            await stack.enter_async_context(process(address, queue, number, provider)) for number in range(3)
        ]
        yield client, processes
        await backlog.terminate()


@asynccontextmanager
async def process(address: str, queue: str, number: int, provider: Provider) -> AsyncIterator[Process]:
    client = await Client.connect(address, identity=f"w{number}@another-host:1")
    worker_process = Process(client, queue, number, provider)
    await worker_process.reporter.open()
    reporting = asyncio.create_task(worker_process.reporter.run_reports())
    worker = Worker(
        client,
        task_queue=queue,
        activities=[worker_process.call],
        max_concurrent_activities=10,
        disable_eager_activity_execution=True,
    )
    try:
        async with worker:
            yield worker_process
    finally:
        reporting.cancel()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    settings = ("matching.numTaskqueueReadPartitions=4", "matching.numTaskqueueWritePartitions=4")
    with running_temporal(*settings) as address:
        yield address


async def test_who_polls_any_partition_of_a_divided_queue_is_found(address: str) -> None:
    polling = {f"vm{number}+0a" for number in range(6)}
    client = await Client.connect(address)
    async with AsyncExitStack() as stack:
        for machine in polling:
            worker = Worker(
                await Client.connect(address, identity=f"openai_00@{machine}:1"),
                task_queue="llm-polled",
                activities=[QueueActivities(client).set_queue_rate],
                max_concurrent_activity_task_polls=1,
            )
            await stack.enter_async_context(worker)
        found: set[str] = set()
        async with asyncio.timeout(60):
            while found != polling:
                found = await queues.machines_that_polled(client, "llm-polled")


NOT_SETTABLE, DIVIDED = "llm-not-settable", "llm-divided"


@pytest.fixture
def some_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server does not let one queue's rate be set."""

    async def set_rate(client: Client, queue: str, *arguments: Any) -> bool:
        return queue != NOT_SETTABLE and await really_set_rate(client, queue, *arguments)

    really_set_rate = queues.set_rate
    monkeypatch.setattr(reporter, "set_rate", set_rate)
    monkeypatch.setattr(queues, "set_rate", set_rate)


@pytest.mark.usefixtures("some_refused")
async def test_what_is_approximate_still_keeps_the_peace(address: str) -> None:
    """Both at once, since most of it is waiting."""
    async with asyncio.TaskGroup() as both:
        for queue in (DIVIDED, NOT_SETTABLE):
            both.create_task(kept_peace(address, queue))


async def kept_peace(address: str, queue: str) -> None:
    provider = Provider()
    async with working(address, queue, provider) as (client, processes):

        async def heard(what: str, said: Callable[[BudgetStatus], bool]) -> float:
            """When all three processes have heard it from the budget."""
            budget_statuses = [process.reporter.watch for process in processes]
            await asyncio.to_thread(
                wait_for,
                f"{queue} hears that {what}",
                lambda: all(status.last and said(status.last) for status in budget_statuses),
                HEARD_SECONDS,
            )
            return time.monotonic()

        await asyncio.to_thread(wait_for, f"{queue} is used", lambda: len(provider.taken) >= CALLS, 60)
        await heard("it holds approximately", lambda now: not now.exact)
        assert len(provider.refused) <= 0.05 * CALLS, f"{queue} is not overrun"

        await set_limits(client, queue, LimitSettings(rpm=120))
        began = PASSED_SECONDS + await heard("its limit is lower", lambda now: now.set_limits.rpm == 120)
        await asyncio.sleep(PASSED_SECONDS + 4)
        ended = time.monotonic()
        assert provider.called(began, ended) <= (ended - began) * 2 + 3, f"the new limit of {queue} holds"

        await pause(client, queue, "by hand")
        shut = PASSED_SECONDS + await heard("it is paused", lambda now: now.holds)
        await asyncio.sleep(PASSED_SECONDS + 2)
        resumed = time.monotonic()
        assert provider.called(shut, resumed) == 0, f"{queue} is shut"
        await resume(client, queue)
        called = partial(provider.called, resumed)
        await asyncio.to_thread(wait_for, f"{queue} is open", lambda: called(time.monotonic()), HEARD_SECONDS)
