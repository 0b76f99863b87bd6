"""What a cancelled pipeline keeps and what it drops; the workers are acted."""

import asyncio
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.worker import Worker

from fleet.contracts import (
    ASSISTANT_SIGNAL,
    ASSISTANTS_QUEUE,
    EXECUTE_ASSISTANT,
    LOAD_ASSISTANTS,
    PIPELINE_QUEUE,
    PROGRESS_QUERY,
    WORKFLOW_TYPE,
    ActivityLimits,
    Assistant,
    AssistantCall,
    AssistantMoved,
    AssistantResult,
    AssistantState,
    PipelinePlan,
    Progress,
)
from fleet.pipeline.workflow import AssistantPipelineWorkflow
from tests.temporal import running_temporal

QUEUES = {"openai": "llm-openai", "gemini": "llm-gemini"}
#: ``sent`` is on its way when the pipeline is cancelled; ``refused`` is between two attempts, no worker polls the
#: queue of ``queued``, and ``later`` reads the output of ``sent``.
ASSISTANTS = [
    Assistant("sent", "Sent", 1, "openai", "m", "Write.", input_keys=["topic"]),
    Assistant("refused", "Refused", 2, "openai", "m", "Write.", input_keys=["topic"]),
    Assistant("queued", "Queued", 3, "gemini", "m", "Write.", input_keys=["topic"]),
    Assistant("later", "Later", 4, "openai", "m", "Write.", input_keys=["sent"]),
]


@dataclass
class Acted:
    """The activities; ``plan`` is what a project has."""

    client: Client
    plan: list[Assistant] = field(default_factory=lambda: ASSISTANTS)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    may_load: asyncio.Event = field(default_factory=asyncio.Event)
    calls: list[str] = field(default_factory=list)

    @activity.defn(name=LOAD_ASSISTANTS)
    async def load(self, project_id: str) -> PipelinePlan:
        await self.may_load.wait()
        return PipelinePlan(project_id, self.plan, QUEUES, ActivityLimits(600.0, 5.0, 1.0, 2.0))

    @activity.defn(name=EXECUTE_ASSISTANT)
    async def execute(self, call: AssistantCall) -> AssistantResult:
        key, info = call.function_key, activity.info()
        self.calls.append(key)
        pipeline = self.client.get_workflow_handle(info.workflow_id or "", run_id=info.workflow_run_id)
        await pipeline.signal(ASSISTANT_SIGNAL, AssistantMoved(key, AssistantState.RUNNING, 1))
        if key == "refused":
            await pipeline.signal(ASSISTANT_SIGNAL, AssistantMoved(key, AssistantState.QUEUED, 1, "429"))
            raise ApplicationError("too early", type="held_back", next_retry_delay=timedelta(hours=1))
        while not self.may_answer.is_set():
            activity.heartbeat()
            await asyncio.sleep(0.1)
        return AssistantResult(key, f"text of {key}", "openai", "m", "stop", 1, 0, 1, 0.5, None, 1, 0.1, "", "key")

    async def start(self) -> WorkflowHandle[Any, Any]:
        return await self.client.start_workflow(
            WORKFLOW_TYPE, args=["topic", "project"], id=f"p-{uuid.uuid4()}", task_queue=PIPELINE_QUEUE
        )


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with running_temporal() as address:
        yield address


def workers(acted: Acted) -> list[Worker]:
    return [
        Worker(acted.client, task_queue=PIPELINE_QUEUE, workflows=[AssistantPipelineWorkflow]),
        Worker(acted.client, task_queue=ASSISTANTS_QUEUE, activities=[acted.load]),
        Worker(acted.client, task_queue=QUEUES["openai"], activities=[acted.execute]),
    ]


async def stand(handle: WorkflowHandle[Any, Any], **states: str) -> None:
    """Wait until the assistants have these states."""
    async with asyncio.timeout(20):
        while True:
            progress: Progress = await handle.query(PROGRESS_QUERY, result_type=Progress)
            now = {assistant.function_key: str(assistant.state) for assistant in progress.assistants}
            if states.items() <= now.items():
                return
            await asyncio.sleep(0.05)


async def ended_as_cancelled(handle: WorkflowHandle[Any, Any]) -> None:
    with pytest.raises(WorkflowFailureError) as failed:
        await asyncio.wait_for(handle.result(), 20)
    assert isinstance(failed.value.cause, CancelledError)


async def test_what_is_on_its_way_is_kept_and_what_waits_is_dropped(address: str) -> None:
    acted = Acted(await Client.connect(address))
    acted.may_load.set()
    one, two, three = workers(acted)
    async with one, two, three:
        handle = await acted.start()
        await stand(handle, sent="running", refused="queued", queued="queued", later="waiting")
        await handle.cancel()
        await stand(handle, sent="running", refused="waiting", queued="waiting", later="waiting")
        acted.may_answer.set()
        await ended_as_cancelled(handle)
    history = await handle.fetch_history()
    completed = [event for event in history.events if event.HasField("activity_task_completed_event_attributes")]
    assert "text of sent" in str(completed[-1]), "the paid answer is in the history"
    assert sorted(acted.calls) == ["refused", "sent"]


async def test_a_cancelled_pipeline_with_nothing_on_its_way_ends_at_once(address: str) -> None:
    acted = Acted(await Client.connect(address), [ASSISTANTS[2]])
    acted.may_load.set()
    one, two, _ = workers(acted)
    async with one, two:
        handle = await acted.start()
        await stand(handle, queued="queued")
        await handle.cancel()
        await ended_as_cancelled(handle)


async def test_a_pipeline_that_is_cancelled_while_it_loads_ends_as_cancelled_and_not_as_failed(
    address: str,
) -> None:
    acted = Acted(await Client.connect(address))
    one, _, _ = workers(acted)
    async with one:
        handle = await acted.start()
        await handle.query(PROGRESS_QUERY)
        await handle.cancel()
        await ended_as_cancelled(handle)


async def test_a_pipeline_whose_last_call_was_on_its_way_completes(address: str) -> None:
    acted = Acted(await Client.connect(address), [ASSISTANTS[0]])
    acted.may_load.set()
    one, two, three = workers(acted)
    async with one, two, three:
        handle = await acted.start()
        await stand(handle, sent="running")
        await handle.cancel()
        acted.may_answer.set()
        result = await asyncio.wait_for(handle.result(), 20)
    assert result["final_output"] == "text of sent"
