"""The activities of a pipeline: load its assistants, check its CSV, collect finished outputs, execute an
assistant."""

import asyncio
import hashlib
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace

from loguru import logger
from temporalio import activity
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from fleet.budgets.worker.gate import LONGEST_HOLD_SECONDS
from fleet.config import Settings
from fleet.contracts import (
    CHECK_CSV,
    COLLECT_FINISHED,
    EXECUTE_ASSISTANT,
    LOAD_ASSISTANTS,
    PAYLOAD_MAX_BYTES,
    RETRY_MEMO,
    ActivityLimits,
    Assignment,
    Assistant,
    AssistantCall,
    AssistantResult,
    ModelChoice,
    PipelinePlan,
    RetryOf,
)
from fleet.errors import AssignmentUnavailable, InputError, OutputBroken, TooLarge
from fleet.execution.assistant_results import About, result_of
from fleet.execution.async_journal import AsyncJournal
from fleet.execution.attempts import current_attempts
from fleet.execution.backend_client import Backend
from fleet.execution.call_runner import Call, CallRunner
from fleet.execution.failed_calls import Used
from fleet.execution.journal_records import Asked, CallName, Task
from fleet.execution.load_assistants import load_project
from fleet.execution.pipeline_client import PipelineLink
from fleet.execution.recorded_answer import Recorded
from fleet.execution.requests import identity_of, request_for
from fleet.execution.safe_activity import safe_activity
from fleet.execution.second_ask import answer_that_matches
from fleet.execution.task_age import Arrivals
from fleet.pipeline.inputs import parse_csv
from fleet.pipeline.past_runs import finished_results, refuse_foreign
from fleet.process.metrics import Metrics
from fleet.process.payload_size import payload_bytes
from fleet.process.reachability import Reach
from fleet.provider_settings import ProviderSettings
from fleet.providers.base import LlmRequest

# Of the time of an attempt; after that, a second call gets an attempt of its own.
_SHARE_FOR_FIRST = 0.2


class LoadActivities:
    """A pipeline's activities that cost nothing, on the queue ``assistants``."""

    def __init__(self, settings: Settings, backend: Backend, temporal: Client, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self._backend = backend
        self._temporal = temporal

    async def place(self) -> str:
        """Empty: nothing here is paid, so there is no journal."""
        return ""

    def holding(self) -> AbstractAsyncContextManager[None]:
        """Does nothing: Temporal notices a dead worker soon by itself, since the heartbeat timeout here is half a
        minute."""
        return nullcontext()

    def ended(self, error: Exception | None) -> None:
        """Does nothing: the outcome of one task says nothing about others."""

    @activity.defn(name=LOAD_ASSISTANTS)
    @safe_activity
    async def load(self, project_id: str) -> PipelinePlan:
        """The project's assistants, checked, with the queue of each provider that they name.

        A provider for which the backend has no key fails the pipeline here, before anything is paid.
        """
        settings = self.settings
        loaded = await load_project(self._backend, settings, project_id)
        assistants = loaded.assistants
        providers = [settings.provider(name) for name in sorted(_providers_in(assistants))]
        await asyncio.gather(
            *(self._backend.see_key(provider.name) for provider in providers if provider.key_from_backend)
        )
        names = [provider.name for provider in providers]
        logger.info(
            "project {} ({}): {} assistants over {}", project_id, loaded.fingerprint, len(assistants), names
        )
        plan = PipelinePlan(
            project_id=project_id,
            assistants=assistants,
            queues=_queue_by_model(providers),
            limits=ActivityLimits(
                timeout_seconds=settings.activity_timeout_seconds,
                heartbeat_timeout_seconds=settings.heartbeat_timeout_seconds,
                retry_initial_seconds=settings.retry_initial_seconds,
                backoff_coefficient=settings.backoff_coefficient,
                fallback_after_seconds=settings.fallback_after_seconds,
            ),
            fingerprint=loaded.fingerprint,
        )
        if (size := payload_bytes(plan)) > PAYLOAD_MAX_BYTES:
            what = f"the {len(assistants)} assistants of project {project_id!r}, with their prompts"
            raise TooLarge(what, size, PAYLOAD_MAX_BYTES, "shorten the prompts, or make two projects of it")
        return plan

    @activity.defn(name=CHECK_CSV)
    @safe_activity
    async def check_csv(self, csv_text: str) -> None:
        """Read a pipeline's large CSV; if it cannot be read, the pipeline fails. This takes up to a second of CPU,
        which a workflow must not use."""
        await asyncio.to_thread(parse_csv, csv_text)

    @activity.defn(name=COLLECT_FINISHED)
    @safe_activity
    async def collect(self, failed: RetryOf) -> list[AssistantResult]:
        """The answers of a failed run's assistants, marked as reused and without cost: the first ``skip`` are
        skipped, then as many as Temporal carries at once.

        Raises:
            InputError: it is not an earlier run of the same pipeline, or Temporal does not know it (any more).
            AssignmentUnavailable: a history cannot be read.
        """
        info = activity.info()
        if not failed.run_id:
            raise _unknown_run(failed)  # Temporal would take it for the latest run, which is this one
        try:
            await refuse_foreign(
                self._temporal, RetryOf(info.workflow_id or "", info.workflow_run_id or ""), failed
            )
            found = await finished_results(self._temporal, failed)
        except RPCError as error:
            if error.status in (RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT):
                raise _unknown_run(failed) from error
            raise AssignmentUnavailable(
                f"the history of {failed.workflow_id} cannot be read ({error.message}); it is asked "
                "again. Remedy: see that Temporal answers, with `fleet doctor`"
            ) from error
        logger.info("{} outputs of run {} are reused", len(found), failed.run_id)
        return _at_once(found[failed.skip :])


def _unknown_run(failed: RetryOf) -> InputError:
    return InputError(
        f"Temporal knows no run {failed.run_id!r} of {failed.workflow_id}, whose outputs were to be reused. "
        "Remedy: find the runs that it has with `fleet list`; one past its retention must be run again, without "
        f"the memo {RETRY_MEMO}"
    )


def _at_once(results: list[AssistantResult]) -> list[AssistantResult]:
    """The first of these results, as many as fit into one payload."""
    room = PAYLOAD_MAX_BYTES
    for number, result in enumerate(results):
        room -= payload_bytes(result) + 1
        if room < 2 and number:
            return results[:number]
    return results


def _providers_in(assistants: list[Assistant]) -> set[str]:
    fallbacks = {choice.provider for assistant in assistants for choice in assistant.fallback}
    return {assistant.provider for assistant in assistants} | fallbacks


def _queue_by_model(providers: list[ProviderSettings]) -> dict[str, str]:
    of_models = {
        f"{provider.name}/{model}": provider.queue_of(model) for provider in providers for model in provider.models
    }
    return {provider.name: provider.queue for provider in providers} | of_models


class ExecuteActivities:
    """The activity ``execute_assistant``, on the queues of one provider."""

    def __init__(
        self,
        settings: Settings,
        provider: ProviderSettings,
        journal: AsyncJournal,
        runner: CallRunner,
        temporal: Client,
        metrics: Metrics,
        reach: Reach,
        arrivals: Arrivals,
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self._reach = reach
        self._provider = provider
        self._journal = journal
        self._runner = runner
        self._temporal = temporal
        self._arrivals = arrivals

    async def place(self) -> str:
        """The name of the journal of this process's calls."""
        return await self._journal.place()

    def holding(self) -> AbstractAsyncContextManager[None]:
        """Note in the journal that this process works on the task."""
        info = activity.info()
        return self._journal.holding(
            Task(info.task_token, info.workflow_id or "", info.workflow_run_id or "", info.activity_id)
        )

    def ended(self, error: Exception | None) -> None:
        """Record the outcome: after several failures before sending, the process takes no more tasks."""
        self._reach.ended(error)

    @activity.defn(name=EXECUTE_ASSISTANT)
    @safe_activity
    async def execute(self, call: AssistantCall) -> AssistantResult:
        """The assistant's answer: from the journal, or from one call to its provider."""
        pipeline = PipelineLink(self._temporal, call)
        late = self._arrivals.late(activity.info().started_time.timestamp())
        assignment = await pipeline.assignment()
        key = idempotency_key(activity.info(), call.function_key)
        choice = ModelChoice(call.provider, call.model)
        if assignment.csv_data:  # a large one takes a second to read
            request = await asyncio.to_thread(request_for, assignment, choice, key)
        else:
            request = request_for(assignment, choice, key)
        if left_out := _left_out(assignment.assistant, request):
            logger.warning("{}/{} is asked without {}", call.provider, call.model, ", ".join(left_out))
        policy = assignment.assistant.on_ambiguous or self.settings.on_ambiguous
        attempts = current_attempts()
        # A person who retries a pipeline has accepted what may have been paid before.
        send_again = policy == "send" or (assignment.retried and not attempts.may_have_sent)
        info = activity.info()
        about = About(call.model, request.idempotency_key, attempts.calls + 1, request.output_schema)

        def to_make(request: LlmRequest, of_run: str = "") -> Call:
            return Call(
                name=_call_name(call, assignment, request, of_run),
                queue=info.task_queue,
                request=request,
                hold_seconds=_hold_seconds(call),
                send_ambiguous=send_again,
                asked=Asked(info.workflow_run_id or "", about.to_json()),
                started_at=info.started_time.timestamp(),
                late=late,
                project_id=call.project_id,
                first=_is_first(call, assignment),
                attempt=info.attempt,
            )

        def note_in_vain(recorded: Recorded, ask: int) -> None:
            of_this_run = not assignment.retried or recorded.started >= info.scheduled_time.isoformat()
            used = Used.by(self._provider, call.model, recorded, ask).to_details()
            attempts.answered_in_vain(recorded.maybe_paid + 1, used if of_this_run else None)

        async def matching(of_run: str = "") -> Recorded:
            return await answer_that_matches(
                call.name,
                lambda request: to_make(request, of_run),
                request,
                lambda made: self._runner.run(made, attempts, pipeline),
                note_in_vain,
                self.settings.activity_timeout_seconds * _SHARE_FOR_FIRST,
            )

        try:
            recorded = await matching()
        except OutputBroken as broken:
            if not assignment.retried or broken.last_asked >= info.scheduled_time.isoformat():
                raise
            # The journal has the answers for which an earlier run failed: a retry asks anew.
            recorded = await matching(info.workflow_run_id or "")
        about = replace(about, calls=attempts.calls)
        return result_of(self._provider, call.function_key, about, recorded, attempts.maybe_paid)


def _is_first(call: AssistantCall, assignment: Assignment) -> bool:
    """Whether no call of this assistant was made before: in an earlier attempt, for another model, or in a run
    that this one repeats."""
    info = activity.info()
    in_first_run = info.workflow_run_id == assignment.first_run_id
    return info.attempt == 1 and call.before is None and in_first_run and not assignment.retried


def _left_out(assistant: Assistant, request: LlmRequest) -> list[str]:
    """The options of an assistant that its fallback does not take."""
    given = assistant.options.given if assistant.options else {}
    return [name for name in given if name not in request.model_options.given]


def _hold_seconds(call: AssistantCall) -> float:
    """How long the call may be held back here: no longer than until another model may take it."""
    if call.give_up_after_seconds is None or current_attempts().may_have_sent:
        return LONGEST_HOLD_SECONDS
    info = activity.info()
    waited = (info.started_time - info.scheduled_time).total_seconds()
    return min(max(call.give_up_after_seconds - waited, 0.0), LONGEST_HOLD_SECONDS)


def _call_name(call: AssistantCall, assignment: Assignment, request: LlmRequest, of_run: str = "") -> CallName:
    """The identity of a call: pipeline, assistant, and what is asked of which model; with ``of_run`` of this run
    alone."""
    info = activity.info()
    parts = [
        info.workflow_id or "",
        assignment.first_run_id,
        call.function_key,
        call.provider,
        identity_of(request),
    ]
    parts += [of_run] if of_run else []
    key = hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
    return CallName(key, info.workflow_id or "", call.function_key)


def idempotency_key(info: activity.Info, function_key: str) -> str:
    """A header-safe name of one assistant's call in one pipeline run, equal for all its attempts."""
    parts = "\x1f".join((info.workflow_id or "", info.workflow_run_id or "", function_key))
    return f"fleet-{hashlib.sha256(parts.encode()).hexdigest()[:32]}"
