"""Records histories for the replay test: ``python -m tests.workflow.record RELEASE``.

Run it with the version of each release whose open pipelines must survive the next one, and with ``next`` for the
code as it is; files of earlier releases stay.
"""

import asyncio
import json
import os
import re
import signal
import socket
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowFailureError, WorkflowHandle

from fleet.budgets.messages import BUDGET_WORKFLOW, OPEN_SIGNAL, REPORT_SIGNAL, Opening, Reading, Report, budget_id
from fleet.config import PROJECT_ROOT
from fleet.contracts import CONTROL_QUEUE, PIPELINE_QUEUE, WORKFLOW_TYPE, Limited, LimitSettings, llm_queue
from tests.fleet import ENVIRONMENT, Fleet, running_fleet
from tests.waiting import wait_for

HISTORIES = Path(__file__).parent / "histories"
FALLBACK = json.dumps([{"model_provider": "anthropic", "model": "claude-sonnet-4-6"}])


async def pipeline(client: Client, name: str, project: str, csv_data: str = "") -> WorkflowHandle[Any, Any]:
    return await client.start_workflow(
        WORKFLOW_TYPE, args=["Kávovar", project, csv_data, "2025-01-31"], id=name, task_queue=PIPELINE_QUEUE
    )


async def ended(handle: WorkflowHandle[Any, Any]) -> None:
    try:
        await handle.result()
    except WorkflowFailureError:
        return


async def carried_on(client: Client) -> str:
    """Reports to a budget until it has begun a new history, which carries its state; its workflow id."""
    queue = llm_queue("recorded")
    budget = await client.start_workflow(
        BUDGET_WORKFLOW,
        queue,
        id=budget_id(queue),
        task_queue=CONTROL_QUEUE,
        start_signal=OPEN_SIGNAL,
        start_signal_args=[Opening(LimitSettings(rpm=600), 5.0)],
    )
    readings = [Reading(Limited.REQUESTS, 10.0, 30.0, 0.5)]
    first = (await budget.describe()).run_id
    while (await budget.describe()).run_id == first:
        for seconds_ago in (0.0, 0.0, 60.0):
            told = Report("recorder", 5, 5, 5, {"requests": 5.0}, {"requests": 1.0}, readings)
            await budget.signal(REPORT_SIGNAL, replace(told, sent_at=time.time() - seconds_ago))
        await asyncio.sleep(0.05)
    return budget.id


async def cancelled_in_flight(client: Client, fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """A pipeline that was cancelled with a call in flight, which is kept, and one in a queue, which is dropped."""
    fleet.add_project("three", {}, {"input_keys": '["topic"]', "model_provider": "gemini"}, {})
    fleet.fleet("pause", "gemini")
    with fleet.latency("openai", 5.0):
        cancelled = await pipeline(client, "cancelled-in-flight", "three")
        wait_for("it was sent", lambda: fleet.in_flight("openai"))
        await asyncio.sleep(3)  # until the pipeline has heard of it
        await cancelled.cancel()
        await ended(cancelled)
    fleet.fleet("resume", "gemini")
    return cancelled


async def record(fleet: Fleet, release: str) -> None:
    client = await fleet.client()
    fleet.add_project("one", {"fallback": FALLBACK})
    await ended(await pipeline(client, "completed", "seo-demo"))
    await ended(await pipeline(client, "csv", "one", "a;b\n" + "1;2\n" * 6_000))
    fleet.simulator.fault("anthropic", "404")
    await ended(await pipeline(client, "failed", "seo-demo"))
    killed = await pipeline(client, "worker-killed", "one")
    wait_for("it was sent", lambda: fleet.in_flight("openai"))
    os.kill(fleet.pids()["openai"], signal.SIGKILL)
    await ended(killed)
    fleet.fleet("pause", "openai")
    await ended(await pipeline(client, "fallback", "one"))
    fleet.fleet("resume", "openai")
    cancelled = await pipeline(client, "cancelled", "one")
    await cancelled.cancel()
    await ended(cancelled)
    await ended(await cancelled_in_flight(client, fleet))
    names = {
        f"pipeline-{name}": name
        for name in ("completed", "csv", "failed", "worker-killed", "fallback", "cancelled", "cancelled-in-flight")
    }
    names |= {
        f"budget-{provider}": budget_id(llm_queue(provider)) for provider in ("openai", "anthropic", "gemini")
    }
    names["budget-carried-on"] = await carried_on(client)
    for name, workflow_id in names.items():
        history = await client.get_workflow_handle(workflow_id).fetch_history()
        text = re.sub(rf"@{re.escape(socket.gethostname())}(\+\w+)?:", "@host:", history.to_json())
        text = text.replace(f"{fleet.state}/", "state/").replace(f"{PROJECT_ROOT}/", "")
        (HISTORIES / f"{release}-{name}.json").write_text(text + "\n", "utf-8")


def main(release: str) -> None:
    HISTORIES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, running_fleet(Path(folder, "state"), ENVIRONMENT) as fleet:
        asyncio.run(record(fleet, release))


if __name__ == "__main__":
    main(sys.argv[1])
