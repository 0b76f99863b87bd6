"""``scripts/bench.sh memory [--calls N]... [--json]``: memory of each process, beside a bare worker's.

A row has the USS and PSS of all processes of a variant in MB, a quarter of a minute after so many calls have been
made since its start; 0 is the idle fleet. The last row has, for each worker process, the fleet's USS over that of
the bare worker's process of the same role.
"""

import argparse
import asyncio
import json
import os
import platform
import time
from collections.abc import Callable
from typing import Any

from bench.throughput.processes import ROLES, Processes
from bench.throughput.variants import ASSISTANTS, VARIANTS, Variant, run_pipelines, stopped_fleet
from tests.fleet import Fleet

CALLS = (0, 1000, 10_000)
_AT_ONCE = 80
_REST_SECONDS = 15.0


async def _work_until(fleet: Fleet, variant: Variant, done: int, wanted: int) -> int:
    """Make calls until so many were made since the start; how many were."""
    client = await fleet.client()
    while done < wanted:
        pipelines = min(_AT_ONCE, -(-(wanted - done) // ASSISTANTS))
        await run_pipelines(client, variant, pipelines)
        done += pipelines * ASSISTANTS
    return done


def rows_of(
    fleet: Fleet, variant: Variant, calls: list[int], say: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
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


def _row(variant: Variant, processes: Processes, calls: int) -> dict[str, Any]:
    return {"variant": variant.name, "calls": calls, "megabytes": processes.memory()}


def summary(last: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The ratios after the last calls."""
    bare, fleet = last["bare"]["megabytes"], last["fleet"]["megabytes"]
    ratios = {role: round(fleet[role]["uss"] / bare[role]["uss"], 3) for role in ROLES}
    return {"variant": "summary", "machine": f"{platform.machine()}, {os.cpu_count()} cores", "uss_ratio": ratios}


def main() -> None:
    """Measure, a row a line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, action="append", default=[])
    parser.add_argument("--json", action="store_true", help="a JSON object a row; otherwise the last row alone")
    options = parser.parse_args()

    def say(row: dict[str, Any]) -> None:
        if options.json or row["variant"] == "summary":
            print(json.dumps(row), flush=True)

    with stopped_fleet() as fleet:
        counts = sorted(options.calls or CALLS)
        last = {variant.name: rows_of(fleet, variant, counts, say) for variant in VARIANTS}
    say(summary(last))


if __name__ == "__main__":
    main()
