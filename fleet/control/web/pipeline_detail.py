"""One opened pipeline: its assistants on a time axis, from the history that the Temporal server stores.

An assistant waits from being queued until its call begins, and runs from then on. Of earlier attempts only that is
known which the history has: for a repeated activity, the number of attempts and the last failure.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any
from urllib.parse import quote

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import PendingActivityState, WorkflowExecutionStatus
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import Client, WorkflowHandle, WorkflowQueryFailedError
from temporalio.converter import PayloadConverter
from temporalio.service import RPCError

from fleet.config import Settings
from fleet.contracts import (
    COLLECT_FINISHED,
    EXECUTE_ASSISTANT,
    LOAD_ASSISTANTS,
    PROGRESS_QUERY,
    Assistant,
    AssistantCall,
    AssistantResult,
    ErrorRecord,
    PipelinePlan,
    PipelineResult,
    Progress,
)
from fleet.control.health.pipeline_runs import unix
from fleet.control.web.page_state import Json, ui_of
from fleet.errors import OperationError
from fleet.pipeline.assistants import dependencies
from fleet.process.data_converter import data_converter

_STARTED = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED


@dataclass
class _Asked:
    """One time that an assistant was queued."""

    call: AssistantCall
    queued_at: float
    started_at: float | None = None
    ended_at: float | None = None
    attempt: int = 1
    result: AssistantResult | None = None
    failure: str = ""
    failed: bool = False


@dataclass
class _Story:
    """What a history contains."""

    arguments: list[Any] = field(default_factory=list)
    started_at: float = 0.0
    ended_at: float | None = None
    plan: PipelinePlan | None = None
    asked: dict[int, _Asked] = field(default_factory=dict)
    reused: dict[str, AssistantResult] = field(default_factory=dict)
    failure: Failure | None = None
    warnings: list[str] = field(default_factory=list)


async def detail_of(client: Client, settings: Settings, workflow_id: str, run_id: str) -> Json:
    """Everything that the page shows of a pipeline.

    Raises:
        OperationError: the server has no such pipeline.
    """
    handle: WorkflowHandle[Any, Any] = client.get_workflow_handle(workflow_id, run_id=run_id)
    try:
        described = (await handle.describe()).raw_description
        events = [event async for event in handle.fetch_history_events()]
    except RPCError as error:
        raise OperationError(
            f"pipeline {workflow_id} cannot be shown: {error.message}. Remedy: see that the server still keeps it"
        ) from None
    story = await asyncio.to_thread(_read, events)
    _add_pending(story, described.pending_activities)
    status = described.workflow_execution_info.status
    name = WorkflowExecutionStatus.Name(status).removeprefix("WORKFLOW_EXECUTION_STATUS_").lower()
    pages, run = ui_of(settings), described.workflow_execution_info.execution.run_id
    return {
        "workflow_id": workflow_id,
        "run_id": run,
        "status": name,
        "topic": _text(story.arguments, 0),
        "project_id": _text(story.arguments, 1),
        "started_at": story.started_at,
        "ended_at": story.ended_at,
        "at": time.time(),
        "error": _error(story.failure),
        "warnings": story.warnings,
        "ui": None if pages is None else f"{pages}/{quote(workflow_id, safe='')}/{run}",
        "stages": _stages(story),
    }


def _text(arguments: Sequence[Any], number: int) -> str:
    known = arguments[number] if len(arguments) > number else None
    return "" if known is None else str(known)


def _decode(payloads: Sequence[Payload], kind: Any = None) -> Any:
    """The first of the payloads as that type; None if there is none that can be decoded."""
    try:
        return _converter().from_payloads(payloads[:1], None if kind is None else [kind])[0]
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError):
        return None  # another client may have put something else there


@cache
def _converter() -> PayloadConverter:
    return data_converter().payload_converter


def _read(events: Sequence[HistoryEvent]) -> _Story:
    story, types = _Story(), dict[int, str]()
    for event in events:
        at = unix(event.event_time)
        match event.WhichOneof("attributes"):
            case "workflow_execution_started_event_attributes":
                story.started_at = at
                payloads = event.workflow_execution_started_event_attributes.input.payloads
                story.arguments = [_decode([payload]) for payload in payloads]
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


def _ended(story: _Story, event: HistoryEvent) -> None:
    if event.HasField("workflow_execution_failed_event_attributes"):
        story.failure = event.workflow_execution_failed_event_attributes.failure
    elif event.HasField("workflow_execution_completed_event_attributes"):
        result = _decode(event.workflow_execution_completed_event_attributes.result.payloads, PipelineResult)
        story.warnings = result.warnings if isinstance(result, PipelineResult) else []


def _scheduled(story: _Story, types: dict[int, str], event: HistoryEvent, at: float) -> None:
    scheduled = event.activity_task_scheduled_event_attributes
    types[event.event_id] = scheduled.activity_type.name
    call = _decode(scheduled.input.payloads, AssistantCall) if types[event.event_id] == EXECUTE_ASSISTANT else None
    if isinstance(call, AssistantCall):
        story.asked[event.event_id] = _Asked(call, at)


def _completed(story: _Story, types: Mapping[int, str], event: HistoryEvent, at: float) -> None:
    completed = event.activity_task_completed_event_attributes
    number, payloads = completed.scheduled_event_id, completed.result.payloads
    match types.get(number):
        case name if name == LOAD_ASSISTANTS:
            story.plan = _decode(payloads, PipelinePlan)
        case name if name == COLLECT_FINISHED:
            story.reused = {
                result.function_key: result for result in _decode(payloads, list[AssistantResult]) or []
            }
        case _ if asked := story.asked.get(number):
            asked.ended_at, asked.result = at, _decode(payloads, AssistantResult)


def _failed(story: _Story, number: int, failure: Failure, at: float) -> None:
    if asked := story.asked.get(number):
        late = failure.HasField("timeout_failure_info")
        asked.ended_at, asked.failure, asked.failed = at, failure.message, not late


def _add_pending(story: _Story, pending: Sequence[PendingActivityInfo]) -> None:
    """Add what the history does not have yet: attempts that run or are waited for."""
    open_ones = {asked.call.function_key: asked for asked in story.asked.values() if asked.ended_at is None}
    for info in pending:
        if asked := open_ones.get(info.activity_id):
            asked.attempt = info.attempt
            asked.failure = info.last_failure.message
            if info.state == _STARTED:
                asked.started_at = unix(info.last_started_time)


def _error(failure: Failure | None) -> Json | None:
    if failure is None:
        return None
    record = _decode(failure.application_failure_info.details.payloads, ErrorRecord)
    code = record.code if isinstance(record, ErrorRecord) else failure.application_failure_info.type
    return {"code": code, "message": failure.message}


def _stages(story: _Story) -> list[Json]:
    if story.plan is None:
        return []
    waits_for = dependencies(story.plan.assistants)
    return [
        _stage(
            assistant,
            [each for each in story.asked.values() if each.call.function_key == assistant.function_key],
            story,
        )
        | {"inputs": waits_for[assistant.function_key]}
        for assistant in story.plan.assistants
    ]


def _stage(assistant: Assistant, asked: list[_Asked], story: _Story) -> Json:
    last = asked[-1] if asked else None
    result = (last.result if last else None) or story.reused.get(assistant.function_key)
    choice = last.call if last else None
    return {
        "function_key": assistant.function_key,
        "name": assistant.name,
        "order": assistant.order,
        "provider": choice.provider if choice else assistant.provider,
        "model": choice.model if choice else assistant.model,
        "state": _state(last, result),
        "attempts": result.attempts if result else last.attempt if last and last.started_at else 0,
        "note": "" if result or last is None else last.failure,
        "spans": [span for each in asked for span in _spans(each, story.ended_at)],
        "output": result.output if result else "",
        "input_tokens": result.input_tokens if result else 0,
        "output_tokens": result.output_tokens if result else 0,
        "cost_usd": result.cost_usd if result else None,
        "price_note": result.price_note if result else "",
        "simulated": bool(result and result.simulated),
        "possibly_paid_twice": result.possibly_paid_twice if result else 0,
        "reused": bool(result and result.reused_from),
    }


def _state(last: _Asked | None, result: AssistantResult | None) -> str:
    if result is not None:
        return "done"
    if last is None:
        return "waiting"
    if last.ended_at is not None:
        return "failed" if last.failed else "queued"
    return "running" if last.started_at is not None else "queued"


def _spans(asked: _Asked, pipeline_ended_at: float | None) -> list[Json]:
    """The wait, and the call after it."""
    ended = asked.ended_at if asked.ended_at is not None else pipeline_ended_at
    begun = asked.started_at
    if asked.result is not None and begun is not None:
        # The answer may have come from the journal, from an earlier attempt's call.
        begun = max(min(datetime.fromisoformat(asked.result.started).timestamp(), begun), asked.queued_at)
    wait = {"kind": "waiting", "from": asked.queued_at, "until": begun or ended, "attempt": asked.attempt}
    if begun is None:
        return [wait]
    return [wait, {"kind": "running", "from": begun, "until": ended, "attempt": asked.attempt}]


async def progress_of(client: Client, workflow_id: str, run_id: str, seconds: float) -> Json | None:
    """The progress of a pipeline in short; None if it does not answer within the time."""
    handle: WorkflowHandle[Any, Any] = client.get_workflow_handle(workflow_id, run_id=run_id)
    try:
        async with asyncio.timeout(seconds):
            found: Progress = await handle.query(PROGRESS_QUERY, result_type=Progress)
    except (RPCError, WorkflowQueryFailedError, TimeoutError):
        return None
    return {
        "topic": found.topic,
        "project_id": found.project_id,
        "done": sum(assistant.state == "done" for assistant in found.assistants),
        "total": len(found.assistants),
        "running": [assistant.name for assistant in found.assistants if assistant.state == "running"],
        "state": found.state,
    }
