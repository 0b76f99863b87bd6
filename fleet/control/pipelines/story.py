"""What the Temporal server has stored of one pipeline: its history, and what it has pending now."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import PendingActivityState, WorkflowExecutionStatus
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import (
    HistoryEvent,
    WorkflowExecutionSignaledEventAttributes,
    WorkflowExecutionStartedEventAttributes,
)
from temporalio.api.workflow.v1 import PendingActivityInfo, WorkflowExecutionInfo
from temporalio.client import Client, WorkflowHandle
from temporalio.converter import PayloadConverter
from temporalio.service import RPCError, RPCStatusCode

from fleet.contracts import (
    ASSISTANT_SIGNAL,
    COLLECT_FINISHED,
    EXECUTE_ASSISTANT,
    LOAD_ASSISTANTS,
    PIPELINE_TYPES,
    RETRY_MEMO,
    TRY_TYPE,
    WORKFLOW_TYPE,
    AssistantCall,
    AssistantMoved,
    AssistantResult,
    AssistantState,
    ErrorRecord,
    FailedCalls,
    PipelinePlan,
    PipelineResult,
    RetryOf,
)
from fleet.control.health.pipeline_runs import unix
from fleet.errors import InputError, OperationError
from fleet.pipeline.trials import given_results, trial_of, trial_plan
from fleet.process.data_converter import data_converter

#: What is read at most. A Temporal server ends a workflow at 51,200 events or 50 MB, unless it is told otherwise.
MAX_EVENTS = 20_000
MAX_HISTORY_BYTES = 50_000_000
#: A worker has it; also one that is told to cancel, which it does not if the call is in flight.
_WITH_WORKER = (
    PendingActivityState.PENDING_ACTIVITY_STATE_STARTED,
    PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED,
)


@dataclass
class Asked:
    """One time that an assistant was put on a task queue. ``sent_at`` is when a worker last reported that its call
    is on its way; ``dropped``: it was taken from the queue again, unsent."""

    call: AssistantCall
    queue: str
    queued_at: float
    started_at: float | None = None
    sent_at: float | None = None
    ended_at: float | None = None
    attempt: int = 1
    result: AssistantResult | None = None
    failure: str = ""
    failed: bool = False
    error: ErrorRecord | None = None
    failed_calls: FailedCalls | None = None
    dropped: bool = False
    pending: PendingActivityInfo | None = None


@dataclass
class Story:
    """What a history contains, and what is pending. ``status`` is Temporal's, such as ``running``; points in time
    are unix seconds. ``loading`` is the pending activity that prepares the pipeline, if one is."""

    workflow_id: str = ""
    run_id: str = ""
    type: str = ""
    status: str = ""
    arguments: list[Any] = field(default_factory=list)
    started_at: float = 0.0
    ended_at: float | None = None
    cancelled_at: float | None = None
    retry_of: RetryOf | None = None
    first_run_id: str = ""
    plan: PipelinePlan | None = None
    asked: dict[int, Asked] = field(default_factory=dict)
    reused: dict[str, AssistantResult] = field(default_factory=dict)
    failure: Failure | None = None
    warnings: list[str] = field(default_factory=list)
    loading: PendingActivityInfo | None = None

    @property
    def topic(self) -> str:
        """The topic that it was started with."""
        return self._argument(0)

    @property
    def project_id(self) -> str:
        """The project that it was started with."""
        return self._argument(1)

    def _argument(self, number: int) -> str:
        known = self.arguments[number] if len(self.arguments) > number else None
        return "" if known is None else str(known)

    def last_asked(self, function_key: str) -> Asked | None:
        """The last time that this assistant was put on a queue; None if it never was."""
        return next((asked for asked in reversed(self.asked.values()) if _is_of(asked, function_key)), None)

    def all_asked(self, function_key: str) -> list[Asked]:
        """Every time that this assistant was put on a queue."""
        return [asked for asked in self.asked.values() if _is_of(asked, function_key)]

    def result_of(self, function_key: str) -> AssistantResult | None:
        """Its answer, made or reused by this run."""
        last = self.last_asked(function_key)
        return (last.result if last else None) or self.reused.get(function_key)

    def failed_calls_of(self, function_key: str) -> FailedCalls | None:
        """What its calls cost, if it failed and its worker said so."""
        last = self.last_asked(function_key)
        return last.failed_calls if last and last.failed else None

    def attempts_of(self, function_key: str) -> int:
        """How many attempts its result or its failure took; while it has neither, Temporal's number of the last
        one."""
        last, result = self.last_asked(function_key), self.result_of(function_key)
        if result is not None:
            return result.attempts
        if last is None or last.started_at is None:
            return 0
        return last.error.attempts if last.failed and last.error else last.attempt

    def error(self) -> ErrorRecord | None:
        """Why the pipeline failed."""
        if self.failure is None:
            return None
        info = self.failure.application_failure_info
        record = decode(info.details.payloads, ErrorRecord)
        known = isinstance(record, ErrorRecord)
        return record if known else ErrorRecord(info.type, self.failure.message, None, 0, retryable=False)


def _is_of(asked: Asked, function_key: str) -> bool:
    return asked.call.function_key == function_key


async def story_of(client: Client, workflow_id: str, run_id: str = "") -> Story:
    """The story of a pipeline's run; of its latest one without ``run_id``.

    Raises:
        OperationError: the server has no such pipeline, or its history is too large to be read.
    """
    handle: WorkflowHandle[Any, Any] = client.get_workflow_handle(workflow_id, run_id=run_id or None)
    try:
        described = (await handle.describe()).raw_description
        info = described.workflow_execution_info
        _refuse_unreadable(workflow_id, info)
        handle = client.get_workflow_handle(workflow_id, run_id=info.execution.run_id)
        events = [event async for event in handle.fetch_history_events()]
    except RPCError as error:
        raise unknown_pipeline(workflow_id, error) from None
    story = await asyncio.to_thread(_read, events)
    story.workflow_id, story.run_id = workflow_id, info.execution.run_id
    story.type = info.type.name
    if story.type == TRY_TYPE:
        _narrow(story)
    story.status = WorkflowExecutionStatus.Name(info.status).removeprefix("WORKFLOW_EXECUTION_STATUS_").lower()
    _add_pending(story, described.pending_activities)
    return story


def _narrow(story: Story) -> None:
    """Leave the assistant that a trial executes, and those that its given texts stand for."""
    plan, story.plan = story.plan, None
    if plan is not None:
        with suppress(InputError):  # the trial failed with that message
            trial = trial_of(story.arguments[4:])
            story.plan = trial_plan(plan, trial)
            story.reused = {result.function_key: result for result in given_results(trial)}


def _refuse_unreadable(workflow_id: str, info: WorkflowExecutionInfo) -> None:
    """Refuse other workflows, whose inputs and outputs are not the fleet's to show, and a history that would not
    fit into the memory of the process that shows it to everybody."""
    if info.type.name not in PIPELINE_TYPES:
        raise OperationError(f"{workflow_id} is a {info.type.name}. Remedy: name a {WORKFLOW_TYPE} (`fleet list`)")
    if info.history_length > MAX_EVENTS or info.history_size_bytes > MAX_HISTORY_BYTES:
        raise OperationError(
            f"the history of {workflow_id} is too large to be shown: {info.history_length:,} events, "
            f"{info.history_size_bytes:,} bytes. Remedy: read it in the Temporal UI"
        )


def unknown_pipeline(workflow_id: str, error: RPCError) -> OperationError:
    """The error for a pipeline that the server does not know, or does not show."""
    if error.status in (RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT):
        return OperationError(
            f"Temporal knows no pipeline {workflow_id!r:.100}. Remedy: find its id with `fleet list`; one past "
            "its retention must be run again"
        )
    return OperationError(
        f"pipeline {workflow_id:.100} cannot be shown: {error.message}. Remedy: see that Temporal can be "
        "reached, with `fleet status`"
    )


def decode(payloads: Sequence[Payload], kind: Any = None) -> Any:
    """The first of the payloads as that type; None if there is none that can be decoded."""
    if not payloads:
        return None
    try:
        return _converter().from_payloads(payloads[:1], None if kind is None else [kind])[0]
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError):
        return None  # another client may have put something else there


@cache
def _converter() -> PayloadConverter:
    return data_converter().payload_converter


def _read(events: Sequence[HistoryEvent]) -> Story:
    story, types = Story(), dict[int, str]()
    for event in events:
        at = unix(event.event_time)
        match event.WhichOneof("attributes"):
            case "workflow_execution_started_event_attributes":
                story.started_at = at
                _started(story, event.workflow_execution_started_event_attributes)
            case "activity_task_scheduled_event_attributes":
                _scheduled(story, types, event, at)
            case "activity_task_started_event_attributes":
                begun = event.activity_task_started_event_attributes
                if asked := story.asked.get(begun.scheduled_event_id):
                    asked.started_at, asked.attempt = at, begun.attempt
            case "activity_task_completed_event_attributes":
                _completed(story, types, event, at)
            case "activity_task_failed_event_attributes":
                ended = event.activity_task_failed_event_attributes
                _failed(story, ended.scheduled_event_id, ended.failure, at)
            case "activity_task_timed_out_event_attributes":
                late = event.activity_task_timed_out_event_attributes
                _failed(story, late.scheduled_event_id, late.failure, at)
            case "activity_task_canceled_event_attributes":
                number = event.activity_task_canceled_event_attributes.scheduled_event_id
                if asked := story.asked.get(number):
                    asked.ended_at, asked.dropped = at, True
            case "workflow_execution_signaled_event_attributes":
                _signaled(story, event.workflow_execution_signaled_event_attributes, at)
            case "workflow_execution_cancel_requested_event_attributes":
                story.cancelled_at = at
            case (
                "workflow_execution_completed_event_attributes"
                | "workflow_execution_failed_event_attributes"
                | "workflow_execution_canceled_event_attributes"
                | "workflow_execution_terminated_event_attributes"
                | "workflow_execution_timed_out_event_attributes"
            ):
                story.ended_at = at
                _ended(story, event)
            case _:
                pass
    return story


def _started(story: Story, started: WorkflowExecutionStartedEventAttributes) -> None:
    story.arguments = [decode([payload]) for payload in started.input.payloads]
    if RETRY_MEMO in started.memo.fields:
        found = decode([started.memo.fields[RETRY_MEMO]], RetryOf)
        story.retry_of = found if isinstance(found, RetryOf) else None
    story.first_run_id = (story.retry_of and story.retry_of.first_run_id) or started.first_execution_run_id


def _signaled(story: Story, signal: WorkflowExecutionSignaledEventAttributes, at: float) -> None:
    moved = decode(signal.input.payloads, AssistantMoved) if signal.signal_name == ASSISTANT_SIGNAL else None
    if not isinstance(moved, AssistantMoved):
        return
    asked = story.last_asked(moved.function_key)
    if asked is not None and asked.ended_at is None:
        asked.sent_at = at if moved.state is AssistantState.RUNNING else None


def _ended(story: Story, event: HistoryEvent) -> None:
    if event.HasField("workflow_execution_failed_event_attributes"):
        story.failure = event.workflow_execution_failed_event_attributes.failure
        details = story.failure.application_failure_info.details.payloads
        story.warnings = _warnings_in(details[1:])
    elif event.HasField("workflow_execution_completed_event_attributes"):
        story.warnings = _warnings_in(event.workflow_execution_completed_event_attributes.result.payloads)


def _warnings_in(payloads: Sequence[Payload]) -> list[str]:
    result = decode(payloads, PipelineResult)
    return result.warnings if isinstance(result, PipelineResult) else []


def _scheduled(story: Story, types: dict[int, str], event: HistoryEvent, at: float) -> None:
    scheduled = event.activity_task_scheduled_event_attributes
    types[event.event_id] = scheduled.activity_type.name
    call = decode(scheduled.input.payloads, AssistantCall) if types[event.event_id] == EXECUTE_ASSISTANT else None
    if isinstance(call, AssistantCall):
        story.asked[event.event_id] = Asked(call, scheduled.task_queue.name, at)


def _completed(story: Story, types: Mapping[int, str], event: HistoryEvent, at: float) -> None:
    completed = event.activity_task_completed_event_attributes
    number, payloads = completed.scheduled_event_id, completed.result.payloads
    match types.get(number):
        case name if name == LOAD_ASSISTANTS:
            story.plan = decode(payloads, PipelinePlan)
        case name if name == COLLECT_FINISHED:
            found = decode(payloads, list[AssistantResult]) or []
            story.reused |= {result.function_key: result for result in found}
        case _ if asked := story.asked.get(number):
            asked.ended_at, asked.result = at, decode(payloads, AssistantResult)


def _failed(story: Story, number: int, failure: Failure, at: float) -> None:
    if asked := story.asked.get(number):
        late = failure.HasField("timeout_failure_info")
        asked.ended_at, asked.failure, asked.failed = at, failure.message, not late
        details = failure.application_failure_info.details.payloads
        error, calls = decode(details, ErrorRecord), decode(details[1:], FailedCalls)
        asked.error = error if isinstance(error, ErrorRecord) else None
        asked.failed_calls = calls if isinstance(calls, FailedCalls) else None


def _add_pending(story: Story, pending: Sequence[PendingActivityInfo]) -> None:
    """Add what the history does not have yet: attempts that run or are waited for."""
    open_ones = {asked.call.function_key: asked for asked in story.asked.values() if asked.ended_at is None}
    for info in pending:
        if not (asked := open_ones.get(info.activity_id)):
            story.loading = info
        else:
            asked.pending, asked.attempt = info, info.attempt
            asked.failure = info.last_failure.message
            if info.state in _WITH_WORKER and info.last_started_time.seconds:
                asked.started_at = unix(info.last_started_time)


def state_in(story: Story, function_key: str) -> str:
    """The assistant's state in the words of the query ``progress``."""
    last = story.last_asked(function_key)
    if story.result_of(function_key) is not None:
        return "done"
    if last is None or last.dropped:
        return "waiting"
    if last.ended_at is not None:
        return "failed" if last.failed else "queued"
    return "running" if last.started_at is not None else "queued"
