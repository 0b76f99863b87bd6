"""The arguments of an earlier run of a pipeline and the answers of its assistants, read from its history."""

from dataclasses import dataclass, replace
from typing import Any

from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHandle

from fleet.contracts import COLLECT_FINISHED, EXECUTE_ASSISTANT, RETRY_MEMO, AssistantResult, RetryOf
from fleet.errors import InputError


async def finished_results(client: Client, run: RetryOf) -> list[AssistantResult]:
    """The answers of a run, including those that it reused itself, in the form in which another run reuses them:
    they name the run that made them, and cost nothing.

    Raises:
        RPCError: its history cannot be read.
    """
    results: dict[str, AssistantResult] = {}
    completed = await _completed_activities(_handle(client, run))
    # The run may have ended before it had taken over all answers of the run that it retried.
    earlier = (await beginning_of(client, run)).retry_of
    if earlier is not None and earlier.workflow_id == run.workflow_id:
        results |= {result.function_key: result for result in await finished_results(client, earlier)}
    for kind, payloads in completed:
        hint: Any = list[AssistantResult] if kind == COLLECT_FINISHED else AssistantResult
        (decoded,) = await client.data_converter.decode(payloads, [hint])
        for result in decoded if kind == COLLECT_FINISHED else [decoded]:
            results[result.function_key] = _reused(result, run.run_id)
    return list(results.values())


async def refuse_foreign(client: Client, own: RetryOf, failed: RetryOf) -> None:
    """Check that ``failed`` is an earlier run of the run ``own``: whoever starts a workflow writes its memo, and
    could name any run to get its outputs.

    Raises:
        InputError: it is another pipeline's, another project's, or claims another pipeline's calls.
        RPCError: a history cannot be read.
    """
    if failed.workflow_id != own.workflow_id:
        raise _foreign(own, failed, f"{failed.workflow_id} is another pipeline")
    now, before = await beginning_of(client, own), await beginning_of(client, failed)
    if _project_of(now) != _project_of(before):
        raise _foreign(own, failed, f"its run {failed.run_id} was of another project")
    if failed.first_run_id and failed.first_run_id != await _first_run_of(client, failed, before):
        raise _foreign(own, failed, f"its run {failed.run_id} does not belong to {failed.first_run_id}")


async def _first_run_of(client: Client, run: RetryOf, beginning: "Beginning") -> str:
    """The id of the first run of a run's pipeline by the histories themselves: what a run's memo says of its first
    run is believed only if the runs before it confirm it."""
    while (earlier := beginning.retry_of) is not None and earlier.first_run_id:
        if earlier.workflow_id != run.workflow_id:
            break
        beginning = await beginning_of(client, earlier)
    return beginning.own_first_run_id


def _foreign(own: RetryOf, failed: RetryOf, why: str) -> InputError:
    return InputError(
        f"{own.workflow_id} cannot reuse the outputs that its memo {RETRY_MEMO} names: {why}. Remedy: start it "
        f"without that memo, or with `fleet retry {failed.workflow_id}`"
    )


def _project_of(beginning: "Beginning") -> str:
    return str(beginning.arguments[1]) if len(beginning.arguments) > 1 else ""


@dataclass(frozen=True)
class Beginning:
    """How a run was started: ``arguments``, the run that it retries, its ``priority`` (1 to 5, 0 where none was
    set), and the id of its pipeline's first run, by which its calls are identified.

    In a retry the memo says which run was the first; ``own_first_run_id`` is then the id of the retry itself."""

    arguments: list[Any]
    retry_of: RetryOf | None
    priority: int
    first_run_id: str
    own_first_run_id: str


async def beginning_of(client: Client, run: RetryOf) -> Beginning:
    """How a run was started.

    Raises:
        RPCError: its history cannot be read.
    """
    async for event in _handle(client, run).fetch_history_events():
        started = event.workflow_execution_started_event_attributes
        retry_of: RetryOf | None = None
        if RETRY_MEMO in started.memo.fields:
            (retry_of,) = await client.data_converter.decode([started.memo.fields[RETRY_MEMO]], [RetryOf])
        return Beginning(
            arguments=await client.data_converter.decode(list(started.input.payloads)),
            retry_of=retry_of,
            priority=started.priority.priority_key,
            first_run_id=(retry_of and retry_of.first_run_id) or started.first_execution_run_id,
            own_first_run_id=started.first_execution_run_id,
        )
    return Beginning([], None, 0, "", "")


def _handle(client: Client, run: RetryOf) -> WorkflowHandle[Any, Any]:
    return client.get_workflow_handle(run.workflow_id, run_id=run.run_id)


async def _completed_activities(handle: WorkflowHandle[Any, Any]) -> list[tuple[str, list[Any]]]:
    """Type and result of each completed activity, for the two types that return answers."""
    types: dict[int, str] = {}
    completed: list[HistoryEvent] = []
    async for event in handle.fetch_history_events():
        if event.HasField("activity_task_scheduled_event_attributes"):
            types[event.event_id] = event.activity_task_scheduled_event_attributes.activity_type.name
        elif event.HasField("activity_task_completed_event_attributes"):
            completed.append(event)
    found = []
    for event in completed:
        done = event.activity_task_completed_event_attributes
        kind = types[done.scheduled_event_id]
        if kind in (EXECUTE_ASSISTANT, COLLECT_FINISHED):
            found.append((kind, list(done.result.payloads)))
    return found


def _reused(result: AssistantResult, run_id: str) -> AssistantResult:
    return replace(
        result,
        reused_from=result.reused_from or run_id,
        attempts=0,
        calls=0,
        input_tokens=0,
        cached_input_tokens=0,
        output_tokens=0,
        cost_usd=0.0,
        price_note="",
        possibly_paid_twice=0,
    )
