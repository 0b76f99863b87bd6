"""``scripts/bench.sh drains [--rounds N] [--json]``: tasks that a worker loses when it drains while tasks come.

A workflow starts a hundred short activities a second. Workers with the options of the fleet's serve their queue
one after another: each for half a second, then it drains and the next one polls. A task that the server has
dispatched to a worker and that no worker begins is dispatched again after its timeout; each such attempt is
counted. In turn on a server with its defaults and on one with ``frontend.enableCancelWorkerPollsOnShutdown``
(``ends_polls``).
"""

import asyncio
import uuid
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from bench.rows import Say, options_of, printed, this_machine
from fleet.config import load_settings
from fleet.process.runtime import worker_options
from tests.temporal import running_temporal

ONE_PARTITION = ("matching.numTaskqueueReadPartitions=1", "matching.numTaskqueueWritePartitions=1")
VARIANTS = {"default": (), "ends_polls": ("frontend.enableCancelWorkerPollsOnShutdown=true",)}
STARTS, SERVED, TASKS = "drains", "drained", 1_500
SERVES_SECONDS, EVERY_SECONDS = 0.5, 0.01

Row = dict[str, Any]


@activity.defn(name="attempt")
async def attempt() -> int:
    """Which attempt at its task this is."""
    return activity.info().attempt


@workflow.defn
class Tasks:
    """Starts the tasks evenly; returns how many attempts were lost."""

    @workflow.run
    async def run(self, tasks: int) -> int:
        """Until all have ended."""
        return sum(await asyncio.gather(*(self._task(number) for number in range(tasks))))

    async def _task(self, number: int) -> int:
        await workflow.sleep(timedelta(seconds=number * EVERY_SECONDS))
        attempts: int = await workflow.execute_activity(
            "attempt",
            task_queue=SERVED,
            result_type=int,
            start_to_close_timeout=timedelta(seconds=4),
            retry_policy=RetryPolicy(initial_interval=timedelta(seconds=0.1)),
        )
        return attempts - 1


async def drained(address: str) -> Row:
    """One workflow's tasks, and the drains meanwhile."""
    options = worker_options(load_settings(api_base_url="http://127.0.0.1"))
    client, drains = await Client.connect(address), 0
    starts = Worker(client, task_queue=STARTS, workflows=[Tasks], workflow_runner=UnsandboxedWorkflowRunner())
    async with starts:
        handle = await client.start_workflow(Tasks.run, TASKS, id=str(uuid.uuid4()), task_queue=STARTS)
        result = asyncio.create_task(handle.result())
        while not result.done():
            async with Worker(client, task_queue=SERVED, activities=[attempt], **options):
                await asyncio.sleep(SERVES_SECONDS)
            drains += 1
        return {"tasks": TASKS, "drains": drains, "lost": await result}


def measure(rounds: int, say: Say) -> None:
    """All rounds in turn, and the sums."""
    totals = {variant: {"drains": 0, "lost": 0} for variant in VARIANTS}
    for number in range(rounds):
        for variant, settings in VARIANTS.items():
            with running_temporal(*ONE_PARTITION, *settings) as address:
                row = asyncio.run(drained(address))
            say({"round": number + 1, "variant": variant, **row})
            for figure, total in totals[variant].items():
                totals[variant][figure] = total + row[figure]
    lost = {variant: round(total["lost"] / total["drains"], 3) for variant, total in totals.items()}
    say({"variant": "summary", "machine": this_machine(), "rounds": rounds, **totals, "lost_per_drain": lost})


def main() -> None:
    """Measure, a row a line."""
    options = options_of(__doc__, rounds=3).parse_args()
    measure(options.rounds, printed(all_rows=options.json))


if __name__ == "__main__":
    main()
