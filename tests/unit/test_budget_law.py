"""Properties of the control law, over many providers, in virtual time."""

from copy import deepcopy
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fleet.budgets.budget import Budget
from fleet.budgets.reports import LEAST_RATE, Opening, Reading, Report, Trouble
from fleet.contracts import Limited, LimitSettings
from fleet.meanings import Meaning
from tests.budget_world import Provider, World, lognormal

MINUTES = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
SETTLED = 30.0
#: Stated in docs/limits.md: calls of one size in any ten seconds are what refills then, give or take so much.
SWING_SHARE, SWING_CALLS = 0.2, 4

refills = st.floats(1.0, 40.0)
latencies = st.floats(0.2, 4.0)


def requests(refill: float, *, headers: bool = True) -> tuple[Provider, LimitSettings]:
    """A provider that takes that many calls a second, and a burst of 6 s of them."""
    return Provider(refill, 6 * refill, headers), LimitSettings(rpm=round(refill * 60))


def most_over_any_window(world: World) -> float:
    """How far what was sent exceeds, at worst, what a full bucket and its refill allow for the same window."""
    provider, level, worst, at = world.provider, world.provider.capacity, 0.0, 0.0
    for moment, cost, _ in world.calls:
        level = min(provider.capacity, level + provider.refill * (moment - at)) - cost
        worst, at = max(worst, -level), moment
    return worst


@MINUTES
@given(
    refill=refills, latency=latencies, processes=st.integers(1, 6), headers=st.booleans(), seed=st.integers(0, 99)
)
def test_no_window_holds_more_than_the_limit_and_little_is_left(
    refill: float, latency: float, processes: int, headers: bool, seed: int
) -> None:
    provider, limits = requests(refill, headers=headers)
    world = World(provider, limits, processes=processes, latency=latency, concurrency=400, seed=seed)
    world.run(120)
    assert most_over_any_window(world) < 1e-6 and world.share_refused() == 0
    assert world.utilisation(SETTLED, 120, refill) > 0.97


@MINUTES
@given(refill=refills, latency=latencies, seed=st.integers(0, 99))
def test_the_rate_swings_no_further_than_stated(refill: float, latency: float, seed: int) -> None:
    provider, limits = requests(refill)
    world = World(provider, limits, latency=latency, concurrency=400, seed=seed)
    world.run(120)
    moments = [at for at, *_ in world.calls]
    for begin in range(60, 110):
        calls = sum(begin <= at < begin + 10 for at in moments)
        assert abs(calls - 10 * refill) <= SWING_SHARE * 10 * refill + SWING_CALLS


@MINUTES
@given(
    refill=st.floats(1_000, 50_000),
    largest=st.floats(0.02, 0.1),
    headers=st.booleans(),
    seed=st.integers(0, 99),
)
def test_tokens_of_all_sizes_keep_to_the_limit(refill: float, largest: float, headers: bool, seed: int) -> None:
    minute = refill * 60
    cost = lognormal(minute * largest, 1.5, 0.0154)
    world = World(
        Provider(refill, minute, headers),
        LimitSettings(tpm=round(minute)),
        what=Limited.TOKENS,
        cost=cost,
        seed=seed,
    )
    world.run(180)
    assert world.share_refused() < (0.01 if headers else 0.05)
    assert world.utilisation(SETTLED, 180, refill) > (0.9 if headers else 0.75)


EVENTS = st.lists(
    st.tuples(st.sampled_from(["tenant", "halved", "down", "limited", "idle", "well"]), st.floats(1.0, 40.0)),
    max_size=6,
)


@settings(MINUTES, max_examples=40)
@given(events=EVENTS, headers=st.booleans(), seed=st.integers(0, 99))
def test_never_stuck_when_the_provider_is_well(events: list[tuple[str, float]], headers: bool, seed: int) -> None:
    provider, limits = requests(8.0, headers=headers)
    world = World(provider, limits, seed=seed)
    working = [True]
    world.working = lambda now: working[0]
    for event, seconds in events:
        provider.tenant = 7.0 if event == "tenant" else 0.0
        provider.set_refill(4.0 if event == "halved" else 8.0)
        provider.down = {"down": Meaning.OUTAGE, "limited": Meaning.RATE}.get(event)
        working[0] = event != "idle"
        world.run(seconds)
    provider.tenant, provider.down, working[0] = 0.0, None, True
    provider.set_refill(8.0)
    begin = world.now
    world.run(240)
    assert min(rate for _, rate in world.rates) >= LEAST_RATE
    assert world.utilisation(begin + 180, begin + 240, 8.0) > (0.9 if headers else 0.8)


reports = st.lists(
    st.tuples(st.integers(0, 20), st.floats(0.0, 60.0), st.floats(0.1, 3.0), st.floats(0.2, 5.0)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(past=reports, last=st.tuples(st.floats(0.0, 60.0), st.floats(0.0, 60.0)), age=st.floats(0.1, 3.0))
def test_the_rate_is_monotone_in_what_remains(
    past: list[tuple[int, float, float, float]], last: tuple[float, float], age: float
) -> None:
    budget, now = Budget("llm-test"), 0.0
    budget.open(Opening(LimitSettings(), 5.0), now)
    for calls, remaining, old, gap in past:
        now += gap
        budget.take(report(calls, remaining, old), now)
    less, more = sorted(last)
    assume(more <= (budget.buckets[Limited.REQUESTS].capacity or 0.0))
    now += 1.0
    rates = []
    for remaining in (less, more):
        told = deepcopy(budget)
        told.take(report(3, remaining, age), now)
        rates.append(told.rate())
    assert rates[0] <= rates[1] + 1e-9


def report(calls: int, remaining: float, age: float) -> Report:
    return Report(
        "w",
        calls=calls,
        charged=calls,
        answered=calls,
        spent={Limited.REQUESTS: float(calls)},
        largest={Limited.REQUESTS: 1.0},
        readings=[Reading(Limited.REQUESTS, 10.0, remaining, age)],
    )


@pytest.mark.parametrize(("headers", "used", "refused"), [(True, 0.95, 0.02), (False, 0.9, 0.05)])
@pytest.mark.parametrize("change", ["halved", "shared"])
def test_a_limit_that_halves_and_another_customer_are_noticed(
    change: str, headers: bool, used: float, refused: float
) -> None:
    utilisations, shares = [], []
    for seed in range(5):
        provider, limits = requests(10.0, headers=headers)
        world = World(provider, limits, seed=seed)
        world.run(60)
        if change == "halved":
            provider.set_refill(5.0)
        else:
            provider.tenant = 5.0
        world.run(180)
        utilisations.append(world.utilisation(90, 240, 5.0))
        shares.append(world.share_refused())
    assert sum(utilisations) / 5 > used and sum(shares) / 5 < refused


def test_the_level_is_measured_anew_after_a_rest() -> None:
    """While the fleet rested, another customer emptied the bucket: the old level is not trusted."""
    provider, limits = requests(10.0)
    world = World(provider, limits, working=lambda now: not 30 < now < 60)
    world.run(31)
    provider.tenant = 30.0
    world.run(29)
    provider.tenant = 0.0
    world.run(60)
    assert world.share_refused(60) < 0.01 and world.utilisation(75, 120, 10.0) > 0.95


def test_the_operators_limit_wins_over_settings_and_headers() -> None:
    budget = Budget("llm-test")
    budget.open(Opening(LimitSettings(rpm=600), 10.0), 0.0)
    budget.limit(LimitSettings(rpm=120), 1.0)
    for second in range(2, 30):
        budget.take(report(2, 60.0, 0.5), float(second))
    assert budget.rate() == pytest.approx(2.0, rel=0.3)
    budget.limit(LimitSettings(), 30.0)
    for second in range(31, 60):
        budget.take(report(9, 30.0, 0.5), float(second))
    assert budget.rate() > 5


def test_a_paused_budget_hands_out_nothing_whatever_it_hears() -> None:
    budget = Budget("llm-test")
    budget.open(Opening(LimitSettings(rpm=600), 10.0), 0.0)
    budget.pause("the month's money is spent")
    budget.take(report(5, 50.0, 0.5), 1.0)
    assert budget.rate() == 0 and budget.standing().breaker == "paused" and budget.standing().holds
    assert budget.standing().why == "the month's money is spent"
    budget.resume(2.0)
    assert budget.rate() > 0 and budget.standing().breaker == "closed"


def test_nothing_jumps_when_a_budget_begins_beside_a_queue_that_has_a_rate() -> None:
    budget = Budget("llm-test")
    budget.open(Opening(LimitSettings(rpm=6000), 3.0), 0.0)
    assert budget.rate() == 3.0
    for second in (1.0, 2.0):
        budget.take(replace(report(3, 0.0, 0.5), readings=[]), second)
    assert 3.0 < budget.rate() < 6.0


def test_a_limit_that_nobody_told_is_learned_from_refusals() -> None:
    world = World(Provider(5.0, 10.0, headers=False), LimitSettings())
    world.run(300)
    assert world.utilisation(200, 300, 5.0) > 0.75 and world.share_refused(100) < 0.1
    assert world.budget.standing().limits[0].per_minute == pytest.approx(300, rel=0.5)


def test_a_refusal_without_a_cause_lowers_the_scarcest_limit() -> None:
    budget = Budget("llm-test")
    budget.open(Opening(LimitSettings(rpm=600, tpm=60_000), 10.0), 0.0)
    for second in range(1, 40):
        spent = {Limited.REQUESTS: 5.0, Limited.TOKENS: 1000.0}
        largest = {Limited.REQUESTS: 1.0, Limited.TOKENS: 250.0}
        budget.take(Report("w", 5, 5, 5, spent, largest), float(second))
    before = budget.rate()
    budget.take(Report("w", 1, troubles=[Trouble(Meaning.RATE, 1, "", 4.0)]), 40.0)
    assert budget.rate() < before
