"""One opened pipeline: its assistants on a time axis, from the history that the Temporal server stores.

An assistant waits from being queued until its call begins, and runs from then on. Of earlier attempts only that is
known which the history has: for a repeated activity, the number of attempts and the last failure.
"""

import asyncio
import time
from datetime import datetime
from typing import Any
from urllib.parse import quote

from temporalio.client import Client, WorkflowHandle, WorkflowQueryFailedError
from temporalio.service import RPCError

from fleet.config import Settings
from fleet.contracts import PROGRESS_QUERY, TRY_TYPE, Assistant, FailedCalls, Progress, unpriced_calls
from fleet.control.health.status import FleetStatus
from fleet.control.pipelines.explanation import explain, explained_now, to_line
from fleet.control.pipelines.story import Asked, Story, state_in, story_of
from fleet.control.web.page_state import ui_of
from fleet.control.web.shapes import PipelineDetail, PipelineProgress, Span, Stage
from fleet.errors import OperationError
from fleet.pipeline.assistants import dependencies
from fleet.pipeline.structured_outputs import output_json

_WHY_SECONDS = 5.0


async def detail_of(
    client: Client, settings: Settings, workflow_id: str, run_id: str = "", status: FleetStatus | None = None
) -> PipelineDetail:
    """Everything that the page and ``fleet show`` show of a pipeline, of its latest run without ``run_id``. With
    the fleet's ``status`` each stage also says where it stands and why.

    Raises:
        OperationError: the server has no such pipeline.
    """
    story = await story_of(client, workflow_id, run_id)
    detail = _detail(settings, story)
    if status is not None:
        told = await explained_now(story, settings, status, client.identity)
        detail.update({"cause": told.cause, "why": told.why, "remedy": told.remedy})
        for stage, assistant in zip(detail["stages"], told.assistants, strict=True):
            stage["explained_state"], stage["cause"] = assistant.state, assistant.cause
            stage["why"], stage["remedy"] = assistant.why, assistant.remedy
    return detail


def _detail(settings: Settings, story: Story) -> PipelineDetail:
    pages, error = ui_of(settings), story.error()
    return {
        "workflow_id": story.workflow_id,
        "run_id": story.run_id,
        "kind": "try" if story.type == TRY_TYPE else "pipeline",
        "status": story.status,
        "topic": story.topic,
        "project_id": story.project_id,
        "started_at": story.started_at,
        "ended_at": story.ended_at,
        "at": time.time(),
        "error": None if error is None else {"code": error.code, "message": error.message},
        "warnings": story.warnings,
        "ui": None if pages is None else f"{pages}/{quote(story.workflow_id, safe='')}/{story.run_id}",
        "stages": _stages(story),
    }


def _stages(story: Story) -> list[Stage]:
    if story.plan is None:
        return []
    waits_for = dependencies(story.plan.assistants)
    return [_stage(assistant, story, waits_for[assistant.function_key]) for assistant in story.plan.assistants]


def _stage(assistant: Assistant, story: Story, inputs: list[str]) -> Stage:
    key = assistant.function_key
    last, result = story.last_asked(key), story.result_of(key)
    choice, state = last.call if last else None, state_in(story, key)
    spent = result or story.failed_calls_of(key) or FailedCalls(cost_usd=None)
    stage: Stage = {
        "function_key": key,
        "name": assistant.name,
        "order": assistant.order,
        "provider": choice.provider if choice else assistant.provider,
        "model": choice.model if choice else assistant.model,
        "state": state,
        "attempts": story.attempts_of(key),
        "calls": spent.calls,
        "note": "" if result or last is None else last.failure,
        "spans": [span for each in story.all_asked(key) for span in _spans(each, story.ended_at)],
        "output": result.output if result else "",
        "input_tokens": spent.input_tokens,
        "output_tokens": spent.output_tokens,
        "cost_usd": spent.cost_usd,
        "unpriced_calls": unpriced_calls(state, spent.cost_usd, spent.calls, spent.possibly_paid_twice),
        "price_note": spent.price_note,
        "simulated": spent.simulated,
        "possibly_paid_twice": spent.possibly_paid_twice,
        "reused": bool(result and result.reused_from),
        "inputs": inputs,
    }
    value = output_json(result.output, assistant.output_schema) if result else None
    if value is not None:
        stage["output_json"] = value
    return stage


def _spans(asked: Asked, pipeline_ended_at: float | None) -> list[Span]:
    """The wait, and the call after it."""
    ended = asked.ended_at if asked.ended_at is not None else pipeline_ended_at
    begun = asked.started_at
    if asked.result is not None and begun is not None:
        # The answer may have come from the journal, from an earlier attempt's call.
        begun = max(min(datetime.fromisoformat(asked.result.started).timestamp(), begun), asked.queued_at)
    wait: Span = {"kind": "waiting", "from": asked.queued_at, "until": begun or ended, "attempt": asked.attempt}
    if begun is None:
        return [wait]
    return [wait, {"kind": "running", "from": begun, "until": ended, "attempt": asked.attempt}]


async def progress_of(client: Client, workflow_id: str, run_id: str, seconds: float) -> PipelineProgress | None:
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
        "why": "",
    }


async def why_of(client: Client, settings: Settings, status: FleetStatus, workflow_id: str, run_id: str) -> str:
    """Why the first assistant that waits does, in one line; empty if none does or nobody knows."""
    try:
        async with asyncio.timeout(_WHY_SECONDS):
            told = await explain(client, settings, workflow_id, run_id, status)
    except (OperationError, RPCError, TimeoutError):
        return ""
    return next((to_line(assistant) for assistant in told.stuck()), "")
