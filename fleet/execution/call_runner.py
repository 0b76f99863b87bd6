"""Makes the calls of one process to one provider; :meth:`CallRunner.run` and what it calls read from top to
bottom.

A call is a separate task that outlives the attempt which started it. An attempt may end while its call is in
flight: Temporal was unavailable, or the process was frozen for longer than the heartbeat timeout. The call is then
not cut off; the next attempt, in any process of this host, finds it in the journal and waits for its answer.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from weakref import WeakValueDictionary

from loguru import logger
from temporalio import activity

from fleet.budgets.worker.admission import Admission, Admitted
from fleet.config import Settings
from fleet.errors import AmbiguousCall, BackendError, OpenElsewhere, ProviderError
from fleet.execution.async_journal import AsyncJournal
from fleet.execution.attempts import Attempts, seconds_used
from fleet.execution.journal_records import Ambiguous, Answered, Asked, CallName, Send, Wait
from fleet.execution.recorded_answer import Recorded
from fleet.failures import FailureKind
from fleet.process.metrics import CUT_OFF, Metrics
from fleet.process.wall_clock import unix_time
from fleet.provider_settings import ProviderSettings
from fleet.providers.base import LlmAnswer, LlmRequest, ResumeHandle, answer_kept
from fleet.providers.context_windows import overflow_of, remedy_for, surely_fits
from fleet.providers.options import refuse_options
from fleet.providers.prices import cost_of
from fleet.providers.session import ProviderSession

_LOOK_SECONDS = 0.25
# An answer that another machine delivers ends the assistant whenever it comes; this is how soon the end of the
# wait is noticed.
_LOOK_AGAIN_SECONDS = 10.0
_CLOSE_SECONDS = 20.0
#: A call that is answered sooner is not reported as running: the report would cost the server and the pipeline a
#: quarter of what the call costs them.
_LASTING_SECONDS = 0.25
# An attempt must report before Temporal times it out.
_REPORTING_SECONDS = 5.0


@dataclass(frozen=True)
class Call:
    """A call to be made at most once, for the task queue that it came from.

    ``hold_seconds`` is how long it may be held here because of a limit; ``send_ambiguous``: send again a call that
    was or may have been paid. ``asked`` is what its answer is delivered with if Temporal does not take it from
    this attempt. ``started_at`` is when Temporal started the attempt (unix seconds, by Temporal's clock);
    ``late``: that was long before the task arrived here. ``first``: there was no attempt before, so an answer
    is not looked for until the call begins. ``attempt`` is Temporal's number of it.
    """

    name: CallName
    queue: str
    request: LlmRequest
    hold_seconds: float
    send_ambiguous: bool
    asked: Asked
    started_at: float
    late: bool
    project_id: str
    first: bool = False
    attempt: int = 1


class Told(Protocol):
    """Receives the progress of a call: :class:`~fleet.execution.pipeline_client.PipelineLink`."""

    async def confirm(self) -> None:
        """Check that the task still belongs to this worker."""
        ...

    async def sending(self, attempt: int) -> None:
        """The call is being sent, or is already in flight."""
        ...

    async def failed(self, attempt: int, why: str, *, unsettled: bool) -> None:
        """The call failed."""
        ...


class CallRunner:
    """The calls of one process; ``admissions`` has the admission of each of the provider's queues."""

    def __init__(
        self,
        settings: Settings,
        provider: ProviderSettings,
        session: ProviderSession,
        journal: AsyncJournal,
        admissions: Mapping[str, Admission],
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._provider = provider
        self._session = session
        self._journal = journal
        self._admissions = admissions
        self._metrics = metrics
        self._running: dict[str, asyncio.Task[Recorded]] = {}
        # Two attempts at one call must not both decide to send it. A lock is there while somebody holds it.
        self._deciding: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def run(self, call: Call, attempts: Attempts, pipeline: Told) -> Recorded:
        """The recorded answer, the answer of a call already in flight, or that of a call made now.

        If it is cancelled because another assistant of its pipeline has failed, it still returns the answer if the
        call is in flight by then, since that is paid. Otherwise a cancellation leaves the call running, unless the
        worker shuts down.

        Raises:
            HeldBack: the provider's limit leaves no room for it yet.
            ProviderError: the call failed, or exceeds the model's context window and was not sent.
            OpenElsewhere: another machine may have sent it, and may still deliver its answer.
            TaskTaken: another worker has the task by now; nothing was sent.
            AmbiguousCall: it was or may have been paid, and the policy forbids sending it again.
            BackendError: there is no key to make it with, or its model does not take one of its options.
            JournalUnavailable: nothing was sent.
        """
        known = None if call.first else await self._journal.answer(call.name, call.asked)
        if known is not None and (recorded := await self._recorded(call.name, known)) is not None:
            return recorded  # no need to wait for a limit
        if attempts.untold and call.attempt == 2:
            await self._look_for_untold(call, attempts)
        if not attempts.may_have_sent:
            self._refuse_options(call)
            await self._refuse_too_long(call)
        left = attempts.seconds_for_elsewhere(call.started_at, self._settings.other_machine_seconds)
        if left:
            wait = min(left, _LOOK_AGAIN_SECONDS)
            raise OpenElsewhere(call.name.function_key, attempts.open_on, left, wait)
        admission, number = self._admissions[call.queue], attempts.made + 1
        begun = bool(attempts.response_id)
        async with admission.admitted(call.request, call.hold_seconds, begun=begun) as admitted:
            if attempts.may_be_open_elsewhere and not begun:
                # Its answer may have been delivered while this attempt waited for the limit.
                attempts.count_elsewhere()
                await pipeline.confirm()
            elif call.late or self._journal.in_doubt:
                await pipeline.confirm()
            telling = _Telling(lambda: pipeline.sending(number))
            try:
                return await self._answer(call, attempts, admitted)
            except ProviderError as error:
                attempts.failed(error)
                error.excused = await _excused(error, attempts, admission)
                await telling.end()
                await pipeline.failed(number, str(error), unsettled=attempts.may_have_sent)
                if error.retryable and error.is_ambiguous and not call.send_ambiguous:
                    attempts.provider_failures += 1
                    why = f"{error.failure_kind}: {error.detail}"
                    raise AmbiguousCall(call.name.workflow_id, call.name.function_key, why) from error
                raise
            except BackendError:
                attempts.unsent()
                raise
            except asyncio.CancelledError:
                if _is_to_end():
                    if await self.cut_off(call.name):
                        attempts.ended_unsure()
                elif _is_unwanted() and (on_its_way := self._running.get(call.name.key)):
                    return await _in_spite_of_cancellation(on_its_way)
                raise
            finally:
                telling.cancel()

    async def _look_for_untold(self, call: Call, attempts: Attempts) -> None:
        """Find out what became of a first attempt that told nothing: where only this machine serves the queue, its
        journal knows whether the call was sent."""
        if await self._journal.has(call.name):
            attempts.was_here()
        elif await self._admissions[call.queue].is_alone(attempts.machine):
            attempts.was_not_begun()

    def _refuse_options(self, call: Call) -> None:
        """Raise AssistantDamaged if the model does not take an option. That is checked when a pipeline is
        loaded, too, but maybe by a machine with other settings of this provider."""
        asked = call.request
        refuse_options(call.name.function_key, self._provider, asked.model, asked.options, asked.max_tokens)

    async def _refuse_too_long(self, call: Call) -> None:
        """Raise ProviderError for a request that surely exceeds the context window of its model."""
        if surely_fits(self._provider, call.request):
            return
        overflow = await asyncio.to_thread(overflow_of, self._provider, call.request)
        if overflow is not None:
            detail = f"assistant {call.name.function_key}: {overflow}; it was not sent"
            error = ProviderError(
                FailureKind.CONTEXT_EXCEEDED, self._provider.name, detail, remedy=remedy_for(call.request)
            )
            error.excused = True
            raise error

    async def _answer(self, call: Call, attempts: Attempts, admitted: Admitted) -> Recorded:
        """Find the answer in the journal, wait for a call in flight, or send the call."""
        deciding = self._deciding.setdefault(call.name.key, asyncio.Lock())
        while True:
            async with deciding:
                found = self._running.get(call.name.key) or await self._begin(call, attempts, admitted)
            if isinstance(found, Recorded):
                return found
            if found is not None:
                return await asyncio.shield(found)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _begin(
        self, call: Call, attempts: Attempts, admitted: Admitted
    ) -> "Recorded | asyncio.Task[Recorded] | None":
        """The recorded answer, a call in flight that is sent now, or None while another process makes the call."""
        seconds = self._seconds_left()
        goes_on = attempts.response_id or None
        call_state = await self._journal.begin(
            call.name,
            seconds=seconds,
            maybe_paid=attempts.maybe_paid,
            send_ambiguous=call.send_ambiguous,
            asked=call.asked,
        )
        match call_state:
            case Answered() as known:  # answered meanwhile
                return await self._recorded(call.name, known)
            case Wait(owner):
                logger.debug("process {} is at this call: waiting for its answer", owner.pid)
                return None
            case Ambiguous():
                why = "an earlier call was cut off or lost"
                raise AmbiguousCall(call.name.workflow_id, call.name.function_key, why)
            case Send(maybe_paid, response_id):
                if maybe_paid:
                    logger.warning("sent again; earlier calls that may have been paid: {}", maybe_paid)
                number = attempts.made + 1
                attempts.sending(maybe_paid)
                admitted.take()
                resume_handle = self._resume_handle(call.name, attempts, response_id or goes_on)
                sending = self._send(call, admitted, resume_handle, seconds, number, maybe_paid)
                return self._started(call.name, asyncio.create_task(sending))

    async def _recorded(self, name: CallName, known: Answered) -> Recorded | None:
        """The recorded answer as :func:`_known` reads it; None if it cannot be read, so that the call counts as
        one that was paid without a usable answer."""
        try:
            return _known(known)
        except ValueError as error:
            logger.error(
                "{}: its answer in the journal cannot be read ({}). Remedy: none is needed; the call counts as "
                "one that may have been paid, and on_ambiguous says whether it is sent again",
                name.function_key,
                error,
            )
            await self._journal.unreadable(name, known.answer)
            return None

    def _seconds_left(self) -> float:
        """How long the call may take."""
        left = self._settings.activity_timeout_seconds - seconds_used() - _REPORTING_SECONDS
        return max(min(self._provider.timeout_seconds, left), 0.1)

    def _resume_handle(self, name: CallName, attempts: Attempts, response_id: str | None) -> ResumeHandle:
        async def note(known: str) -> None:
            attempts.goes_on(known)
            await self._journal.resumable(name, known or None)

        return ResumeHandle(response_id, note)

    def _started(self, name: CallName, task: "asyncio.Task[Recorded]") -> "asyncio.Task[Recorded]":
        def forget(done: "asyncio.Task[Recorded]") -> None:
            self._running.pop(name.key, None)
            if not done.cancelled():
                done.exception()  # a waiter has the error; without one, the journal has the outcome

        task.set_name(f"call {name.function_key}")
        self._running[name.key] = task
        task.add_done_callback(forget)
        return task

    async def _send(
        self,
        call: Call,
        admitted: Admitted,
        resume_handle: ResumeHandle,
        seconds: float,
        number: int,
        maybe_paid: int,
    ) -> Recorded:
        """The call itself: its outcome is recorded before anyone is notified of it."""
        began, started = time.monotonic(), datetime.now(UTC)
        try:
            with admitted.sending():
                answer = await self._ask(call.request, seconds, resume_handle)
        except asyncio.CancelledError:
            await self._journal.cut_off(call.name)
            raise
        except ProviderError as error:
            await self._journal.failed(call.name, unsure=error.may_be_billed)
            raise
        except BackendError:  # no key: nothing was sent, unless it still runs there
            await self._journal.failed(call.name, unsure=resume_handle.response_id is not None)
            raise
        except Exception:  # unexpected, so it may have been sent
            await self._journal.failed(call.name, unsure=True)
            raise
        recorded = Recorded(
            answer=answer,
            started=started.isoformat(timespec="milliseconds"),
            seconds=round(time.monotonic() - began, 3),
            attempts=number,
            maybe_paid=maybe_paid,
        )
        await self._journal.answered(call.name, recorded.to_json())
        if self._settings.metrics_by_project:
            with answer_kept("counting what the project paid"):
                cost = cost_of(self._provider, call.request.model, answer)
                self._metrics.project_paid(call.project_id, cost.usd, simulated=cost.simulated)
        with answer_kept("telling the budget of the answer"):
            admitted.answered(answer)
        return recorded

    async def _ask(self, request: LlmRequest, seconds: float, resume_handle: ResumeHandle) -> LlmAnswer:
        """The call under its single deadline, between the REQUEST and RESPONSE markers."""
        name = self._provider.name
        logger.info("🤖 LLM REQUEST: {}/{}", name, request.model)
        if self._settings.log_content:
            logger.debug("LLM INPUT: system: {} user: {}", request.system_prompt, request.user_message)
        began = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                answer = await self._session.complete(
                    request, timeout_seconds=seconds, resume_handle=resume_handle
                )
        except TimeoutError as error:
            self._metrics.call_ended(name, self._provider.queue_of(request.model), FailureKind.TIMED_OUT)
            detail = f"no complete answer within {seconds:.0f} s"
            raise ProviderError(FailureKind.TIMED_OUT, name, detail) from error
        except asyncio.CancelledError:
            self._metrics.call_ended(name, self._provider.queue_of(request.model), CUT_OFF)
            raise
        took = time.monotonic() - began
        logger.info("📨 LLM RESPONSE: {} ({} chars in {:.1f}s)", name, len(answer.text), took)
        if self._settings.log_content:
            logger.debug("LLM OUTPUT: {}", answer.text)
        if answer.finish_reason == "length":
            logger.warning("the answer of {} was cut off at max_tokens", answer.model)
        return answer

    async def cut_off(self, name: CallName) -> bool:
        """Cut off a call in flight and record that; whether there was one."""
        running = self._running.get(name.key)
        if running is None:
            return False
        running.cancel()
        await asyncio.wait({running})
        return True

    async def close(self) -> None:
        """Wait a while for calls whose attempts have ended, then cut them off."""
        if running := set(self._running.values()):
            logger.info("{} calls are still on their way", len(running))
            _, late = await asyncio.wait(running, timeout=_CLOSE_SECONDS)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)


class _Telling:
    """Reports that a call is being sent, if it lasts."""

    def __init__(self, tell: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._tell = tell
        self._begun: asyncio.Task[None] | None = None
        self._due = asyncio.get_running_loop().call_later(_LASTING_SECONDS, self._begin)

    def _begin(self) -> None:
        self._begun = asyncio.create_task(self._tell())

    async def end(self) -> None:
        """Return when no report can come any more: it would contradict that of the end."""
        self._due.cancel()
        if self._begun is not None:
            await self._begun

    def cancel(self) -> None:
        """Report nothing more, and do not wait."""
        self._due.cancel()
        if self._begun is not None:
            self._begun.cancel()


def _known(answered: Answered) -> Recorded:
    recorded = Recorded.from_json(answered.answer, answered.maybe_paid)
    logger.info("answered before: taken from the journal, not sent again")
    return recorded


async def _excused(error: ProviderError, attempts: Attempts, admission: Admission) -> bool:
    """Whether the failure does not count against the call: it was not sent, or the provider was known to be
    failing."""
    if not (error.retryable and error.traits.counts):
        return False
    if error.before_sending:
        return attempts.excuse(unix_time())
    budget_status = await admission.budget_status()
    return budget_status is not None and budget_status.breaker != "closed" and attempts.excuse(unix_time())


def _is_to_end() -> bool:
    """Whether a cancelled attempt ends its call too: only where the worker shuts down. An attempt that Temporal
    timed out for lack of heartbeats does not: the next one waits for the answer. Nor does one whose pipeline has
    ended: what was sent is paid, and a retry finds the answer."""
    details = activity.cancellation_details()
    return details is not None and details.worker_shutdown


def _is_unwanted() -> bool:
    """Whether the pipeline, which continues, has asked for the cancellation."""
    details = activity.cancellation_details()
    return details is not None and details.cancel_requested


async def _in_spite_of_cancellation(call: "asyncio.Task[Recorded]") -> Recorded:
    """The outcome of a call; the code that cancelled this attempt waits for it."""
    if (task := asyncio.current_task()) is not None:
        task.uncancel()
    return await asyncio.shield(call)
