"""``python -m bench.limits [--scenario a] [--quick] --json``: one JSON object a row. See bench/README.md."""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace

from bench.limits.full_queue import steady
from bench.limits.interleaved import in_turns, taking_turns
from bench.limits.isolation import isolated
from bench.limits.quota import beside_a_spent_quota
from bench.limits.rows import Row
from bench.limits.scenarios import Scenario, Variant, scenarios
from bench.limits.server import compared

_KILLING = ("a", "b", "c", "d", "e")
_OTHERS: dict[str, Callable[[Scenario], Iterator[Row]]] = {
    "f": isolated,
    "g": in_turns,
    "h": taking_turns,
    "i": beside_a_spent_quota,
    "server": compared,
}


def rows_of(scenario: Scenario, variants: list[Variant]) -> Iterator[Row]:
    """All rows of a scenario."""
    if other := _OTHERS.get(scenario.name):
        yield from other(scenario)
        return
    if "budgets" in variants or scenario.plain_seconds is None:
        with_budgets = list(steady(scenario, "budgets"))
        yield from with_budgets
    else:
        with_budgets = []
    if "plain" in variants and scenario.plain_seconds is not None:
        reached = {row.provider: row.utilisation for row in with_budgets}
        for row in steady(replace(scenario, seconds=scenario.plain_seconds), "plain"):
            comparable = row.provider in reached and row.utilisation > 0
            yield replace(row, gain=round(reached[row.provider] / row.utilisation, 2)) if comparable else row


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench.sh limits", description=__doc__)
    known = sorted(scenarios(600, 400_000, 1.5, quick=True))
    parser.add_argument("--scenario", choices=known, action="append", help="all of them without it")
    parser.add_argument(
        "--variant", choices=("budgets", "plain"), action="append", help="of a to d; both without it"
    )
    parser.add_argument("--quick", action="store_true", help="under three minutes a scenario; rows say quick")
    parser.add_argument("--json", action="store_true", help="rows alone, one JSON object a line")
    parser.add_argument("--rpm", type=float, default=600.0, help="requests a minute (600)")
    parser.add_argument("--tpm", type=float, default=400_000.0, help="tokens a minute in b (400,000)")
    parser.add_argument("--sigma", type=float, default=1.5, help="spread of the sizes in b (1.5)")
    parser.add_argument("--latency", type=float, help="median seconds of a call (0.7; server: 0.1)")
    parser.add_argument("--processes", type=int, default=3, help="worker processes a provider (3)")
    parser.add_argument("--machines", type=int, default=1, help="fleets with that many processes each (1)")
    parser.add_argument(
        "--approximate", action="store_true", help="on a Temporal server that divides queues and sets no rates"
    )
    parser.add_argument("--concurrency", type=int, default=24, help="calls at once in a worker process (24)")
    parser.add_argument(
        "--seconds", type=float, help="a to e, g: from its first call on; f, h, i: of each stretch"
    )
    parser.add_argument("--queued", type=int, help="calls that wait from the start (e: 5,000, h: 1,000, i: 600)")
    parser.add_argument("--kill", action="store_true", help="kill a worker of each provider in mid-run (a to e)")
    return parser


def main() -> None:
    """Run what was asked for."""
    parser = _parser()
    options = parser.parse_args()
    chosen = scenarios(options.rpm, options.tpm, options.sigma, quick=options.quick)
    names = options.scenario or [name for name in sorted(chosen) if name in _KILLING or not options.kill]
    if options.kill and not set(names) <= set(_KILLING):
        parser.error("--kill is for a to e")
    say: Callable[[str], None] = (lambda text: None) if options.json else print
    for name in names:
        scenario = replace(
            chosen[name],
            processes=options.processes,
            concurrency=options.concurrency,
            kill=options.kill,
            machines=options.machines,
            approximate=options.approximate,
        )
        if options.seconds:
            plain = scenario.plain_seconds and options.seconds
            scenario = replace(scenario, seconds=options.seconds, plain_seconds=plain)
        if options.latency is not None:
            scenario = replace(scenario, latency=options.latency)
        if options.queued is not None:
            cold, beside = scenario.queued_first and options.queued, scenario.beside and options.queued
            scenario = replace(scenario, queued_first=cold, beside=beside)
        say(f"scenario {name} ...")
        for row in rows_of(scenario, options.variant or ["budgets", "plain"]):
            print(json.dumps(row.shown()), flush=True)


if __name__ == "__main__":
    main()
