"""``server``: what budgets cost the Temporal server.

The same calls under a limit that never binds, as fast as the machine makes them: in turn by a provider whose queue
has a budget, and by one whose queue has a rate that was set by hand, no budget, and workers that report nothing.
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import median

from bench.limits.bench_fleet import Stage, staged
from bench.limits.rows import Row, Window, row_of
from bench.limits.scenarios import BARE, Load, Scenario

#: First and last calls of a batch are left out of its pace: not all processes work then.
_EDGE = 0.1


@dataclass(frozen=True)
class _Batch:
    """So many calls by one provider. CPU in seconds."""

    seconds: float
    calls_per_second: float
    server_cpu: float
    cpu: float


def compared(scenario: Scenario) -> Iterator[Row]:
    """A row for the rate that was set by hand ("fixed"), and one for budgets: its throughput over the other's, the
    median of the rounds."""
    with staged(scenario, "budgets") as stage:
        began, batches = time.time(), {load.provider: list[_Batch]() for load in scenario.loads}
        stage.make_bare(next(load for load in scenario.loads if load.provider == BARE))
        for load in scenario.loads:
            _batch(stage, load)  # a budget begins slowly, and so does a process
        stage.pipelines.clear()
        for number in range(scenario.rounds):
            for load in scenario.loads[:: 1 if number % 2 else -1]:
                batches[load.provider].append(_batch(stage, load))
        calls, end = stage.fleet.simulator.ledger(), time.time()
        ratios = [
            round(kept.calls_per_second / bare.calls_per_second, 4)
            for kept, bare in zip(*(batches[load.provider] for load in scenario.loads), strict=True)
        ]
        for load in reversed(scenario.loads):
            mine = batches[load.provider]
            count = scenario.rounds * scenario.batch
            worked = sum(batch.seconds for batch in mine)
            window = Window(began, end, load.per_second * worked)
            row = row_of(stage, load, calls, window, 0.0)
            row = replace(
                row,
                variant="fixed" if load.provider == BARE else "budgets",
                seconds=round(worked, 1),
                cpu_seconds_per_call=round(sum(batch.cpu for batch in mine) / count, 4),
                server_cpu_seconds_per_call=round(sum(batch.server_cpu for batch in mine) / count, 5),
                calls_per_second=round(median(batch.calls_per_second for batch in mine), 2),
            )
            kept = load.provider != BARE
            yield replace(row, throughput_ratio=median(ratios), round_ratios=ratios) if kept else row


def _batch(stage: Stage, load: Load) -> _Batch:
    """Have the batch's calls made, and wait until all pipelines have ended."""
    known = len(stage.pipelines.setdefault(load.provider, []))
    server, used, began = stage.server_cpu_seconds(), stage.cpu_seconds(), time.time()
    stage.add_calls(load, stage.scenario.batch)
    asyncio.run(_ended(stage, stage.pipelines[load.provider][known:]))
    seconds = time.time() - began
    server, used = stage.server_cpu_seconds() - server, stage.cpu_seconds() - used
    answered = sorted(
        call["at"] + call["seconds"]
        for call in stage.fleet.simulator.ledger()
        if call["provider"] == load.provider and call["at"] >= began and call["outcome"] == "answered"
    )
    edge = int(len(answered) * _EDGE)
    inner = answered[edge : len(answered) - edge]
    return _Batch(seconds, (len(inner) - 1) / (inner[-1] - inner[0]), server, used)


async def _ended(stage: Stage, names: list[str]) -> None:
    client = await stage.client()
    await asyncio.gather(*(client.get_workflow_handle(name).result() for name in names))
