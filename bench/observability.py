"""What being seen costs: ``scripts/bench.sh observability [--pairs N] [--seconds S] [--json]``.

Two fleets stand side by side: one counts, is scraped every five seconds and has five viewers of its page; one does
nothing of it (``FLEET_METRICS=false``). They are loaded in turn, with as many pipelines as they can take; a row is
one such turn. The last row has the ratio of the medians, the share of a core that the control process took
meanwhile, and, where Chromium is installed, how long its page takes to its first live state on a busy fleet.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
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
WARM_UP_SECONDS = 10.0
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
        with httpx.stream("GET", address, trust_env=False, timeout=30) as stream:
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


async def load(fleet: Fleet, seconds: float) -> float:
    """As many pipelines as the fleet can take; calls a second that were answered after the warm-up."""
    client = await fleet.client()
    ending = time.monotonic() + WARM_UP_SECONDS + seconds
    workers = [asyncio.create_task(_one_after_another(client, ending)) for _ in range(AT_ONCE)]
    await asyncio.sleep(WARM_UP_SECONDS)
    began, before = time.monotonic(), await asyncio.to_thread(_answered, fleet)
    await asyncio.sleep(seconds)
    after, took = await asyncio.to_thread(_answered, fleet), time.monotonic() - began
    await asyncio.gather(*workers)
    return (after - before) / took


async def _one_after_another(client: Client, ending: float) -> None:
    while time.monotonic() < ending:
        await client.execute_workflow(
            WORKFLOW_TYPE,
            args=["Kávovar", "seo-demo", "", ""],
            id=f"load-{uuid.uuid4().hex[:12]}",
            task_queue=PIPELINE_QUEUE,
        )


def _answered(fleet: Fleet) -> int:
    return int(fleet.simulator.stats()["calls"])


def _control_seconds(fleet: Fleet) -> float:
    """CPU time that the control process has used."""
    (pid,) = (one["pid"] for one in fleet.status()["processes"] if one["program"] == "control")
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def one_turn(fleet: Fleet, variant: str, seconds: float) -> dict[str, Any]:
    """One stretch of load on one of the fleets."""
    fleet.simulator.clear()
    with ExitStack() as stack:
        watching = stack.enter_context(watched(fleet)) if variant == "with" else None
        used, began = _control_seconds(fleet), time.monotonic()
        rate = asyncio.run(load(fleet, seconds))
        share = (_control_seconds(fleet) - used) / (time.monotonic() - began)
    row = {"scenario": "observability", "variant": variant, "calls_per_second": round(rate, 2)}
    seen = {"scrapes": watching.scrapes, "events": watching.events} if watching else {}
    return row | {"control_core_share": round(share, 4), "seconds": seconds} | seen


def first_live_states(fleet: Fleet) -> list[float]:
    """Seconds from opening the page to its first live state, on a busy fleet."""
    found: list[float] = []
    busy = threading.Thread(target=lambda: asyncio.run(load(fleet, OPENINGS * 4.0)))
    busy.start()
    time.sleep(WARM_UP_SECONDS)
    with browsing() as browser:
        for _ in range(OPENINGS):
            browser.driver.get("about:blank")
            browser.open(f"http://127.0.0.1:{fleet.port_base + 4}/")
            mark = browser.run("return performance.getEntriesByName('first-live-state')[0].startTime")
            found.append(round(float(mark) / 1000, 3))
    busy.join()
    return found


def _fleet(folder: Path, name: str, environment: dict[str, str]) -> Any:
    return running_fleet(folder / name / "state", environment | {"FLEET_DRAIN_SECONDS": "10"})


def run(pairs: int, seconds: float) -> Iterator[dict[str, Any]]:
    """All rows, the summary last."""
    with tempfile.TemporaryDirectory(prefix="fleet-seen-") as folder, ExitStack() as stack:
        fleets = {
            "with": stack.enter_context(_fleet(Path(folder), "with", {})),
            "without": stack.enter_context(_fleet(Path(folder), "without", {"FLEET_METRICS": "false"})),
        }
        for fleet in fleets.values():
            for provider in ("openai", "anthropic", "gemini"):
                quick = {"median_seconds": LATENCY_SECONDS, "sigma": 0, "seconds_per_output_token": 0}
                fleet.simulator.put("latency", provider=provider, **quick)
        rows: list[dict[str, Any]] = []
        for number in range(pairs):
            order = ("with", "without") if number % 2 == 0 else ("without", "with")
            for variant in order:
                rows.append(one_turn(fleets[variant], variant, seconds))
                yield rows[-1]
        states = first_live_states(fleets["with"]) if Path(CHROMIUM).exists() and Path(DRIVER).exists() else []
        yield summary(rows, states)


def summary(rows: list[dict[str, Any]], states: list[float]) -> dict[str, Any]:
    """The ratio and the shares."""
    rates = {
        variant: [row["calls_per_second"] for row in rows if row["variant"] == variant]
        for variant in ("with", "without")
    }
    return {
        "scenario": "observability",
        "variant": "summary",
        "throughput_ratio": round(statistics.median(rates["with"]) / statistics.median(rates["without"]), 4),
        "ratios_of_pairs": [
            round(one / other, 4) for one, other in zip(rates["with"], rates["without"], strict=True)
        ],
        "control_core_share": max(row["control_core_share"] for row in rows if row["variant"] == "with"),
        "viewers": VIEWERS,
        "first_live_state_seconds": states,
    }


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="scripts/bench.sh observability", description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0, help="of a turn, after its warm-up of 10 s")
    parser.add_argument("--json", action="store_true", help="rows alone, one JSON object a line (it is so anyway)")
    options = parser.parse_args()
    for row in run(options.pairs, options.seconds):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
