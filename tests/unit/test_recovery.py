"""What a dead process held is handed back, however long that takes; what it had reported is not."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import ActivityEnvironment

from fleet import recovery
from fleet.activity_wrappers import safe_activity
from fleet.config import load_settings
from fleet.journal import CallName, Journal
from fleet.measures import Measures
from fleet.processes import Owner

AWAY = RPCError("no connection", RPCStatusCode.UNAVAILABLE, b"")
STALE = RPCError("no such task", RPCStatusCode.NOT_FOUND, b"")


@dataclass
class Server:
    """Takes tasks back, after it has said these things; each of them is said once."""

    says: list[RPCError] = field(default_factory=list)
    taken: list[bytes] = field(default_factory=list)
    asked: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    def get_async_activity_handle(self, task_token: bytes) -> "Handle":
        return Handle(self, task_token)


@dataclass
class Handle:
    server: Server
    token: bytes

    async def fail(self, error: ApplicationError) -> None:
        self.server.asked.release()
        if self.server.says:
            raise self.server.says.pop(0)
        assert error.type == "worker_process_lost" and not error.non_retryable
        self.server.taken.append(self.token)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """That of a living process, in which a dead one holds two tasks."""
    path = tmp_path / "openai.db"
    with Journal(path, max_bytes=10**8, keep_seconds=3600, owner=Owner(1, 1, "another boot")) as theirs:
        theirs.hold(b"one")
        theirs.hold(b"two")
    with Journal(path, max_bytes=10**8, keep_seconds=3600) as ours:
        yield ours


async def recovered(server: Server, journal: Journal, asked: int) -> set[bytes]:
    """What is handed back by the time that the server has been asked so often."""
    client: Client = server  # type: ignore[assignment]
    task = asyncio.create_task(recovery.recover_for_ever(client, journal))
    async with asyncio.timeout(20):
        for _ in range(asked):
            await server.asked.acquire()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return set(server.taken)


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "_LOOK_SECONDS", 0.01)


async def test_what_a_dead_process_held_is_handed_back(journal: Journal) -> None:
    assert await recovered(Server(), journal, 2) == {b"one", b"two"}


async def test_a_server_that_is_away_is_asked_until_it_is_there(journal: Journal) -> None:
    assert await recovered(Server([AWAY] * 5), journal, 7) == {b"one", b"two"}


async def test_a_task_that_had_been_reported_is_let_alone(journal: Journal) -> None:
    assert len(await recovered(Server([STALE]), journal, 2)) == 1


class Work:
    """An activity that notes in which order it is wrapped."""

    def __init__(self, folder: Path) -> None:
        self.settings = load_settings(api_base_url="http://localhost:8000", state_dir=folder)
        self.measures = Measures()
        self.did: list[str] = []

    async def place(self) -> str:
        self.did.append("place")
        return "here"

    @asynccontextmanager
    async def holding(self, token: bytes) -> AsyncIterator[None]:
        self.did.append(f"hold {token.decode()}")
        yield
        self.did.append("over")

    def ended(self, error: Exception | None) -> None:
        assert error is None

    @safe_activity
    async def work(self, what: str) -> str:
        self.did.append(what)
        return what


async def test_a_task_is_held_before_all_else(tmp_path: Path) -> None:
    environment = ActivityEnvironment()
    environment.on_heartbeat = lambda *details: work.did.append("beat")
    work = Work(tmp_path)
    assert await environment.run(work.work, "work") == "work"
    assert work.did == ["hold test", "place", "beat", "work", "over"]


class Pipelines:
    """What a server says of pipelines: the functionKeys that each still executes, None where it has ended."""

    def __init__(self, **open_ones: list[str] | None) -> None:
        self.open_ones = open_ones
        self.away: set[str] = set()

    def get_workflow_handle(self, workflow_id: str) -> "Pipeline":
        return Pipeline(self, workflow_id)


@dataclass
class Pipeline:
    server: Pipelines
    workflow_id: str

    async def describe(self) -> SimpleNamespace:
        if self.workflow_id in self.server.away:
            raise AWAY
        if self.workflow_id not in self.server.open_ones:
            raise STALE
        running = self.server.open_ones[self.workflow_id]
        pending = [SimpleNamespace(activity_id=key) for key in running or []]
        status = WorkflowExecutionStatus.RUNNING if running is not None else WorkflowExecutionStatus.TERMINATED
        return SimpleNamespace(status=status, raw_description=SimpleNamespace(pending_activities=pending))


async def test_a_journal_that_fills_up_may_forget_what_no_pipeline_waits_for(tmp_path: Path) -> None:
    with Journal(tmp_path / "openai.db", max_bytes=100_000, keep_seconds=3600) as filling:
        for workflow_id in ("runs", "ended", "unknown", "away"):
            for function_key in ("draft", "qa"):
                name = CallName(f"{workflow_id} {function_key}", workflow_id, function_key)
                # No journal is so small that it would refuse this: it is filled from outside of it.
                with Journal(tmp_path / "openai.db", max_bytes=10**8, keep_seconds=3600) as large:
                    large.begin(name, deadline=0.0)
                    large.answered(name, "x" * 20_000)
        server = Pipelines(runs=["qa"], ended=None)
        server.away = {"away"}
        await recovery.settle(server, filling)  # type: ignore[arg-type]
        assert {name.key for name in filling.unsettled()} == {"runs qa", "away draft", "away qa"}
