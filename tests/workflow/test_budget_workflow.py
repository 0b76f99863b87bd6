"""A budget's workflow on Temporal's time-skipping server: hours in seconds."""

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from temporalio import activity
from temporalio.client import WorkflowExecutionDescription, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Replayer, Worker

from fleet.budgets.messages import (
    LIMIT_SIGNAL,
    OPEN_SIGNAL,
    REPORT_SIGNAL,
    SET_QUEUE_RATE,
    BudgetStatus,
    Opening,
    Reading,
    Report,
    Trouble,
)
from fleet.budgets.queue_client import RateOrder
from fleet.budgets.workflow import LONGEST_HISTORY, ProviderBudgetWorkflow
from fleet.contracts import CONTROL_QUEUE, Limited, LimitSettings
from fleet.failures import FailureKind
from fleet.process.data_converter import data_converter
from tests.fleet import BIN
from tests.waiting import LONGEST_SECONDS

# Tries: the time-skipping server, unlike a real one, knows no run of a workflow for some milliseconds while it is
# continued as new.
_CONTINUES_WITHIN = 500
# A busy machine takes longer than the SDK's own 5 s.
_SERVER_STARTS_WITHIN = timedelta(seconds=60)

Answer = TypeVar("Answer")


@dataclass
class Rates:
    """Stands where the server takes a queue's rate, which the time-skipping server does not know."""

    ordered: list[float] = field(default_factory=list)
    allowed: bool = True
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    @activity.defn(name=SET_QUEUE_RATE)
    async def set_queue_rate(self, order: RateOrder) -> bool:
        self.asked.set()
        if order.set:
            self.ordered.append(order.rate)
        return self.allowed


@dataclass
class Stage:
    """One budget and the world around it."""

    environment: WorkflowEnvironment
    handle: WorkflowHandle[ProviderBudgetWorkflow, None]
    rates: Rates

    async def report(self, seconds_ago: float = 0.0, **report: object) -> None:
        now = await self.environment.get_current_time()
        sent = Report("w", sent_at=now.timestamp() - seconds_ago, **report)  # type: ignore[arg-type]
        await self._known(lambda: self.handle.signal(ProviderBudgetWorkflow.report, sent))

    async def described(self) -> WorkflowExecutionDescription:
        return await self._known(self.handle.describe)

    async def _known(self, request: Callable[[], Awaitable[Answer]]) -> Answer:
        for _ in range(_CONTINUES_WITHIN):
            try:
                return await request()
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
                await asyncio.sleep(0.01)
        return await request()

    async def open(self, rate: float) -> None:
        """Another process begins to poll the queue."""
        await self.handle.signal(ProviderBudgetWorkflow.open, Opening(LimitSettings(rpm=600), rate))

    async def work(self, seconds: int, each: int = 5, remaining: float = 30.0) -> None:
        """That many calls a second, all answered, with headers."""
        for _ in range(seconds):
            await self.report(
                calls=each,
                charged=each,
                answered=each,
                spent={"requests": float(each)},
                largest={"requests": 1.0},
                readings=[Reading(Limited.REQUESTS, 10.0, remaining, 0.5)],
            )
            await self.sleep(seconds=1)

    async def sleep(self, **much: float) -> None:
        await self.environment.sleep(timedelta(**much))

    async def budget_status(self) -> BudgetStatus:
        return await self.handle.query(ProviderBudgetWorkflow.budget_status)

    async def report_until_the_next_run(self, seconds_ago: float = 0.0) -> None:
        """Send reports until the history is full, and one more. No other is sent until the next run is there:
        while reports arrive, the server does not let a run continue as new."""
        first = (current := await self.described()).run_id
        while current.run_id == first and current.history_length < LONGEST_HISTORY:
            self.rates.asked.clear()
            await self.report(seconds_ago, calls=1, charged=1, answered=1)
            await asyncio.wait_for(self.rates.asked.wait(), LONGEST_SECONDS)
            current = await self.described()
        await self.report(seconds_ago, calls=1, charged=1, answered=1)
        async with asyncio.timeout(LONGEST_SECONDS):
            while current.run_id == first:
                # On a slow machine workflow tasks time out, and each that does adds some events.
                assert current.history_length < LONGEST_HISTORY + 500
                await asyncio.sleep(0.01)
                current = await self.described()

    async def events(self) -> int:
        return (await self.handle.describe()).history_length


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    server = shutil.which("temporal-test-server", path=str(BIN)) or str(Path(BIN, "temporal-test-server"))
    environment = await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=server,
        test_server_startup_timeout=_SERVER_STARTS_WITHIN,
        data_converter=data_converter(),
    )
    rates = Rates()
    async with environment:
        worker = Worker(
            environment.client,
            task_queue=CONTROL_QUEUE,
            workflows=[ProviderBudgetWorkflow],
            activities=[rates.set_queue_rate],
        )
        async with worker:
            handle = await environment.client.start_workflow(
                ProviderBudgetWorkflow.run,
                args=["llm-test"],
                id=f"budget-{uuid.uuid4()}",
                task_queue=CONTROL_QUEUE,
                start_signal="open",
                start_signal_args=[Opening(LimitSettings(rpm=600), 5.0)],
            )
            yield Stage(environment, handle, rates)


async def test_it_orders_the_rate_that_the_law_gives_and_nothing_while_idle(stage: Stage) -> None:
    await stage.work(20, each=10, remaining=15.0)
    rate = (await stage.budget_status()).rate
    assert rate > 5 and stage.rates.ordered[-1] == pytest.approx(rate, rel=0.05)
    await stage.sleep(minutes=10)
    events, orders = await stage.events(), len(stage.rates.ordered)
    await stage.sleep(hours=24)
    assert (await stage.budget_status()).why == "idle"
    assert await stage.events() - events <= 2 and len(stage.rates.ordered) == orders


async def test_a_quota_of_the_day_parks_until_its_reset_and_no_longer(stage: Stage) -> None:
    await stage.work(10)
    await stage.report(calls=1, troubles=[Trouble(FailureKind.QUOTA_UNTIL_RESET, 1, "daily limit", 3 * 3600.0)])
    await stage.sleep(seconds=1)
    parked = await stage.budget_status()
    assert (parked.breaker, parked.rate) == ("parked", 0) and "daily limit" in parked.why
    assert stage.rates.ordered[-1] == 0
    await stage.sleep(hours=2.9)
    assert (await stage.budget_status()).breaker == "parked" and stage.rates.ordered[-1] == 0
    await stage.sleep(hours=0.2)
    assert (await stage.budget_status()).breaker == "closed" and stage.rates.ordered[-1] > 0


@pytest.mark.parametrize("wait", [float("inf"), float("nan"), 1e300])
async def test_a_wait_without_end_is_one_of_a_week_at_most(stage: Stage, wait: float) -> None:
    await stage.work(5)
    await stage.report(calls=1, troubles=[Trouble(FailureKind.QUOTA_UNTIL_RESET, 1, "daily limit", wait)])
    await stage.sleep(seconds=1)
    assert (await stage.budget_status()).breaker == "parked"
    await stage.sleep(days=8)
    assert (await stage.budget_status()).breaker == "closed" and stage.rates.ordered[-1] > 0


@pytest.mark.parametrize("signal", [OPEN_SIGNAL, REPORT_SIGNAL, LIMIT_SIGNAL])
async def test_a_signal_without_its_message_is_left_out(stage: Stage, signal: str) -> None:
    await stage.work(5)
    await stage.handle.signal(signal, None)
    await stage.sleep(seconds=1)
    assert (await stage.budget_status()).breaker == "closed" and stage.rates.ordered[-1] > 0


async def test_a_spent_quota_parks_until_somebody_says_so(stage: Stage) -> None:
    await stage.work(5)
    await stage.report(calls=1, troubles=[Trouble(FailureKind.QUOTA_SPENT, 1, "no credit")])
    await stage.sleep(days=3)
    assert (await stage.budget_status()).breaker == "parked" and stage.rates.ordered[-1] == 0
    await stage.handle.signal(ProviderBudgetWorkflow.resume)
    await stage.sleep(seconds=1)
    assert (await stage.budget_status()).breaker == "closed" and stage.rates.ordered[-1] > 0


async def test_another_key_opens_what_a_rejected_one_parked(stage: Stage) -> None:
    await stage.report(calls=1, troubles=[Trouble(FailureKind.KEY_REJECTED, 1, "401", key="old")])
    await stage.sleep(seconds=1)
    assert (await stage.budget_status()).rejected_key == "old"
    await stage.handle.signal(ProviderBudgetWorkflow.new_key, "old")
    await stage.sleep(seconds=1)
    assert (await stage.budget_status()).breaker == "parked"
    await stage.handle.signal(ProviderBudgetWorkflow.new_key, "new")
    await stage.sleep(seconds=1)
    assert (await stage.budget_status()).breaker == "closed"


async def test_an_outage_is_probed_and_the_end_of_it_noticed(stage: Stage) -> None:
    await stage.work(10)
    await stage.report(calls=20, troubles=[Trouble(FailureKind.OUTAGE, 60, "HTTP 503")])
    await stage.sleep(seconds=1)
    assert (await stage.budget_status()).breaker == "probing" and 0.2 <= stage.rates.ordered[-1] <= 1
    await stage.work(8, each=1)
    assert (await stage.budget_status()).breaker == "closed"
    await stage.work(20, each=8)
    assert (await stage.budget_status()).rate > 5


async def test_orders_of_the_operator_outlive_a_new_history(stage: Stage) -> None:
    await stage.handle.signal(ProviderBudgetWorkflow.limit, LimitSettings(rpm=120))
    await stage.report(calls=1, troubles=[Trouble(FailureKind.QUOTA_UNTIL_RESET, 1, "daily limit", 7200.0)])
    await stage.handle.signal(ProviderBudgetWorkflow.pause, "by hand")
    await stage.report_until_the_next_run()
    budget_status = await stage.budget_status()
    assert (budget_status.breaker, budget_status.why) == ("paused", "by hand")
    assert budget_status.set_limits == LimitSettings(rpm=120)
    await stage.handle.signal(ProviderBudgetWorkflow.resume)
    await stage.sleep(seconds=1)
    assert (await stage.budget_status()).breaker == "closed"


async def test_news_from_long_ago_counts_and_tells_of_no_present(stage: Stage) -> None:
    await stage.work(3)
    before = (await stage.budget_status()).calls
    await stage.report(60, calls=7, troubles=[Trouble(FailureKind.OUTAGE, 50, "503")])
    await stage.sleep(seconds=1)
    budget_status = await stage.budget_status()
    assert (budget_status.calls, budget_status.breaker) == (before + 7, "closed")


async def test_old_news_alone_lets_no_history_grow_without_end(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """As from a machine whose clock is behind."""
    await stage.handle.signal(ProviderBudgetWorkflow.pause, "by hand")
    await stage.report_until_the_next_run(seconds_ago=60)
    assert (await stage.budget_status()).why == "by hand"
    for _ in range(5):
        await stage.report(60, calls=1, charged=1, answered=1)
        await stage.sleep(seconds=1)
    assert "the clock of w is 60 s behind" in caplog.text


async def test_a_slow_limit_is_ordered_as_it_is(stage: Stage) -> None:
    await stage.handle.signal(ProviderBudgetWorkflow.limit, LimitSettings(rpm=3))
    await stage.work(5, each=1)
    await stage.sleep(minutes=10)
    assert stage.rates.ordered[-1] == pytest.approx(0.05)


async def test_what_was_done_to_the_queue_from_outside_is_undone(stage: Stage) -> None:
    await stage.handle.signal(ProviderBudgetWorkflow.pause, "by hand")
    await stage.sleep(minutes=5)
    assert stage.rates.ordered[-1] == 0
    for outside in (stage.open(rate=500.0), stage.report(calls=3, charged=3)):
        stage.rates.ordered.clear()
        await outside
        await stage.sleep(seconds=1)
        assert stage.rates.ordered == [0]


async def test_a_server_that_sets_no_rates_is_told_of(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.rates.allowed = False
    await stage.work(2)
    assert not (await stage.budget_status()).exact
    assert "approximately" in caplog.text


async def test_an_ended_run_replays_and_an_open_one_replays_in_the_release_before(stage: Stage) -> None:
    """That release ends a run at 2,000 events, and knows one patch only."""
    first = (await stage.described()).run_id
    await stage.report_until_the_next_run()
    client = stage.environment.client
    ended = await client.get_workflow_handle(stage.handle.id, run_id=first).fetch_history()
    assert ended.to_json().count('"core_patch"') == 2
    await Replayer(workflows=[ProviderBudgetWorkflow]).replay_workflow(ended)
    assert (await stage.handle.fetch_history()).to_json().count('"core_patch"') == 1


async def test_what_it_did_can_be_replayed(stage: Stage) -> None:
    await stage.work(5)
    await stage.sleep(minutes=5)
    await stage.handle.signal(ProviderBudgetWorkflow.pause, "x")
    await asyncio.wait_for(stage.budget_status(), 10)
    history = await stage.handle.fetch_history()
    await Replayer(workflows=[ProviderBudgetWorkflow]).replay_workflow(history)
