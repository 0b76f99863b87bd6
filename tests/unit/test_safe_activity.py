"""When an attempt heartbeats."""

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from fleet.config import load_settings
from fleet.execution.safe_activity import safe_activity
from fleet.process.metrics import Metrics


class Activities:
    """One activity, which goes on until ``over`` is set; keeps the heartbeats of which it knew when it began."""

    def __init__(self) -> None:
        self.settings = load_settings(api_base_url="http://localhost:1")
        self.metrics = Metrics()
        self.beats: list[dict[str, Any]] = []
        self.heard_first: list[dict[str, Any]] | None = None
        self.over = asyncio.Event()

    async def place(self) -> str:
        return "journal"

    def holding(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    def ended(self, error: Exception | None) -> None:
        assert error is None

    @safe_activity
    async def go_on(self, until: str) -> None:
        self.heard_first = list(self.beats)
        await self.over.wait()

    async def run(self, number: int) -> None:
        """Attempt ``number``; it is over with its first heartbeat."""

        def heard(details: dict[str, Any]) -> None:
            self.beats.append(details)
            self.over.set()

        environment = ActivityEnvironment()
        environment.info = replace(environment.info, attempt=number)
        environment.on_heartbeat = heard
        async with asyncio.timeout(20):
            await environment.run(self.go_on, "")


async def test_a_first_attempt_that_is_quick_sends_no_heartbeat() -> None:
    activities = Activities()
    activities.over.set()
    await activities.run(1)
    assert activities.beats == []


async def test_a_first_attempt_that_lasts_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.execution.safe_activity._QUICK_SECONDS", 0.01)
    activities = Activities()
    await activities.run(1)
    assert activities.heard_first == []
    assert [(beat["under_way"], beat["at"]) for beat in activities.beats] == [(True, "journal")]


async def test_a_later_attempt_heartbeats_before_anything_else() -> None:
    activities = Activities()
    await activities.run(2)
    assert activities.heard_first is not None
    assert [(beat["under_way"], beat["untold"]) for beat in activities.heard_first] == [(True, True)]
