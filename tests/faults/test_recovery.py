"""A dead process is noticed by its host and not only by Temporal's heartbeat timeout."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator

import pytest

from fleet.contracts import PIPELINE_QUEUE, WORKFLOW_TYPE
from tests.fleet import Fleet, running_fleet
from tests.waiting import wait_for

CALLS = 10
RUNNING_AGAIN_SECONDS = 10.0
REPORTED_SECONDS = 40.0


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet with the usual heartbeat timeout, three minutes."""
    with running_fleet(tmp_path_factory.mktemp("usual") / "state", {}) as fleet:
        fleet.add_project("one-call", {})
        yield fleet


async def test_ten_calls_of_a_killed_process_run_again_within_ten_seconds_by_default(usual: Fleet) -> None:
    with usual.latency("openai", 6.0):
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
        wait_for("all run again", lambda: usual.in_flight("openai") == CALLS, RUNNING_AGAIN_SECONDS)
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
        start_again = usual.end_server("temporal")  # the answer cannot be reported
        wait_for("its activity is over", lambda: _over(usual))
        os.kill(usual.pids()["openai"], signal.SIGKILL)
        start_again()
        began = time.monotonic()
        async with asyncio.timeout(60):
            (stage,) = (await run.result())["stages"]
    assert time.monotonic() - began < REPORTED_SECONDS
    assert (stage["metadata"]["attempts"], stage["metadata"]["possibly_paid_twice"]) == (1, 0)
    assert [call["outcome"] for call in usual.simulator.ledger()] == ["answered"]


def _over(fleet: Fleet) -> bool:
    return "✅ ACTIVITY SUCCESS" in fleet.log("openai_00").rpartition("🚀 ACTIVITY START")[2]
