"""How sensitive the control law is to its constants: ``scripts/bench.sh law [--json]``.

Each constant of ``fleet/budgets/law`` is halved and doubled in turn, and the law runs in virtual time against true
token buckets, as its tests do. A line a constant: the least utilisation and the largest share of 429s over the
scenarios and seeds, and the scenario of each, beside the law as it is. It needs no server, so the figures do not
depend on the machine."""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib import import_module

from fleet.config import PROJECT_ROOT
from fleet.contracts import Limited, LimitSettings
from tests.budget_world import Provider, World, lognormal

MODULES = ("breaker", "bucket", "budget", "cut_off_machines", "ramp", "report_intake", "unreported_calls")
SEEDS = (1, 2)
REFILL, CHANGE_AT, SETTLED_AT, END = 10.0, 60.0, 90.0, 180.0


def _world(seed: int, *, headers: bool) -> World:
    provider = Provider(REFILL, 6 * REFILL, headers)
    return World(provider, LimitSettings(rpm=REFILL * 60), seed=seed, first=REFILL)


def _tokens(seed: int) -> World:
    provider = Provider(REFILL * 1000, 6 * REFILL * 1000, True)
    return World(
        provider,
        LimitSettings(tpm=REFILL * 60_000),
        Limited.TOKENS,
        cost=lognormal(8000.0, share=0.1),
        seed=seed,
        first=REFILL,
        costs={Limited.TOKENS: 1000.0},
    )


def _halved(seed: int) -> World:
    world = _world(seed, headers=False)
    world.later(CHANGE_AT, lambda: world.provider.set_refill(REFILL / 2))
    return world


def _shared(seed: int) -> World:
    world = _world(seed, headers=False)
    world.later(CHANGE_AT, lambda: setattr(world.provider, "tenant", REFILL / 2))
    return world


#: Each scenario, and what its provider allows a second in the window that counts.
SCENARIOS: dict[str, tuple[Callable[[int], World], float]] = {
    "headers": (lambda seed: _world(seed, headers=True), REFILL),
    "no headers": (lambda seed: _world(seed, headers=False), REFILL),
    "tokens": (_tokens, REFILL * 1000),
    "limit halves": (_halved, REFILL / 2),
    "another customer": (_shared, REFILL / 2),
}


@dataclass(frozen=True)
class Row:
    """One constant, times ``factor``; an empty name is the law as it is."""

    constant: str
    value: float
    factor: float
    utilisation: float
    utilisation_in: str
    share_429: float
    share_429_in: str


def constants() -> Iterator[tuple[str, str, float]]:
    """Module, name and value of each number that the law's modules declare themselves."""
    for module in MODULES:
        source = (PROJECT_ROOT / f"fleet/budgets/law/{module}.py").read_text("utf-8")
        declared = re.findall(r"^([A-Z_][A-Z_, ]*) = ", source, re.MULTILINE)
        for name in (name.strip() for names in declared for name in names.split(",")):
            value = getattr(import_module(f"fleet.budgets.law.{module}"), name)
            if isinstance(value, int | float):
                yield module, name, float(value)


def measured(module: str, name: str, factor: float) -> Row:
    """The law with that constant changed, or as it is where ``name`` is empty."""
    where, value = import_module(f"fleet.budgets.law.{module}"), 0.0
    if name:
        value = getattr(where, name)
        setattr(where, name, type(value)(value * factor))
    try:
        used, refused = [], []
        for scenario, (make, allowed) in SCENARIOS.items():
            for seed in SEEDS:
                world = make(seed)
                world.run(END)
                used.append((world.utilisation(SETTLED_AT, END, allowed), scenario))
                refused.append((world.share_refused(), scenario))
    finally:
        if name:
            setattr(where, name, value)
    (lowest, utilisation_in), (highest, share_in) = min(used), max(refused)
    title = f"{module}.{name}" if name else ""
    return Row(title, value, factor, round(lowest, 4), utilisation_in, round(highest, 4), share_in)


def main() -> None:
    """Print the rows, the law as it is first."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="print a JSON object a row")
    as_json = parser.parse_args().json
    wanted = [("bucket", "", 1.0)]
    wanted += [(module, name, factor) for module, name, _ in constants() for factor in (0.5, 2.0)]
    with ProcessPoolExecutor() as pool:
        for row in pool.map(measured, *zip(*wanted, strict=True)):
            if as_json:
                print(json.dumps(asdict(row)))
            else:
                print(
                    f"{row.constant:50} x {row.factor:3} (of {row.value:g}): utilisation {row.utilisation:.3f} "
                    f"({row.utilisation_in}), 429s {row.share_429:.4f} ({row.share_429_in})"
                )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
