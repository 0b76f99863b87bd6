"""``scripts/bench.sh growth [--axis A]... [--most N] [--rounds N] [--json]``: what grows faster than its work.

One pipeline of 1, 10, 100 and 1,000 assistants, one after another and side by side; 10 to 10,000 queued
pipelines of one assistant; 1, 4 and 16 processes of a provider. All on one fleet, whose programs start anew for
each row, with a provider that answers in 10 ms. A row is one measurement. For each size, a row of the axis
``summary`` has the medians of its rounds with their 95 % intervals (bootstrap over rounds).
"""

import asyncio
import statistics
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from bench.growth import axes
from bench.growth.axes import Row
from bench.resampling import interval_95
from bench.rows import Say, options_of, printed, this_machine
from tests.fleet import Fleet, running_fleet

ASSISTANTS, QUEUED, PROCESSES = (1, 10, 100, 1000), (10, 100, 1000, 10_000), (1, 4, 16)
SHAPES = ("sequential", "wide")
#: The queue must not be bound by a limit: what is measured is the fleet.
_ENVIRONMENT = {"FLEET_PROVIDERS__OPENAI__RPM": "1000000", "FLEET_PROVIDERS__OPENAI__TPM": "10000000000"}

Measurement = Callable[[Fleet], Awaitable[Row]]


def measurements(wanted: Sequence[str], most: int) -> Iterator[Measurement]:
    """What is measured in each round, the small sizes first."""
    if "assistants" in wanted:
        for shape in SHAPES:
            yield from (partial(axes.assistants, shape=shape, size=size) for size in ASSISTANTS if size <= most)
    if "queued" in wanted:
        yield from (partial(axes.queued, size=size) for size in QUEUED if size <= most)
    if "processes" in wanted:
        yield from (partial(axes.processes, size=size) for size in PROCESSES if size <= most)


def summary(rows: Sequence[Row]) -> Iterator[Row]:
    """For each size the median of each figure, and where it lies in 95 % of the resampled rounds."""
    alike: dict[tuple[str, str, int], list[dict[str, float]]] = {}
    for row in rows:
        alike.setdefault((row["axis"], row.get("shape", ""), row["size"]), []).append(dict(_figures(row)))
    for (axis, shape, size), found in alike.items():
        yield {
            "axis": "summary",
            "of": " ".join(filter(None, (axis, shape))),
            "size": size,
            "rounds": len(found),
            "machine": this_machine(),
            "medians": {name: _median_of(found, name) for name in found[0]},
        }


def _figures(row: Row) -> Iterator[tuple[str, float]]:
    for name, value in row.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{part}", number) for part, number in value.items())
        elif isinstance(value, int | float) and name not in ("size", "round"):
            yield name, value


def _median_of(found: Sequence[dict[str, float]], name: str) -> list[float]:
    """``[median, low, high]``."""

    def median(drawn: Sequence[int]) -> float:
        return statistics.median(found[at][name] for at in drawn)

    return [round(value, 4) for value in (median(range(len(found))), *interval_95(len(found), median))]


def measure(wanted: Sequence[str], most: int, rounds: int, say: Say) -> list[Row]:
    """All rounds in turn."""
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory(prefix="fleet-bench-") as folder,
        running_fleet(Path(folder, "state"), _ENVIRONMENT) as fleet,
    ):
        axes.prepare(fleet, [size for size in ASSISTANTS if size <= most])
        fleet.supervisorctl("stop", "all")
        for number in range(rounds):
            for measurement in measurements(wanted, most):
                rows.append({"round": number + 1, **asyncio.run(_run(measurement, fleet))})
                say(rows[-1])
    return rows


async def _run(measurement: Measurement, fleet: Fleet) -> Row:
    return await measurement(fleet)


def main() -> None:
    """Measure, a row a line."""
    parser = options_of(__doc__, rounds=3)
    names = ("assistants", "queued", "processes")
    parser.add_argument(
        "--axis", action="append", choices=names, default=[], help="this one alone; may be repeated"
    )
    parser.add_argument("--most", type=int, default=10_000, help="no larger sizes")
    options = parser.parse_args()

    say = printed(all_rows=options.json)
    for row in summary(measure(options.axis or names, options.most, options.rounds, say)):
        say(row)


if __name__ == "__main__":
    main()
