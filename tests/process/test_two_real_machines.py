"""Two machines share a Temporal server, and one is a clone of the other. The fleet tells them apart. Calls survive
when one is cut off or stands still, and limits hold when it is slow to reach and its clock is ahead. Machines with
different host names are in test_deployment.py."""

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.commands import Command
from tests.fleet import json_of
from tests.machines import CLOCK_AHEAD_SECONDS, Machine, Servers, TwoMachines, running_two_machines
from tests.waiting import wait_for

#: Its first test waits for machines too.
pytestmark = [pytest.mark.debian, pytest.mark.timeout(600)]

WAITS = "may have sent this call"
#: The server hands pipelines' tasks and queries, too, to polls that it has of a machine which is cut off: each of
#: them takes one, which comes back after some 15 s.
MAX_SECONDS = 240
#: Calls of a pipeline that a limit holds back, and how many of them may be refused.
CALLS, MAX_REFUSED = 20, 1
DELAY_MS = 200


@pytest.fixture(scope="module")
def two_machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoMachines]:
    with running_two_machines(tmp_path_factory.mktemp("two")) as two:
        for name in ("cut", "still"):
            two.servers.add_project(name, {})
        two.servers.add_project("many", *[{"input_keys": "[]"}] * 8)
        two.servers.add_project("steady", *[{"input_keys": "[]"}] * CALLS)
        yield two


def test_their_processes_are_told_apart(two_machines: TwoMachines) -> None:
    first, second = two_machines.both
    assert first.id and second.id and first.id != second.id and first.host == second.host
    for queue in ("pipeline", "assistants", "llm-openai"):
        places = two_machines.places(queue)
        polled = {(place.host, place.machine) for place in places if place.machine in (first.id, second.id)}
        assert polled == {(first.host, first.id), (second.host, second.id)}
    for here, there in ((first, second), (second, first)):
        seen = json_of(here.does("fleet status --json"))["machines"]
        listed = {(told["host"], told["machine"]): told for told in seen}
        assert (here.host, here.id) not in listed
        assert "openai_00" in listed[there.host, there.id]["processes"]


def test_journals_and_measures_are_each_machines_own(two_machines: TwoMachines) -> None:
    servers = two_machines.servers
    before = [measured(machine) for machine in two_machines.both]
    servers.simulator.clear()

    def both_have_called() -> bool:
        completed(servers.start("run", "Kávovar", "--project", "many", "--json"))
        return all(machine.calls("many") for machine in two_machines.both)

    with servers.latency("openai", 1.0):
        wait_for("both have called", both_have_called)
    paid = len(servers.simulator.ledger())
    journaled = [len(machine.calls("many")) for machine in two_machines.both]
    assert sum(journaled) == paid
    wanted = [had + more for had, more in zip(before, journaled, strict=True)]
    wait_for("each counts its own", lambda: [measured(machine) for machine in two_machines.both] == wanted)


def measured(machine: Machine) -> int:
    """How many of OpenAI's answers the machine's metrics count."""
    text = machine.does("curl -fsS http://127.0.0.1:8020/metrics")
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    wanted = ("fleet_provider_calls_total", "openai")
    return int(sum(sample.value for sample in samples if (sample.name, sample.labels.get("provider")) == wanted))


def completed(run: Command) -> list[int]:
    """The attempts of each assistant of a pipeline that completed."""
    out, err = run.communicate(timeout=MAX_SECONDS)
    assert run.returncode == 0, err
    return [assistant["attempts"] for assistant in json_of(out)["assistants"]]


def test_a_budget_holds_with_a_machine_that_is_slow_to_reach_and_whose_clock_is_ahead(
    two_machines: TwoMachines,
) -> None:
    servers, (here, slow) = two_machines.servers, two_machines.both
    assert seconds_ahead(slow) > CLOCK_AHEAD_SECONDS / 2 > seconds_ahead(here)
    began = time.monotonic()
    slow.delay(DELAY_MS)
    try:
        both_ways = 2 * DELAY_MS / 1000
        assert seconds_to_reach(here, servers) < both_ways <= seconds_to_reach(slow, servers)
        slow.wait_until_well()
        wait_for("it polls that way", lambda: polls(two_machines, slow, time.monotonic() - began))
        with limited(servers, 60), servers.latency("openai", 0.8):
            servers.simulator.clear()
            assert completed(servers.start("run", "Kávovar", "--project", "steady", "--json")) == [1] * CALLS
        answers = Counter(call["status"] for call in servers.simulator.ledger())
        assert answers[200] == CALLS and answers[429] <= MAX_REFUSED
        assert all(machine.calls("steady") for machine in two_machines.both)
        (told,) = (told for told in here.status()["machines"] if told["machine"] == slow.id)
        assert told["heard_seconds"] < 60, "its clock makes its reports neither old nor of the future"
    finally:
        slow.join()
    slow.wait_until_well()


def seconds_ahead(machine: Machine) -> float:
    """How much its clock is ahead of the backend's, as far as its doctor can tell; 0 if it is not."""
    said = re.search(r"at least (\d+\.\d) s ahead of the backend's", machine.run("fleet doctor").stdout)
    return float(said[1]) if said else 0.0


def seconds_to_reach(machine: Machine, servers: Servers) -> float:
    address = f"http://host:{servers.port_base + 2}/health"
    return float(machine.does(f"curl -fsS -o /dev/null -w '%{{time_total}}' {address}"))


@contextmanager
def limited(servers: Servers, rpm: int) -> Iterator[None]:
    """OpenAI takes so many requests a minute until the block ends, and five at once; the fleet knows it."""
    servers.simulator.put("limits", provider="openai", rpm=rpm, burst_seconds=5)
    assert servers.fleet("limits", "openai", "--rpm", str(rpm)).returncode == 0
    try:
        yield
    finally:
        servers.fleet("limits", "openai", "--reset")
        servers.simulator.put("limits", provider="openai", rpm=10_000, burst_seconds=60)


def test_an_answer_of_a_machine_without_the_temporal_server_is_delivered_and_not_paid_again(
    two_machines: TwoMachines,
) -> None:
    servers = two_machines.servers
    with servers.latency("openai", 3.0):
        run, held_by, other = two_machines.begin("cut")
        waited = log_of(other).count(WAITS)
        held_by.cut(servers.port_base)
        try:
            wait_for("it is answered", lambda: held_by.calls("cut") == ["answered"])
            wait_for("the other one waits", lambda: log_of(other).count(WAITS) > waited, MAX_SECONDS)
        finally:
            held_by.join()
        assert completed(run) == [1]
    assert [call["outcome"] for call in servers.simulator.ledger()] == ["answered"]
    wait_for("both poll again", lambda: polls(two_machines, held_by))
    held_by.wait_until_well()


def test_an_answer_of_a_machine_that_stood_still_is_delivered_and_not_paid_again(
    two_machines: TwoMachines,
) -> None:
    servers = two_machines.servers
    pids = {machine.number: " ".join(still_pids(machine)) for machine in two_machines.both}
    with servers.latency("openai", 6.0):
        run, held_by, other = two_machines.begin("still")
        waited = log_of(other).count(WAITS)
        held_by.does(f"kill -STOP {pids[held_by.number]}")
        try:
            wait_for("the other one waits", lambda: log_of(other).count(WAITS) > waited, MAX_SECONDS)
        finally:
            held_by.does(f"kill -CONT {pids[held_by.number]}")
        assert completed(run) == [1]
    assert [call["outcome"] for call in servers.simulator.ledger()] == ["answered"]
    held_by.wait_until_well()


def still_pids(machine: Machine) -> list[str]:
    """The process that calls openai, and who would replace it while it stands still."""
    found = [str(pid) for name, pid in machine.pids().items() if name.startswith(("openai", "guardian"))]
    assert len(found) == 2
    return found


def log_of(machine: Machine) -> str:
    return (machine.logs / "openai_00.log").read_text("utf-8")


def polls(two_machines: TwoMachines, machine: Machine, within_seconds: float = 20) -> bool:
    """Whether the machine's processes have polled just now, as the other ones' are told."""
    (other,) = (peer for peer in two_machines.both if peer is not machine)
    listed = other.status()["machines"]
    return any(told["machine"] == machine.id and told["polled_seconds"] < within_seconds for told in listed)
