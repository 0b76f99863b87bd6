"""Properties of the control law, over many providers, in virtual time."""

import math
from collections.abc import Callable
from copy import deepcopy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.budgets.law.budget import Budget
from fleet.budgets.messages import MIN_RATE, Opening, Reading, Report, Trouble
from fleet.budgets.worker.reporter import first_rate
from fleet.contracts import Limited, LimitSettings
from fleet.failures import FailureKind
from tests.budget_world import Provider, World, lognormal

WORLDS = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
#: Stated in docs/limits.md: calls of one size in any ten seconds, or ten calls' time, are what refills then, give
#: or take so much.
SWING_SHARE, SWING_CALLS = 0.2, 4

refills = st.floats(math.log(0.05), math.log(40.0)).map(math.exp)
latencies = st.floats(math.log(0.1), math.log(30.0)).map(math.exp)
sizes = st.sampled_from([1.0, 400.0, 3000.0])


def world_of(refill: float, size: float = 1.0, *, headers: bool = True, **world: object) -> World:
    """A provider that takes so many calls of that size a second, and 6 s of them or 3 at once; size 1: it counts
    requests, else tokens."""
    what = Limited.REQUESTS if size == 1 else Limited.TOKENS
    limits = LimitSettings(**{"rpm" if size == 1 else "tpm": refill * size * 60})
    provider = Provider(refill * size, max(6 * refill, 3.0) * size, headers)
    costs = {what: 1.0 if size == 1 else 1000.0}
    first = first_rate(limits, costs)
    fixed = {"what": what, "costs": costs, "first": first, "concurrency": 4000, "cost": lambda chance: size}
    return World(provider, limits, **(fixed | world))  # type: ignore[arg-type]


def minutes(refill: float, calls: int = 60) -> float:
    """Seconds in which a limit is seen at work: two minutes, or the time of so many calls."""
    return max(120.0, calls / refill)


def max_over_any_window(world: World) -> float:
    """How far what was sent exceeds, at worst, what a full bucket and its refill allow for the same window; what
    is refused is not charged."""
    provider, level, worst, at = world.provider, world.provider.capacity, 0.0, 0.0
    for moment, cost, taken in world.calls:
        level = min(provider.capacity, level + provider.refill * (moment - at))
        worst, at = max(worst, cost - level), moment
        level -= cost if taken else 0.0
    return worst


@WORLDS
@given(
    refill=refills,
    size=sizes,
    latency=latencies,
    processes=st.integers(1, 6),
    headers=st.booleans(),
    seed=st.integers(0, 99),
)
def test_no_window_holds_more_than_the_limit_and_little_is_left(
    refill: float, size: float, latency: float, processes: int, headers: bool, seed: int
) -> None:
    world = world_of(refill, size, headers=headers, processes=processes, latency=latency, seed=seed)
    settled = minutes(refill, 12) / 3
    end = settled + minutes(refill)
    world.run(end)
    assert max_over_any_window(world) < 1e-6 and world.share_refused() == 0
    assert world.utilisation(settled, end, refill * size) > 0.95


@WORLDS
@given(refill=refills, size=sizes, latency=latencies, headers=st.booleans(), seed=st.integers(0, 99))
def test_the_rate_swings_no_further_than_stated(
    refill: float, size: float, latency: float, headers: bool, seed: int
) -> None:
    world = world_of(refill, size, headers=headers, latency=latency, seed=seed)
    window = max(10.0, 10 / refill)
    world.run(60 + window + minutes(refill))
    moments = [at for at, *_ in world.calls]
    for step in range(60):
        begin = 60 + window + step * (minutes(refill) - window) / 60
        calls = sum(begin <= at < begin + window for at in moments)
        assert abs(calls - window * refill) <= SWING_SHARE * window * refill + SWING_CALLS


@WORLDS
@given(
    refill=st.floats(1_000, 50_000),
    largest=st.floats(0.02, 0.1),
    latency=latencies,
    headers=st.booleans(),
    seed=st.integers(0, 99),
)
def test_tokens_of_all_sizes_keep_to_the_limit(
    refill: float, largest: float, latency: float, headers: bool, seed: int
) -> None:
    """What the queue dispatches it does not know the size of: a few of the largest are refused. Within a process
    the gate, which is not here, sees to them."""
    minute = refill * 60
    world = World(
        Provider(refill, minute, headers),
        LimitSettings(tpm=round(minute)),
        what=Limited.TOKENS,
        cost=lognormal(minute * largest, 1.5, 0.0154),
        costs={"tokens": 1000.0},
        latency=latency,
        concurrency=400,
        seed=seed,
    )
    world.run(180)
    assert max_over_any_window(world) <= minute * largest and world.share_refused() < 0.01
    # Calls of ten seconds and more are settled late: in the first three minutes their sizes are yet to be learned.
    assert world.utilisation(30, 180, refill) > (0.9 if latency < 10 else 0.8)


@pytest.mark.parametrize("headers", [True, False], ids=["headers", "no headers"])
@pytest.mark.parametrize(("refill", "waiting"), [(1.0, 60), (10.0, 300), (10.0, 1500), (50.0, 1000)])
def test_calls_of_a_model_without_quota_take_no_turn_of_its_neighbours(
    refill: float, waiting: int, headers: bool
) -> None:
    def answered(without_quota: int) -> int:
        world = World(
            Provider(refill, refill * 60, headers), LimitSettings(rpm=refill * 60), without_quota=without_quota
        )
        world.run(600)
        assert world.share_refused() < 0.01
        return sum(taken for _, _, taken in world.calls)

    assert answered(waiting) >= 0.97 * answered(0)


OUTAGES = {
    "down": FailureKind.OUTAGE,
    "limited": FailureKind.RATE,
    "slow down": FailureKind.SLOW_DOWN,
    "unpaid": FailureKind.QUOTA_SPENT,
    "day's quota": FailureKind.QUOTA_UNTIL_RESET,
    "no key": FailureKind.KEY_REJECTED,
}
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["tenant", "halved", "capped", "paused", "idle", "unkept", "well", *OUTAGES]),
        st.floats(1.0, 40.0),
    ),
    max_size=6,
)
ALL_IS_WELL: dict[str, Callable[[Budget, float], None]] = {
    "capped": lambda budget, now: budget.limit(LimitSettings(), now),
    "paused": lambda budget, now: budget.resume(now),
    "unpaid": lambda budget, now: budget.resume(now),
    "no key": lambda budget, now: budget.new_key("another", now),
}


def happen(world: World, event: str, seconds: float) -> None:
    """Something befalls the world for so long, and then its remedy."""
    provider, refill = world.provider, world.provider.refill
    provider.tenant = 0.9 * refill if event == "tenant" else 0.0
    provider.down, provider.wait = OUTAGES.get(event), 30.0
    world.kept = event != "unkept"
    world.working = (lambda now: False) if event == "idle" else (lambda now: True)
    if event == "halved":
        provider.set_refill(refill / 2)
    if event == "capped":
        tenth = {"rpm" if world.what is Limited.REQUESTS else "tpm": 6 * refill}
        world.order(lambda budget: budget.limit(LimitSettings(**tenth), world.now))
    if event == "paused":
        world.order(lambda budget: budget.pause("by hand"))
    world.run(seconds)
    if event == "halved":
        provider.set_refill(refill)
    if event in ALL_IS_WELL:
        world.order(lambda budget: ALL_IS_WELL[event](budget, world.now))
    provider.tenant, provider.down, world.kept, world.working = 0.0, None, True, lambda now: True


@settings(WORLDS, max_examples=60)
@given(
    events=EVENTS, refill=refills, size=sizes, latency=latencies, headers=st.booleans(), seed=st.integers(0, 99)
)
def test_never_stuck_when_the_provider_is_well(
    events: list[tuple[str, float]], refill: float, size: float, latency: float, headers: bool, seed: int
) -> None:
    world = world_of(refill, size, headers=headers, latency=latency, seed=seed)
    for event, seconds in events:
        happen(world, event, max(seconds, seconds / (4 * refill)))
    world.run(20.0)
    if world.budget.breaker.state == "parked" and world.budget.breaker.until is None:
        # It was told of only after its remedy; who mends it looks again.
        world.order(lambda budget: budget.resume(world.now))
    begin = world.now + max(180.0, 30 / refill)
    end = begin + minutes(refill, 30)
    world.run(end - world.now)
    assert world.queue.rate >= MIN_RATE
    assert world.utilisation(begin, end, refill * size) > (0.9 if headers else 0.75)


@pytest.mark.parametrize(("headers", "used", "refused"), [(True, 0.97, 0.005), (False, 0.93, 0.02)])
@pytest.mark.parametrize("change", ["halved", "shared"])
def test_a_limit_that_halves_and_another_customer_are_noticed(
    change: str, headers: bool, used: float, refused: float
) -> None:
    utilisations, shares = [], []
    for seed in range(5):
        world = world_of(10.0, headers=headers, seed=seed)
        world.run(60)
        if change == "halved":
            world.provider.set_refill(5.0)
        else:
            world.provider.tenant = 5.0
        world.run(180)
        utilisations.append(world.utilisation(90, 240, 5.0))
        shares.append(world.share_refused())
    assert sum(utilisations) / 5 > used and sum(shares) / 5 < refused


def many(refill: float, *, headers: bool, seed: int, **world: object) -> World:
    """Ten machines of five processes, whose clocks differ by up to 20 s."""
    return world_of(refill, headers=headers, processes=50, machines=10, seed=seed, concurrency=1200, **world)


FLEETS = pytest.mark.parametrize("headers", [True, False], ids=["headers", "no headers"])


@FLEETS
@pytest.mark.parametrize("refill", [10.0, 50.0])
def test_fifty_processes_use_their_limit_and_their_budget_hears_ten_reports_a_second(
    refill: float, headers: bool
) -> None:
    """a and e of bench/limits."""
    for seed in range(2):
        world = many(refill, headers=headers, seed=seed)
        world.run(120)
        assert world.utilisation(20, 120, refill) > 0.97 and world.share_refused() == 0
        assert sum(at >= 20 for at in world.reports) <= 10.5 * 100


@FLEETS
@pytest.mark.parametrize("change", ["halved", "shared"])
def test_fifty_processes_notice_a_limit_that_halves_and_another_customer(change: str, headers: bool) -> None:
    """c and d of bench/limits."""
    utilisations, shares = [], []
    for seed in range(4):
        world = many(5.0, headers=headers, seed=seed)
        world.run(40)
        if change == "halved":
            world.provider.set_refill(2.5)
        else:
            world.provider.tenant = 2.5
        world.run(150)
        utilisations.append(world.utilisation(70, 190, 2.5))
        shares.append(world.share_refused())
    assert sum(utilisations) / 4 > 0.97 and sum(shares) / 4 <= (0.001 if headers else 0.022)


def test_fifty_processes_keep_to_a_limit_of_tokens() -> None:
    """b of bench/limits. The gates, which see to the largest calls, are not here."""
    utilisations, shares = [], []
    for seed in range(6):
        world = World(
            Provider(400_000 / 60, 400_000),
            LimitSettings(tpm=400_000),
            what=Limited.TOKENS,
            cost=lognormal(40_000, 1.5, 0.0154),
            costs={"tokens": 1000.0},
            concurrency=1200,
            first=first_rate(LimitSettings(tpm=400_000), {Limited.TOKENS: 1000.0}),
            processes=50,
            machines=10,
            seed=seed,
        )
        world.run(220)
        utilisations.append(world.utilisation(20, 220, 400_000 / 60))
        shares.append(world.share_refused())
    assert sum(utilisations) / 6 > 0.97 and sum(shares) / 6 < 0.004


@FLEETS
def test_processes_that_do_not_say_when_their_calls_were_sent_keep_to_the_limit(headers: bool) -> None:
    """Those of 0.1.0, which report once a second however many they are; alone, and beside others."""
    for old in (3, 2):
        world = world_of(10.0, headers=headers, processes=3, old=old)
        world.run(120)
        assert world.utilisation(20, 120, 10.0) > 0.97 and world.share_refused() == 0


@FLEETS
def test_processes_that_cannot_report_for_seconds_now_and_then_use_the_limit(headers: bool) -> None:
    """As on a machine that has too much to do."""
    utilisations = []
    for seed in range(4):
        world = world_of(10.0, headers=headers, processes=3, stalls=8.0, seed=seed)
        world.run(200)
        assert world.share_refused() == 0
        utilisations.append(world.utilisation(40, 200, 10.0))
    assert sum(utilisations) / 4 > (0.97 if headers else 0.95)


@FLEETS
@pytest.mark.parametrize("processes", [3, 12, 50])
def test_where_the_server_keeps_no_rate_the_gates_use_the_limit_and_keep_to_it(
    processes: int, headers: bool
) -> None:
    for seed in range(2):
        world = world_of(10.0, headers=headers, processes=processes, gates=True, seed=seed, concurrency=1200)
        world.run(120)
        assert world.utilisation(20, 120, 10.0) > 0.95 and world.share_refused() == 0


@pytest.mark.parametrize(("headers", "refused"), [(True, 0.01), (False, 0.04)])
@pytest.mark.parametrize("processes", [3, 12])
@pytest.mark.parametrize("change", ["halved", "shared"])
def test_where_the_server_keeps_no_rate_the_gates_notice_a_change(
    change: str, processes: int, headers: bool, refused: float
) -> None:
    """Without headers nothing but refusals tells of it, and each is heard of by the others a second later."""
    utilisations, shares = [], []
    for seed in range(3):
        world = world_of(5.0, headers=headers, processes=processes, gates=True, seed=seed, concurrency=1200)
        world.run(40)
        if change == "halved":
            world.provider.set_refill(2.5)
        else:
            world.provider.tenant = 2.5
        world.run(150)
        utilisations.append(world.utilisation(70, 190, 2.5))
        shares.append(world.share_refused())
    assert sum(utilisations) / 3 > 0.95 and sum(shares) / 3 <= refused


pasts = st.lists(
    st.tuples(
        st.integers(0, 20),
        st.floats(0.0, 60.0),
        st.floats(0.1, 30.0),
        st.floats(0.2, 40.0),
        st.sampled_from([0, 0, 0, 1]),
    ),
    max_size=12,
)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    past=pasts,
    limits=st.sampled_from([LimitSettings(), LimitSettings(rpm=300), LimitSettings(tpm=60_000)]),
    last=st.tuples(st.floats(0.0, 80.0), st.floats(0.0, 80.0)),
    age=st.floats(0.1, 30.0),
    later=st.floats(0.0, 2.4),  # less than a rest
)
def test_the_rate_is_monotone_in_what_remains(
    past: list[tuple[int, float, float, float, int]],
    limits: LimitSettings,
    last: tuple[float, float],
    age: float,
    later: float,
) -> None:
    budget, now = Budget("llm-test"), 0.0
    budget.open(Opening(limits, 5.0), now)
    for calls, remaining, old, gap, refused in past:
        now += gap
        budget.take(report(calls, remaining, old, refused), now)
    now += 1.0
    rates, rates_later = [], []
    for remaining in sorted(last):
        told = deepcopy(budget)
        told.take(report(3, remaining, age), now)
        rates.append(told.rate())
        told.pass_time(now + later)
        rates_later.append(told.rate())
    assert rates[0] <= rates[1] + 1e-9 and rates_later[0] <= rates_later[1] + 1e-9


def report(calls: int, remaining: float, age: float, refused: int = 0) -> Report:
    return Report(
        "w",
        calls=calls + refused,
        charged=calls,
        answered=calls,
        spent={Limited.REQUESTS: float(calls), Limited.TOKENS: 100.0 * calls},
        largest={Limited.REQUESTS: 1.0, Limited.TOKENS: 100.0},
        readings=[Reading(Limited.REQUESTS, 10.0, remaining, 0.0 if refused else age, bool(refused))],
        troubles=[Trouble(FailureKind.RATE, refused, "", 0.5)] if refused else [],
    )
