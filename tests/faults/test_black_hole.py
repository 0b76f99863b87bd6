"""Two machines on one Temporal server, of which one cannot reach a provider: it takes none of its calls."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import Any

import pytest

from fleet.contracts import PIPELINE_QUEUE, WORKFLOW_TYPE
from tests.fleet import OPENAI_ALONE, Fleet, running_fleet, second_machine
from tests.serving import serving
from tests.waiting import wait_for

RPM = 180.0
#: Until the limit is used up, without the black hole, and with it from its start on; some wait at the end.
WARM_UP_CALLS, ALONE_CALLS, BESIDE_CALLS = 90, 60, 160
ALL_CALLS = WARM_UP_CALLS + ALONE_CALLS + BESIDE_CALLS + 60
#: Of a pipeline, at once. A pipeline for each call would cost the Temporal server twice as much CPU.
CALLS_EACH = 10
PACED_SECONDS = 180.0
STARTED_SECONDS, STOPS_SECONDS, MENDED_SECONDS = 60.0, 60.0, 90.0


@dataclass
class Machines:
    """``well`` has the embedded servers; ``hole`` reaches openai at a port on which nobody listens."""

    well: Fleet
    hole: Fleet
    port: int


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    folder = tmp_path_factory.mktemp("machines")
    with closing(socket.socket()) as taken, running_fleet(folder / "well", OPENAI_ALONE) as well:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        port = int(taken.getsockname()[1])
        well.add_project("calls", *[{"input_keys": json.dumps(["topic"])}] * CALLS_EACH)
        nobody = OPENAI_ALONE | {"FLEET_PROVIDERS__OPENAI__BASE_URL": f"http://127.0.0.1:{port}/v1"}
        with second_machine(well, folder / "hole", nobody) as hole:
            yield Machines(well, hole, port)


async def run(fleet: Fleet, name: str, calls: int) -> list[Any]:
    """So many calls to openai, of pipelines that are started at once; what their stages tell of themselves."""
    client = await fleet.client()
    started = await asyncio.gather(
        *(
            client.start_workflow(
                WORKFLOW_TYPE, args=["Kávovar", "calls"], id=f"{name}-{number}", task_queue=PIPELINE_QUEUE
            )
            for number in range(calls // CALLS_EACH)
        )
    )
    results = await asyncio.gather(*(handle.result() for handle in started))
    assert all(result["pipeline_success"] for result in results)
    found = [stage["metadata"] for result in results for stage in result["stages"]]
    assert len(found) == calls
    return found


def liveness_of(fleet: Fleet) -> dict[str, Any]:
    """That of the process that calls openai."""
    found = (process["pulse"] for process in fleet.seen().get("processes", []) if process["program"] == "openai")
    return next(found, None) or {}


def probes(fleet: Fleet) -> bool:
    """Whether it takes no calls to openai, since it could not send them."""
    return liveness_of(fleet).get("stage") == "probing"


def serves(fleet: Fleet) -> bool:
    """Whether all is well."""
    now = fleet.seen()
    return bool(now) and not now["problems"] and all(process["pulse"] for process in now["processes"])


@pytest.mark.timeout(500)
async def test_a_black_hole_takes_no_calls_counts_no_attempt_and_leaves_the_other_machine_its_pace(
    machines: Machines,
) -> None:
    well, hole = machines.well, machines.hole
    await asyncio.to_thread(wait_for, "both serve", lambda: serves(well) and serves(hole), STARTED_SECONDS)
    assert hole.supervisorctl("stop", "openai:*").returncode == 0
    assert well.fleet("limits", "openai", "--rpm", str(RPM)).returncode == 0
    well.simulator.clear()
    running = asyncio.create_task(run(well, "paced", ALL_CALLS))
    alone = pace_of((await sent(well, WARM_UP_CALLS + ALONE_CALLS, running))[WARM_UP_CALLS:])
    before = len(well.simulator.ledger())
    assert hole.supervisorctl("start", "openai:*").returncode == 0
    await asyncio.to_thread(wait_for, "it takes no more", lambda: probes(hole), STOPS_SECONDS)
    beside = pace_of((await sent(well, before + BESIDE_CALLS, running))[before:])
    lost = hole.log("openai_00").count("🚀 ACTIVITY START")
    print(f"{alone * 60:.1f} and {beside * 60:.1f} calls a minute of {RPM:.0f}, {lost} lost")  # noqa: T201
    assert beside > 0.95 * min(alone, RPM / 60)
    assert lost < 40
    found = await running
    assert [(metadata["attempts"], metadata["calls"]) for metadata in found] == [(1, 1)] * ALL_CALLS
    for fleet in (well, hole):
        assert "PROVIDER IN TROUBLE: llm-openai" not in fleet.log("pipeline_00")


async def sent(fleet: Fleet, count: int, running: asyncio.Task[Any]) -> list[float]:
    """When the first calls were sent, once there are so many; others wait in the queue all the time."""
    enough = lambda: len(fleet.simulator.ledger()) >= count or running.done()  # noqa: E731
    await asyncio.to_thread(wait_for, f"{count} calls are sent", enough, PACED_SECONDS)
    assert not running.done()
    return sorted(call["at"] for call in fleet.simulator.ledger())[:count]


def pace_of(moments: list[float]) -> float:
    """Calls a second."""
    return (len(moments) - 1) / (moments[-1] - moments[0])


def test_a_black_hole_says_so_wherever_one_looks(machines: Machines) -> None:
    hole = machines.hole
    wait_for("it takes no calls", lambda: probes(hole), STOPS_SECONDS)
    lost = liveness_of(hole)["unreachable"]
    assert lost["cannot"] == "reach openai" and str(machines.port) in lost["why"]
    assert "🚫 NO CALL CAN BE SENT: this process cannot reach openai" in hole.log("openai_00")
    assert any(
        "openai_00 cannot reach openai: probing, next in" in problem for problem in hole.status()["problems"]
    )
    assert "cannot reach openai: probing" in hole.fleet("status").stdout
    doctor = hole.fleet("doctor")
    assert "cannot reach openai" in doctor.stdout and "names, route, proxy, certificates, clock" in doctor.stdout
    labels = '{process="openai_00",program="openai"}'
    assert f"fleet_process_unreachable{labels} 1.0" in hole.control("metrics").text
    assert f"fleet_process_unreachable{labels} 0.0" in machines.well.control("metrics").text
    assert hole.control("health").status_code == 503
    machines.well.wait_until_well()


def test_a_process_that_is_renewed_there_probes_before_it_polls(machines: Machines) -> None:
    hole = machines.hole
    wait_for("it takes no calls", lambda: probes(hole), STOPS_SECONDS)
    before, polled = hole.pids()["openai"], hole.log("openai_00").count("openai_00 polls llm-openai")
    rolled = hole.fleet("roll", "openai")
    assert rolled.returncode == 0, rolled.stderr
    wait_for("it is another process", lambda: hole.pids().get("openai") not in (None, before))
    wait_for("it takes no calls", lambda: probes(hole), STOPS_SECONDS)
    assert hole.log("openai_00").count("openai_00 polls llm-openai") == polled


@asynccontextmanager
async def mended(machines: Machines) -> AsyncIterator[None]:
    """Somebody listens, who hands all on to the simulator."""

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            target.write(data)
        target.close()

    async def hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", machines.well.port_base + 3)
        try:
            await asyncio.gather(copy(reader, back), copy(there, writer), return_exceptions=True)
        finally:
            back.close()
            await back.wait_closed()

    async with serving(hand_on, machines.port, reuse_port=True):
        yield


async def test_once_it_reaches_the_provider_it_takes_calls_again(machines: Machines) -> None:
    hole = machines.hole
    await asyncio.to_thread(wait_for, "it takes no calls", lambda: probes(hole), STOPS_SECONDS)
    async with mended(machines):
        await asyncio.to_thread(wait_for, "it takes calls", lambda: serves(hole), MENDED_SECONDS)
        answered = hole.log("openai_00").count("📨 LLM RESPONSE")
        found = await run(machines.well, "mended", 40)
        assert {metadata["attempts"] for metadata in found} == {1}
        assert hole.log("openai_00").count("📨 LLM RESPONSE") > answered
