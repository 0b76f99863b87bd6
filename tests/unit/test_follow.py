"""What ``fleet run`` shows of a pipeline that ends between two looks."""

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

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

    def __init__(self) -> None:
        self.looks = 0

    async def query(self, *arguments: Any, **options: Any) -> Progress:
        self.looks += 1
        return progress_with(AssistantState.RUNNING if self.looks == 1 else AssistantState.DONE)

    async def result(self) -> dict[str, Any]:
        return asdict(PipelineResult("topic", "project", "p-1", "r-1", "text", [], 1, 1, pipeline_success=True))

    async def describe(self) -> Any:
        return SimpleNamespace(start_time=NOON, close_time=NOON)


async def test_the_last_assistant_is_shown_as_done(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing_waits(*arguments: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("fleet.cli.run.tell_waits", nothing_waits)
    shown: list[AssistantState] = []
    started = Started(*cast(Any, (None, Handle(), None)))
    outcome = await follow(started, lambda progress: shown.append(progress.assistants[0].state), print)
    assert outcome.completed and shown == [AssistantState.RUNNING, AssistantState.DONE]
