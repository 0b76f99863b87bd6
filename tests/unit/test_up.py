"""What `fleet up` says while it waits for the workers."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.cli import up
from fleet.config import load_settings
from fleet.control.health.status import QueueStatus
from fleet.control.supervision.supervisord_client import SupervisorAway
from fleet.control.supervision.supervisord_home import Home


class StartingFleet:
    """A fleet by its clock: supervisord answers from second 4 on, and the two queues are polled from 7 and 26 on.

    Example:
        fleet = StartingFleet()
        fleet.now = 30.0  # everything is polled
    """

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        self.now += 1.0
        return self.now

    def processes(self) -> list[Any]:
        if self.now < 4:
            raise SupervisorAway
        return []

    async def queue_statuses(self, *_: Any) -> list[QueueStatus]:
        polled_from = {"llm-openai": 26, "pipeline": 7}
        return [QueueStatus(name, int(self.now >= at), 0, None) for name, at in polled_from.items()]


@pytest.fixture
def starting(monkeypatch: pytest.MonkeyPatch) -> Iterator[StartingFleet]:
    fleet = StartingFleet()

    async def connected(settings: Any) -> None:
        return None

    monkeypatch.setattr(up, "connect_once", connected)
    monkeypatch.setattr(up, "Supervisor", lambda socket: fleet)
    monkeypatch.setattr(up, "queue_statuses", fleet.queue_statuses)
    monkeypatch.setattr(up, "_POLL_SECONDS", 0.0)
    yield fleet


def test_a_long_start_says_now_and_then_which_queues_have_no_worker_yet(
    starting: StartingFleet, tmp_path: Path
) -> None:
    settings = load_settings(api_base_url="http://localhost:1", state_dir=tmp_path)
    said: list[str] = []
    asyncio.run(up._until_polled(settings, Home.of(settings), said.append, starting.clock))
    assert said == [
        "waiting for llm-openai, pipeline to be polled by a worker: 5 s ...",
        "waiting for llm-openai to be polled by a worker: 20 s ...",
    ]
