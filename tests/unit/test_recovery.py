"""What Temporal may not have heard is answered for, however long that takes; what it has heard of is not."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.converter import DataConverter
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import ActivityEnvironment

from fleet.config import load_settings
from fleet.contracts import AssistantResult
from fleet.execution import recovery
from fleet.execution.async_journal import AsyncJournal
from fleet.execution.journal import Journal
from fleet.execution.journal_records import CallName
from fleet.execution.recorded_answer import Recorded
from fleet.execution.recovery import Recovery
from fleet.execution.safe_activity import safe_activity
from fleet.process.metrics import Metrics
from fleet.process.process_id import Owner
from tests.unit.call_world import ANSWER, ASKED, NAME, TASK
from tests.waiting import wait_for

AWAY = RPCError("no connection", RPCStatusCode.UNAVAILABLE, b"")
STALE = RPCError("no such task", RPCStatusCode.NOT_FOUND, b"")
RECORDED = Recorded(ANSWER, attempts=1).to_json()


@dataclass
class Server:
    """Hears what became of tasks, after it has said these things; each of them is said once.

    ``details`` are those of the last heartbeat of the one assistant that ``pending`` says is open.
    """

    says: list[RPCError] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    pending: bool = True
    state: int = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
    failed: dict[bytes, list[dict[str, Any]]] = field(default_factory=dict)
    completed: list[AssistantResult] = field(default_factory=list)
    asked: int = 0
    data_converter = DataConverter.default

    def get_async_activity_handle(self, **names: Any) -> "Handle":
        return Handle(self, **names)

    def get_workflow_handle(self, workflow_id: str, run_id: str) -> "Server":
        assert (workflow_id, run_id) == (TASK.workflow_id, TASK.run_id)
        return self

    def hears(self) -> None:
        self.asked += 1
        if self.says:
            raise self.says.pop(0)

    async def describe(self, **options: Any) -> SimpleNamespace:
        self.hears()
        details = SimpleNamespace(payloads=await self.data_converter.encode([self.details]))
        open_one = SimpleNamespace(
            activity_id=TASK.function_key, heartbeat_details=details, attempt=1, state=self.state
        )
        raw = SimpleNamespace(pending_activities=[open_one] if self.pending else [])
        return SimpleNamespace(status=WorkflowExecutionStatus.RUNNING, raw_description=raw)


@dataclass
class Handle:
    server: Server
    task_token: bytes = b""
    workflow_id: str = ""
    run_id: str = ""
    activity_id: str = ""

    async def fail(self, error: ApplicationError, last_heartbeat_details: list[Any], **options: Any) -> None:
        self.server.hears()
        assert error.type == "worker_process_lost" and not error.non_retryable
        self.server.failed[self.task_token] = last_heartbeat_details

    async def complete(self, result: AssistantResult, **options: Any) -> None:
        self.server.hears()
        assert (self.workflow_id, self.run_id, self.activity_id) == (
            TASK.workflow_id,
            TASK.run_id,
            TASK.function_key,
        )
        self.server.completed.append(result)


@dataclass
class World:
    """One journal of a dead process and a living one, and a server."""

    theirs: Journal
    ours: Journal
    server: Server = field(default_factory=Server)
    doubts: int = 0

    def __post_init__(self) -> None:
        self.journal = AsyncJournal(self.ours)

    def in_doubt(self) -> bool:
        return any(holding.doubtful and holding.ended is not None for holding in self.journal._held.values())

    async def recover(self, asked: int) -> None:
        """Until the server has been asked so often, and nothing more is left to be told."""
        client: Client = self.server  # type: ignore[assignment]
        provider = load_settings(api_base_url="http://localhost").provider("openai")
        task = asyncio.create_task(Recovery(client, provider, self.journal, lambda: self.doubts).run())

        def told() -> bool:
            return self.journal._awake > 0.02 and self.server.asked >= asked and not self.in_doubt()

        await asyncio.to_thread(wait_for, "all is told", told)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    path = tmp_path / "openai.db"
    with (
        Journal(path, max_bytes=10**8, keep_seconds=3600, owner=Owner(1, 1, "another boot")) as theirs,
        Journal(path, max_bytes=10**8, keep_seconds=3600) as ours,
    ):
        yield World(theirs, ours)


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr("fleet.execution.async_journal._REPORTING_SECONDS", 0.0)


async def test_what_a_dead_process_had_not_sent_is_handed_back(world: World) -> None:
    world.server.details = {"under_way": True, "at": world.ours.place(), "machine": "one", "calls": 2}
    world.theirs.hold(TASK)
    world.theirs.hold(replace(TASK, token=b"second"))
    await world.recover(4)
    told = world.server.details | {
        "under_way": False,
        "lost_workers": 1,
        "open_at": "",
        "response_id": "",
        "maybe_paid": 0,
        "unpriced": 0,
        "sent": False,
    }
    assert world.server.failed == {b"token": [told], b"second": [told]}


async def test_a_call_that_a_dead_process_had_sent_is_handed_back_as_one_that_may_be_paid(world: World) -> None:
    here = world.ours.place()
    world.server.details = {"under_way": True, "at": here, "open_at": here, "maybe_paid": 1}
    world.theirs.hold(TASK)
    world.theirs.begin(NAME, deadline=9e9, asked=ASKED, maybe_paid=1)
    await world.recover(2)
    ((told,),) = world.server.failed.values()
    assert (told["maybe_paid"], told["open_at"], told["sent"]) == (2, "", True)


@pytest.mark.parametrize(
    "details",
    [
        {"under_way": True, "at": "here", "open_at": "there"},
        {"under_way": True, "at": "there"},  # the dead process's own heartbeat never arrived
        {"under_way": False, "at": "there", "open_at": "there"},
    ],
)
async def test_what_another_machine_may_have_sent_is_left_open(world: World, details: dict[str, Any]) -> None:
    world.server.details = details
    world.theirs.hold(TASK)
    await world.recover(2)
    assert world.server.failed == {b"token": [world.server.details]}


async def test_an_answer_of_a_dead_process_is_delivered(world: World) -> None:
    world.server.details = {"open_at": "another machine's", "maybe_paid": 1}
    world.theirs.hold(TASK)
    world.theirs.begin(NAME, deadline=9e9, asked=ASKED)
    world.theirs.answered(NAME, RECORDED)
    await world.recover(2)
    (result,) = world.server.completed
    assert (result.output, result.possibly_paid_twice, result.model) == (ANSWER.text, 1, "gpt-4o")
    assert not world.server.failed


@pytest.mark.parametrize("status", ["UNAVAILABLE", "UNKNOWN", "INTERNAL", "RESOURCE_EXHAUSTED", "CANCELLED"])
async def test_a_server_that_does_not_answer_is_asked_until_it_does(world: World, status: str) -> None:
    world.server.says = [RPCError("transport error", RPCStatusCode[status], b"")] * 5
    world.theirs.hold(TASK)
    world.theirs.begin(NAME, deadline=9e9, asked=ASKED)
    world.theirs.answered(NAME, RECORDED)
    await world.recover(7)
    assert len(world.server.completed) == 1


async def test_a_task_that_is_to_be_tried_again_already_is_let_alone(world: World) -> None:
    world.server.state = PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
    world.theirs.hold(TASK)
    await world.recover(1)
    assert not world.server.failed


async def test_a_task_that_had_been_reported_is_let_alone(world: World) -> None:
    world.server.says = [STALE]
    world.theirs.hold(TASK)
    await world.recover(1)
    assert not world.server.failed


async def test_an_answer_is_delivered_where_the_server_may_not_have_heard_it(world: World) -> None:
    with suppress(asyncio.CancelledError):
        async with world.journal.holding(TASK):
            world.ours.begin(NAME, deadline=9e9, asked=ASKED)
            raise asyncio.CancelledError  # the attempt is over, and its call goes on
    recovering = asyncio.create_task(world.recover(2))
    await asyncio.to_thread(wait_for, "it is in doubt", world.in_doubt)
    world.ours.answered(NAME, RECORDED)
    await recovering
    assert len(world.server.completed) == 1


async def test_an_answer_that_the_pipeline_has_is_not_delivered(world: World) -> None:
    world.server.pending = False
    async with world.journal.holding(TASK):
        world.ours.begin(NAME, deadline=9e9, asked=ASKED)
        world.ours.answered(NAME, RECORDED)
    world.doubts = 1
    await world.recover(1)
    assert not world.server.completed


async def test_where_nothing_is_in_doubt_the_server_is_asked_nothing(world: World) -> None:
    async with world.journal.holding(TASK):
        world.ours.begin(NAME, deadline=9e9, asked=ASKED)
        world.ours.answered(NAME, RECORDED)
    await world.recover(0)
    assert (world.server.asked, world.server.completed) == (0, [])


class Work:
    """An activity that notes in which order it is wrapped."""

    def __init__(self, folder: Path) -> None:
        self.settings = load_settings(api_base_url="http://localhost:8000", state_dir=folder)
        self.metrics = Metrics()
        self.did: list[str] = []

    async def place(self) -> str:
        self.did.append("place")
        return "here"

    @asynccontextmanager
    async def holding(self) -> AsyncIterator[None]:
        self.did.append("hold")
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
    environment.info = replace(environment.info, attempt=2)
    environment.on_heartbeat = lambda *details: work.did.append("beat")
    work = Work(tmp_path)
    assert await environment.run(work.work, "work") == "work"
    assert work.did == ["hold", "place", "beat", "work", "over"]


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

    async def describe(self, **options: Any) -> SimpleNamespace:
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
        provider = load_settings(api_base_url="http://localhost").provider("openai")
        await Recovery(server, provider, AsyncJournal(filling), lambda: 0).settle()  # type: ignore[arg-type]
        assert {name.key for name in filling.unsettled()} == {"runs qa", "away draft", "away qa"}
