"""The status of a queue's budget as one process sees it, and the directive that its gate gets from that.

Where the server lets the queue's rate be set, the queue itself keeps the budget's rate, and only a call that was
held for a while asks whether the queue has been paused or parked meanwhile. Elsewhere every call follows the
budget's directive: the budget is queried at most once a second, less often with more than ten processes, and only
while calls want to pass.
"""

import asyncio
import math
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from loguru import logger
from temporalio.client import Client, WorkflowHandle, WorkflowQueryFailedError
from temporalio.service import RPCError, RPCStatusCode

from fleet.budgets.messages import STATUS_QUERY, BudgetStatus, budget_id
from fleet.budgets.queue_client import QueueRate, machines_that_polled, pollers
from fleet.budgets.worker.gate import Directive

_RPC = timedelta(seconds=3)
#: Age at which a status is queried again by occasional callers.
FRESH_SECONDS = 1.0
# How old a rate may be that a gate keeps; with more than ten processes it may be proportionally older.
_MIN_POLL_SECONDS, _MAX_POLL_SECONDS, _POLLS_A_SECOND = 1.0, 2.0, 10.0
_HELD_SECONDS = 1.0
# A gate waits for the answer if the last one is older than this; otherwise it uses the last one meanwhile.
_OLD_SECONDS = 5.0
# Where no pipeline worker runs, a query may wait for its deadline.
_UNKEPT_SECONDS = 5.0


class Watch:
    """One queue's budget. ``first_rate`` is what the whole fleet may send per second while nothing is known.

    ``last`` is the last status received, None: none yet, or there is no such budget. ``kept``: the budget answered
    the last query. ``seen_at`` is when the query began that gave ``last``, by the clock.
    """

    def __init__(
        self, client: Client, queue: str, first_rate: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._queue = queue
        self._first_rate = first_rate
        self._clock = clock
        self._opened = QueueRate(None)
        self._processes: int | None = None
        self._asked_at = -_UNKEPT_SECONDS
        self._answered_at = -math.inf
        self._asking: asyncio.Task[None] | None = None
        self.last: BudgetStatus | None = None
        self.seen_at = -math.inf
        self.kept = True
        self._by_gates = False

    def opened(self, found: QueueRate) -> None:
        """Record what the server does with the queue's rate."""
        self._opened = found

    @property
    def exact(self) -> bool:
        """Whether the queue itself keeps the budget's rate."""
        return self._opened.exact and (self.last is None or self.last.exact)

    async def budget_status(self, at_most_seconds: float = FRESH_SECONDS) -> BudgetStatus | None:
        """The budget's status, at most ``at_most_seconds`` old; None where no pipeline worker runs it."""
        self._ask_anew(at_most_seconds)
        if self._asking is not None:
            await asyncio.shield(self._asking)  # other callers wait for it too
        return self.last if self.kept else None

    async def is_alone(self, machine: str) -> bool:
        """Whether no other machine has served the queue lately: none is known to the budget, which remembers them
        for a day, nor to the server, which remembers polls for five minutes. False where one of the two does not
        answer."""
        budget_status = await self.budget_status()
        if budget_status is None or {known.machine for known in budget_status.machines} != {machine}:
            return False
        try:
            return await machines_that_polled(self._client, self._queue) == {machine}
        except RPCError as error:
            logger.debug("the server does not say who polls {}: {}", self._queue, error.message)
            return False

    def _ask_anew(self, at_most_seconds: float) -> None:
        age = at_most_seconds if self.kept else max(at_most_seconds, _UNKEPT_SECONDS)
        if self._asking is None and self._clock() - self._asked_at >= age:
            self._asked_at = self._clock()
            self._asking = asyncio.create_task(self._ask(), name=f"standing of {self._queue}")

    def _paced_by_queue(self, *, holds_model: bool) -> bool:
        """Whether the queue dispatches no more than may be sent. While a model has no quota it dispatches more,
        since many calls go back unsent."""
        return self.exact and not holds_model and not (self.last is not None and self.last.held_models)

    async def directive(self, held_seconds: float, *, holds_model: bool = False) -> Directive:
        """The budget's directive for a call that the gate has held for ``held_seconds``; ``holds_model``: this
        process knows of a model without quota."""
        self._by_gates = not self._paced_by_queue(holds_model=holds_model)
        if not self._by_gates:
            if held_seconds < _HELD_SECONDS:
                return Directive()
            budget_status = await self.budget_status()
            return Directive(shut=budget_status is not None and budget_status.holds)
        polled = (self._processes or 0) / _POLLS_A_SECOND
        self._ask_anew(min(max(polled, _MIN_POLL_SECONDS), _MAX_POLL_SECONDS))
        old = self._processes is None or self._clock() - self._answered_at > _OLD_SECONDS
        if self._asking is not None and old:
            await asyncio.shield(self._asking)
        # If the budget does not answer, its last status stays in force.
        rate, shut = (self._first_rate, False) if self.last is None else (self.last.rate, self.last.holds)
        return Directive(shut, queue_holds=self._opened.settable, pace=rate / (self._processes or 1))

    async def _ask(self) -> None:
        kept = True
        try:
            self.last = await self._handle.query(STATUS_QUERY, result_type=BudgetStatus, rpc_timeout=_RPC)
            self.seen_at = self._asked_at
            if self._by_gates or not self._paced_by_queue(holds_model=False):
                # A process whose slots are full of waiting calls does not poll.
                self._processes = max(await pollers(self._client, self._queue), self.last.processes, 1)
        except (RPCError, WorkflowQueryFailedError) as error:
            kept = False
            if isinstance(error, RPCError) and error.status is RPCStatusCode.NOT_FOUND:
                self.last, self.seen_at = None, self._asked_at
        finally:
            self._asking, self._answered_at = None, self._clock()
        self._tell(kept)

    def _tell(self, kept: bool) -> None:
        if self.kept == kept:
            return
        self.kept = kept
        if kept:
            logger.info("the budget of {} is kept again", self._queue)
        else:
            logger.warning(
                "the budget workflow of {} is not running (no pipeline worker): the queue keeps its last rate",
                self._queue,
            )

    @property
    def _handle(self) -> WorkflowHandle[Any, Any]:
        return self._client.get_workflow_handle(budget_id(self._queue))
