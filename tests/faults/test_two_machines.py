"""Two machines on one Temporal server: what one of them has an answer for is not paid again by the other.

Each is a worker of OpenAI's with a state folder of its own; only what tells machines apart is different, so that
all of it runs on one. The first one's way to the server can be cut."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import WorkflowFailureError, WorkflowHandle

from fleet.config import load_settings
from fleet.contracts import EXECUTE_ASSISTANT, PIPELINE_QUEUE, WORKFLOW_TYPE
from fleet.devstack.detached_processes import end_processes
from fleet.devstack.simulated_settings import simulated_providers
from fleet.devstack.stack import Ports, Stack
from tests.fleet import Fleet
from tests.ports import free_port_base
from tests.relay import Relay
from tests.waiting import LONGEST_SECONDS, wait_for

HEARTBEAT_TIMEOUT_SECONDS = 6.0
STARTED = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
ENVIRONMENT = {
    "FLEET_HEARTBEAT_TIMEOUT_SECONDS": str(HEARTBEAT_TIMEOUT_SECONDS),
    "FLEET_HEARTBEAT_INTERVAL_SECONDS": "0.5",
    "FLEET_ATTEMPT_SPACING_SECONDS": "0",
    "FLEET_RETRY_MAX_SECONDS": "2",
}


@dataclass
class Machine:
    """A worker process, or several of different programs, with one state folder."""

    state: Path
    variables: dict[str, str]
    relay: Relay
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, module: str = "workers.llm", *arguments: str, **variables: str) -> None:
        """Start a worker and wait until it polls."""
        own = {"FLEET_STATE_DIR": str(self.state), "TEMPORAL_HOST": f"127.0.0.1:{self.relay.port}"}
        self.state.mkdir(exist_ok=True)
        with (self.state / "output.log").open("ab") as output:
            self.running[module] = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env=self.variables | own | variables,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.state,
            )
        wait_for(f"{module} polls", self._polls)

    def openai(self, **variables: str) -> None:
        """Start a worker of OpenAI's with one slot: busy, it polls nothing. The server goes on handing tasks to
        polls that it has of a machine which was cut off, and those come back after the heartbeat timeout only."""
        self.start("workers.llm", "openai", **variables, FLEET_PROVIDERS__OPENAI__CONCURRENCY="1")

    def _polls(self) -> bool:
        liveness_records = list((self.state / "pulse").glob("*.json"))
        records = [json.loads(record.read_text("utf-8")) for record in liveness_records]
        alive = {process.pid for process in self.running.values() if process.poll() is None}
        polling = [record["pid"] for record in records if any(q["pollers"] for q in record["queues"].values())]
        return alive <= set(polling)

    def signal(self, number: int, module: str = "workers.llm") -> None:
        self.running[module].send_signal(number)
        if number == signal.SIGKILL:
            self.running.pop(module).wait()

    def end(self) -> None:
        for process in self.running.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
        self.relay.close()

    def log(self) -> str:
        return (self.state / "logs" / "openai.log").read_text("utf-8")


@dataclass
class World:
    """The servers, what serves the ``pipelines`` themselves, and two machines that make the calls. Once there is a
    call, ``first`` is the one that has sent it."""

    fleet: Fleet
    pipelines: Machine
    first: Machine
    second: Machine

    async def call(self, on_ambiguous: str = "send", **variables: str) -> WorkflowHandle[Any, Any]:
        """A pipeline whose one call is on its way; the other machine has nothing to do."""
        self.first.openai(**variables)
        self.second.openai(**variables)
        self.fleet.simulator.clear()
        handle = await self.pipeline(on_ambiguous)
        wait_for("the call is on its way", lambda: self.fleet.in_flight("openai"))
        if "LLM REQUEST" in self.second.log():
            self.first, self.second = self.second, self.first
        return handle

    async def pipeline(self, on_ambiguous: str = "send", **assistant: str) -> WorkflowHandle[Any, Any]:
        """A pipeline of one call that has been started."""
        name = f"one-{uuid.uuid4().hex[:8]}"
        self.fleet.add_project(name, {"on_ambiguous": on_ambiguous, **assistant})
        client = await self.fleet.client()
        return await client.start_workflow(
            WORKFLOW_TYPE, args=["Kávovar", name], id=name, task_queue=PIPELINE_QUEUE
        )

    @contextmanager
    def patience(self) -> Iterator[None]:
        """Within the block, the server waits ten minutes for a heartbeat."""
        self.pipelines.signal(signal.SIGKILL, "workers.assistants")
        self.pipelines.start("workers.assistants", FLEET_HEARTBEAT_TIMEOUT_SECONDS="600")
        try:
            yield
        finally:
            self.pipelines.signal(signal.SIGKILL, "workers.assistants")
            self.pipelines.start("workers.assistants")

    def outcomes(self) -> list[str]:
        return [call["outcome"] for call in self.fleet.simulator.ledger()]

    def wait_until_the_second_waits(self) -> None:
        """Until the other machine has been handed the task, and knows that the first one may have sent the
        call."""
        wait_for("the second machine waits", lambda: "may have sent this call" in self.second.log())


async def ended(handle: WorkflowHandle[Any, Any]) -> tuple[int, int]:
    """Attempts and calls that may have been paid beside, of the one assistant of a pipeline that completed."""
    result = await handle.result()
    (stage,) = result["stages"]
    return stage["metadata"]["attempts"], stage["metadata"]["possibly_paid_twice"]


def ends_of_attempts(machine: Machine) -> int:
    """How many have been made, or given up."""
    said = ("ACTIVITY SUCCESS", "ACTIVITY WAITS", "ACTIVITY CANCELLED")
    return sum(machine.log().count(phrase) for phrase in said)


def in_journal(machine: Machine) -> list[str]:
    """The states of the calls that it has recorded."""
    with closing(sqlite3.connect(machine.state / "journal" / "openai.db")) as connection:
        return [state for (state,) in connection.execute("SELECT state FROM calls")]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, Machine]]:
    folder, base = tmp_path_factory.mktemp("servers"), free_port_base()
    stack = Stack(folder / "devstack", folder / "logs", Ports.from_base(base)).start()
    fleet = Fleet(folder, base, further=stack)
    api = f"http://127.0.0.1:{base + 2}"
    providers = load_settings(api_base_url=api).providers.values()
    simulator = simulated_providers(fleet.simulator.base_url, providers)
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("FLEET_", "TEMPORAL_"))}
    variables |= ENVIRONMENT | simulator | {"API_BASE_URL": api}
    relay = Relay(base)
    pipelines = Machine(folder / "pipelines", variables, relay)
    fleet.simulator.put("latency", provider="openai", median_seconds=1.5, sigma=0, seconds_per_output_token=0)
    try:
        pipelines.start("workers.pipeline")
        pipelines.start("workers.assistants")
        yield fleet, pipelines
    finally:
        pipelines.end()
        end_processes(stack)


@pytest.fixture
def world(servers: tuple[Fleet, Machine], tmp_path: Path) -> Iterator[World]:
    fleet, pipelines = servers
    first, second = (
        Machine(tmp_path / name, pipelines.variables, Relay(fleet.port_base)) for name in ("first", "second")
    )
    try:
        yield World(fleet, pipelines, first, second)
    finally:
        first.end()
        second.end()


async def test_an_answer_of_a_machine_that_was_cut_off_is_delivered_and_not_paid_again(world: World) -> None:
    handle = await world.call()
    with world.first.relay.cut():
        wait_for("the call is answered", lambda: world.outcomes() == ["answered"])
        world.wait_until_the_second_waits()
    assert await ended(handle) == (1, 0)
    assert world.outcomes() == ["answered"]
    assert "ANSWER DELIVERED" in world.first.log()


async def test_an_answer_whose_process_was_killed_is_delivered_by_the_next_one(world: World) -> None:
    handle = await world.call()
    with world.first.relay.cut():
        wait_for("the answer is in the journal", lambda: in_journal(world.first) == ["answered"])
        world.first.signal(signal.SIGKILL)
        world.wait_until_the_second_waits()
    world.first.openai()
    assert await ended(handle) == (1, 0)
    assert world.outcomes() == ["answered"]


async def test_a_task_that_comes_long_after_it_was_handed_out_is_not_worked_on(world: World) -> None:
    """As it comes to a machine that is connected again: the server had handed it to a poll of that machine."""
    await (await world.call(FLEET_OTHER_MACHINE_SECONDS="3")).result()
    while "LLM REQUEST" not in world.second.log():
        await (await world.pipeline()).result()  # both know by now how soon a task comes
    world.fleet.simulator.clear()
    with world.first.relay.cut():
        pipelines = [await world.pipeline() for _ in range(4)]
        for pipeline in pipelines:
            await pipeline.result()
        sent = world.first.log().count("LLM REQUEST")
        begun = world.first.log().count("ACTIVITY START")
    wait_for("the old task comes", lambda: world.first.log().count("ACTIVITY START") > begun)
    wait_for("it is let go", lambda: ends_of_attempts(world.first) > begun)
    assert world.outcomes() == ["answered"] * 4
    assert world.first.log().count("LLM REQUEST") == sent


async def test_an_answer_of_a_machine_that_stood_still_is_delivered_and_not_paid_again(world: World) -> None:
    handle = await world.call()
    world.first.signal(signal.SIGSTOP)
    world.wait_until_the_second_waits()
    world.first.signal(signal.SIGCONT)
    assert await ended(handle) == (1, 0)
    assert world.outcomes() == ["answered"]


async def test_a_temporal_outage_over_two_machines_costs_nothing(world: World) -> None:
    handle = await world.call()
    temporal = next(server for server in world.fleet.further if server.name == "temporal")
    os.kill(temporal.pid, signal.SIGSTOP)
    try:
        wait_for("the call is answered", lambda: world.outcomes() == ["answered"])
        await asyncio.sleep(HEARTBEAT_TIMEOUT_SECONDS + 2)  # what is tested is exactly this time
    finally:
        os.kill(temporal.pid, signal.SIGCONT)
    assert await ended(handle) == (1, 0)
    assert world.outcomes() == ["answered"]


@pytest.mark.parametrize("policy", ["send", "fail"])
async def test_the_call_of_a_machine_that_never_returns_is_counted_or_by_policy_not_sent_again(
    world: World, policy: str
) -> None:
    handle = await world.call(policy, FLEET_OTHER_MACHINE_SECONDS="3")
    world.first.signal(signal.SIGKILL)
    if policy == "send":
        attempts, paid_beside = await ended(handle)
        assert paid_beside == 1 and attempts <= 2, "a call lost before its first heartbeat counts as no attempt"
        assert world.outcomes() == ["client_gone", "answered"]
    else:
        with pytest.raises(WorkflowFailureError) as failed:
            await handle.result()
        assert "was or may have been paid" in str(failed.value.cause)
        assert world.outcomes() == ["client_gone"]
    assert "may have sent this call" in world.second.log()


async def test_what_a_survivor_knows_of_a_killed_process_is_not_waited_for(world: World) -> None:
    """It hands the task back with that, so that whoever takes it counts the call in mid-air at once."""
    with world.patience():
        handle = await world.call(FLEET_OTHER_MACHINE_SECONDS="600")
        world.first.signal(signal.SIGKILL)
        world.first.openai()
        assert await ended(handle) == (2, 1)
    assert world.outcomes() == ["client_gone", "answered"]
    assert "may have sent this call" not in world.first.log() + world.second.log()


async def test_a_task_that_a_killed_process_had_not_begun_is_not_waited_for_where_there_is_no_other_machine(
    world: World,
) -> None:
    """It is Anthropic's, whose queue no other machine of these tests has polled."""
    waits = {"FLEET_OTHER_MACHINE_SECONDS": "600"}
    world.first.start("workers.llm", "anthropic", **waits)
    world.fleet.simulator.clear()
    with world.first.relay.cut():
        handle = await world.pipeline("fail", model_provider="anthropic", model="claude-sonnet-4-5")
        await begun_by_the_server(handle)
        world.first.signal(signal.SIGKILL)
    world.first.start("workers.llm", "anthropic", **waits)
    assert await ended(handle) == (1, 0)
    assert world.outcomes() == ["answered"]


async def begun_by_the_server(handle: WorkflowHandle[Any, Any]) -> None:
    """Until the server has dispatched the pipeline's one call."""
    async with asyncio.timeout(LONGEST_SECONDS):
        while True:
            pending = (await handle.describe()).raw_description.pending_activities
            if any(info.activity_type.name == EXECUTE_ASSISTANT and info.state == STARTED for info in pending):
                return
            await asyncio.sleep(0.1)
