"""How soon a pause and a resume are obeyed: ``scripts/bench.sh pause [--rounds N]``.

A queue with a limit of 120 calls a minute and calls enough is paused and resumed in turn. A row has the seconds
from the order until the last call that was still sent, 0 where none was, and from the resume until the first. What
the machine takes to start the command is not counted: the budget gets the signal that the command would send.
"""

import argparse
import asyncio
import json
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

from fleet.budgets.limits_and_pauses import pause, resume, set_limits
from fleet.contracts import PIPELINE_QUEUE, WORKFLOW_TYPE, LimitSettings
from tests.fleet import Fleet, running_fleet
from tests.waiting import wait_for

QUEUE, CALLS_A_MINUTE, SHUT_SECONDS, OPEN_SECONDS = "llm-openai", 120.0, 6.0, 6.0


def _sent(fleet: Fleet, since: float) -> list[float]:
    return sorted(call["at"] for call in fleet.simulator.ledger() if call["at"] >= since)


async def measure(fleet: Fleet, rounds: int) -> None:
    """Pause and resume so many times, a row each, and the medians."""
    client = await fleet.client()
    fleet.add_project("paused", {})
    await set_limits(client, QUEUE, LimitSettings(rpm=CALLS_A_MINUTE))
    many = int(CALLS_A_MINUTE / 60 * (OPEN_SECONDS + 2) * (rounds + 1))
    for number in range(many):
        await client.start_workflow(
            WORKFLOW_TYPE, args=["Topic", "paused"], id=f"paused-{number}", task_queue=PIPELINE_QUEUE
        )
    rows: list[tuple[float, float]] = []
    for _ in range(rounds):
        await asyncio.sleep(OPEN_SECONDS)
        ordered = time.time()
        await pause(client, QUEUE, "measured")
        await asyncio.sleep(SHUT_SECONDS)
        shut = max(_sent(fleet, ordered), default=ordered) - ordered
        resumed = time.time()
        await resume(client, QUEUE)
        await asyncio.to_thread(wait_for, "calls are made again", partial(_sent, fleet, resumed))
        rows.append((round(shut, 2), round(_sent(fleet, resumed)[0] - resumed, 2)))
        print(json.dumps({"pause_seconds": rows[-1][0], "resume_seconds": rows[-1][1]}), flush=True)
    last = {
        "pause_seconds": {"median": median(row[0] for row in rows), "max": max(row[0] for row in rows)},
        "resume_seconds": {"median": median(row[1] for row in rows), "max": max(row[1] for row in rows)},
    }
    print(json.dumps(last), flush=True)


def main() -> None:
    """Measure on a fleet of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_fleet(Path(folder, "state"), {}) as fleet:
        asyncio.run(measure(fleet, options.rounds))


if __name__ == "__main__":
    main()
