"""What a call passes on its way to the provider within one process: costs, gate, and the report of how it went."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fleet.answer_kept import answer_kept
from fleet.budgets.costs import Cost, Costs
from fleet.budgets.gate import LONGEST_HOLD_SECONDS, Gate
from fleet.budgets.headers import limits_in
from fleet.budgets.mixing import Mixing
from fleet.budgets.reporter import Reporter
from fleet.budgets.reports import Standing
from fleet.errors import HeldBack, ProviderError
from fleet.providers.base import LlmAnswer, LlmRequest

Ask = Callable[[], Awaitable[LlmAnswer]]
#: Makes the admitted call, and tells gate and budget how it went.
Make = Callable[[Ask], Awaitable[LlmAnswer]]


class Admission:
    """The way to one provider's calls, of one queue. ``used_key`` gives a mark of the key that was used last."""

    def __init__(self, gate: Gate, costs: Costs, reporter: Reporter, used_key: Callable[[], str]) -> None:
        self._gate = gate
        self._costs = costs
        self._reporter = reporter
        self._used_key = used_key
        self._mixing = Mixing(reporter.queue)

    @asynccontextmanager
    async def admitted(
        self, request: LlmRequest, longest_seconds: float = LONGEST_HOLD_SECONDS
    ) -> AsyncIterator[Make]:
        """Wait until the call may be made; it is to be begun within the block. One that was not, since it had been
        answered before, takes nothing of the limit.

        Raises:
            HeldBack: it has to wait for longer than that.
        """
        cost, begun = self._costs.estimate(request), False
        wait = await self._gate.pass_through(cost, self._reporter.watch.word, longest_seconds)
        if wait is not None:
            raise HeldBack(wait)

        async def make(ask: Ask) -> LlmAnswer:
            nonlocal begun
            begun = True
            return await self._make(request, cost, ask)

        try:
            yield make
        finally:
            if not begun:
                self._gate.give_back(cost)

    async def _make(self, request: LlmRequest, cost: Cost, ask: Ask) -> LlmAnswer:
        sent_at = time.monotonic()
        with self._reporter.call(cost):
            try:
                answer = await ask()
            except ProviderError as error:
                self._failed(error, cost, sent_at)
                raise
            with answer_kept("telling the budget of the answer"):
                self._answered(request, cost, answer, sent_at)
        return answer

    def _answered(self, request: LlmRequest, cost: Cost, answer: LlmAnswer, sent_at: float) -> None:
        readings = limits_in(answer.headers)
        self._reporter.answered(cost, self._costs.actual(request, answer), readings, sent_at)
        self._gate.heard(readings, sent_at)
        self._mixing.heard(request.model, readings)

    def _failed(self, error: ProviderError, cost: Cost, sent_at: float) -> None:
        readings = limits_in(error.headers)
        self._reporter.failed(error, cost, readings, sent_at, self._used_key())
        self._gate.heard(readings, time.monotonic())
        if error.traits.limit:
            self._gate.refused(error.wait_seconds)

    async def standing(self) -> Standing | None:
        """How the queue's budget stands; None where nobody knows."""
        return await self._reporter.watch.standing()
