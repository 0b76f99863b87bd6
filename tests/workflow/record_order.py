"""Records a budget that heard something before it was told that its rate is set: ``python -m …record_order``.

Temporal delivers it in that order, and replays it in the other one; see :mod:`fleet.budgets.workflow`. It takes a
quick local activity, queries beside it and some luck, so it is recorded once, for the replay test.
"""

import asyncio
import random
import time
from itertools import pairwise
from pathlib import Path

from temporalio import activity
from temporalio.client import Client, WorkflowHandle, WorkflowHistory
from temporalio.worker import Worker

from fleet.budgets.messages import SET_QUEUE_RATE, Opening, Report
from fleet.budgets.queue_client import RateOrder
from fleet.budgets.workflow import ProviderBudgetWorkflow
from fleet.contracts import CONTROL_QUEUE, LimitSettings
from fleet.process.data_converter import data_converter
from tests.temporal import running_temporal

HISTORY = Path(__file__).parent / "histories" / "0.1.0-budget-turned.json"
_SECONDS, _LOOK_SECONDS = 60.0, 4.0

Budget = WorkflowHandle[ProviderBudgetWorkflow, None]


@activity.defn(name=SET_QUEUE_RATE)
async def set_rate(order: RateOrder) -> bool:
    """At once, as when nothing has changed, or after a while."""
    if (chance := random.random()) > 0.3:
        await asyncio.sleep(0.3 * chance**2)
    return True


def turned(history: WorkflowHistory) -> int:
    """How often something was heard before it was told that the rate is set, and stands after that in history."""
    kinds = pairwise(event.WhichOneof("attributes") for event in history.events)
    told = ("marker_recorded_event_attributes", "workflow_execution_signaled_event_attributes")
    return sum(kind == told for kind in kinds)


async def report(budget: Budget) -> None:
    while True:
        await asyncio.sleep(random.uniform(0.0, 0.2))
        now = time.time()
        done = Report("w", calls=1, charged=1, answered=1, spent={"requests": 1.0}, sent_at=now)
        await budget.signal(ProviderBudgetWorkflow.report, done)


async def ask(budget: Budget) -> None:
    while True:
        await asyncio.sleep(random.uniform(0.0, 0.15))
        await budget.query(ProviderBudgetWorkflow.budget_status)


async def record(address: str) -> WorkflowHistory:
    """Work until it has happened, and then for as long as a timer takes that would give a miscount away."""
    client = await Client.connect(address, data_converter=data_converter(), identity="w@host")
    worker = Worker(client, task_queue=CONTROL_QUEUE, workflows=[ProviderBudgetWorkflow], activities=[set_rate])
    async with worker, asyncio.timeout(_SECONDS):
        budget = await client.start_workflow(
            ProviderBudgetWorkflow.run,
            args=["llm-test"],
            id="budget-llm-test",
            task_queue=CONTROL_QUEUE,
            start_signal="open",
            start_signal_args=[Opening(LimitSettings(rpm=600), 5.0)],
        )
        working = [asyncio.create_task(work(budget)) for work in (report, ask)]
        while not turned(await budget.fetch_history()):
            await asyncio.wait(working, timeout=0.5)
        for task in working:
            task.cancel()
        await asyncio.sleep(_LOOK_SECONDS)
        return await budget.fetch_history()


def main() -> None:
    with running_temporal() as address:
        HISTORY.write_text(asyncio.run(record(address)).to_json() + "\n", "utf-8")


if __name__ == "__main__":
    main()
