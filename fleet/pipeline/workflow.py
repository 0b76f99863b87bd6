"""``AssistantPipelineWorkflow``: which assistant runs when, and what the pipeline's result is.

It decides the order and nothing else: no I/O, no provider. Timeouts and retry policy come with the plan; the
meaning of a failure is decided where it happened.
"""

import asyncio
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any, NoReturn

from temporalio import workflow
from temporalio.common import Priority, RetryPolicy
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    CancelledError,
    RetryState,
    TimeoutError,
    TimeoutType,
)

with workflow.unsafe.imports_passed_through():
    from fleet.contracts import (
        ASSIGNMENT_QUERY,
        ASSISTANT_SIGNAL,
        ASSISTANTS_QUEUE,
        CHECK_CSV,
        COLLECT_FINISHED,
        CSV_MAX_BYTES,
        EXECUTE_ASSISTANT,
        LOAD_ASSISTANTS,
        MODEL_UNUSABLE,
        OUTPUT_ESCAPED_MAX_BYTES,
        OUTPUTS_QUERY,
        PAYLOAD_MAX_BYTES,
        PIPELINE_DURATION,
        PIPELINE_FAILED,
        PROGRESS_QUERY,
        RETRY_MEMO,
        WORKFLOW_TYPE,
        Assignment,
        Assistant,
        AssistantCall,
        AssistantMoved,
        AssistantResult,
        ErrorRecord,
        FailedCalls,
        ModelChoice,
        PipelinePlan,
        PipelineResult,
        PipelineState,
        Progress,
        RetryOf,
        Spent,
    )
    from fleet.errors import HeldBack, InputError, TooLarge
    from fleet.pipeline.assistants import reads_csv
    from fleet.pipeline.csv_selection import refuse_selections
    from fleet.pipeline.inputs import (
        PipelineInputs,
        clean_inputs,
        csv_warnings,
        parse_csv,
        refuse_no_csv,
        refuse_surplus,
    )
    from fleet.pipeline.results import fit_outputs, fit_payload_limit, fit_progress
    from fleet.pipeline.stages import Stages, texts_of
    from fleet.process.payload_size import payload_bytes, surely_fit, text_bytes

_LOAD_ATTEMPT = timedelta(seconds=60)
_LOAD_SILENCE = timedelta(seconds=30)
_LONGEST_PATIENCE_SECONDS = 3600.0
# A CSV of this many characters takes about 20 ms of CPU to read.
_LARGE_CSV = 20_000
#: Patch ids of changes in the workflow's commands; a history recorded without a patch replays as it was recorded.
_COLLECTS_IN_PARTS = "collects-in-parts"
_REFUSES_TOO_LARGE = "refuses-too-large"
_CHECKS_CSV = "checks-csv-in-an-activity"
_REFUSES_NO_CSV = "refuses-what-is-no-csv"
_CHECKS_SELECTIONS = "checks-selections-of-the-csv"
_LEAVES_OUT_UNUSABLE = "leaves-out-what-cannot-be-used"
_CANCELS_UNSENT = "cancels-what-is-not-sent"
_UNTOLD_STAYS = "stays-where-an-attempt-was-lost-untold"
_CANCEL_KEEPS_SENT = "cancel-keeps-what-is-sent"
_UNSENT_IS_NO_FAILURE = "what-ends-unsent-has-not-failed"
#: Source: Temporal's limit on fairness keys, in bytes.
_FAIRNESS_KEY_MAX = 64


@workflow.defn(name=WORKFLOW_TYPE)
class AssistantPipelineWorkflow:
    """Runs a project's assistants on one topic.

    Started with four positional JSON arguments: topic, project_id, csv_data, current_date.
    """

    def __init__(self) -> None:
        self._state = PipelineState.LOADING
        self._inputs = PipelineInputs(topic="", project_id="", csv_text="", current_date="")
        self._stages = Stages([], self._inputs)
        self._total = 0
        self._fingerprint = ""
        self._error: ErrorRecord | None = None
        self._warnings: list[str] = []
        self._cancelled = False
        self._executing: dict[str, workflow.ActivityHandle[AssistantResult]] = {}

    # Untyped arguments: a wrong type from another client must fail the pipeline with a clear message; the
    # converter would fail the workflow task again and again.
    @workflow.run
    async def run(
        self,
        topic: Any = None,
        project_id: Any = None,
        csv_data: Any = None,
        current_date: Any = None,
        *surplus: Any,
    ) -> PipelineResult:
        """Validate, load, execute. Returns the result, or fails with one ErrorRecord and the outputs so far."""
        try:
            refuse_surplus(len(surplus))
            await self._take_inputs(topic, project_id, csv_data, current_date)
        except InputError as error:
            self._refuse(error)
        plan = await self._load()
        retry_of = self._retried()
        first_run_id = (retry_of and retry_of.first_run_id) or workflow.info().first_execution_run_id
        self._begin(plan, first_run_id, retried=retry_of is not None)
        if retry_of is not None:
            await self._take_over(retry_of)
        return await self._execute_all(plan)

    async def _take_inputs(self, topic: Any, project_id: Any, csv_data: Any, current_date: Any) -> None:
        """Check and keep the pipeline's arguments.

        Raises:
            InputError: one of them cannot be used.
        """
        self._inputs = clean_inputs(topic, project_id, csv_data, current_date, csv_max_bytes=CSV_MAX_BYTES)
        try:
            refuse_no_csv(csv_data)
        except InputError:
            if workflow.patched(_REFUSES_NO_CSV):
                raise
        if self._inputs.csv_text:
            await self._check_csv()
        self._warnings += csv_warnings(csv_data, self._inputs.csv_text)

    def _begin(self, plan: PipelinePlan, first_run_id: str, *, retried: bool) -> None:
        """Take the plan's assistants; none of them is executed yet. Fails if one chooses what the CSV lacks: here
        nothing is paid yet."""
        self._stages = Stages(plan.assistants, self._inputs, first_run_id, retried=retried)
        self._total = len(plan.assistants)
        self._fingerprint = plan.fingerprint
        self._state = PipelineState.RUNNING
        if self._inputs.csv_text and not reads_csv(plan.assistants):
            self._warnings.append(
                "csv_data was given and no assistant reads it: add csv to the input_keys of one that should"
            )
        try:
            refuse_selections(plan.assistants, self._inputs.csv_text, in_full=not self._has_large_csv())
        except InputError as error:
            if workflow.patched(_CHECKS_SELECTIONS):
                self._refuse(error)

    def _has_large_csv(self) -> bool:
        return len(self._inputs.csv_text) > _LARGE_CSV

    async def _execute_all(self, plan: PipelinePlan) -> PipelineResult:
        """Execute the assistants that have not answered yet; returns the result, or fails."""
        await self._follow_all(plan)
        if self._error is not None:
            self._fail(self._error)
        self._state = PipelineState.COMPLETED
        self._measure()
        return self._result()

    async def _follow_all(self, plan: PipelinePlan) -> None:
        """Execute the assistants.

        If the pipeline is cancelled, nothing new is sent and what waits is dropped. Calls in flight are paid for,
        so their answers are awaited; then the pipeline ends as cancelled, or completes if nothing was left to do.
        """
        following = asyncio.gather(*(self._follow(assistant, plan) for assistant in plan.assistants))
        try:
            await asyncio.shield(following)
        except asyncio.CancelledError:
            self._cancelled = workflow.patched(_CANCEL_KEEPS_SENT)
            if self._cancelled:
                self._cancel_what_is_not_sent()
            else:
                following.cancel()
            await following
            if not self._stages.all_done():
                raise

    @workflow.query(name=PROGRESS_QUERY)
    def progress(self) -> Progress:
        """The current state of the pipeline and of each of its assistants."""
        failed = self._state is PipelineState.FAILED
        progress = Progress(
            state=self._state,
            topic=self._inputs.topic,
            project_id=self._inputs.project_id,
            seconds=round(max(_wall_clock() - workflow.info().start_time.timestamp(), 0.0), 3),
            assistants=self._stages.progress(_wall_clock(), with_outputs=failed),
            error=self._error,
        )
        return fit_progress(progress)

    @workflow.query(name=OUTPUTS_QUERY)
    def outputs(self, function_keys: list[str] | None = None) -> dict[str, str]:
        """The answers so far, by functionKey; only of the named assistants where some are named.

        Raises:
            InputError: the pipeline has no such assistant.
            TooLarge: Temporal does not carry that many bytes at once.
        """
        return fit_outputs(self._stages.outputs(function_keys))

    @workflow.query(name=ASSIGNMENT_QUERY)
    def assignment(self, function_key: str, understood: list[str] | None = None) -> Assignment:
        """Everything that one assistant works with; queried by its worker. ``understood``: which of the
        assistant's :attr:`~fleet.contracts.Assistant.needs` the worker knows.

        Raises:
            InputError: it does not know one of them, so it would execute the assistant without it.
        """
        assignment = self._stages.assignment(function_key)
        if unknown := [name for name in assignment.assistant.needs if name not in (understood or ())]:
            raise InputError(
                f"the worker's release does not know {', '.join(unknown)}. Remedy: update the workers of its "
                "queue; the call waits for one that does"
            )
        return assignment

    @workflow.signal(name=ASSISTANT_SIGNAL)
    def assistant_moved(self, moved: AssistantMoved) -> None:
        """A worker reports that an attempt began, or that it failed and will be retried."""
        self._stages.move(moved)
        self._cancel_what_is_not_sent()

    async def _check_csv(self) -> None:
        """Read the CSV's rows; those of a large CSV in an activity, since that takes up to a second of CPU."""
        csv_text = self._inputs.csv_text
        if self._has_large_csv() and workflow.patched(_CHECKS_CSV):
            await self._prepare(CHECK_CSV, csv_text, type(None))
        else:
            parse_csv(csv_text)

    async def _load(self) -> PipelinePlan:
        plan: PipelinePlan = await self._prepare(LOAD_ASSISTANTS, self._inputs.project_id, PipelinePlan)
        return plan

    def _retried(self) -> RetryOf | None:
        """The run that this pipeline retries, from its memo; None if it is not a retry. With anything else in the
        memo the pipeline fails: an exception would fail the workflow task over and over."""
        try:
            found: RetryOf | None = workflow.memo_value(RETRY_MEMO, default=None, type_hint=RetryOf)
        except (RuntimeError, ValueError, TypeError, KeyError):
            self._refuse(
                InputError(
                    f"the memo {RETRY_MEMO} does not name a run. Remedy: start the pipeline without it, or with "
                    f"`fleet retry {workflow.info().workflow_id}`"
                )
            )
        return found

    async def _take_over(self, failed: RetryOf) -> None:
        """In a retry of a pipeline, reuse the failed run's answers instead of asking again."""
        taken: set[str] = set()
        while True:
            rest = replace(failed, skip=len(taken))
            found = await self._prepare(COLLECT_FINISHED, rest, list[AssistantResult])
            new = [result for result in found if result.function_key not in taken]
            for result in new:
                self._stages.reuse(result)
                taken.add(result.function_key)
            all_fit = payload_bytes(found) + OUTPUT_ESCAPED_MAX_BYTES < PAYLOAD_MAX_BYTES
            # The activity of 0.1.0 returns all answers each time.
            if all_fit or not new or not workflow.patched(_COLLECTS_IN_PARTS):
                return

    async def _prepare(self, activity: str, argument: Any, result_type: Any) -> Any:
        """Execute an activity of the queue ``assistants``; if it fails, the pipeline fails."""
        try:
            return await workflow.execute_activity(
                activity,
                argument,
                result_type=result_type,
                task_queue=ASSISTANTS_QUEUE,
                start_to_close_timeout=_LOAD_ATTEMPT,
                heartbeat_timeout=_LOAD_SILENCE,
                priority=self._priority(self._inputs.project_id),
                retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), backoff_coefficient=2.0),
            )
        except ActivityError as error:
            if isinstance(error.cause, CancelledError) and workflow.patched(_CANCEL_KEEPS_SENT):
                raise  # the pipeline was cancelled
            self._fail(_record_of(error))

    async def _follow(self, assistant: Assistant, plan: PipelinePlan) -> None:
        """Wait for the inputs of this assistant, then execute it.

        After another assistant has failed for good, or the pipeline was cancelled, nothing new is sent: calls that
        wait in a queue or between two attempts are cancelled. Calls in flight are paid for, so their answers are
        awaited and kept.
        """
        key = assistant.function_key
        if self._stages.done(key):
            return
        await workflow.wait_condition(lambda: self._stops() or self._stages.ready(key))
        if self._stops():
            return
        if (error := self._too_large(key)) is not None and workflow.patched(_REFUSES_TOO_LARGE):
            record = ErrorRecord(error.code, str(error), None, 0, retryable=False)
            self._stages.fail(key, record, _now())
            self._error = self._error or record
            self._cancel_what_is_not_sent()
            return
        self._stages.queue(key, _now())
        try:
            self._stages.finish(await self._execute(assistant, plan), _now())
        except ActivityError as error:
            if self._stops() and (isinstance(error.cause, CancelledError) or self._ends_unsent(error, key)):
                why = "another assistant had failed" if self._error else "the pipeline was cancelled"
                self._stages.drop(key, f"not sent: {why}")
                return
            record = _record_of(error)
            self._stages.fail(key, record, _now(), _calls_of(error))
            self._error = self._error or _with_name(record, assistant)
            self._cancel_what_is_not_sent()

    def _ends_unsent(self, error: ActivityError, key: str) -> bool:
        """Whether the call was cancelled while an attempt still ran that then ended without having sent it: the
        server reports that attempt's failure, and does not retry."""
        unsent = error.retry_state is RetryState.CANCEL_REQUESTED and self._stages.waits_to_be_sent(key)
        return unsent and workflow.patched(_UNSENT_IS_NO_FAILURE)

    def _too_large(self, key: str) -> TooLarge | None:
        """The error for an assistant whose prompt and inputs are too large to pass to it; None if they fit."""
        assignment = self._stages.assignment(key)
        if surely_fit(texts_of(assignment)) or (size := payload_bytes(assignment)) <= PAYLOAD_MAX_BYTES:
            return None
        read = ", ".join(f"{output.key} {text_bytes(output.text):,}" for output in assignment.outputs)
        what = f"{assignment.assistant.name}: its prompt and inputs ({read or 'the CSV'})"
        remedy = "name fewer input_keys, or limit max_tokens of the assistants that it reads"
        return TooLarge(what, size, PAYLOAD_MAX_BYTES, remedy)

    def _stops(self) -> bool:
        """Whether nothing new is sent: an assistant has failed for good, or the pipeline was cancelled."""
        return self._error is not None or self._cancelled

    def _cancel_what_is_not_sent(self) -> None:
        """After a failure or a cancellation, cancel the calls that no worker has sent yet: they would be paid for
        nothing."""
        if not self._stops():
            return
        unsent = [key for key in self._executing if self._stages.waits_to_be_sent(key)]
        if unsent and workflow.patched(_CANCELS_UNSENT):
            for key in unsent:
                self._executing[key].cancel()

    async def _execute(self, assistant: Assistant, plan: PipelinePlan) -> AssistantResult:
        """The answer of the first of its models that can send the call in time; in every round over the models the
        time is longer. A model that does not exist, or not for this key, is left out from then on.

        The call stays with the provider that it was *sent* to: a request reached the provider, or may have, and
        was not certainly refused without a charge. After a 429, a rejected key, an error reported by the provider
        or a connection that was never made the assistant may move on; after a lost connection, a timeout, an
        unusable answer or the death of a worker during the call it may not.
        """
        key, patience = assistant.function_key, plan.limits.fallback_after_seconds
        choices = [ModelChoice(assistant.provider, assistant.model), *assistant.fallback]
        bounded, number = len(choices) > 1, 0
        before: dict[str, Any] | None = None
        while True:
            choice = choices[number % len(choices)]
            wait = min(patience * 2 ** (number // len(choices)), _LONGEST_PATIENCE_SECONDS)
            try:
                return await self._ask(assistant, choice, plan, wait if bounded else None, before)
            except ActivityError as error:
                late, why = _start_timeout(error), _given_up(error, HeldBack.code)
                unusable = _given_up(error, MODEL_UNUSABLE)
                if unusable is not None and not workflow.patched(_LEAVES_OUT_UNUSABLE):
                    unusable = None
                if late is None and why is None and unusable is None:
                    raise
            if late is not None and (
                self._stages.sent(key)
                or _may_have_sent(late)
                or (_lost_untold(late) and workflow.patched(_UNTOLD_STAYS))
            ):
                # A call that was sent stays with its provider to the end; the new execution gets what the old one
                # knew.
                bounded, before = False, _last_details(late) or {"untold": True}
                continue
            note = (
                f"{choice.provider}/{choice.model}: {unusable or why or f'did not start it within {wait:.0f} s'}"
            )
            if unusable:
                turn, place = divmod(number, len(choices))
                del choices[place]
                number, bounded = turn * len(choices) + place, len(choices) > 1
                self._warnings.append(f"{assistant.name} moved to its fallback: {note}")
            else:
                number += 1
            self._stages.choose(key, choices[number % len(choices)], note)

    async def _ask(
        self,
        assistant: Assistant,
        choice: ModelChoice,
        plan: PipelinePlan,
        start_within: float | None,
        before: dict[str, Any] | None,
    ) -> AssistantResult:
        """One model's answer; ``start_within`` bounds the wait in its queue and its gate, not the call."""
        limits = plan.limits
        executing = workflow.start_activity(
            EXECUTE_ASSISTANT,
            AssistantCall(
                function_key=assistant.function_key,
                name=assistant.name,
                provider=choice.provider,
                model=choice.model,
                project_id=plan.project_id,
                give_up_after_seconds=start_within,
                before=before,
                assignment=self._stages.small_assignment(assistant.function_key),
                needs=assistant.needs,
            ),
            result_type=AssistantResult,
            activity_id=assistant.function_key,
            summary=f"{assistant.name}: {choice.provider}/{choice.model}",
            task_queue=plan.queue_of(choice),
            priority=self._priority(plan.project_id),
            schedule_to_start_timeout=None if start_within is None else timedelta(seconds=start_within),
            start_to_close_timeout=timedelta(seconds=limits.timeout_seconds),
            heartbeat_timeout=timedelta(seconds=limits.heartbeat_timeout_seconds),
            # Only its worker knows whether the call is already in flight.
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            retry_policy=RetryPolicy(
                initial_interval=timedelta(seconds=limits.retry_initial_seconds),
                backoff_coefficient=limits.backoff_coefficient,
            ),
        )
        self._executing[assistant.function_key] = executing
        self._cancel_what_is_not_sent()  # another assistant may have failed while this one moved
        try:
            result: AssistantResult = await asyncio.shield(executing)
        except asyncio.CancelledError:
            executing.cancel()  # pipelines of earlier releases do not wait when they are cancelled
            raise
        finally:
            del self._executing[assistant.function_key]
        return result

    def _priority(self, project_id: str) -> Priority:
        """Projects take turns by fairness key; the pipeline's own priority applies within and between projects."""
        fairness_key = project_id.encode()[:_FAIRNESS_KEY_MAX].decode("utf-8", "ignore")
        return Priority(priority_key=workflow.info().priority.priority_key, fairness_key=fairness_key)

    def _refuse(self, error: InputError) -> NoReturn:
        """Fail because of what the pipeline was started with."""
        self._fail(ErrorRecord(error.code, str(error), None, 0, retryable=False))

    def _fail(self, error: ErrorRecord) -> NoReturn:
        self._error, self._state = error, PipelineState.FAILED
        self._measure()
        raise ApplicationError(
            error.message, error, self._result(), type=PIPELINE_FAILED, non_retryable=True
        ) from None

    def _measure(self) -> None:
        """Record, except during replay, how this pipeline ended and how long it took."""
        took = _now() - workflow.info().start_time.timestamp()
        durations = workflow.metric_meter().create_histogram_float(PIPELINE_DURATION, unit="s")
        durations.record(took, {"outcome": self._state.value})

    def _result(self) -> PipelineResult:
        info, outputs, stages = workflow.info(), self._stages.outputs(), self._stages.records()
        return fit_payload_limit(
            PipelineResult(
                topic=self._inputs.topic,
                project_id=self._inputs.project_id,
                workflow_id=info.workflow_id,
                run_id=info.run_id,
                final_output=list(outputs.values())[-1] if outputs and self._error is None else "",
                stages=stages,
                assistants_executed=len(outputs),
                total_assistants=self._total,
                pipeline_success=self._error is None,
                error=self._error,
                warnings=[*self._warnings, *self._stages.cut_off()],
                spent=Spent.on(stages),
                project_fingerprint=self._fingerprint,
            )
        )


def _now() -> float:
    return workflow.now().timestamp()


def _wall_clock() -> float:
    """The real time, for queries, which are not replayed: the seconds of a running assistant must advance."""
    with workflow.unsafe.sandbox_unrestricted():
        return time.time()


def _start_timeout(error: ActivityError) -> TimeoutError | None:
    """The timeout, if the activity waited in its queue for too long; otherwise None."""
    cause = error.cause
    late = isinstance(cause, TimeoutError) and cause.type is TimeoutType.SCHEDULE_TO_START
    return cause if late and isinstance(cause, TimeoutError) else None


def _given_up(error: ActivityError, code: str) -> str | None:
    """The message of the worker that gave the call up unpaid with this code, so that another model takes it;
    otherwise None."""
    cause = error.cause
    given_up = isinstance(cause, ApplicationError) and cause.non_retryable and cause.type == code
    return cause.message if given_up and isinstance(cause, ApplicationError) else None


def _last_details(late: TimeoutError) -> dict[str, Any]:
    """The details of the execution's last heartbeat; see :class:`fleet.execution.attempts.Attempts`."""
    details = late.last_heartbeat_details
    return details[-1] if details and isinstance(details[-1], dict) else {}


def _may_have_sent(late: TimeoutError) -> bool:
    """Whether the last heartbeat says that an earlier attempt sent its call, or began and never ended."""
    last = _last_details(late)
    return bool(last.get("sent") or last.get("open_at") or last.get("under_way"))


def _lost_untold(late: TimeoutError) -> bool:
    """Whether an earlier attempt was lost before its first heartbeat; it may have sent its call."""
    return isinstance(late.cause, TimeoutError) and not _last_details(late)


def _record_of(error: ActivityError) -> ErrorRecord:
    """The record that the activity failed with, or one made from Temporal's own failure."""
    cause = error.cause
    if isinstance(cause, ApplicationError) and cause.details and isinstance(cause.details[0], dict):
        return ErrorRecord.from_details(cause.details[0])
    retryable = not (isinstance(cause, ApplicationError) and cause.non_retryable)
    return ErrorRecord("activity_failed", str(cause or error), None, 0, retryable)


def _with_name(record: ErrorRecord, assistant: Assistant) -> ErrorRecord:
    """The record as the pipeline's own error, which says whose failure it is."""
    key, name, said = assistant.function_key, " ".join(assistant.name.split()), record.message
    named = said.startswith((f"{name}: ", f"{key}: ")) or f"assistant {key}: " in said
    return record if named else replace(record, message=f"{name}: {said}")


def _calls_of(error: ActivityError) -> FailedCalls | None:
    """What the assistant's calls cost; None where its worker did not say."""
    cause = error.cause
    details = cause.details[1:] if isinstance(cause, ApplicationError) else ()
    return FailedCalls.from_details(details[0]) if details and isinstance(details[0], dict) else None
