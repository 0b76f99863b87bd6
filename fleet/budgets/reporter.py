"""Tells a queue's budget what one process did, in small batches.

Once a second while there is something to tell, sooner after a refusal or a failure that concerns the whole queue,
never while idle. A budget that is not there is started; one that nobody keeps going is told less, so that its
history does not grow.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

from loguru import logger
from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from fleet.budgets.costs import Cost
from fleet.budgets.headers import HeaderReading
from fleet.budgets.queues import QueueRate, queue_rate, set_rate
from fleet.budgets.reports import (
    BUDGET_WORKFLOW,
    NEW_KEY_SIGNAL,
    OPEN_SIGNAL,
    REPORT_SIGNAL,
    STANDING_QUERY,
    Opening,
    Reading,
    Report,
    Standing,
    Trouble,
    budget_id,
)
from fleet.contracts import CONTROL_QUEUE, LimitSettings
from fleet.errors import ProviderError
from fleet.meanings import Meaning

_USUAL_SECONDS, _URGENT_SECONDS = 1.0, 0.25
_UNHEARD_SECONDS = 15.0
_ASK_SECONDS = 10.0
_RPC = timedelta(seconds=5)
_FRESH_STANDING_SECONDS = 1.0
_FIRST_RATE, _LEAST_FIRST_RATE, _FIRST_SHARE = 10.0, 1.0, 0.2
_LITTLE_LEFT_SECONDS = 1.0
_ANSWERED_BADLY = frozenset(
    {
        Meaning.NOT_FOUND,
        Meaning.BAD_REQUEST,
        Meaning.UNUSABLE_EMPTY,
        Meaning.UNUSABLE_REFUSAL,
        Meaning.UNUSABLE_CUT_OFF,
    }
)
_NEVER_CHARGED = frozenset(
    {
        Meaning.RATE,
        Meaning.RAMP,
        Meaning.QUOTA_SPENT,
        Meaning.QUOTA_UNTIL_RESET,
        Meaning.KEY_REJECTED,
        Meaning.NOT_FOUND,
        Meaning.BAD_REQUEST,
        Meaning.LOST_BEFORE_SENDING,
    }
)


class Reporter:
    """The reports of one process about one queue. ``key_mark`` gives a mark of the provider's key as it is in the
    backend now, empty where there is none."""

    def __init__(
        self,
        client: Client,
        queue: str,
        limits: LimitSettings,
        process: str,
        key_mark: Callable[[], Awaitable[str]],
    ) -> None:
        self._client = client
        self.queue = queue
        self._limits = limits
        self._process = process
        self._key_mark = key_mark
        self._news = asyncio.Event()
        self._urgent = False
        self._readings: dict[str, tuple[HeaderReading, float, bool]] = {}
        self._troubles: dict[Meaning, Trouble] = {}
        self._clear()
        self._standing: Standing | None = None
        self._standing_at = 0.0
        self._active = True
        self._unheard = False

    def _clear(self) -> None:
        self._calls = self._charged = self._answered = 0
        self._spent: Cost = {}
        self._largest: Cost = {}
        self._readings.clear()
        self._troubles.clear()
        self._news.clear()
        self._urgent = False

    # What the calls tell.

    def sent(self, cost: Cost) -> None:
        """A call of that reckoned cost was sent."""
        self._calls += 1
        self._charged += 1
        self._spend(cost, 1)
        for what, amount in cost.items():
            self._largest[what] = max(self._largest.get(what, 0.0), amount)
        self._news.set()

    def _spend(self, cost: Cost, sign: int) -> None:
        for what, amount in cost.items():
            self._spent[what] = self._spent.get(what, 0.0) + sign * amount

    def answered(self, reckoned: Cost, actual: Cost, readings: list[HeaderReading], sent_at: float) -> None:
        """The call was answered; ``sent_at`` is in monotonic seconds."""
        self._answered += 1
        self._spend(reckoned, -1)
        self._spend(actual, 1)
        self._read(readings, sent_at, refused=False)
        self._news.set()

    def failed(
        self, error: ProviderError, reckoned: Cost, readings: list[HeaderReading], sent_at: float, key: str
    ) -> None:
        """The call failed; ``key`` marks the API key that it was made with."""
        refused = error.meaning in (Meaning.RATE, Meaning.RAMP)
        if error.meaning in _NEVER_CHARGED:
            self._charged -= 1
            self._spend(reckoned, -1)
        self._read(readings, time.monotonic() if refused else sent_at, refused=refused)
        if error.meaning in _ANSWERED_BADLY:
            self._answered += 1
        else:
            known = self._troubles.get(error.meaning)
            waits = [one for one in (known.wait_seconds if known else None, error.wait_seconds) if one is not None]
            self._troubles[error.meaning] = Trouble(
                meaning=error.meaning,
                count=(known.count if known else 0) + 1,
                detail=error.detail,
                wait_seconds=max(waits, default=None),
                key=key,
            )
            self._urgent = True
        self._news.set()

    def _read(self, readings: list[HeaderReading], at: float, *, refused: bool) -> None:
        for reading in readings:
            known = self._readings.get(reading.what)
            # A refusal says the most; otherwise the call that was sent last.
            if known is None or (refused, at) >= (known[2], known[1]):
                self._readings[reading.what] = (reading, at, refused)
            self._urgent = self._urgent or reading.remaining < _LITTLE_LEFT_SECONDS * reading.refill

    # What the process does beside.

    async def open(self) -> QueueRate:
        """See that the queue has a rate before it is polled, and that its budget runs.

        Raises:
            RPCError: Temporal does not answer.
        """
        found = await queue_rate(self._client, self.queue)
        if found.rate is None:
            rate = self._first_rate()
            allowed = await set_rate(self._client, self.queue, rate, "until its budget knows more")
            found = QueueRate(rate if allowed else None, allowed, found.partitions)
        if not found.exact:
            logger.warning(
                "the rate of {} holds approximately ({}): this process's own gate keeps the peace",
                self.queue,
                "the server does not let it be set" if not found.settable else f"{found.partitions} partitions",
            )
        await self._start_budget(Opening(self._limits, found.rate, found.exact))
        return found

    def _first_rate(self) -> float:
        rpm = self._limits.rpm
        return _FIRST_RATE if rpm is None else min(max(_FIRST_SHARE * rpm / 60, _LEAST_FIRST_RATE), _FIRST_RATE)

    async def _start_budget(self, opening: Opening) -> None:
        await self._client.start_workflow(
            BUDGET_WORKFLOW,
            self.queue,
            id=budget_id(self.queue),
            task_queue=CONTROL_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            start_signal=OPEN_SIGNAL,
            start_signal_args=[opening],
            static_summary=f"how fast {self.queue} hands out calls",
            rpc_timeout=_RPC,
        )

    async def report_for_ever(self) -> None:
        """Send reports as they fall due, and see now and then how the budget stands. Never returns."""
        asking = asyncio.create_task(self._ask_for_ever(), name="standing")
        try:
            while True:
                await self._news.wait()
                await self._send()
                await self._pause()
        finally:
            asking.cancel()

    async def _pause(self) -> None:
        """Until the next report may be sent."""
        begun = time.monotonic()
        usual = _UNHEARD_SECONDS if self._unheard else _USUAL_SECONDS
        while (passed := time.monotonic() - begun) < usual:
            if self._urgent and passed >= _URGENT_SECONDS and not self._unheard:
                return
            await asyncio.sleep(min(_URGENT_SECONDS / 2, usual - passed))

    async def _send(self) -> None:
        report, self._active = self._taken(), True
        try:
            await self._handle.signal(REPORT_SIGNAL, report, rpc_timeout=_RPC)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                await self._revive()
            else:
                logger.debug("no report could be sent to {}: {}", budget_id(self.queue), error.message)

    def _taken(self) -> Report:
        now = time.monotonic()
        report = Report(
            process=self._process,
            calls=self._calls,
            charged=max(self._charged, 0),
            answered=self._answered,
            spent={what: round(amount, 2) for what, amount in self._spent.items()},
            largest={what: round(amount, 2) for what, amount in self._largest.items()},
            readings=[
                Reading(one.what, round(one.refill, 4), one.remaining, round(max(now - at, 0.0), 3), refused)
                for one, at, refused in self._readings.values()
            ],
            troubles=list(self._troubles.values()),
            sent_at=round(time.time(), 3),
        )
        self._clear()
        return report

    @property
    def _handle(self) -> WorkflowHandle[object, object]:
        return self._client.get_workflow_handle(budget_id(self.queue))

    async def _revive(self) -> None:
        logger.warning("the budget of {} is gone: it is started anew", self.queue)
        try:
            await self.open()
        except RPCError as error:
            logger.warning("the budget of {} could not be started: {}", self.queue, error.message)

    # How the budget stands.

    async def standing(self) -> Standing | None:
        """How the budget stands, at most a second old; None where it does not say."""
        if time.monotonic() - self._standing_at > _FRESH_STANDING_SECONDS:
            await self._ask()
        return self._standing

    async def _ask(self) -> None:
        try:
            self._standing = await self._handle.query(STANDING_QUERY, result_type=Standing, rpc_timeout=_RPC)
        except RPCError:
            self._standing = None
        self._standing_at = time.monotonic()

    async def _ask_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_ASK_SECONDS)
            if not (self._active or (self._standing and self._standing.rejected_key)):
                continue
            self._active = False
            await self._ask()
            if self._unheard != (self._standing is None):
                self._unheard = self._standing is None
                if self._unheard:
                    logger.warning("nobody keeps the budget of {}: its queue goes on at its last rate", self.queue)
                else:
                    logger.info("the budget of {} is kept again", self.queue)
            if self._standing is not None and self._standing.rejected_key:
                await self._look_for_new_key(self._standing.rejected_key)

    async def _look_for_new_key(self, rejected: str) -> None:
        mark = await self._key_mark()
        if mark and mark != rejected:
            logger.info("the backend has another key now: the budget of {} is told", self.queue)
            try:
                await self._handle.signal(NEW_KEY_SIGNAL, mark, rpc_timeout=_RPC)
            except RPCError as error:
                logger.warning("the budget of {} could not be told: {}", self.queue, error.message)
