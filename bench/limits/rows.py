"""What came of a run, read off the simulator's ledger and the pipelines' histories."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median, quantiles
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from bench.limits.bench_fleet import Stage
from bench.limits.scenarios import Load


@dataclass(frozen=True)
class Row:
    """One provider in one run.

    ``utilisation`` is what was answered between warm-up and end, in calls or tokens, without ``from_bucket``, over
    what the binding limit ``allowed``: its refill in that time. ``from_bucket`` is by how much the bucket's level
    fell in that time; that it rose is not counted for anything. ``share_429`` counts from the first call on.

    ``least_queued``: how many calls waited in the queue when they were fewest. ``killed``: worker processes that
    were killed. ``open``: pipelines that had not ended when the run was over and should have. ``gain``: the
    utilisation of budgets in the same run over this one. ``machines``: on how many, where on several.
    ``approximate``: the Temporal server kept no rate. ``quick``: stretches too short to judge by.
    """

    scenario: str
    variant: str
    provider: str
    calls: int
    answered: int
    failed: int
    allowed: float
    utilisation: float
    share_429: float
    p50_queue_seconds: float
    p95_queue_seconds: float
    cpu_seconds_per_call: float
    seconds: float
    throughput_ratio: float | None = None
    fault: str | None = None
    wait_ratio: float | None = None
    server_cpu_seconds_per_call: float | None = None
    from_bucket: float | None = None
    level_begin: float | None = None
    level_end: float | None = None
    least_queued: int | None = None
    killed: int | None = None
    open: int | None = None
    calls_per_second: float | None = None
    round_ratios: list[float] | None = None
    gain: float | None = None
    machines: int | None = None
    approximate: bool | None = None
    quick: bool | None = None

    def shown(self) -> dict[str, Any]:
        """The row as JSON shows it: what does not apply is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Window:
    """What is counted: between ``begin`` and ``end`` (unix seconds), ``allowed`` by the limit that binds, beside
    what came ``from_bucket``, whose level was ``levels`` at begin and end; None where nobody looked."""

    begin: float
    end: float
    allowed: float
    from_bucket: float | None = None
    levels: tuple[float, float] | None = None


def window_of(
    load: Load, begin: float, end: float, levels: Sequence[Mapping[str, float]], share: float = 1.0
) -> Window:
    """The window of a load whose limit's ``share`` held; ``levels`` by provider at its begin and at its end."""
    first, last = (level.get(load.provider, 0.0) for level in levels)
    allowed = load.per_second * share * (end - begin)
    return Window(begin, end, allowed, max(first - last, 0.0), (first, last))


def first_call(calls: list[dict[str, Any]], provider: str) -> float:
    """When the provider's first call came in."""
    return min(float(call["at"]) for call in calls if call["provider"] == provider)


def cost(load: Load, call: dict[str, Any]) -> float:
    """What a call took from the limit that binds."""
    return float(max(call["max_tokens"] or 0, call["input_tokens"])) if load.median_tokens else 1.0


def taken_in(load: Load, calls: list[dict[str, Any]], window: Window) -> float:
    """What the calls that came in within the window took, if they were answered or still are to be."""
    return sum(
        cost(load, call)
        for call in calls
        if call["provider"] == load.provider
        and call["status"] in (0, 200)
        and window.begin <= call["at"] < window.end
    )


def row_of(
    stage: Stage,
    load: Load,
    calls: list[dict[str, Any]],
    window: Window,
    cpu: float,
    outcome: "tuple[list[float], int] | None" = None,
) -> Row:
    """One provider's row; ``cpu`` is what all ``calls`` took, ``outcome`` what ``outcome_of`` told before."""
    mine = [call for call in calls if call["provider"] == load.provider]
    refused = sum(call["status"] == 429 for call in mine)
    net = max(taken_in(load, calls, window) - (window.from_bucket or 0.0), 0.0)
    waits, failed = outcome or outcome_of(stage, load)
    first, last = window.levels or (None, None)
    return Row(
        scenario=stage.scenario.name,
        variant=stage.variant,
        provider=load.provider,
        calls=len(mine),
        answered=sum(call["outcome"] == "answered" for call in mine),
        failed=failed,
        allowed=round(window.allowed, 1),
        utilisation=round(net / window.allowed, 4),
        share_429=round(refused / max(len(mine), 1), 4),
        p50_queue_seconds=round(median(waits), 3) if waits else 0.0,
        p95_queue_seconds=round(quantiles(waits, n=20)[-1], 3) if len(waits) > 1 else 0.0,
        cpu_seconds_per_call=round(cpu / max(len(calls), 1), 4),
        seconds=round(window.end - window.begin, 1),
        from_bucket=_tenths(window.from_bucket),
        level_begin=_tenths(first),
        level_end=_tenths(last),
        killed=stage.killed or None,
        machines=stage.scenario.machines if stage.scenario.machines > 1 else None,
        approximate=stage.scenario.approximate or None,
        quick=stage.scenario.quick or None,
    )


def _tenths(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def outcome_of(stage: Stage, load: Load) -> tuple[list[float], int]:
    """How long tasks waited in their queue before they were started last, and how many failed for good."""
    return asyncio.run(_histories(stage, load))


async def _histories(stage: Stage, load: Load) -> tuple[list[float], int]:
    client, few = await stage.client(), asyncio.Semaphore(8)

    async def read(name: str) -> tuple[list[float], int]:
        async with few:
            return await _history(client, name)

    found = await asyncio.gather(*(read(name) for name in stage.pipelines.get(load.provider, [])))
    return [wait for waits, _ in found for wait in waits], sum(failed for _, failed in found)


async def _history(client: Client, workflow_id: str) -> tuple[list[float], int]:
    scheduled: dict[int, float] = {}
    waits, failed = [], 0
    async for event in client.get_workflow_handle(workflow_id).fetch_history_events():
        at = event.event_time.ToMicroseconds() / 1e6
        match event.event_type:
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                if event.activity_task_scheduled_event_attributes.activity_type.name == "execute_assistant":
                    scheduled[event.event_id] = at
            case EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
                begun = scheduled.get(event.activity_task_started_event_attributes.scheduled_event_id)
                if begun is not None:
                    waits.append(at - begun)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED | EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT:
                failed += 1
    return waits, failed
