"""The steps of a call before and after it is sent, within one process: cost estimate, gate, report of the
outcome."""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from fleet.budgets.messages import BudgetStatus
from fleet.budgets.worker.call_costs import Cost, Costs
from fleet.budgets.worker.gate import LONGEST_HOLD_SECONDS, Directive, Gate
from fleet.budgets.worker.limit_headers import HeaderReading, limits_in
from fleet.budgets.worker.models_with_unlike_limits import Mixing
from fleet.budgets.worker.models_without_quota import HeldModels
from fleet.budgets.worker.oversize import Oversize, SizeLimits
from fleet.budgets.worker.report_builder import SentCall
from fleet.budgets.worker.reporter import Reporter
from fleet.contracts import Limited
from fleet.errors import HeldBack, ProviderError
from fleet.failures import FailureKind
from fleet.providers.base import LlmAnswer, LlmRequest

# A resume is noticed within this time.
_RESUME_SEEN_SECONDS = 2.0


class Admission:
    """Admits the calls of one queue of a provider. ``used_key`` returns a mark of the key that was used last;
    ``of_one_model``: the queue has the calls of one model only."""

    def __init__(
        self,
        gate: Gate,
        costs: Costs,
        reporter: Reporter,
        used_key: Callable[[], str],
        *,
        of_one_model: bool = False,
    ) -> None:
        self.gate = gate
        self.costs = costs
        self.reporter = reporter
        self.used_key = used_key
        self.mixing = Mixing(reporter.queue)
        self.sizes = SizeLimits(reporter.limits)
        self.held_models = HeldModels()
        self.of_one_model = of_one_model
        self.resumes = 0

    @asynccontextmanager
    async def admitted(
        self, request: LlmRequest, longest_seconds: float = LONGEST_HOLD_SECONDS, *, begun: bool = False
    ) -> AsyncIterator["Admitted"]:
        """Wait until the call may be made; the caller has to call ``take`` within the block. A call that was not
        taken, since it had been answered before, uses nothing of the limit. ``begun``: it already runs at the
        provider.

        Raises:
            HeldBack: it has to wait for longer than ``longest_seconds``, or its model has no quota.
        """
        if self.held_models:
            await self._open_if_resumed()
        if not begun and (left := self.held_models.wait_for(request.model)) is not None:
            self.reporter.held()
            raise HeldBack(left, f"{request.model} has no quota left")
        cost = self._cost(request)
        wait = await self.gate.pass_through(cost, self._directive, longest_seconds, self._open_if_resumed)
        if wait is not None:
            raise HeldBack(wait)
        admitted = Admitted(self, request, cost)
        try:
            yield admitted
        finally:
            if not admitted.taken:
                self.gate.give_back(cost)

    async def _directive(self, held_seconds: float) -> Directive:
        return await self.reporter.watch.directive(held_seconds, holds_model=bool(self.held_models))

    def _cost(self, request: LlmRequest) -> Cost:
        """What the call will take of the limits. A request larger than one of them takes no tokens: it will be
        refused, so it must neither wait for tokens nor make others wait."""
        cost = self.costs.estimate(request)
        return {Limited.REQUESTS: 1.0} if self.sizes.exceeded_by(request.model, cost) else cost

    async def _open_if_resumed(self) -> None:
        """After ``fleet resume`` no earlier refusal holds a call, however long a wait the provider asked for."""
        budget_status = await self.reporter.watch.budget_status(_RESUME_SEEN_SECONDS)
        if budget_status is not None and budget_status.resumes > self.resumes:
            self.resumes = budget_status.resumes
            self.gate.open()
            self.held_models.release()

    def refused(self, model: str, error: ProviderError) -> None:
        """A call was refused because of a limit or of the model's quota."""
        last = self.reporter.watch.last
        self.resumes = last.resumes if last is not None else self.resumes
        if error.traits.holds_model:
            self.held_models.hold(model, error.wait_seconds)
        else:
            self.gate.refused(error.wait_seconds)

    async def is_alone(self, machine: str) -> bool:
        """Whether no other machine (HOST+ID) than this one has served the queue lately, as far as is known."""
        return await self.reporter.watch.is_alone(machine)

    async def budget_status(self) -> BudgetStatus | None:
        """The status of the queue's budget; None where no pipeline worker runs it."""
        return await self.reporter.watch.budget_status()


class Admitted:
    """A call that the limits have room for."""

    def __init__(self, admission: Admission, request: LlmRequest, cost: Cost) -> None:
        self._admission = admission
        self._request = request
        self._cost = cost
        self._call = SentCall(request.model, cost, 0.0)
        self.taken = False

    def take(self) -> None:
        """Mark the call as one that will be sent, perhaps only after the admission's block has ended."""
        self.taken = True

    @contextmanager
    def sending(self) -> Iterator[None]:
        """The call is in flight within the block; a failure is reported to gate and budget."""
        self._call = SentCall(self._request.model, self._cost, time.monotonic())
        with self._admission.reporter.call(self._cost):
            try:
                yield
            except ProviderError as error:
                known = self._failed(error)
                if known is not error:
                    raise known from error
                raise

    def answered(self, answer: LlmAnswer) -> None:
        """Report the answer to gate and budget."""
        admission, readings = self._admission, limits_in(answer.headers)
        actual = admission.costs.actual(self._request, answer)
        admission.reporter.answered(self._call, actual, readings)
        admission.gate.heard(readings, self._call.at)
        admission.sizes.heard(self._request.model, readings)
        admission.mixing.heard(self._request.model, readings)

    def _failed(self, error: ProviderError) -> ProviderError:
        """Report the failure to gate and budget; returns the error, with a more precise kind where one is known
        here."""
        admission, readings = self._admission, limits_in(error.headers)
        admission.sizes.heard(self._request.model, readings)
        if error.failure_kind is FailureKind.RATE and (oversize := self._oversize(readings)):
            error = error.as_kind(FailureKind.TOO_LARGE, f"{oversize} ({error.detail})")
        elif error.failure_kind is FailureKind.MODEL_QUOTA and admission.of_one_model:
            error = error.as_kind(FailureKind.QUOTA_UNTIL_RESET, error.detail)
        admission.reporter.failed(error, self._call, readings, admission.used_key())
        admission.gate.heard(readings, time.monotonic())
        if error.traits.limit or error.traits.holds_model:
            admission.refused(self._request.model, error)
        return error

    def _oversize(self, readings: list[HeaderReading]) -> Oversize | None:
        cost = self._admission.costs.estimate(self._request)
        return self._admission.sizes.refused_for(self._request.model, cost, readings)
