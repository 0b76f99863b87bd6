"""``scripts/bench.sh memory [--calls N]... [--minutes M] [--json]``: memory of each process.

A row has the USS and PSS of all processes of a variant (the fleet, or bare workers) in MB, a quarter of a minute
after so many calls have been made since its start; 0 is the idle variant. The last row has, for each worker
process, the fleet's USS over that of the bare worker's process of the same role.

With ``--minutes`` the fleet alone makes the calls, spread evenly over that time, and a dozen rows are written.
"""

import argparse
import asyncio
import time
from typing import Any

from bench.rows import Say, printed, this_machine
from bench.throughput.processes import ROLES, Processes
from bench.throughput.variants import ASSISTANTS, VARIANTS, Variant, run_pipelines, stopped_fleet
from tests.fleet import Fleet

CALLS = (0, 1000, 10_000)
_AT_ONCE = 80
_REST_SECONDS = 15.0
_ROWS_OF_PACED = 12


async def _work_until(fleet: Fleet, variant: Variant, done: int, wanted: int) -> int:
    """Make calls until so many were made since the start; how many were."""
    client = await fleet.client()
    while done < wanted:
        pipelines = min(_AT_ONCE, -(-(wanted - done) // ASSISTANTS))
        await run_pipelines(client, variant, pipelines)
        done += pipelines * ASSISTANTS
    return done


def rows_of(fleet: Fleet, variant: Variant, calls: list[int], say: Say) -> dict[str, Any]:
    """A variant's rows; returns the last one."""
    row: dict[str, Any] = {}
    with variant.works(fleet) as processes:
        done = 0
        for wanted in calls:
            done = asyncio.run(_work_until(fleet, variant, done, wanted))
            time.sleep(_REST_SECONDS)
            row = _row(variant, processes, done)
            say(row)
    return row


async def _paced(
    fleet: Fleet, variant: Variant, processes: Processes, calls: int, seconds: float, say: Say
) -> None:
    """So many calls, spread evenly over the time."""
    client, began = await fleet.client(), time.monotonic()
    pipelines = -(-calls // ASSISTANTS)
    running: set[asyncio.Task[list[str]]] = set()
    for number in range(pipelines + 1):
        await asyncio.sleep(began + number * seconds / pipelines - time.monotonic())
        if number * _ROWS_OF_PACED // pipelines > (number - 1) * _ROWS_OF_PACED // pipelines:
            row = _row(variant, processes, number * ASSISTANTS)
            say(row | {"minutes": round((time.monotonic() - began) / 60, 1)})
        if number < pipelines:
            one = asyncio.create_task(run_pipelines(client, variant, 1))
            running.add(one)
            one.add_done_callback(running.discard)
    await asyncio.gather(*running)


def _row(variant: Variant, processes: Processes, calls: int) -> dict[str, Any]:
    return {"variant": variant.name, "calls": calls, "megabytes": processes.memory()}


def summary(last: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The ratios after the last calls."""
    bare, fleet = last["bare"]["megabytes"], last["fleet"]["megabytes"]
    ratios = {role: round(fleet[role]["uss"] / bare[role]["uss"], 3) for role in ROLES}
    return {"variant": "summary", "machine": this_machine(), "uss_ratio": ratios}


def main() -> None:
    """Measure, a row a line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, action="append", default=[])
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--json", action="store_true", help="a JSON object a row; otherwise the last row alone")
    options = parser.parse_args()

    say = printed(all_rows=options.json or options.minutes > 0)
    counts = sorted(options.calls or CALLS)
    with stopped_fleet() as fleet:
        if options.minutes:
            variant = VARIANTS[-1]
            with variant.works(fleet) as processes:
                asyncio.run(_paced(fleet, variant, processes, counts[-1], options.minutes * 60, say))
            return
        last = {variant.name: rows_of(fleet, variant, counts, say) for variant in VARIANTS}
    say(summary(last))


if __name__ == "__main__":
    main()
