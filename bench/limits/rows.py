"""What came of a run, read off the simulator's ledger and the pipelines' histories."""

import asyncio
from dataclasses import asdict, dataclass
from statistics import median, quantiles
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from bench.limits.scenarios import Load
from bench.limits.stage import Stage


@dataclass(frozen=True)
class Row:
    """One provider in one run. ``utilisation`` is the answered share of what the binding limit ``allowed``, in
    calls or tokens, between warm-up and end; ``share_429`` counts from the first call on."""

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
    server_cpu_seconds_per_call: float | None = None

    def shown(self) -> dict[str, Any]:
        """The row as JSON shows it: what does not apply is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Window:
    """What is counted: between ``begin`` and ``end`` (unix seconds), ``allowed`` by the binding limit."""

    begin: float
    end: float
    allowed: float


def first_call(calls: list[dict[str, Any]], provider: str) -> float:
    """When the provider's first call came in."""
    return min(float(one["at"]) for one in calls if one["provider"] == provider)


def cost(load: Load, call: dict[str, Any]) -> float:
    """What a call took from the limit that binds."""
    return float(max(call["max_tokens"] or 0, call["input_tokens"])) if load.median_tokens else 1.0


def row_of(stage: Stage, load: Load, calls: list[dict[str, Any]], window: Window, cpu: float) -> Row:
    """One provider's row."""
    mine = [one for one in calls if one["provider"] == load.provider]
    taken = [one for one in mine if one["status"] in (0, 200)]
    refused = sum(one["status"] == 429 for one in mine)
    counted = sum(cost(load, one) for one in taken if window.begin <= one["at"] < window.end)
    waits, failed = asyncio.run(_histories(stage, load))
    return Row(
        scenario=stage.scenario.name,
        variant=stage.variant,
        provider=load.provider,
        calls=len(mine),
        answered=sum(one["outcome"] == "answered" for one in mine),
        failed=failed,
        allowed=round(window.allowed, 1),
        utilisation=round(counted / window.allowed, 4),
        share_429=round(refused / max(len(mine), 1), 4),
        p50_queue_seconds=round(median(waits), 2) if waits else 0.0,
        p95_queue_seconds=round(quantiles(waits, n=20)[-1], 2) if len(waits) > 1 else 0.0,
        cpu_seconds_per_call=round(cpu / max(len(calls), 1), 4),
        seconds=round(window.end - window.begin, 1),
    )


async def _histories(stage: Stage, load: Load) -> tuple[list[float], int]:
    """How long tasks waited in their queue before they were started last, and how many failed for good."""
    client = await stage.client()
    found = await asyncio.gather(*(_history(client, name) for name in stage.pipelines[load.provider]))
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
