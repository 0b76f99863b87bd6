"""Reports to a queue's budget what one process did, in small batches.

Once a second while there is something to report, sooner after a refusal or a failure that concerns the whole
queue, less often with many processes (``report_rate``); now and then while calls are in flight, so that a provider
that does not answer is not forgotten; never while idle. A missing budget workflow is started; one that no pipeline
worker runs gets fewer reports, so that its history does not grow.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from loguru import logger
from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from fleet.budgets.messages import (
    BUDGET_WORKFLOW,
    MIN_RATE,
    NEW_KEY_SIGNAL,
    OPEN_SIGNAL,
    REPORT_SIGNAL,
    MachineHome,
    Opening,
    Report,
    budget_id,
)
from fleet.budgets.queue_client import QueueRate, queue_rate, set_rate
from fleet.budgets.worker.budget_watch import Watch
from fleet.budgets.worker.call_costs import Cost
from fleet.budgets.worker.limit_headers import HeaderReading
from fleet.budgets.worker.report_builder import News, SentCall
from fleet.budgets.worker.report_rate import Allowance, Haste
from fleet.contracts import CONTROL_QUEUE, LimitSettings
from fleet.errors import ProviderError

# So soon it is noticed that the budget answers again, or allows more reports.
_LOOK_SECONDS = 1.0
_UNHEARD_SECONDS = 15.0
_IN_FLIGHT_SECONDS = 20.0
_ASK_SECONDS = 10.0
_RPC = timedelta(seconds=5)
_FIRST_RATE, _MIN_FIRST_RATE, _FIRST_SHARE = 10.0, 1.0, 0.2


def first_rate(limits: LimitSettings, cost: Cost) -> float:
    """Calls per second of a queue about which only the settings are known, where one call costs about ``cost``.

    A part of the tightest limit, since others may use it too; a small limit as a whole, or the first calls would
    take too long to show anything.
    """
    whole = min((refill / cost[what] for what, refill in limits.refills().items() if cost.get(what)), default=None)
    if whole is None:
        return _FIRST_RATE
    careful = max(_FIRST_SHARE * whole, min(whole, _MIN_FIRST_RATE))
    return max(min(careful, _FIRST_RATE), MIN_RATE)


class Reporter:
    """The reports of one process about one queue. ``first_cost`` is the cost of a call about which nothing is
    known, ``timeout_seconds`` how long a call may take; ``key_mark`` returns a mark of the provider's key that the
    backend has now, empty where it has none; ``home`` is this machine. ``watch`` observes the budget's status."""

    def __init__(
        self,
        client: Client,
        queue: str,
        limits: LimitSettings,
        process: str,
        first_cost: Cost,
        timeout_seconds: float,
        key_mark: Callable[[], Awaitable[str]],
        home: MachineHome | None = None,
    ) -> None:
        self._client = client
        self.queue = queue
        self.limits = limits
        self._process = process
        self._first_cost = first_cost
        self._first_rate = first_rate(limits, first_cost)
        self._timeout_seconds = timeout_seconds
        self._key_mark = key_mark
        self._home = home
        self._news = News()
        self._told = asyncio.Event()
        self._hurry = asyncio.Event()
        self._in_flight = 0
        self._reported_at = time.monotonic()
        self._allowance = Allowance()
        self.watch = Watch(client, queue, self._first_rate)

    # Called by the calls.

    @contextmanager
    def call(self, cost: Cost) -> Iterator[None]:
        """A call of that estimated cost is in flight within the block."""
        self._news.sent(cost)
        self._in_flight += 1
        self._told.set()
        try:
            yield
        finally:
            # Also for a call that was cut off, which reports nothing else.
            self._in_flight -= 1
            self._told.set()

    def answered(self, call: SentCall, actual: Cost, readings: list[HeaderReading]) -> None:
        """The call was answered."""
        self._news.answered_well(call, actual, readings)
        self._hurry_if_asked()

    def failed(self, error: ProviderError, call: SentCall, readings: list[HeaderReading], key: str) -> None:
        """The call failed; ``key`` marks the API key that it was made with."""
        self._news.failed(error, call, readings, key)
        self._hurry_if_asked()

    def held(self) -> None:
        """A call was dispatched, and goes back unsent since its model has no quota."""
        self._news.held += 1
        self._told.set()

    def _hurry_if_asked(self) -> None:
        if self._news.haste is not Haste.USUAL:
            self._hurry.set()

    # Called by the process.

    async def open(self) -> QueueRate:
        """Make sure that the queue has a rate before it is polled, and that its budget workflow runs.

        Raises:
            RPCError: Temporal does not answer.
        """
        found = await queue_rate(self._client, self.queue)
        if found.rate is None:
            why = "until its budget knows more"
            allowed = await set_rate(self._client, self.queue, self._first_rate, why, found.partitions)
            found = QueueRate(self._first_rate if allowed else None, allowed, found.partitions)
        if not found.exact:
            logger.warning(
                "the rate of {} holds approximately ({}): each process's own gate keeps the rate",
                self.queue,
                "the server does not let it be set" if not found.settable else f"{found.partitions} partitions",
            )
        self.watch.opened(found)
        costs = {str(what): amount for what, amount in self._first_cost.items()}
        opening = Opening(self.limits, found.rate, found.exact, costs, self._timeout_seconds, self._home)
        await self._start_budget(opening)
        return found

    async def _start_budget(self, opening: Opening) -> None:
        await self._client.start_workflow(
            BUDGET_WORKFLOW,
            self.queue,
            id=budget_id(self.queue),
            task_queue=CONTROL_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            start_signal=OPEN_SIGNAL,
            start_signal_args=[opening],
            static_summary=f"how fast {self.queue} dispatches calls",
            rpc_timeout=_RPC,
        )

    async def run_reports(self) -> None:
        """Send reports when they are due, and regularly query the budget's status. Never returns."""
        async with asyncio.TaskGroup() as group:  # an error in either must not go unnoticed
            group.create_task(self._run_sending(), name="reports")
            group.create_task(self._run_asking(), name="standing")

    async def _run_sending(self) -> None:
        while True:
            await self._something_to_tell()
            await self._send()
            await self._pause()

    async def _something_to_tell(self) -> None:
        """Wait for something to report; after a while, calls in flight are enough."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_IN_FLIGHT_SECONDS if self._in_flight else None):
                await self._told.wait()

    async def _pause(self) -> None:
        """Wait until the next report may be sent."""
        begun = time.monotonic()
        wait = self._wait(begun)
        while wait > 0:
            self._hurry.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(_LOOK_SECONDS, wait)):
                    await self._hurry.wait()
            wait = self._wait(begun)

    def _wait(self, begun: float) -> float:
        """Seconds until the next report may be sent; ``begun`` is when the last one was sent."""
        now = time.monotonic()
        if not self.watch.kept:
            return begun + _UNHEARD_SECONDS - now
        if self.watch.last is not None:
            self._allowance.each_seconds = self.watch.last.report_seconds
        return self._allowance.wait(self._news.haste, now)

    async def _send(self) -> None:
        news, self._news = self._news, self._news.next()
        self._told.clear()
        self._allowance.take(time.monotonic())
        try:
            await self._signal(REPORT_SIGNAL, news.report(self._process, self._in_flight))
            self._reported_at = time.monotonic()
        except RPCError as error:
            # It is merged into the next report. The signal may have arrived all the same, and then counts twice:
            # this lowers the rate a little for a moment, while a lost report would raise it too much.
            news.add(self._news)
            self._news = news
            self._told.set()
            if error.status is RPCStatusCode.NOT_FOUND:
                await self._revive()
            else:
                logger.debug("no report could be sent to {}: {}", budget_id(self.queue), error.message)

    async def _signal(self, name: str, argument: Report | str) -> None:
        handle: WorkflowHandle[object, object] = self._client.get_workflow_handle(budget_id(self.queue))
        await handle.signal(name, argument, rpc_timeout=_RPC)

    async def _revive(self) -> None:
        logger.warning("the budget of {} is gone: it is started anew", self.queue)
        try:
            await self.open()
        except RPCError as error:
            logger.warning("the budget of {} could not be started: {}", self.queue, error.message)

    async def _run_asking(self) -> None:
        """Check, while there is something to do, whether the budget answers and whether the rejected key has been
        replaced. A status from before the last report does not show whether its key was rejected."""
        while True:
            await asyncio.sleep(_ASK_SECONDS)
            known = self.watch.last
            if self._in_flight or self.watch.seen_at <= self._reported_at or (known and known.rejected_key):
                budget_status = await self.watch.budget_status(0)
                if budget_status is not None and budget_status.rejected_key:
                    await self._look_for_new_key(budget_status.rejected_key)

    async def _look_for_new_key(self, rejected: str) -> None:
        mark = await self._key_mark()
        if mark and mark != rejected:
            logger.info("the backend has another key now: the budget of {} is told", self.queue)
            try:
                await self._signal(NEW_KEY_SIGNAL, mark)
            except RPCError as error:
                logger.warning("the budget of {} could not be told: {}", self.queue, error.message)
