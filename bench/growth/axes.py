"""The three ways to grow, a row each: more assistants in a pipeline, more queued pipelines, more processes."""

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client

from bench.growth.looks import look_seconds
from bench.growth.meter import Meter
from bench.throughput.processes import fleet_works
from fleet.contracts import PIPELINE_QUEUE, WORKFLOW_TYPE, llm_queue
from tests.fleet import Fleet

Row = dict[str, Any]
PROVIDER, MODEL = "openai", "gpt-4o"
LATENCY_SECONDS = 0.01
_AT_ONCE = 100
#: What processes are loaded with.
_LOAD_PIPELINES, _LOAD_ASSISTANTS = 80, 8
_LOOK_SECONDS, _QUEUED_SECONDS = 0.5, 900.0
#: Small answers, so that the outputs of 1,000 assistants fit into one result.
_SCHEMA = {"type": "object", "properties": {"point": {"type": "string"}}, "required": ["point"]}


def prepare(fleet: Fleet, sizes: Sequence[int]) -> None:
    """A quick provider without limits, and the projects that the rows use."""
    fleet.simulator.put("latency", provider=PROVIDER, median_seconds=LATENCY_SECONDS, sigma=0)
    for size in sizes:
        fleet.add_project(f"sequential-{size}", *_assistants(size, _reads_the_one_before))
        fleet.add_project(f"wide-{size}", *_assistants(size, _reads_the_topic))
    fleet.add_project("one", *_assistants(1, _reads_the_topic))
    fleet.add_project("load", *_assistants(_LOAD_ASSISTANTS, _reads_the_one_before))


def _reads_the_one_before(number: int) -> str:
    return f"assistant_{number}" if number else "topic"


def _reads_the_topic(number: int) -> str:
    return "topic"


def _assistants(size: int, reads: Callable[[int], str]) -> Iterator[Row]:
    for number in range(size):
        yield {
            "model_provider": PROVIDER,
            "model": MODEL,
            "input_keys": json.dumps([reads(number)]),
            "output_schema": json.dumps(_SCHEMA),
        }


async def assistants(fleet: Fleet, shape: str, size: int) -> Row:
    """One pipeline of so many assistants: one after another, or side by side."""
    with fleet_works(fleet) as processes:
        client, meter, names = await fleet.client(), Meter(processes), _names(1)
        with meter.counts():
            await _start(client, names, f"{shape}-{size}")
            await _end(client, names)
        described = await client.get_workflow_handle(names[0]).describe()
        history = described.raw_description.workflow_execution_info
        return {
            "axis": "assistants",
            "shape": shape,
            "size": size,
            **meter.per_call(size),
            "history_events_per_call": round(history.history_length / size, 1),
            "history_bytes_per_call": round(history.history_size_bytes / size),
            "megabytes": meter.megabytes(),
            "look_seconds": look_seconds(fleet, names[0]),
        }


async def queued(fleet: Fleet, size: int) -> Row:
    """So many pipelines of one assistant, started while their provider is paused, and all run after that."""
    with fleet_works(fleet) as processes:
        client, meter, names = await fleet.client(), Meter(processes), _names(size)
        _command(fleet, "pause", PROVIDER)
        began = time.monotonic()
        with meter.counts():
            await _start(client, names, "one")
            started = time.monotonic()
            await _until_queued(client, size)
        looks, megabytes = look_seconds(fleet, names[-1]), meter.megabytes()
        _command(fleet, "resume", PROVIDER)
        resumed = time.monotonic()
        with meter.counts():
            await _end(client, names)
        return {
            "axis": "queued",
            "size": size,
            **meter.per_call(size),
            "started_per_second": round(size / (started - began), 1),
            "calls_per_second": round(size / (time.monotonic() - resumed), 1),
            "megabytes": megabytes,
            "look_seconds": looks,
        }


async def processes(fleet: Fleet, size: int) -> Row:
    """The same load on so many processes of one provider."""
    _command(fleet, "scale", PROVIDER, str(size))
    calls = _LOAD_PIPELINES * _LOAD_ASSISTANTS
    try:
        with fleet_works(fleet) as running:
            client, meter, names = await fleet.client(), Meter(running), _names(_LOAD_PIPELINES)
            began = time.monotonic()
            with meter.counts():
                await _start(client, names, "load")
                await _end(client, names)
            return {
                "axis": "processes",
                "size": size,
                **meter.per_call(calls),
                "calls_per_second": round(calls / (time.monotonic() - began), 1),
                "megabytes": meter.megabytes(),
                "look_seconds": look_seconds(fleet, names[-1]),
            }
    finally:
        _command(fleet, "scale", PROVIDER, "1")


def _names(count: int) -> list[str]:
    return [f"growth-{uuid.uuid4().hex[:12]}" for _ in range(count)]


def _command(fleet: Fleet, *arguments: str) -> None:
    done = fleet.fleet(*arguments)
    if done.returncode:
        raise SystemExit(f"fleet {' '.join(arguments)}: {done.stderr}")


async def _start(client: Client, names: Sequence[str], project: str) -> None:
    async def start(name: str) -> None:
        await client.start_workflow(WORKFLOW_TYPE, args=["Kávovary", project], id=name, task_queue=PIPELINE_QUEUE)

    await _each(names, start)


async def _end(client: Client, names: Sequence[str]) -> None:
    async def end(name: str) -> None:
        result = await client.get_workflow_handle(name).result()
        if not result["pipeline_success"]:
            raise SystemExit(f"{name} did not complete: {result}")

    await _each(names, end)


async def _each(names: Sequence[str], do: Callable[[str], Any]) -> None:
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(name: str) -> None:
        async with places:
            await do(name)

    await asyncio.gather(*map(one, names))


async def _until_queued(client: Client, count: int) -> None:
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=llm_queue(PROVIDER)),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        report_stats=True,
    )
    given_up = time.monotonic() + _QUEUED_SECONDS
    while time.monotonic() < given_up:
        described = await client.workflow_service.describe_task_queue(request)
        if described.stats.approximate_backlog_count >= 0.99 * count:
            return
        await asyncio.sleep(_LOOK_SECONDS)
    raise SystemExit(f"{count} calls were not queued within {_QUEUED_SECONDS:g} s")
