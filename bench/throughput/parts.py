"""``scripts/bench.sh parts [--rounds N] [--pipelines N] [--json]``: what each promise of the fleet costs a call.

The fleet runs in turn with a fleet that does without one part: the journal, heartbeats, log lines, metrics. The
budgets' reports are no such part: without them a budget keeps its first, low rate, and nothing can be compared. A
row is one round of one of them, as in ``throughput``. The last rows have, for each part, how much less CPU a call
takes without it (milliseconds, by where it is spent), and the 95 % interval of the sum (bootstrap over rounds).
The parts are taken out by replacing their code when a process starts (``without``).
"""

import asyncio
import statistics
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.resampling import interval_95
from bench.rows import Say, options_of, printed, this_machine
from bench.throughput.__main__ import one_round, workers_cpu_of
from bench.throughput.processes import fleet_works
from bench.throughput.variants import VARIANTS, stopped_fleet
from tests.fleet import Fleet

PARTS = ("journal", "heartbeats", "log", "metrics")
WHOLE = ""
_WHERE = ("server", "pipeline", "assistants", "providers", "control")


def measure(rounds: int, pipelines: int, say: Say) -> None:
    """All rounds in turn, and the summary."""
    rows: dict[str, list[dict[str, Any]]] = {part: [] for part in (WHOLE, *PARTS)}
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as folder:
        without = Path(folder, "without")
        without.write_text(WHOLE, "utf-8")
        environment = {
            "PYTHONPATH": str(Path(__file__).with_name("without")),
            "FLEET_BENCH_WITHOUT": str(without),
            "FLEET_KEEP_VARIABLES": "PYTHONPATH,FLEET_BENCH_WITHOUT",
        }
        with stopped_fleet(environment) as fleet:
            for number in range(rounds):
                for part in list(rows)[:: 1 if number % 2 else -1]:
                    without.write_text(part, "utf-8")
                    rows[part].append(asyncio.run(_round(fleet, pipelines)))
                    say({"round": number + 1, "without": part, **rows[part][-1]})
    whole = rows.pop(WHOLE)
    for part, found in rows.items():
        say(_summary(part, whole, found))


async def _round(fleet: Fleet, pipelines: int) -> dict[str, Any]:
    with fleet_works(fleet) as processes:
        return await one_round(await fleet.client(), VARIANTS[-1], processes, pipelines)


def _summary(part: str, whole: list[dict[str, Any]], without: list[dict[str, Any]]) -> dict[str, Any]:
    """By how much a call is cheaper without a part."""

    def saved(value: Callable[[dict[str, Any]], float]) -> list[float]:
        return [value(one) - value(other) for one, other in zip(whole, without, strict=True)]

    in_all = saved(workers_cpu_of)
    low, high = interval_95(len(in_all), partial(_median, in_all))
    return {
        "variant": "summary",
        "part": part,
        "machine": this_machine(),
        "saved_cpu_ms_per_call": round(statistics.median(in_all), 2),
        "interval_95": [round(low, 2), round(high, 2)],
        "where": {where: round(statistics.median(saved(partial(_spent, where))), 2) for where in _WHERE},
    }


def _spent(where: str, row: dict[str, Any]) -> float:
    return float(row["cpu_ms_per_call"][where])


def _median(values: list[float], drawn: Sequence[int]) -> float:
    return statistics.median(values[at] for at in drawn)


def main() -> None:
    """Measure, a row a line."""
    parser = options_of(__doc__, rounds=5)
    parser.add_argument("--pipelines", type=int, default=60)
    options = parser.parse_args()
    measure(options.rounds, options.pipelines, printed(all_rows=options.json))


if __name__ == "__main__":
    main()
