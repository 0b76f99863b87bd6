"""What being seen costs: ``scripts/bench.sh observability [--pairs N] [--seconds S] [--json]``.

Two fleets stand side by side: one counts, is scraped every five seconds and has five viewers of its page; one does
nothing of it (``FLEET_METRICS=false``). They are loaded in turn, with as many pipelines as they can take, in short
turns and many of them, since a shared machine's speed drifts by more than what is measured; a row is one turn. The
last row has the ratio of all calls with to all without, the share of a core that the control process took, and,
where Chromium is installed, how long its page takes to its first live state on a busy fleet.
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from temporalio.client import Client

from fleet.contracts import PIPELINE_QUEUE, WORKFLOW_TYPE
from tests.fleet import Fleet, running_fleet
from tests.monitoring.browser import CHROMIUM, DRIVER, browsing

VIEWERS = 5
SCRAPE_SECONDS = 5.0
AT_ONCE = 24
WARM_UP_SECONDS, SETTLE_SECONDS = 15.0, 3.0
LATENCY_SECONDS = 0.1
OPENINGS = 5


@dataclass
class Watching:
    """A scraper and the viewers of a fleet's page."""

    fleet: Fleet
    over: threading.Event = field(default_factory=threading.Event)
    scrapes: int = 0
    events: int = 0

    def scrape(self) -> None:
        """Ask for the metrics, again and again."""
        while not self.over.wait(SCRAPE_SECONDS):
            assert self.fleet.control("metrics").status_code == 200
            self.scrapes += 1

    def view(self) -> None:
        """Take what the page takes."""
        address = f"http://127.0.0.1:{self.fleet.port_base + 4}/api/events"
        with httpx.stream(
            "GET",
            address,
            headers=self.fleet.reader() | {"accept": "text/event-stream"},
            trust_env=False,
            timeout=30,
        ) as stream:
            for line in stream.iter_lines():
                self.events += line.startswith("event:")
                if self.over.is_set():
                    return


@contextmanager
def watched(fleet: Fleet) -> Iterator[Watching]:
    """Somebody looks until the block ends."""
    watching = Watching(fleet)
    threads = [threading.Thread(target=watching.scrape)]
    threads += [threading.Thread(target=watching.view) for _ in range(VIEWERS)]
    for thread in threads:
        thread.start()
    try:
        yield watching
    finally:
        watching.over.set()
        for thread in threads:
            thread.join()


class Load:
    """As many pipelines as a fleet can take, while it is its turn."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._turn = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> None:
        self._turn = True
        self._tasks = [asyncio.create_task(self._one_after_another()) for _ in range(AT_ONCE)]
        await asyncio.sleep(SETTLE_SECONDS)

    async def __aexit__(self, *exception: object) -> None:
        self._turn = False
        await asyncio.gather(*self._tasks)

    async def _one_after_another(self) -> None:
        while self._turn:
            await self._client.execute_workflow(
                WORKFLOW_TYPE,
                args=["Kávovar", "seo-demo", "", ""],
                id=f"load-{uuid.uuid4().hex[:12]}",
                task_queue=PIPELINE_QUEUE,
            )


def _answered(fleet: Fleet) -> int:
    return int(fleet.simulator.stats()["calls"])


def _control_seconds(fleet: Fleet) -> float:
    """CPU time that the control process has used."""
    fields = Path("/proc", str(fleet.pids()["control"]), "stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def one_turn(fleet: Fleet, load: Load, variant: str, seconds: float) -> dict[str, Any]:
    """One stretch of load on one of the fleets."""
    fleet.simulator.clear()
    with ExitStack() as stack:
        watching = stack.enter_context(watched(fleet)) if variant == "with" else None
        async with load:
            before, began, used = (
                await asyncio.to_thread(_answered, fleet),
                time.monotonic(),
                _control_seconds(fleet),
            )
            await asyncio.sleep(seconds)
            after, took = await asyncio.to_thread(_answered, fleet), time.monotonic() - began
            share = (_control_seconds(fleet) - used) / took
    row = {"scenario": "observability", "variant": variant, "calls_per_second": round((after - before) / took, 2)}
    seen = {"scrapes": watching.scrapes, "events": watching.events} if watching else {}
    return row | {"control_core_share": round(share, 4), "seconds": seconds} | seen


async def first_live_states(fleet: Fleet, load: Load) -> list[float]:
    """Seconds from opening the page to its first live state, on a busy fleet."""
    async with load:
        return await asyncio.to_thread(_openings, f"http://127.0.0.1:{fleet.port_base + 4}/")


def _openings(address: str) -> list[float]:
    found: list[float] = []
    with browsing() as browser:
        for _ in range(OPENINGS):
            browser.driver.get("about:blank")
            browser.open(address)
            mark = browser.run("return performance.getEntriesByName('first-live-state')[0].startTime")
            found.append(round(float(mark) / 1000, 3))
    return found


def _fleet(folder: Path, name: str, environment: dict[str, str]) -> Any:
    return running_fleet(folder / name / "state", environment | {"FLEET_DRAIN_SECONDS": "10"})


async def run(pairs: int, seconds: float) -> AsyncIterator[dict[str, Any]]:
    """All rows, the summary last."""
    with tempfile.TemporaryDirectory(prefix="fleet-seen-") as folder, ExitStack() as stack:
        fleets = {
            "with": stack.enter_context(_fleet(Path(folder), "with", {})),
            "without": stack.enter_context(_fleet(Path(folder), "without", {"FLEET_METRICS": "false"})),
        }
        loads = {variant: Load(await fleet.client()) for variant, fleet in fleets.items()}
        for variant, fleet in fleets.items():
            for provider in ("openai", "anthropic", "gemini"):
                quick = {"median_seconds": LATENCY_SECONDS, "sigma": 0, "seconds_per_output_token": 0}
                fleet.simulator.put("latency", provider=provider, **quick)
            await one_turn(fleet, loads[variant], variant, WARM_UP_SECONDS)
        rows: list[dict[str, Any]] = []
        for number in range(pairs):
            order = ("with", "without") if number % 2 == 0 else ("without", "with")
            for variant in order:
                rows.append(await one_turn(fleets[variant], loads[variant], variant, seconds))
                yield rows[-1]
        there = shutil.which(CHROMIUM) and shutil.which(DRIVER)
        yield summary(rows, await first_live_states(fleets["with"], loads["with"]) if there else [])


def summary(rows: list[dict[str, Any]], states: list[float]) -> dict[str, Any]:
    """The ratio and the shares. The first turn of a pair is the faster one, so two pairs, of one order and of the
    other, make a block; ``standard_error`` is of the mean of the blocks' ratios."""
    rates = {
        variant: [row["calls_per_second"] for row in rows if row["variant"] == variant]
        for variant in ("with", "without")
    }
    ratios = [
        sum(rates["with"][at : at + 2]) / sum(rates["without"][at : at + 2])
        for at in range(0, len(rates["with"]), 2)
    ]
    watched_shares = [row["control_core_share"] for row in rows if row["variant"] == "with"]
    return {
        "scenario": "observability",
        "variant": "summary",
        "throughput_ratio": round(sum(rates["with"]) / sum(rates["without"]), 4),
        "standard_error": round(statistics.stdev(ratios) / len(ratios) ** 0.5, 4) if len(ratios) > 1 else None,
        "ratios_of_blocks": [round(ratio, 4) for ratio in ratios],
        "control_core_share": round(statistics.mean(watched_shares), 4),
        "viewers": VIEWERS,
        "first_live_state_seconds": states,
    }


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="scripts/bench.sh observability", description=__doc__)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=8.0, help="of a turn, once it has settled")
    parser.add_argument("--json", action="store_true", help="rows alone, one JSON object a line (it is so anyway)")
    options = parser.parse_args()
    asyncio.run(_print(options.pairs, options.seconds))


async def _print(pairs: int, seconds: float) -> None:
    async for row in run(pairs, seconds):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
