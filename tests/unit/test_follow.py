"""What ``fleet run`` shows of a pipeline that ends between two looks."""

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from temporalio.service import RPCError, RPCStatusCode

from fleet.cli.run import Started, follow
from fleet.contracts import AssistantProgress, AssistantState, PipelineResult, PipelineState, Progress

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def progress_with(state: AssistantState) -> Progress:
    assistant = AssistantProgress("qa", "QA", "openai", "gpt-4o", state, 1, 1.0)
    return Progress(PipelineState.RUNNING, "topic", "project", 1.0, [assistant])


class Handle:
    """A pipeline whose last assistant ends right after the first look."""

    id = "p-1"
    first_execution_run_id = "r-1"

    def __init__(self, *errors: Exception) -> None:
        self.looks = 0
        self.errors = [*errors]
        self.answers = asyncio.Event()

    async def query(self, *arguments: Any, **options: Any) -> Progress:
        if self.errors:
            raise self.errors.pop(0)
        self.answers.set()
        self.looks += 1
        return progress_with(AssistantState.RUNNING if self.looks == 1 else AssistantState.DONE)

    async def result(self) -> dict[str, Any]:
        await self.answers.wait()
        return asdict(PipelineResult("topic", "project", "p-1", "r-1", "text", [], 1, 1, pipeline_success=True))

    async def describe(self) -> Any:
        return SimpleNamespace(start_time=NOON, close_time=NOON)


@pytest.fixture(autouse=True)
def nothing_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing_waits(*arguments: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("fleet.cli.run.tell_waits", nothing_waits)
    monkeypatch.setattr("fleet.cli.run._LOOK_SECONDS", 0.01)


async def noted_with(*errors: Exception) -> list[str]:
    """What is noted while the pipeline's progress cannot be asked for."""
    noted = list[str]()
    await follow(Started(*cast(Any, (None, Handle(*errors), None))), lambda progress: None, noted.append)
    return noted


def refused(status: RPCStatusCode, message: str) -> RPCError:
    return RPCError(message, status, b"")


async def test_that_no_process_answers_is_left_to_the_explanation_whatever_the_server_says() -> None:
    nobody = [
        refused(RPCStatusCode.CANCELLED, "Timeout expired"),
        refused(RPCStatusCode.FAILED_PRECONDITION, "no poller seen for task queue recently"),
        refused(RPCStatusCode.DEADLINE_EXCEEDED, "context deadline exceeded"),
    ]
    assert await noted_with(*nobody, *nobody) == []


async def test_that_temporal_is_away_is_noted_once_in_the_same_words() -> None:
    away = [refused(RPCStatusCode.UNAVAILABLE, said) for said in ("connection refused", "broken pipe", "reset")]
    assert await noted_with(*away) == ["Temporal does not answer: it is asked again until it does"]


async def test_the_last_assistant_is_shown_as_done() -> None:
    shown: list[AssistantState] = []
    started = Started(*cast(Any, (None, Handle(), None)))
    outcome = await follow(started, lambda progress: shown.append(progress.assistants[0].state), print)
    assert outcome.completed and shown == [AssistantState.RUNNING, AssistantState.DONE]
