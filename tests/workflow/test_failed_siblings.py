"""What becomes of a pipeline's other assistants once one of them has failed; the workers are acted."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from fleet.contracts import (
    ASSISTANT_SIGNAL,
    ASSISTANTS_QUEUE,
    EXECUTE_ASSISTANT,
    LOAD_ASSISTANTS,
    PIPELINE_QUEUE,
    WORKFLOW_TYPE,
    ActivityLimits,
    Assistant,
    AssistantCall,
    AssistantMoved,
    AssistantResult,
    AssistantState,
    ErrorRecord,
    FailedCalls,
    PipelinePlan,
)
from fleet.pipeline.workflow import AssistantPipelineWorkflow
from tests.temporal import running_temporal

QUEUES = {"openai": "llm-openai", "anthropic": "llm-anthropic"}


class Loading:
    """A project of two assistants that read the topic alone: one fails, the other is its sibling."""

    @activity.defn(name=LOAD_ASSISTANTS)
    async def load(self, project_id: str) -> PipelinePlan:
        fails = Assistant("fails", "Fails", 1, "openai", "m", "Write.", input_keys=["topic"])
        sibling = Assistant("sibling", "Sibling", 2, "anthropic", "n", "Write.", input_keys=["topic"])
        return PipelinePlan(project_id, [fails, sibling], QUEUES, ActivityLimits(600.0, 5.0, 1.0, 2.0))


@dataclass
class Workers:
    """Both providers' workers; ``may_fail`` lets the one assistant fail, ``may_answer`` the other answer.
    ``outlasts_failure``: the sibling's attempt that is too early ends only once it is asked to."""

    client: Client
    state: AssistantState = AssistantState.RUNNING
    finish_reason: str = "stop"
    details: tuple[ErrorRecord, FailedCalls] | tuple[()] = ()
    outlasts_failure: bool = False
    asked: int = 0
    may_fail: asyncio.Event = field(default_factory=asyncio.Event)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    at_work: asyncio.Event = field(default_factory=asyncio.Event)
    unwanted: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @activity.defn(name=EXECUTE_ASSISTANT)
    async def fail(self, call: AssistantCall) -> AssistantResult:
        await self.may_fail.wait()
        raise ApplicationError("refused", *self.details, type="provider_error", non_retryable=True)

    async def beat(self) -> None:
        while True:
            activity.heartbeat()
            await asyncio.sleep(0.2)

    @activity.defn(name=EXECUTE_ASSISTANT)
    async def sibling(self, call: AssistantCall) -> AssistantResult:
        self.asked += 1
        info = activity.info()
        handle = self.client.get_workflow_handle(info.workflow_id or "", run_id=info.workflow_run_id)
        if self.state is not AssistantState.WAITING:
            await handle.signal(ASSISTANT_SIGNAL, AssistantMoved(call.function_key, AssistantState.RUNNING, 1))
        self.at_work.set()
        if self.state is AssistantState.FAILED:
            await handle.signal(ASSISTANT_SIGNAL, AssistantMoved(call.function_key, AssistantState.QUEUED, 3))
            await self.may_fail.wait()
            self.ended.set()
            raise ApplicationError("refused", type="provider_error", non_retryable=True)
        if self.state is AssistantState.QUEUED:
            await handle.signal(ASSISTANT_SIGNAL, AssistantMoved(call.function_key, AssistantState.QUEUED, 1))
            if self.outlasts_failure:
                with suppress(asyncio.CancelledError):
                    await self.beat()
            raise ApplicationError("too early", type="held_back", next_retry_delay=timedelta(hours=1))
        beating = asyncio.create_task(self.beat())
        while not self.may_answer.is_set():
            try:
                await self.may_answer.wait()
            except asyncio.CancelledError:
                self.unwanted.set()
        beating.cancel()
        reason = self.finish_reason
        return AssistantResult("sibling", "text", "anthropic", "n", reason, 1, 0, 8, 0.5, None, 1, 0.1, "", "key")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with running_temporal() as address:
        yield address


@pytest.fixture
async def workers(address: str) -> AsyncIterator[Workers]:
    client = await Client.connect(address)
    found = Workers(client)
    async with (
        Worker(client, task_queue=PIPELINE_QUEUE, workflows=[AssistantPipelineWorkflow]),
        Worker(client, task_queue=ASSISTANTS_QUEUE, activities=[Loading().load]),
        Worker(client, task_queue=QUEUES["openai"], activities=[found.fail]),
    ):
        yield found


async def begun(workers: Workers) -> "asyncio.Task[dict[str, Any]]":
    """The result that a failing pipeline carries; it has begun."""
    handle = await workers.client.start_workflow(
        WORKFLOW_TYPE, args=["topic", "project"], id=f"p-{uuid.uuid4()}", task_queue=PIPELINE_QUEUE
    )

    async def result() -> dict[str, Any]:
        with pytest.raises(WorkflowFailureError) as failed:
            await handle.result()
        cause = failed.value.cause
        assert isinstance(cause, ApplicationError)
        found: dict[str, Any] = cause.details[1]
        failing = [key.capitalize() for key, status in statuses(found).items() if status == "failed"]
        assert cause.message in [f"{name}: provider_error: refused" for name in failing], "it says whose failure"
        assert found["error"]["message"] == cause.message
        return found

    return asyncio.create_task(result())


def statuses(result: dict[str, Any]) -> dict[str, str]:
    return {stage["function_key"]: stage["status"] for stage in result["stages"]}


async def test_a_sibling_in_a_queue_that_hands_out_nothing_keeps_no_failed_pipeline_running(
    workers: Workers,
) -> None:
    result = await begun(workers)
    workers.may_fail.set()
    assert statuses(await asyncio.wait_for(result, 20)) == {"fails": "failed", "sibling": "waiting"}
    async with Worker(workers.client, task_queue=QUEUES["anthropic"], activities=[workers.sibling]):
        await asyncio.sleep(1)  # what is tested is that nothing comes
    assert workers.asked == 0


async def test_what_the_calls_of_the_failed_one_cost_is_in_the_result(workers: Workers) -> None:
    record = ErrorRecord("output_broken", "provider_error: refused", "openai", 1, retryable=False)
    workers.details = (record, FailedCalls(2, 1, 20, 0, 16, 0.25))
    result = await begun(workers)
    workers.may_fail.set()
    found = await asyncio.wait_for(result, 20)
    assert {name: value for name, value in found["stages"][0]["metadata"].items() if value} == {
        "provider": "openai",
        "model": "m",
        "attempts": 1,
        "calls": 2,
        "possibly_paid_twice": 1,
        "input_tokens": 20,
        "output_tokens": 16,
        "cost_usd": 0.25,
    }
    assert found["spent"] == {"cost_usd": 0.25, "simulated_cost_usd": 0.0, "unpriced_calls": 0}


@pytest.mark.parametrize("outlasts_failure", [False, True])
async def test_a_sibling_that_waits_for_its_next_attempt_is_not_sent_again(
    workers: Workers, *, outlasts_failure: bool
) -> None:
    workers.state, workers.outlasts_failure = AssistantState.QUEUED, outlasts_failure
    async with Worker(workers.client, task_queue=QUEUES["anthropic"], activities=[workers.sibling]):
        result = await begun(workers)
        await asyncio.wait_for(workers.at_work.wait(), 20)
        workers.may_fail.set()
        assert statuses(await asyncio.wait_for(result, 20)) == {"fails": "failed", "sibling": "waiting"}
    assert workers.asked == 1


async def test_a_call_that_is_on_its_way_is_kept_though_the_pipeline_has_not_heard_of_it(workers: Workers) -> None:
    """Its worker is asked to stop, and goes on to the answer, of which the result says that it is not complete."""
    workers.state, workers.finish_reason = AssistantState.WAITING, "length"
    async with Worker(workers.client, task_queue=QUEUES["anthropic"], activities=[workers.sibling]):
        result = await begun(workers)
        await asyncio.wait_for(workers.at_work.wait(), 20)
        workers.may_fail.set()
        await asyncio.wait_for(workers.unwanted.wait(), 30)
        assert not result.done()
        workers.may_answer.set()
        found = await asyncio.wait_for(result, 20)
    assert statuses(found) == {"fails": "failed", "sibling": "done"}
    (warning,) = found["warnings"]
    assert warning.startswith("Sibling: its answer was cut off at max_tokens (8 output tokens). Remedy: ")


async def test_siblings_that_fail_at_one_moment_fail_the_pipeline_as_if_one_by_one(address: str) -> None:
    """Both have told of their last attempt, and the pipeline hears of both ends at once."""
    client = await Client.connect(address)
    workers = Workers(client, state=AssistantState.FAILED)
    async with (
        Worker(client, task_queue=ASSISTANTS_QUEUE, activities=[Loading().load]),
        Worker(client, task_queue=QUEUES["openai"], activities=[workers.fail]),
        Worker(client, task_queue=QUEUES["anthropic"], activities=[workers.sibling]),
    ):
        async with Worker(client, task_queue=PIPELINE_QUEUE, workflows=[AssistantPipelineWorkflow]):
            result = await begun(workers)
            await asyncio.wait_for(workers.at_work.wait(), 20)
            await asyncio.sleep(0.5)  # until it has heard that both are in their queues
        workers.may_fail.set()
        await asyncio.wait_for(workers.ended.wait(), 20)
        await asyncio.sleep(1)  # until both ends stand in the history
        async with Worker(client, task_queue=PIPELINE_QUEUE, workflows=[AssistantPipelineWorkflow]):
            found = await asyncio.wait_for(result, 30)
    assert statuses(found) == {"fails": "failed", "sibling": "failed"}
    history = await client.get_workflow_handle(found["workflow_id"]).fetch_history()
    kinds = [EventType.Name(event.event_type) for event in history.events]
    first, second = (at for at, kind in enumerate(kinds) if kind == "EVENT_TYPE_ACTIVITY_TASK_FAILED")
    assert "EVENT_TYPE_WORKFLOW_TASK_COMPLETED" not in kinds[first:second]


async def test_what_a_sibling_had_sent_is_awaited_and_kept(workers: Workers) -> None:
    async with Worker(workers.client, task_queue=QUEUES["anthropic"], activities=[workers.sibling]):
        result = await begun(workers)
        await asyncio.wait_for(workers.at_work.wait(), 20)
        workers.may_fail.set()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(result), 1.0)
        workers.may_answer.set()
        found = await asyncio.wait_for(result, 20)
    assert statuses(found) == {"fails": "failed", "sibling": "done"}
    assert found["stages"][1]["metadata"]["cost_usd"] == 0.5
    assert found["spent"] == {"cost_usd": 0.5, "simulated_cost_usd": 0.0, "unpriced_calls": 0}
