"""What a starting pipeline process pays for its budgets' histories: ``scripts/bench.sh replay [--json]``.

A budget receives reports on Temporal's time-skipping server until its history has that many events. Then so many
such histories are replayed at once, as a pipeline process does; all have the 10 s of a workflow task for it.
"""

import asyncio
import shutil
import sys
import time
from pathlib import Path
from statistics import median

from temporalio import activity
from temporalio.client import WorkflowHistory
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner, Worker

import fleet.budgets.workflow as budgets
from bench.rows import options_of, printed, this_machine
from fleet.budgets.messages import SET_QUEUE_RATE, Opening, Reading, Report
from fleet.budgets.queue_client import RateOrder
from fleet.contracts import CONTROL_QUEUE, Limited, LimitSettings
from fleet.process.data_converter import data_converter

EVENTS, QUEUES = (500, 2_000), (1, 8)
_QUEUE = "llm-replayed"
_READINGS = [Reading(Limited.REQUESTS, 10.0, 30.0, 0.5)]


@activity.defn(name=SET_QUEUE_RATE)
async def accept_rate(order: RateOrder) -> bool:
    """Stands where the server takes a queue's rate, which the time-skipping server does not know."""
    return order.set


async def history_of(events: int) -> WorkflowHistory:
    """The history of a busy budget, with that many events or a few more."""
    beside = str(Path(sys.executable).parent)
    server = shutil.which("temporal-test-server", path=beside) or str(Path(beside, "temporal-test-server"))
    environment = await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=server, data_converter=data_converter()
    )
    async with (
        environment,
        Worker(
            environment.client,
            task_queue=CONTROL_QUEUE,
            workflows=[budgets.ProviderBudgetWorkflow],
            activities=[accept_rate],
            workflow_runner=UnsandboxedWorkflowRunner(),
        ),
    ):
        budget = await environment.client.start_workflow(
            budgets.ProviderBudgetWorkflow.run,
            args=[_QUEUE],
            id=f"budget-{_QUEUE}",
            task_queue=CONTROL_QUEUE,
            start_signal="open",
            start_signal_args=[Opening(LimitSettings(rpm=600), 5.0)],
        )
        while (await budget.describe()).history_length < events:
            now = (await environment.get_current_time()).timestamp()
            report = Report("w", 5, 5, 5, {"requests": 5.0}, {"requests": 1.0}, _READINGS, sent_at=now)
            await budget.signal(budgets.ProviderBudgetWorkflow.report, report)
            await environment.sleep(1.0)
        return await budget.fetch_history()


async def replayed_at_once(history: WorkflowHistory, queues: int) -> float:
    """Seconds until the last of so many budgets with this history can go on."""
    replayers = [
        Replayer(
            workflows=[budgets.ProviderBudgetWorkflow],
            data_converter=data_converter(),
            workflow_runner=UnsandboxedWorkflowRunner(),
        )
        for _ in range(queues)
    ]
    begun = time.monotonic()
    await asyncio.gather(*(replayer.replay_workflow(history) for replayer in replayers))
    return time.monotonic() - begun


def main() -> None:
    """Measure in turn, print a row a measurement and the medians last."""
    options = options_of(__doc__, rounds=5).parse_args()
    budgets.LONGEST_HISTORY = max(EVENTS) * 2  # only here: the histories end where the measurement wants it
    say = printed(all_rows=options.json)
    histories = {events: asyncio.run(history_of(events)) for events in EVENTS}
    seconds: dict[tuple[int, int], list[float]] = {}
    for number in range(options.rounds):
        for events, history in histories.items():
            for queues in QUEUES:
                took = asyncio.run(replayed_at_once(history, queues))
                seconds.setdefault((events, queues), []).append(took)
                say({"round": number, "events": events, "queues": queues, "seconds": round(took, 3)})
    medians = {
        f"{events} events, {queues} at once": round(median(all_of), 3)
        for (events, queues), all_of in seconds.items()
    }
    say({"variant": "summary", "machine": this_machine(), "rounds": options.rounds, "seconds": medians})


if __name__ == "__main__":
    main()
