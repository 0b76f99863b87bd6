"""A dead process is noticed by its host and not only by Temporal's heartbeat timeout."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from fleet.contracts import PIPELINE_QUEUE, WORKFLOW_TYPE
from tests.fleet import QUICK_SECONDS, Fleet, running_fleet
from tests.waiting import wait_for

CALLS = 10
#: A third of the heartbeat timeout; a machine with nothing else to do takes a few seconds.
RUNNING_AGAIN_SECONDS = REPORTED_SECONDS = 60.0


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet with the usual heartbeat timeout, three minutes."""
    with running_fleet(tmp_path_factory.mktemp("usual") / "state", {}) as fleet:
        fleet.add_project("one-call", {})
        yield fleet


async def test_ten_calls_of_a_killed_process_run_again_long_before_the_heartbeat_timeout(usual: Fleet) -> None:
    with usual.latency("openai", 60.0):
        pid = wait_for("it runs", lambda: usual.pids().get("openai"))
        client = await usual.client()
        runs = [
            await client.start_workflow(
                WORKFLOW_TYPE, args=[f"Topic {number}", "one-call"], id=f"run-{number}", task_queue=PIPELINE_QUEUE
            )
            for number in range(CALLS)
        ]
        wait_for("all are on their way", lambda: usual.in_flight("openai") == CALLS)
        os.kill(pid, signal.SIGKILL)
        wait_for("the calls are cut off", lambda: usual.in_flight("openai") == 0)
        usual.simulator.put("latency", provider="openai", median_seconds=QUICK_SECONDS)
        wait_for("all run again", lambda: len(usual.simulator.ledger()) == 2 * CALLS, RUNNING_AGAIN_SECONDS)
        results = await asyncio.gather(*(run.result() for run in runs))
        assert len(usual.simulator.ledger()) == 2 * CALLS
    found = [result["stages"][0]["metadata"] for result in results]
    assert [(one["attempts"], one["possibly_paid_twice"]) for one in found] == [(2, 1)] * CALLS


async def test_an_answer_that_a_killed_process_had_not_reported_is_reported_within_seconds(usual: Fleet) -> None:
    wait_for("every program runs", usual.all_run)
    usual.simulator.clear()
    client = await usual.client()
    with usual.latency("openai", 2.0):
        run = await client.start_workflow(
            WORKFLOW_TYPE, args=["Topic", "one-call"], id="unreported", task_queue=PIPELINE_QUEUE
        )
        wait_for("the call is on its way", lambda: usual.in_flight("openai"))
        with usual.without("temporal"):  # the answer cannot be reported
            wait_for("its activity is over", lambda: _over(usual))
            os.kill(usual.pids()["openai"], signal.SIGKILL)
        async with asyncio.timeout(REPORTED_SECONDS):
            (stage,) = (await run.result())["stages"]
    assert (stage["metadata"]["attempts"], stage["metadata"]["possibly_paid_twice"]) == (1, 0)
    assert [call["outcome"] for call in usual.simulator.ledger()] == ["answered"]


def _over(fleet: Fleet) -> bool:
    lines = fleet.log("openai_00").splitlines()
    return any("workflow_id=unreported" in line and "✅ ACTIVITY SUCCESS" in line for line in lines)
