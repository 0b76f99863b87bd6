"""One assistant alone on a real Temporal server; the workers are acted."""

import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.worker import Replayer, Worker

from fleet.contracts import (
    ASSISTANTS_QUEUE,
    EXECUTE_ASSISTANT,
    LOAD_ASSISTANTS,
    PIPELINE_QUEUE,
    TRY_TYPE,
    ActivityLimits,
    Assistant,
    AssistantCall,
    AssistantResult,
    ModelChoice,
    PipelinePlan,
    Trial,
)
from fleet.control.pipelines.explanation import explained
from fleet.control.pipelines.story import story_of
from fleet.pipeline.try_workflow import AssistantTryWorkflow
from tests.temporal import running_temporal

ASSISTANTS = [
    Assistant("brief", "Brief", 1, "openai", "m", "Plan."),
    Assistant("draft", "Draft", 2, "openai", "m", "Write.", input_keys=["topic", "brief"]),
    Assistant("review", "Review", 3, "openai", "m", "Check."),
]


@dataclass
class Acted:
    """The activities; ``calls`` are those that a provider got."""

    calls: list[AssistantCall] = field(default_factory=list)

    @activity.defn(name=LOAD_ASSISTANTS)
    async def load(self, project_id: str) -> PipelinePlan:
        limits = ActivityLimits(600.0, 30.0, 1.0, 2.0)
        return PipelinePlan(project_id, ASSISTANTS, {"openai": "llm-openai"}, limits, "0123456789ab")

    @activity.defn(name=EXECUTE_ASSISTANT)
    async def execute(self, call: AssistantCall) -> AssistantResult:
        self.calls.append(call)
        return AssistantResult(
            call.function_key,
            "An article.",
            call.provider,
            call.model,
            "stop",
            1,
            0,
            1,
            0.5,
            None,
            1,
            0.1,
            "",
            "key",
        )


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with running_temporal() as address:
        yield address


@pytest.fixture
async def acted(address: str) -> AsyncIterator[tuple[Client, Acted]]:
    client, acted = await Client.connect(address), Acted()
    async with (
        Worker(client, task_queue=PIPELINE_QUEUE, workflows=[AssistantTryWorkflow]),
        Worker(client, task_queue=ASSISTANTS_QUEUE, activities=[acted.load]),
        Worker(client, task_queue="llm-openai", activities=[acted.execute]),
        Worker(client, task_queue="llm-groq", activities=[acted.execute]),
    ):
        yield client, acted


async def tried(client: Client, *trial: Any) -> tuple[str, dict[str, Any]]:
    name = f"t-{uuid.uuid4()}"
    arguments = ["Coffee", "my", "", "2025-01-31", *trial]
    result: dict[str, Any] = await client.execute_workflow(
        TRY_TYPE, args=arguments, id=name, task_queue=PIPELINE_QUEUE
    )
    return name, result


async def test_it_runs_alone_with_what_is_given(acted: tuple[Client, Acted]) -> None:
    client, work = acted
    name, result = await tried(client, Trial("draft", {"brief": "A plan."}))
    (call,) = work.calls
    assert call.function_key == "draft" and call.assignment is not None
    assert [output.text for output in call.assignment.outputs] == ["A plan."]
    assert (call.assignment.topic, call.assignment.first_run_id) == ("Coffee", result["run_id"])
    assert result["final_output"] == "An article." and result["spent"]["cost_usd"] == 0.5
    assert [stage["function_key"] for stage in result["stages"]] == ["brief", "draft"]
    assert result["project_fingerprint"] == "0123456789ab"

    story = await story_of(client, name)
    assert story.plan is not None and [each.function_key for each in story.plan.assistants] == ["brief", "draft"]
    assert explained(story, None).assistants[0].why == "its text was given"  # type: ignore[arg-type]
    history = await client.get_workflow_handle(name).fetch_history()
    await Replayer(workflows=[AssistantTryWorkflow]).replay_workflow(history)


async def test_another_model_is_asked_in_its_own_queue(acted: tuple[Client, Acted]) -> None:
    client, work = acted
    await tried(client, Trial("brief", {}, ModelChoice("groq", "llama"), "llm-groq"))
    (call,) = work.calls
    assert (call.provider, call.model) == ("groq", "llama")


@pytest.mark.parametrize(
    ("trial", "said"),
    [
        ([Trial("draft")], "draft reads brief: not given"),
        ([Trial("nobody")], "has no assistant 'nobody'"),
        ([], "the fifth and last argument is not a trial"),
    ],
)
async def test_what_cannot_run_fails_with_one_line(
    acted: tuple[Client, Acted], trial: list[Any], said: str
) -> None:
    client, work = acted
    with pytest.raises(WorkflowFailureError) as failed:
        await tried(client, *trial)
    assert isinstance(failed.value.cause, ApplicationError) and said in failed.value.cause.message
    assert work.calls == []
