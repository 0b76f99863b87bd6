"""What a call passes on its way to the provider within one process: costs, gate, and the report of how it went."""

import time
from collections.abc import Awaitable, Callable

from fleet.budgets.costs import Cost, Costs
from fleet.budgets.gate import Gate
from fleet.budgets.headers import limits_in
from fleet.budgets.reporter import Reporter
from fleet.budgets.reports import Standing
from fleet.errors import HeldBack, ProviderError
from fleet.meanings import Meaning
from fleet.providers.base import LlmAnswer, LlmRequest


class Admission:
    """The way to one provider's calls, of one queue. ``used_key`` gives a mark of the key that was used last."""

    def __init__(self, gate: Gate, costs: Costs, reporter: Reporter, used_key: Callable[[], str]) -> None:
        self._gate = gate
        self._costs = costs
        self._reporter = reporter
        self._used_key = used_key

    async def admit(self, request: LlmRequest) -> Cost:
        """Wait until the call may be made; what it is reckoned to cost.

        Raises:
            HeldBack: it has to wait for longer than a slot is kept for it.
        """
        cost = self._costs.estimate(request)
        if (wait := await self._gate.pass_through(cost)) is not None:
            raise HeldBack(wait)
        return cost

    async def make(self, request: LlmRequest, cost: Cost, call: Callable[[], Awaitable[LlmAnswer]]) -> LlmAnswer:
        """Make the admitted call, and tell gate and budget how it went.

        Raises:
            ProviderError: it failed.
        """
        sent_at = time.monotonic()
        self._reporter.sent(cost)
        try:
            answer = await call()
        except ProviderError as error:
            readings = limits_in(error.headers)
            self._reporter.failed(error, cost, readings, sent_at, self._used_key())
            self._gate.heard(readings, time.monotonic())
            if error.meaning in (Meaning.RATE, Meaning.RAMP):
                self._gate.refused(error.wait_seconds)
            raise
        readings = limits_in(answer.headers)
        self._reporter.answered(cost, self._costs.actual(request, answer), readings, sent_at)
        self._gate.heard(readings, sent_at)
        return answer

    async def standing(self) -> Standing | None:
        """How the queue's budget stands; None where nobody knows."""
        return await self._reporter.standing()
