"""``fleet run`` and ``fleet retry``: start a pipeline, follow it, return its result."""

import asyncio
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowQueryFailedError,
)
from temporalio.common import Priority, WorkflowIDReusePolicy
from temporalio.converter import value_to_type
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from fleet.cli.critical_path import critical_path_seconds
from fleet.cli.waits import tell_waits
from fleet.config import Settings
from fleet.contracts import (
    CSV_MAX_BYTES,
    PIPELINE_QUEUE,
    PROGRESS_QUERY,
    PROJECT_MEMO,
    RETRY_MEMO,
    TOPIC_MEMO,
    TRY_TYPE,
    WORKFLOW_TYPE,
    AssistantState,
    ErrorRecord,
    PipelineResult,
    Progress,
    RetryOf,
    Spent,
    StageRecord,
)
from fleet.control.health.status import health_client
from fleet.control.pipelines.story import unknown_pipeline
from fleet.errors import (
    AssistantDamaged,
    BackendAnswerError,
    BackendUnavailable,
    InputError,
    OperationError,
    TemporalUnavailable,
)
from fleet.pipeline.assistants import parse_assistants
from fleet.pipeline.csv_content import kind_of
from fleet.pipeline.inputs import PipelineInputs, csv_file_text, has_rows, validate_inputs
from fleet.pipeline.past_runs import beginning_of
from fleet.process.temporal_connection import connect_once

_LOOK_SECONDS = 0.5
_QUERY_SECONDS = 5.0
_MEMO_CHARACTERS = 300
#: A larger file has too much text in any encoding and with any line ends; read in part, a character might be cut.
_CSV_FILE_MAX_BYTES = 2 * CSV_MAX_BYTES
#: The server's answers to a query that no pipeline process takes, or takes in time.
_NOBODY_ANSWERS = (
    RPCStatusCode.CANCELLED,
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.FAILED_PRECONDITION,
)
_SHOWN = {AssistantState.DONE.value: "done", AssistantState.FAILED.value: "failed"}

Show = Callable[[Progress], None]


class NotFailed(OperationError):
    """The pipeline to retry runs, or has completed."""

    code = "not_failed"


@dataclass(frozen=True)
class Started:
    """A pipeline that was started."""

    client: Client
    handle: WorkflowHandle[Any, Any]
    settings: Settings

    @property
    def workflow_id(self) -> str:
        """Its workflow id."""
        return self.handle.id

    @property
    def run_id(self) -> str:
        """The id of this run."""
        return self.handle.first_execution_run_id or ""


@dataclass(frozen=True)
class Outcome:
    """The result of a pipeline. ``seconds`` is its wall time by Temporal's clock."""

    workflow_id: str
    run_id: str
    seconds: float
    stages: list[StageRecord] = field(default_factory=list)
    final_output: str = ""
    error: ErrorRecord | None = None
    warnings: list[str] = field(default_factory=list)
    critical_path_seconds: float | None = None
    project_fingerprint: str = ""

    def with_critical_path(self, seconds: float | None) -> "Outcome":
        """A copy with this critical path."""
        return replace(self, critical_path_seconds=seconds)

    @property
    def spent(self) -> Spent:
        """What its answers cost."""
        return Spent.on(self.stages)

    @property
    def written_by_simulator(self) -> bool:
        """Whether its output, that of the last assistant, comes from the simulator."""
        done = [stage for stage in self.stages if stage.status == AssistantState.DONE]
        return bool(done and done[-1].metadata.get("simulated"))

    @property
    def completed(self) -> bool:
        """Whether it completed."""
        return self.error is None

    def to_json(self) -> dict[str, Any]:
        """The JSON object that ``--json`` prints. ``assistants`` are those that ran; ``not_run`` names the
        others."""
        ran = [stage for stage in self.stages if stage.status in _SHOWN]
        answer: dict[str, Any] = {
            "workflow_id": self.workflow_id,
            "run_id": self.run_id,
            "status": "completed" if self.completed else "failed",
            "seconds": self.seconds,
            "critical_path_seconds": self.critical_path_seconds,
            "assistants": [stage_json(stage) for stage in ran],
            "not_run": [stage.stage for stage in self.stages if stage.status not in _SHOWN],
            **asdict(self.spent),
            "final_output": self.final_output,
            "warnings": self.warnings,
            "project_fingerprint": self.project_fingerprint,
        }
        if self.error is not None:
            answer["error"] = vars(self.error)
        return answer


def stage_json(stage: StageRecord) -> dict[str, Any]:
    """An assistant that ran, as ``--json`` prints it."""
    names = (
        "provider",
        "model",
        "attempts",
        "calls",
        "input_tokens",
        "output_tokens",
        "cost_usd",
        "price_note",
        "service_tier",
        "simulated",
        "possibly_paid_twice",
    )
    structured = {} if stage.output_json is None else {"output_json": stage.output_json}
    return (
        {
            "name": stage.stage,
            "function_key": stage.function_key,
            "status": _SHOWN[stage.status],
            "seconds": stage.duration,
            "reused": stage.metadata.get("reused_from") is not None,
        }
        | {name: stage.metadata.get(name) for name in names}
        | structured
    )


def read_inputs(topic: str, project: str, csv_file: Path | None, day: str | None) -> PipelineInputs:
    """The pipeline's arguments, validated; ``day`` None means today.

    Raises:
        InputError: an argument cannot be used, or the file cannot be read.
    """
    today = date.today().isoformat() if day is None else day
    csv_text = "" if csv_file is None else _csv_text(csv_file)
    inputs = validate_inputs(topic, project, csv_text, today, csv_max_bytes=CSV_MAX_BYTES)
    if csv_file is not None and not has_rows(inputs.csv_text):
        raise InputError(f"the CSV file {csv_file} has a header and no rows. Remedy: add rows, or leave --csv out")
    return inputs


def _csv_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_CSV_FILE_MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"the CSV file {path} cannot be read ({error.strerror}). Remedy: check --csv") from None
    if len(raw) > _CSV_FILE_MAX_BYTES and not kind_of(raw):
        raise InputError(
            f"the CSV file {path} has more than {_CSV_FILE_MAX_BYTES:,} bytes, at most {CSV_MAX_BYTES:,} of text "
            "are allowed. Remedy: use fewer rows or columns"
        )
    try:
        return csv_file_text(raw)
    except InputError as error:
        raise InputError(f"the CSV file {path} {error}") from None


async def start_pipeline(settings: Settings, inputs: PipelineInputs, priority: int | None = None) -> Started:
    """Start a pipeline; of all that wait, priority 1 is dispatched first, 5 last, 3 is the default.

    Raises:
        ProjectNotFound, NoAssistants: the project cannot be run.
        TemporalUnavailable: the server cannot be reached.
        OperationError: the server refused to start the pipeline.
    """
    await refuse_unusable_project(settings, inputs.project_id)
    client = await connect_once(settings)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", inputs.project_id)[:60]
    workflow_id = f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    try:
        handle = await begin_workflow(client, inputs, workflow_id, priority)
    except RPCError as error:
        raise OperationError(f"Temporal did not start the pipeline: {error.message}") from None
    return Started(client, handle, settings)


async def refuse_unusable_project(settings: Settings, project_id: str) -> None:
    """Refuse a project that does not exist or has no assistants before a pipeline is started. A backend that is
    away is no reason, since pipelines wait for it; and only workers know all providers."""
    async with health_client(settings) as backend:
        with suppress(BackendUnavailable, BackendAnswerError, AssistantDamaged):
            load = await backend.assistants(project_id)
            parse_assistants(load, project_id, default_temperature=0, default_max_tokens=None, provider_name=str)


async def begin_workflow(
    client: Client,
    inputs: PipelineInputs,
    workflow_id: str,
    priority: int | None,
    reuse: WorkflowIDReusePolicy = WorkflowIDReusePolicy.ALLOW_DUPLICATE,
) -> WorkflowHandle[Any, Any]:
    """Start a pipeline under that id.

    Raises:
        WorkflowAlreadyStartedError: there is one that ``reuse`` does not let be followed.
        RPCError: the server refused, or does not answer.
    """
    return await client.start_workflow(
        WORKFLOW_TYPE,
        args=[inputs.topic, inputs.project_id, inputs.csv_text, inputs.current_date],
        id=workflow_id,
        task_queue=PIPELINE_QUEUE,
        id_reuse_policy=reuse,
        memo=memo_of(inputs.topic, inputs.project_id),
        priority=Priority(priority_key=priority),
    )


async def retry_pipeline(settings: Settings, workflow_id: str) -> Started:
    """Start a failed pipeline again with its own arguments, to continue from where it failed.

    Raises:
        TemporalUnavailable: the server cannot be reached.
        OperationError: there is no such pipeline, it has not failed, or the server refused to start it.
    """
    client = await connect_once(settings)
    try:
        description = await client.get_workflow_handle(workflow_id).describe()
        _refuse_not_failed(workflow_id, description)
        failed = RetryOf(workflow_id, description.run_id)
        beginning = await beginning_of(client, failed)
        handle = await client.start_workflow(
            WORKFLOW_TYPE,
            args=beginning.arguments,
            id=workflow_id,
            task_queue=PIPELINE_QUEUE,
            memo=memo_of(*beginning.arguments[:2])
            | {RETRY_MEMO: replace(failed, first_run_id=beginning.first_run_id)},
            priority=Priority(priority_key=beginning.priority or None),
        )
    except RPCError as error:
        if error.status in (RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT):
            raise unknown_pipeline(workflow_id, error) from None
        raise OperationError(f"Temporal did not start {workflow_id} again: {error.message}") from None
    return Started(client, handle, settings)


def memo_of(topic: Any = "", project_id: Any = "") -> dict[str, Any]:
    """The memos by which a pipeline is found. A long topic is cut: Temporal limits the size of all memos."""
    return {TOPIC_MEMO: str(topic)[:_MEMO_CHARACTERS], PROJECT_MEMO: str(project_id)}


def _refuse_not_failed(workflow_id: str, description: WorkflowExecutionDescription) -> None:
    if description.workflow_type != WORKFLOW_TYPE:
        remedy = (
            "try it again with `fleet try PROJECT/ASSISTANT`"
            if description.workflow_type == TRY_TYPE
            else f"name a {WORKFLOW_TYPE}"
        )
        raise OperationError(f"{workflow_id} is a {description.workflow_type}. Remedy: {remedy}")
    if description.status is WorkflowExecutionStatus.RUNNING:
        raise NotFailed(
            f"{workflow_id} still runs. Remedy: wait for it, or end it first with `fleet cancel {workflow_id}`"
        )
    if description.status is WorkflowExecutionStatus.COMPLETED:
        raise NotFailed(
            f"{workflow_id} has completed. Remedy: start a new one with `fleet run TOPIC --project PROJECT`"
        )


async def follow(started: Started, show: Show, note: Callable[[str], None]) -> Outcome:
    """Show the pipeline's progress until it ends; ``note`` gets the reason when an assistant waits, and when
    progress cannot be shown.

    Raises:
        TemporalUnavailable: the server stopped answering; the pipeline continues without the command.
    """
    result = asyncio.create_task(result_of(started), name="result")
    noted, latest = "", list[Progress]()
    telling = asyncio.create_task(
        tell_waits(started.client, started.settings, started.workflow_id, note, latest), name="waits"
    )
    try:
        while not result.done():
            if telling.done():
                telling.result()  # it ends only by an error
            try:
                latest[:] = [await _progress(started)]
                show(latest[0])
                noted = ""
            except (RPCError, WorkflowQueryFailedError) as error:
                latest.clear()
                if not result.done() and noted != (noted := _hindrance(error)) and noted:
                    note(noted)
            await asyncio.wait({result}, timeout=_LOOK_SECONDS)
        with suppress(RPCError, WorkflowQueryFailedError):  # what ended since the last look
            show(await _progress(started))
        return await result
    except RPCError as error:
        raise TemporalUnavailable(
            f"Temporal server connection failed while {started.workflow_id} ran ({error.message}). Remedy: the "
            "pipeline goes on by itself once the server is back; then look at it with `fleet show "
            f"{started.workflow_id}`"
        ) from None
    finally:
        result.cancel()
        telling.cancel()


async def _progress(started: Started) -> Progress:
    timeout = timedelta(seconds=_QUERY_SECONDS)
    progress: Progress = await started.handle.query(PROGRESS_QUERY, result_type=Progress, rpc_timeout=timeout)
    return progress


def _hindrance(error: Exception) -> str:
    """What is said of it; nothing where no pipeline process answers, which is explained with the other waits."""
    status = error.status if isinstance(error, RPCError) else None
    if status in _NOBODY_ANSWERS:
        return ""
    if status is RPCStatusCode.UNAVAILABLE:
        return "Temporal does not answer: it is asked again until it does"
    return f"no progress to show: Temporal says: {error}"


async def result_of(started: Started) -> Outcome:
    """The result of a pipeline, once it has ended.

    Raises:
        RPCError: the server does not answer.
    """
    handle = started.handle
    error: ErrorRecord | None = None
    try:
        result: PipelineResult | None = value_to_type(PipelineResult, await handle.result())
    except WorkflowFailureError as failure:
        error, result = _failure(failure)
    description = await handle.describe()
    ended = description.close_time or datetime.now(UTC)
    return Outcome(
        workflow_id=started.workflow_id,
        run_id=started.run_id,
        seconds=round((ended - description.start_time).total_seconds(), 3),
        stages=result.stages if result else [],
        final_output=result.final_output if result else "",
        error=error,
        warnings=result.warnings if result else [],
        project_fingerprint=result.project_fingerprint if result else "",
    )


def _failure(failure: WorkflowFailureError) -> tuple[ErrorRecord, PipelineResult | None]:
    """The error record and the partial result of a failed pipeline; for a cancelled one a record is made here."""
    cause = failure.cause
    if isinstance(cause, ApplicationError) and len(cause.details) == 2:
        record, partial = cause.details
        return value_to_type(ErrorRecord, record), value_to_type(PipelineResult, partial)
    kind = type(cause).__name__.removesuffix("Error").lower()
    return ErrorRecord(kind, f"the pipeline was ended from outside: {cause}", None, 0, retryable=False), None


def ledger_of(simulator: str) -> list[dict[str, Any]]:
    """The simulator's calls; empty if it does not answer."""
    try:
        # verify=False: reading the certificates takes longer than the answer, which comes over plain http.
        answer = httpx.get(f"{simulator}/ledger", timeout=10, trust_env=False, verify=False)
        calls: list[dict[str, Any]] = answer.json()["calls"]
    except httpx.HTTPError:
        return []
    return calls


def critical_path_of(outcome: Outcome, simulator: str | None) -> float | None:
    """The critical path by the simulator's ledger; None for real providers, which have no record of the
    durations."""
    return critical_path_seconds(outcome.stages, ledger_of(simulator)) if simulator else None
