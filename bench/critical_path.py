"""``scripts/bench.sh critical-path [--rounds N] [--json]``: seconds of a pipeline over its longest chain of calls.

In turn, with nothing else to do: the demo's pipeline in a fleet, and a bare worker's pipeline of the same eight
assistants, which calls them one after another (throughput/bare.py). The calls take as long as in the demo, and
how long each took is read from the simulator's ledger. A row is one pipeline; the last row has the medians.
"""

import asyncio
import statistics
import tempfile
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.rows import Say, options_of, printed, this_machine
from bench.throughput.bare import PIPELINE, queue_of
from bench.throughput.processes import PROVIDERS, bare_works
from fleet.cli.demo import PROJECT, TOPIC
from fleet.devstack.simulator.latency import Latency
from tests.fleet import Fleet, json_of, running_fleet

Row = dict[str, Any]


def in_the_fleet(fleet: Fleet) -> Row:
    """The demo's pipeline."""
    done = fleet.fleet("run", TOPIC, "--project", PROJECT, "--json")
    if done.returncode:
        raise SystemExit(done.stderr)
    outcome = json_of(done.stdout)
    return _row("fleet", outcome["seconds"], outcome["critical_path_seconds"])


async def bare(fleet: Fleet) -> Row:
    """The bare worker's. Its calls wait for each other, so the chain is all of them."""
    client, name = await fleet.client(), f"bare-{uuid.uuid4().hex[:12]}"
    fleet.simulator.clear()
    await client.execute_workflow(PIPELINE, args=[TOPIC, PROJECT], id=name, task_queue=queue_of("pipeline"))
    described = await client.get_workflow_handle(name).describe()
    assert described.close_time is not None
    seconds = (described.close_time - described.start_time).total_seconds()
    return _row("bare", seconds, sum(call["seconds"] for call in fleet.simulator.ledger()))


def _row(variant: str, seconds: float, longest_chain: float) -> Row:
    return {
        "variant": variant,
        "seconds": round(seconds, 3),
        "critical_path_seconds": round(longest_chain, 3),
        "ratio": round(seconds / longest_chain, 4),
    }


def measure(rounds: int, say: Say) -> None:
    """All rounds in turn, and the medians."""
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory(prefix="fleet-bench-") as folder,
        running_fleet(Path(folder, "state"), {}) as fleet,
    ):
        for provider in PROVIDERS:
            fleet.simulator.put("latency", provider=provider, **asdict(Latency()))
        with bare_works(fleet):
            _ = in_the_fleet(fleet), asyncio.run(bare(fleet))  # connections, and code loaded at the first call
            for number in range(rounds):
                rows += [in_the_fleet(fleet), asyncio.run(bare(fleet))]
                for row in rows[-2:]:
                    say({"round": number + 1, **row})
    ratios = {
        variant: statistics.median(row["ratio"] for row in rows if row["variant"] == variant)
        for variant in ("fleet", "bare")
    }
    say({"variant": "summary", "machine": this_machine(), "rounds": rounds, "median_ratio": ratios})


def main() -> None:
    """Measure, a row a line."""
    options = options_of(__doc__, rounds=10).parse_args()
    measure(options.rounds, printed(all_rows=options.json))


if __name__ == "__main__":
    main()
