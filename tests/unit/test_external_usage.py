"""What a budget says that others take of a limit."""

from collections.abc import Callable

import pytest

from fleet.budgets.law.budget_status import describe
from fleet.budgets.law.external_usage import ExternalUsage
from fleet.contracts import Limited, LimitSettings
from tests.budget_world import Provider, World, lognormal

LOADS: dict[str, Callable[[float], bool]] = {
    "steady": lambda now: True,
    "that stops and comes back": lambda now: now % 60 < 20,
    "in bursts": lambda now: now % 10 < 3,
    "after a long rest": lambda now: now > 100,
}


def world_of(refill: float, size: float, load: Callable[[float], bool], *, headers: bool) -> World:
    requests = size == 1
    what = Limited.REQUESTS if requests else Limited.TOKENS
    world = World(
        Provider(refill * size, refill * size * 60, headers),
        LimitSettings(**{"rpm" if requests else "tpm": refill * size * 60}),
        what=what,
        cost=(lambda chance: size) if requests else lognormal(size * 6, 1.2, 0.15),
        costs={what: size},
        latency=8.0,
        concurrency=400,
        seed=3,
    )
    world.working = load
    return world


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
@pytest.mark.parametrize("headers", [True, False], ids=["headers", "no headers"])
@pytest.mark.parametrize(("refill", "size"), [(1.0, 1.0), (10.0, 3000.0)])
def test_nobody_is_said_to_take_of_a_limit_that_only_this_fleet_uses(
    refill: float, size: float, headers: bool, load: Callable[[float], bool]
) -> None:
    world = world_of(refill, size, load, headers=headers)
    for _ in range(200):
        world.run(1.0)
        assert "others" not in describe(world.budget).why


@pytest.mark.parametrize(("refill", "size"), [(1.0, 1.0), (10.0, 400.0)])
def test_another_customer_is_named_within_minutes_and_forgotten_when_it_leaves(refill: float, size: float) -> None:
    world = world_of(refill, size, LOADS["steady"], headers=True)
    world.run(100.0)
    world.provider.tenant = 0.5 * refill * size
    world.run(240.0)
    assert "of it taken by others" in describe(world.budget).why
    assert 0.3 < world.budget.buckets[world.what].others.share < 0.6
    world.provider.tenant = 0.0
    world.run(240.0)
    assert "others" not in describe(world.budget).why


def test_refill_that_was_lost_in_a_full_bucket_was_taken_by_nobody() -> None:
    usage = ExternalUsage()
    for second in range(0, 400, 2):
        usage.observe(float(second), 100.0 if second % 20 == 0 else 50.0, 10.0, 100.0, 1.0)
        usage.balance(float(second), 10.0, [], 1.0)
    assert usage.share == 0.0


def test_a_rate_above_the_limit_is_explained() -> None:
    world = world_of(10.0, 1.0, LOADS["after a long rest"], headers=True)
    said = set()
    for _ in range(150):
        world.run(1.0)
        status = describe(world.budget)
        if status.why.startswith("limit of") and status.rate > 1.1 * 10.0:
            said.add(status.why)
    assert said == {"limit of requests, faster for now since more is left than has to be kept back"}
