"""``scripts/bench.sh throughput [--rounds N] [--pipelines N] [--json]``: calls a second and CPU time a call.

The fleet and the bare worker (bare.py) run in turn on one Temporal server and one simulator whose calls take
10 ms. A row is one round of a variant: half as many pipelines to warm up, then pipelines of eight assistants, all
started at once, and after them a pipeline that is alone, which gives the time of one step. The last row has the
medians of both variants, and their ratio with its 95 % interval (bootstrap over rounds).
"""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from bench.resampling import interval_95
from bench.rows import Say, options_of, printed, this_machine
from bench.throughput.processes import Processes, server_requests
from bench.throughput.variants import ASSISTANTS, VARIANTS, Variant, run_pipelines, stopped_fleet
from tests.fleet import Fleet

PARTS = ("server", "pipeline", "assistants", "providers", "control", "simulator")


async def histories_of(client: Client, names: list[str]) -> tuple[float, float]:
    """Events and bytes of a pipeline's history, on average."""
    found = await asyncio.gather(*(client.get_workflow_handle(name).describe() for name in names))
    infos = [description.raw_description.workflow_execution_info for description in found]
    return (
        statistics.mean(info.history_length for info in infos),
        statistics.mean(info.history_size_bytes for info in infos),
    )


async def step_of(client: Client, name: str) -> float:
    """Seconds a call of a pipeline, from the first one's start to the last one's end: without what comes before,
    such as loading the assistants."""
    begun: list[float] = []
    ended = 0.0
    async for event in client.get_workflow_handle(name).fetch_history_events():
        at = event.event_time.ToNanoseconds() / 1e9
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            begun.append(at)
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            ended = at
    return (ended - begun[-ASSISTANTS]) / ASSISTANTS


async def one_round(client: Client, variant: Variant, processes: Processes, pipelines: int) -> dict[str, Any]:
    """A row."""
    # Connections, code that is loaded at the first call, and the time in which a budget feels its way to the rate.
    await run_pipelines(client, variant, max(pipelines // 2, 8))
    cpu, requests, began = processes.cpu(), server_requests(processes.server), time.monotonic()
    names = await run_pipelines(client, variant, pipelines)
    seconds = time.monotonic() - began
    used, asked = processes.cpu(), server_requests(processes.server)
    used.subtract(cpu)
    asked.subtract(requests)
    (alone,) = await run_pipelines(client, variant, 1)
    calls = pipelines * ASSISTANTS
    events, size = await histories_of(client, names)
    return {
        "variant": variant.name,
        "calls": calls,
        "seconds": round(seconds, 3),
        "calls_per_second": round(calls / seconds, 2),
        "cpu_ms_per_call": {part: round(1000 * used[part] / calls, 2) for part in PARTS},
        "server_requests_per_call": _each(asked, calls),
        "history_events_per_pipeline": round(events, 1),
        "history_bytes_per_pipeline": round(size),
        "step_seconds": round(await step_of(client, alone), 4),
    }


def _each(counts: Counter[str], calls: int) -> dict[str, float]:
    largest_first = sorted(counts.items(), key=lambda item: -item[1])
    return {kind: round(count / calls, 2) for kind, count in largest_first if count / calls > 0.005}


def workers_cpu_of(row: dict[str, Any]) -> float:
    """CPU milliseconds a call of all that is not the simulator."""
    return sum(value for part, value in row["cpu_ms_per_call"].items() if part != "simulator")


FIGURES: dict[str, Callable[[dict[str, Any]], float]] = {
    "calls_per_second": lambda row: float(row["calls_per_second"]),
    "cpu_ms_per_call": workers_cpu_of,
    "step_seconds": lambda row: float(row["step_seconds"]),
}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The medians, and for each figure the fleet's over the bare worker's, with an interval."""
    by_variant = {variant.name: [row for row in rows if row["variant"] == variant.name] for variant in VARIANTS}
    found: dict[str, Any] = {"variant": "summary", "machine": this_machine()}
    for figure, value in FIGURES.items():
        bare, fleet = ([value(row) for row in by_variant[name]] for name in ("bare", "fleet"))
        low, high = interval_95(len(bare), partial(_ratio, bare, fleet))
        found[figure] = {
            "bare": round(statistics.median(bare), 4),
            "fleet": round(statistics.median(fleet), 4),
            "ratio": round(statistics.median(fleet) / statistics.median(bare), 3),
            "interval_95": [round(low, 3), round(high, 3)],
        }
    return found


def _ratio(bare: list[float], fleet: list[float], drawn: Sequence[int]) -> float:
    return statistics.median(fleet[at] for at in drawn) / statistics.median(bare[at] for at in drawn)


def measure(rounds: int, pipelines: int, say: Say) -> None:
    """All rounds in turn, and the summary."""
    rows: list[dict[str, Any]] = []
    with stopped_fleet() as fleet:
        for number in range(rounds):
            for variant in VARIANTS[:: 1 if number % 2 else -1]:
                with variant.works(fleet) as processes:
                    rows.append(asyncio.run(_with_client(fleet, variant, processes, pipelines)))
                say({"round": number + 1, **rows[-1]})
    say(summary(rows))


async def _with_client(fleet: Fleet, variant: Variant, processes: Processes, pipelines: int) -> dict[str, Any]:
    return await one_round(await fleet.client(), variant, processes, pipelines)


def main() -> None:
    """Measure, a row a line."""
    parser = options_of(__doc__, rounds=5)
    parser.add_argument("--pipelines", type=int, default=80)
    options = parser.parse_args()
    measure(options.rounds, options.pipelines, printed(all_rows=options.json))


if __name__ == "__main__":
    main()
