"""A dead process is noticed by its host and not only by Temporal's heartbeat timeout."""

import asyncio
import os
import signal
from pathlib import Path

from fleet.contracts import PIPELINE_QUEUE, WORKFLOW_TYPE
from tests.fleet import running_fleet
from tests.waiting import wait_for

CALLS = 10
RUNNING_AGAIN_SECONDS = 10.0


async def test_ten_calls_of_a_killed_process_run_again_within_ten_seconds_by_default(tmp_path: Path) -> None:
    with running_fleet(tmp_path / "state", {}) as fleet, fleet.latency("openai", 6.0):
        fleet.add_project("one-call", {})
        pid = wait_for("it runs", lambda: fleet.pids().get("openai"))
        client = await fleet.client()
        runs = [
            await client.start_workflow(
                WORKFLOW_TYPE, args=[f"Topic {number}", "one-call"], id=f"run-{number}", task_queue=PIPELINE_QUEUE
            )
            for number in range(CALLS)
        ]
        wait_for("all are on their way", lambda: fleet.in_flight("openai") == CALLS)
        os.kill(pid, signal.SIGKILL)
        wait_for("the calls are cut off", lambda: fleet.in_flight("openai") == 0)
        wait_for("all run again", lambda: fleet.in_flight("openai") == CALLS, RUNNING_AGAIN_SECONDS)
        results = await asyncio.gather(*(run.result() for run in runs))
        assert len(fleet.simulator.ledger()) == 2 * CALLS
    found = [result["stages"][0]["metadata"] for result in results]
    assert [(one["attempts"], one["possibly_paid_twice"]) for one in found] == [(2, 1)] * CALLS
