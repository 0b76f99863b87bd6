"""When an assistant moves to another provider, and when it must not; the providers' workers are acted."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import PollActivityTaskQueueRequest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from fleet.contracts import (
    ASSISTANT_SIGNAL,
    ASSISTANTS_QUEUE,
    EXECUTE_ASSISTANT,
    LOAD_ASSISTANTS,
    MODEL_UNUSABLE,
    PIPELINE_QUEUE,
    WORKFLOW_TYPE,
    ActivityLimits,
    Assistant,
    AssistantCall,
    AssistantMoved,
    AssistantResult,
    AssistantState,
    ModelChoice,
    PipelinePlan,
)
from fleet.pipeline.workflow import AssistantPipelineWorkflow
from tests.temporal import running_temporal

PATIENCE_SECONDS = 3.0
#: A project whose attempts are lost soon where they send no heartbeat.
FRAGILE = "fragile"
FIRST, SECOND = ModelChoice("openai", "m"), ModelChoice("anthropic", "n")
QUEUES = {"openai": "llm-openai", "anthropic": "llm-anthropic"}


class Loading:
    """A project of one assistant, which may move."""

    @activity.defn(name=LOAD_ASSISTANTS)
    async def load(self, project_id: str) -> PipelinePlan:
        assistant = Assistant("draft", "Draft", 1, FIRST.provider, FIRST.model, "Write.", fallback=[SECOND])
        lost_after = 1.0 if project_id == FRAGILE else 30.0
        limits = ActivityLimits(600.0, lost_after, 1.0, 2.0, fallback_after_seconds=PATIENCE_SECONDS)
        return PipelinePlan(project_id, [assistant], QUEUES, limits)


Act = Callable[[], Awaitable[None]]


async def nothing() -> None:
    """It answers."""


@dataclass
class Acted:
    """A provider's worker: keeps what it is asked, and answers unless ``act`` fails."""

    act: Act = nothing
    calls: list[AssistantCall] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    acted: asyncio.Event = field(default_factory=asyncio.Event)

    @activity.defn(name=EXECUTE_ASSISTANT)
    async def execute(self, call: AssistantCall) -> AssistantResult:
        self.calls.append(call)
        self.asked.set()
        try:
            await self.act()
        finally:
            self.acted.set()
        return AssistantResult(
            call.function_key, "text", call.provider, call.model, "stop", 1, 0, 1, None, None, 1, 0.1, "", "key"
        )


@dataclass
class Stage:
    """Pipelines and loads are worked on; the providers' queues are served by whom a test says."""

    client: Client

    @asynccontextmanager
    async def serving(self, provider: str, acted: Acted) -> AsyncIterator[Acted]:
        async with Worker(self.client, task_queue=QUEUES[provider], activities=[acted.execute]):
            yield acted

    async def pipeline(self, project_id: str = "project") -> WorkflowHandle[Any, dict[str, Any]]:
        return await self.client.start_workflow(
            WORKFLOW_TYPE, args=["topic", project_id], id=f"p-{uuid.uuid4()}", task_queue=PIPELINE_QUEUE
        )

    async def interrupted(self, act: Act) -> AssistantCall:
        """The call that the first provider is asked for good, after an attempt that did this, and a silence."""
        async with self.serving("openai", Acted(act)) as first:
            pipeline = await self.pipeline()
            await asyncio.wait_for(first.acted.wait(), 20)
        await asyncio.sleep(2 * PATIENCE_SECONDS)  # what is tested is exactly this time
        async with self.serving("openai", Acted()) as again:
            assert answered_by(await pipeline.result()) == "openai"
        return again.calls[-1]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with running_temporal() as address:
        yield address


@pytest.fixture
async def stage(address: str) -> AsyncIterator[Stage]:
    client = await Client.connect(address)
    async with (
        Worker(client, task_queue=PIPELINE_QUEUE, workflows=[AssistantPipelineWorkflow]),
        Worker(client, task_queue=ASSISTANTS_QUEUE, activities=[Loading().load]),
    ):
        yield Stage(client)


def refuse(code: str = "held_back", *, final: bool = True, **heartbeat: Any) -> Act:
    """An attempt that fails, after it told this by its heartbeat."""

    async def act() -> None:
        if heartbeat:
            activity.heartbeat(heartbeat)
        raise ApplicationError(
            "the limit leaves no room", type=code, non_retryable=final, next_retry_delay=timedelta(seconds=0.1)
        )

    return act


def answered_by(result: dict[str, Any]) -> str:
    (record,) = result["stages"]
    return str(record["metadata"]["provider"])


async def test_what_no_worker_starts_moves_on(stage: Stage) -> None:
    async with stage.serving("anthropic", Acted()) as second:
        result = await (await stage.pipeline()).result()
    assert answered_by(result) == "anthropic"
    assert second.calls[0].give_up_after_seconds == PATIENCE_SECONDS


async def test_what_its_worker_holds_back_for_too_long_moves_on_at_once(stage: Stage) -> None:
    notes = []

    async def look() -> None:
        pipeline = stage.client.get_workflow_handle(activity.info().workflow_id or "")
        notes.extend(assistant["note"] for assistant in (await pipeline.query("progress"))["assistants"])

    async with stage.serving("openai", Acted(refuse())) as first, stage.serving("anthropic", Acted(look)):
        result = await (await stage.pipeline()).result()
    assert answered_by(result) == "anthropic"
    assert notes == ["openai/m: the limit leaves no room"]
    assert [call.give_up_after_seconds for call in first.calls] == [PATIENCE_SECONDS]


async def test_a_model_that_cannot_be_used_is_left_out_and_the_result_says_so(stage: Stage) -> None:
    """The second one is held back in the first round; in the second round it is the only one."""
    rounds = 0

    async def act() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            await refuse(final=False)()

    gone = Acted(refuse(MODEL_UNUSABLE))
    async with stage.serving("openai", gone), stage.serving("anthropic", Acted(act)) as second:
        result = await (await stage.pipeline()).result()
    assert answered_by(result) == "anthropic"
    assert len(gone.calls) == 1
    assert [call.give_up_after_seconds for call in second.calls] == [None, None], "nobody else would take it"
    (warning,) = result["warnings"]
    assert "Draft moved to its fallback: openai/m: " in warning


async def test_every_round_has_longer_patience(stage: Stage) -> None:
    rounds = 0

    async def act() -> None:
        nonlocal rounds
        rounds += 1
        if rounds < 3:
            await refuse()()

    async with stage.serving("openai", Acted(act)) as first, stage.serving("anthropic", Acted(refuse())):
        result = await (await stage.pipeline()).result()
    assert answered_by(result) == "openai"
    assert [call.give_up_after_seconds for call in first.calls] == [
        PATIENCE_SECONDS,
        2 * PATIENCE_SECONDS,
        4 * PATIENCE_SECONDS,
    ]


async def test_any_other_failure_for_good_is_the_assistants_own(stage: Stage) -> None:
    bad = Acted(refuse("bad_request"))
    async with stage.serving("openai", bad), stage.serving("anthropic", Acted()) as second:
        with pytest.raises(WorkflowFailureError):
            await (await stage.pipeline()).result()
    assert second.calls == []


TOLD = [
    {"sent": True, "provider_failures": 1},  # lost on the way: the provider may charge for it
    {"open_at": "a journal", "provider_failures": 1},  # no answer came
    {"under_way": True, "at": "a journal"},  # its worker died
]


@pytest.mark.parametrize("told", TOLD, ids=["may be paid", "not answered", "worker died"])
async def test_what_was_sent_stays_and_its_next_execution_knows_of_it(stage: Stage, told: dict[str, Any]) -> None:
    async with stage.serving("anthropic", Acted()) as second:
        again = await stage.interrupted(refuse("provider_error", final=False, **told))
    assert second.calls == [] and again.before == told
    assert again.give_up_after_seconds is None, "it waits as long as it takes"


async def test_what_only_a_signal_told_of_is_assumed_to_be_sent(stage: Stage) -> None:
    async def tell() -> None:
        handle = stage.client.get_workflow_handle(activity.info().workflow_id or "")
        await handle.signal(ASSISTANT_SIGNAL, AssistantMoved("draft", AssistantState.RUNNING, 1))
        await refuse("cut_off", final=False)()

    async with stage.serving("anthropic", Acted()) as second:
        again = await stage.interrupted(tell)
    assert second.calls == [] and again.before == {"untold": True}


async def test_an_attempt_that_was_lost_before_its_first_heartbeat_is_assumed_to_have_sent(stage: Stage) -> None:
    pipeline = await stage.pipeline(FRAGILE)
    taken = await stage.client.workflow_service.poll_activity_task_queue(
        PollActivityTaskQueueRequest(
            namespace="default", task_queue=TaskQueue(name=QUEUES["openai"]), identity="cut off"
        )
    )
    assert (taken.attempt, taken.workflow_execution.workflow_id) == (1, pipeline.id)
    async with stage.serving("anthropic", Acted()) as second:
        await asyncio.sleep(3 * PATIENCE_SECONDS)  # what is tested is exactly this time
        async with stage.serving("openai", Acted()) as again:
            assert answered_by(await pipeline.result()) == "openai"
    assert second.calls == [] and again.calls[-1].before == {"untold": True}


async def test_a_refusal_that_cost_nothing_lets_it_move(stage: Stage) -> None:
    told = {"sent": False, "open_at": "", "waits": 1}
    async with stage.serving("anthropic", Acted()):
        async with stage.serving("openai", Acted(refuse("provider_error", final=False, **told))) as first:
            pipeline = await stage.pipeline()
            await asyncio.wait_for(first.asked.wait(), 20)
        result = await pipeline.result()
    assert answered_by(result) == "anthropic"
