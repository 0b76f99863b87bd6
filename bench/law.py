"""How sensitive the control law is to its constants: ``scripts/bench.sh law [--json]``.

Each constant of ``fleet/budgets/law`` is halved and doubled in turn, and the law runs in virtual time against true
token buckets, as its tests do. The first line has the law as it is: the lowest utilisation and the highest share
of 429s over the seeds, a scenario each. Then come the changes that make a scenario worse by at least half a
hundredth; ``--json`` prints all. No server is involved, so the figures do not depend on the machine.
"""

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
_NOTABLE = 0.005
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
    """One constant, times ``factor``; an empty name is the law as it is. ``scenarios`` has the lowest utilisation
    and the highest share of 429s over the seeds."""

    constant: str
    value: float
    factor: float
    scenarios: dict[str, tuple[float, float]]

    def worse_than(self, usual: "Row") -> str:
        """The scenarios in which it is worse by at least half a hundredth, with both figures."""
        return ", ".join(
            f"{name} {used:.3f} / {refused:.3f}"
            for name, (used, refused) in self.scenarios.items()
            if usual.scenarios[name][0] - used >= _NOTABLE or refused - usual.scenarios[name][1] >= _NOTABLE
        )


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
        scenarios = {scenario: _extremes(make, allowed) for scenario, (make, allowed) in SCENARIOS.items()}
    finally:
        if name:
            setattr(where, name, value)
    return Row(f"{module}.{name}" if name else "", value, factor, scenarios)


def _extremes(make: Callable[[int], World], allowed: float) -> tuple[float, float]:
    used, refused = [], []
    for seed in SEEDS:
        world = make(seed)
        world.run(END)
        used.append(world.utilisation(SETTLED_AT, END, allowed))
        refused.append(world.share_refused())
    return round(min(used), 4), round(max(refused), 4)


def main() -> None:
    """Print the rows, the law as it is first."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="print a JSON object a row")
    as_json = parser.parse_args().json
    wanted = [("bucket", "", 1.0)]
    wanted += [(module, name, factor) for module, name, _ in constants() for factor in (0.5, 2.0)]
    with ProcessPoolExecutor() as pool:
        usual = None
        for row in pool.map(measured, *zip(*wanted, strict=True)):
            usual = usual or row
            if as_json:
                print(json.dumps(asdict(row)))
            elif worse := row.worse_than(usual):
                print(f"{row.constant} ({row.value:g}) x {row.factor:g}: {worse}")
            elif row is usual:
                print(
                    ", ".join(
                        f"{name} {used:.3f} / {refused:.3f}" for name, (used, refused) in row.scenarios.items()
                    )
                )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
