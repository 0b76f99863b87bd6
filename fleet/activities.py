"""The two activities of a pipeline: load its assistants, execute one of them."""

import asyncio
import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from loguru import logger
from temporalio import activity
from temporalio.client import Client, WorkflowHandle, WorkflowQueryFailedError
from temporalio.service import RPCError

from fleet.activity_wrappers import safe_activity
from fleet.attempts import current_attempts, seconds_used
from fleet.backend import Backend
from fleet.budgets.admission import Admission, Make
from fleet.budgets.gate import LONGEST_HOLD_SECONDS
from fleet.calls import Calls, Order, Recorded
from fleet.config import ProviderSettings, Settings
from fleet.contracts import (
    ASSIGNMENT_QUERY,
    ASSISTANT_SIGNAL,
    COLLECT_FINISHED,
    EXECUTE_ASSISTANT,
    LOAD_ASSISTANTS,
    OUTPUT_MAX_BYTES,
    ActivityLimits,
    Assignment,
    Assistant,
    AssistantCall,
    AssistantMoved,
    AssistantResult,
    AssistantState,
    PipelinePlan,
    RetryOf,
)
from fleet.errors import AmbiguousCall, AssignmentUnavailable, ProviderError
from fleet.journal import CallName
from fleet.loading import load_assistants
from fleet.meanings import Meaning
from fleet.measures import CUT_OFF, Measures
from fleet.past_runs import finished_results
from fleet.prompts import build_user_message
from fleet.providers.base import LlmAnswer, LlmRequest, Ticket
from fleet.providers.prices import cost_of
from fleet.providers.session import ProviderSession

_ASK_PIPELINE_SECONDS = 15.0
_TELL_PIPELINE_SECONDS = 5.0
# An attempt must report before Temporal gives it up.
_REPORTING_SECONDS = 5.0


class LoadActivities:
    """``load_assistants_from_database`` and ``collect_finished_outputs``: on the queue ``assistants``."""

    def __init__(self, settings: Settings, backend: Backend, temporal: Client, measures: Measures) -> None:
        self.settings = settings
        self.measures = measures
        self._backend = backend
        self._temporal = temporal

    async def place(self) -> str:
        """Nothing here is paid, so there is no journal."""
        return ""

    def holding(self, token: bytes) -> AbstractAsyncContextManager[None]:
        """Temporal soon notices by itself: these are silent for no longer than half a minute."""
        return nullcontext()

    @activity.defn(name=LOAD_ASSISTANTS)
    @safe_activity
    async def load(self, project_id: str) -> PipelinePlan:
        """The project's assistants, checked, with the queue of each provider that they name.

        A provider without a key fails the pipeline here, before anything is paid.
        """
        settings = self.settings
        assistants = await load_assistants(self._backend, settings, project_id)
        providers = [settings.provider(name) for name in sorted(_providers_in(assistants))]
        await asyncio.gather(*(self._backend.api_key(one.name) for one in providers if one.needs_key))
        logger.info("project {}: {} assistants over {}", project_id, len(assistants), [p.name for p in providers])
        return PipelinePlan(
            project_id=project_id,
            assistants=assistants,
            queues=_queues_of(providers),
            limits=ActivityLimits(
                timeout_seconds=settings.activity_timeout_seconds,
                heartbeat_timeout_seconds=settings.heartbeat_timeout_seconds,
                retry_initial_seconds=settings.retry_initial_seconds,
                backoff_coefficient=settings.backoff_coefficient,
                fallback_after_seconds=settings.fallback_after_seconds,
            ),
        )

    @activity.defn(name=COLLECT_FINISHED)
    @safe_activity
    async def collect(self, failed: RetryOf) -> list[AssistantResult]:
        """What the assistants of a failed run have answered, marked as reused and at no cost."""
        try:
            found = await finished_results(self._temporal, failed)
        except RPCError as error:
            raise AssignmentUnavailable(
                f"the history of {failed.workflow_id} cannot be read ({error.message}). Remedy: see that it is "
                "still within Temporal's retention; it is asked again"
            ) from error
        logger.info("{} outputs of run {} are reused", len(found), failed.run_id)
        return found


def _providers_in(assistants: list[Assistant]) -> set[str]:
    fallbacks = {choice.provider for assistant in assistants for choice in assistant.fallback}
    return {assistant.provider for assistant in assistants} | fallbacks


def _queues_of(providers: list[ProviderSettings]) -> dict[str, str]:
    of_models = {f"{one.name}/{model}": one.queue_of(model) for one in providers for model in one.models}
    return {provider.name: provider.queue for provider in providers} | of_models


class ExecuteActivities:
    """``execute_assistant``: on the queues of one provider; ``admissions`` has the way in of each."""

    def __init__(
        self,
        settings: Settings,
        provider: ProviderSettings,
        session: ProviderSession,
        calls: Calls,
        temporal: Client,
        admissions: Mapping[str, Admission],
        measures: Measures,
    ) -> None:
        self.settings = settings
        self.measures = measures
        self._provider = provider
        self._session = session
        self._calls = calls
        self._temporal = temporal
        self._admissions = admissions

    async def place(self) -> str:
        """The journal of this process's calls."""
        return await self._calls.place()

    def holding(self, token: bytes) -> AbstractAsyncContextManager[None]:
        """Note in the journal that this process works on the task."""
        return self._calls.holding(token)

    @activity.defn(name=EXECUTE_ASSISTANT)
    @safe_activity
    async def execute(self, call: AssistantCall) -> AssistantResult:
        """The assistant's answer: from the journal, or from one call to its provider."""
        assignment = await self._assignment(call)
        request = _request(call, assignment)
        admission = self._admissions[activity.info().task_queue]
        async with admission.admitted(request, _hold_seconds(call)) as make:
            order = self._order(call, assignment, request, make)
            return self._result(call, request, await self._recorded(call, order, admission))

    async def _recorded(self, call: AssistantCall, order: Order, admission: Admission) -> Recorded:
        """Have the call made, or its answer found, and tell the pipeline meanwhile."""
        attempts = current_attempts()
        telling = asyncio.create_task(self._tell(call, AssistantState.RUNNING, order.attempts))
        try:
            return await self._calls.make(order)
        except ProviderError as error:
            attempts.failed(error)
            error.excused = await _excused(error, admission)
            await telling
            unsettled = attempts.may_have_sent
            await self._tell(call, AssistantState.QUEUED, order.attempts, str(error), unsettled=unsettled)
            if error.retryable and error.is_ambiguous and not order.send_ambiguous:
                attempts.provider_failures += 1
                raise AmbiguousCall(call.function_key, f"{error.meaning}: {error.detail}") from error
            raise
        except asyncio.CancelledError:
            if _is_to_end():
                await self._calls.cut_off(order.name)
            raise
        finally:
            telling.cancel()

    def _order(
        self,
        call: AssistantCall,
        assignment: Assignment,
        request: LlmRequest,
        make: Make,
    ) -> Order:
        attempts = current_attempts()
        policy = assignment.assistant.on_ambiguous or self.settings.on_ambiguous
        seconds = self._deadline_seconds()
        return Order(
            name=_call_name(call, assignment, request),
            ask=lambda ticket: make(lambda: self._ask(request, seconds, ticket)),
            seconds=seconds,
            attempts=attempts.made + 1,
            response_id=attempts.response_id or None,
            maybe_paid=attempts.maybe_paid,
            unknown_before=attempts.may_be_open_elsewhere,
            send_ambiguous=policy == "send",
            on_sending=attempts.sending,
            on_response_id=attempts.goes_on,
        )

    async def _assignment(self, call: AssistantCall) -> Assignment:
        """Ask the pipeline what this assistant works from."""
        try:
            assignment: Assignment = await self._pipeline().query(
                ASSIGNMENT_QUERY,
                call.function_key,
                result_type=Assignment,
                rpc_timeout=timedelta(seconds=_ASK_PIPELINE_SECONDS),
            )
        except (RPCError, WorkflowQueryFailedError) as error:
            raise AssignmentUnavailable(
                f"{call.name}: the pipeline could not be asked for the inputs ({error}). "
                "Remedy: see that a pipeline worker runs; it is asked again"
            ) from error
        return assignment

    async def _tell(
        self, call: AssistantCall, state: AssistantState, attempt: int, note: str = "", *, unsettled: bool = False
    ) -> None:
        """Tell the pipeline how this assistant moves, for its progress; a failure here harms nothing else."""
        moved = AssistantMoved(call.function_key, state, attempt, note, unsettled)
        try:
            await self._pipeline().signal(
                ASSISTANT_SIGNAL, moved, rpc_timeout=timedelta(seconds=_TELL_PIPELINE_SECONDS)
            )
        except RPCError as error:
            logger.warning("the pipeline's progress could not be updated: {}", error)

    def _pipeline(self) -> WorkflowHandle[Any, Any]:
        info = activity.info()
        return self._temporal.get_workflow_handle(info.workflow_id or "", run_id=info.workflow_run_id)

    async def _ask(self, request: LlmRequest, seconds: float, ticket: Ticket) -> LlmAnswer:
        """The provider call under its one true deadline, between the REQUEST and RESPONSE markers."""
        name = self._provider.name
        logger.info("🤖 LLM REQUEST: {}/{}", name, request.model)
        logger.debug("LLM INPUT: system: {} user: {}", request.system_prompt, request.user_message)
        began = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                answer = await self._session.complete(request, timeout_seconds=seconds, ticket=ticket)
        except TimeoutError as error:
            self.measures.call_ended(name, self._provider.queue_of(request.model), Meaning.TIMED_OUT)
            detail = f"no complete answer within {seconds:.0f} s"
            raise ProviderError(Meaning.TIMED_OUT, name, detail) from error
        except asyncio.CancelledError:
            self.measures.call_ended(name, self._provider.queue_of(request.model), CUT_OFF)
            raise
        took = time.monotonic() - began
        logger.info("📨 LLM RESPONSE: {} ({} chars in {:.1f}s)", name, len(answer.text), took)
        logger.debug("LLM OUTPUT: {}", answer.text)
        if answer.finish_reason == "length":
            logger.warning("the answer of {} was cut off at max_tokens", answer.model)
        return answer

    def _deadline_seconds(self) -> float:
        left = self.settings.activity_timeout_seconds - seconds_used() - _REPORTING_SECONDS
        return max(min(self._provider.timeout_seconds, left), 0.1)

    def _result(self, call: AssistantCall, request: LlmRequest, recorded: Recorded) -> AssistantResult:
        answer = recorded.answer
        cost = cost_of(self._provider, call.model, answer)
        output = _sendable(answer.text)
        if self.settings.metrics_by_project:
            self.measures.project_paid(call.project_id, cost.usd)
        return AssistantResult(
            function_key=call.function_key,
            output=output,
            provider=self._provider.name,
            model=call.model,
            finish_reason=answer.finish_reason if output == answer.text else "length",
            input_tokens=answer.input_tokens,
            cached_input_tokens=answer.cached_input_tokens,
            output_tokens=answer.output_tokens,
            cost_usd=cost.usd,
            price_version=cost.price_version,
            attempts=recorded.attempts,
            seconds=recorded.seconds,
            started=recorded.started,
            idempotency_key=request.idempotency_key,
            possibly_paid_twice=max(recorded.maybe_paid, current_attempts().maybe_paid),
        )


async def _excused(error: ProviderError, admission: Admission) -> bool:
    """Whether the provider was known to be in trouble: then the failure is not the call's own."""
    if not (error.retryable and error.traits.counts):
        return False
    standing = await admission.standing()
    return standing is not None and standing.breaker != "closed" and current_attempts().excuse(time.time())


def _hold_seconds(call: AssistantCall) -> float:
    """How long the call may be held back here: no longer than until another provider may take it."""
    if call.give_up_after_seconds is None or current_attempts().may_have_sent:
        return LONGEST_HOLD_SECONDS
    info = activity.info()
    waited = (info.started_time - info.scheduled_time).total_seconds()
    return min(max(call.give_up_after_seconds - waited, 0.0), LONGEST_HOLD_SECONDS)


def _request(call: AssistantCall, assignment: Assignment) -> LlmRequest:
    assistant, info = assignment.assistant, activity.info()
    return LlmRequest(
        model=call.model,
        system_prompt=assistant.system_prompt,
        user_message=build_user_message(assignment),
        temperature=assistant.temperature,
        top_p=assistant.top_p,
        max_tokens=assistant.max_tokens,
        idempotency_key=idempotency_key(info, call.function_key),
    )


def _call_name(call: AssistantCall, assignment: Assignment, request: LlmRequest) -> CallName:
    """What makes a call the same call: pipeline, assistant, and what is asked of which model."""
    info = activity.info()
    asked = {name: value for name, value in asdict(request).items() if name != "idempotency_key"}
    parts = (info.workflow_id or "", assignment.first_run_id, call.function_key, call.provider, json.dumps(asked))
    key = hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
    return CallName(key, info.workflow_id or "", call.function_key)


def _is_to_end() -> bool:
    """Whether a cancelled attempt takes its call along: the worker leaves, or the user wants no answer. An attempt
    that Temporal gave up, since it was silent for too long, does not: the next one waits for the answer."""
    details = activity.cancellation_details()
    return details is not None and (details.worker_shutdown or details.cancel_requested)


def idempotency_key(info: activity.Info, function_key: str) -> str:
    """A header-safe name of one assistant's call in one pipeline, equal over all its attempts."""
    parts = "\x1f".join((info.workflow_id or "", info.workflow_run_id or "", function_key))
    return f"fleet-{hashlib.sha256(parts.encode()).hexdigest()[:32]}"


def _sendable(text: str) -> str:
    """The text as Temporal can carry it: valid UTF-8, within the payload limit."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) > OUTPUT_MAX_BYTES:
        logger.warning("the output has {} bytes; it is cut at {}", len(encoded), OUTPUT_MAX_BYTES)
    return encoded[:OUTPUT_MAX_BYTES].decode("utf-8", "ignore")
