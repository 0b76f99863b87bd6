"""Single rules of the control law, by reports made by hand."""

from copy import deepcopy
from dataclasses import replace
from itertools import pairwise

import pytest

from fleet.budgets.law.breaker import PROBE_RATE
from fleet.budgets.law.budget import SHUT_BEFORE, Budget
from fleet.budgets.law.budget_status import describe
from fleet.budgets.law.ramp import Ramp
from fleet.budgets.messages import Opening, Reading, Report, Trouble
from fleet.contracts import Limited, LimitSettings
from fleet.failures import FailureKind
from tests.budget_world import Provider, World


def opened(limits: LimitSettings | None = None, rate: float = 10.0) -> Budget:
    budget = Budget("llm-test")
    budget.open(Opening(limits or LimitSettings(), rate), 0.0)
    return budget


def worked(calls: int = 5, remaining: float | None = None, **told: object) -> Report:
    """So many calls, all answered; headers tell of 10 a second where ``remaining`` is given."""
    readings = [] if remaining is None else [Reading(Limited.REQUESTS, 10.0, remaining, 0.5)]
    spent, largest = {Limited.REQUESTS: float(calls)}, {Limited.REQUESTS: 1.0}
    return replace(Report("w", calls, calls, calls, spent, largest, readings), **told)  # type: ignore[arg-type]


def troubled(
    failure_kind: FailureKind, count: int = 1, *, left: float | None = None, wait: float | None = None
) -> Report:
    """So many calls, all failed."""
    readings = [] if left is None else [Reading(Limited.REQUESTS, 10.0, left, 0.0, refused=True)]
    return Report("w", count, readings=readings, troubles=[Trouble(failure_kind, count, "said why", wait, "key")])


def follow(budget: Budget, begin: int, end: int, remaining: float) -> None:
    """As many calls as the rate allows."""
    owed = 0.0
    for second in range(begin, end):
        owed += min(budget.rate(), 20.0)
        budget.take(worked(int(owed), remaining), float(second))
        owed %= 1


def busy(budget: Budget, begin: int, end: int, calls: int = 9, remaining: float | None = 40.0) -> None:
    for second in range(begin, end):
        budget.take(worked(calls, remaining), float(second))


def test_the_operators_limit_wins_over_settings_and_headers() -> None:
    budget = opened(LimitSettings(rpm=600))
    budget.limit(LimitSettings(rpm=120), 1.0)
    follow(budget, 2, 60, 60.0)
    assert budget.rate() == pytest.approx(2.0, rel=0.3)
    budget.limit(LimitSettings(), 60.0)
    follow(budget, 61, 90, 30.0)
    assert budget.rate() > 5


def test_a_limit_below_the_providers_own_holds_after_hours_of_rest() -> None:
    """The provider's bucket, which is full, is not the operator's."""
    provider = Provider(100.0, 6000.0)
    world = World(provider, LimitSettings(rpm=60), working=lambda now: not 60 < now < 1260, first=1.0)
    world.run(1380)
    assert sum(1260 <= at < 1380 for at, *_ in world.calls) <= 125


def test_limits_that_are_taken_back_let_the_rate_rise_and_not_jump() -> None:
    budget = opened(LimitSettings())
    budget.limit(LimitSettings(rpm=60), 0.0)
    busy(budget, 1, 60, 1, None)
    before = budget.rate()
    budget.limit(LimitSettings(), 60.0)
    assert budget.rate() == pytest.approx(max(before, 1.0))
    budget.take(worked(2), 61.0)
    assert budget.rate() < 2 * max(before, 1.0)


def test_a_paused_budget_hands_out_nothing_whatever_it_hears() -> None:
    budget = opened(LimitSettings(rpm=600))
    budget.pause("the month's money is spent")
    budget.take(worked(5, 50.0), 1.0)
    budget_status = describe(budget)
    assert (budget.rate(), budget_status.breaker, budget_status.holds) == (0, "paused", True)
    assert budget_status.why == "the month's money is spent"
    budget.resume(2.0)
    assert budget.rate() > 0 and describe(budget).breaker == "closed"


def test_a_budget_that_begins_beside_a_queue_that_was_shut_leaves_it_shut() -> None:
    budget = opened(LimitSettings(rpm=600), rate=0.0)
    budget.take(worked(), 1.0)
    assert budget.rate() == 0 and describe(budget).why == SHUT_BEFORE
    budget.resume(2.0)
    assert budget.rate() > 0
    budget.open(Opening(LimitSettings(rpm=600), 0.0), 3.0)
    assert budget.rate() > 0, "only a new budget goes by the queue"


def test_nothing_jumps_when_a_budget_begins_beside_a_queue_that_has_a_rate() -> None:
    budget = opened(LimitSettings(rpm=6000), 3.0)
    assert budget.rate() == 3.0
    busy(budget, 1, 3, 3, None)
    assert 3.0 < budget.rate() < 6.1


def test_the_first_rate_goes_by_what_a_call_is_reckoned_to_cost() -> None:
    budget = Budget("llm-test")
    budget.open(Opening(LimitSettings(tpm=60_000), 10.0, costs={Limited.TOKENS: 4_000.0}), 0.0)
    assert budget.rate() == pytest.approx(0.25)


def test_after_an_overload_the_rate_climbs_by_steps_though_headers_tell_of_a_full_bucket() -> None:
    budget = opened()
    busy(budget, 1, 30)
    budget.take(troubled(FailureKind.OVERLOAD, 300), 30.0)
    assert describe(budget).breaker == "probing" and budget.rate() == 0.5
    rates = []
    for second in range(32, 72, 2):
        budget.take(worked(1, 60.0), float(second))
        rates.append(budget.rate())
    assert rates[2] <= 1.0 and rates[-1] >= 9.0
    assert max(after - before for before, after in pairwise(rates)) < 1.5


def test_a_provider_that_asks_for_slowness_gets_it_at_once_and_for_a_while() -> None:
    budget = opened()
    busy(budget, 1, 30)
    before = budget.rate()
    budget.take(troubled(FailureKind.SLOW_DOWN, left=50.0), 30.0)
    assert budget.rate() <= 0.5 * before
    busy(budget, 31, 51, 5)
    assert budget.rate() < 0.8 * before


@pytest.mark.parametrize("left", [0.2, 1.0, 50.0], ids=["nothing", "one call", "plenty"])
def test_a_refusal_slows_the_queue_whatever_headers_say_is_left(left: float) -> None:
    budget = opened()
    busy(budget, 1, 30)
    before = budget.rate()
    budget.take(troubled(FailureKind.RATE, left=left), 30.0)
    assert budget.rate() < 0.9 * before


def test_a_new_key_ends_the_hold_of_a_model_without_quota() -> None:
    budget = opened()
    trouble = Trouble(FailureKind.MODEL_QUOTA, 1, "", 86_400.0, "old", "gemini-2.5-pro")
    budget.take(replace(troubled(FailureKind.MODEL_QUOTA), troubles=[trouble]), 1.0)
    assert describe(budget).rejected_key == "old"
    budget.new_key("old", 2.0)
    assert describe(budget).held_models and budget.resumes == 0
    budget.new_key("new", 3.0)
    assert not describe(budget).held_models
    assert budget.resumes == 1, "the processes release it, too"


def test_a_storm_of_refusals_for_no_known_limit_is_asked_into_as_often_as_a_provider_in_trouble() -> None:
    """A rate of a call each five seconds would take minutes to see that the storm is over."""
    budget = opened()
    busy(budget, 1, 30)
    for second in range(30, 50):
        budget.take(troubled(FailureKind.RATE, left=55.0, wait=0.05), float(second))
    assert budget.rate() >= PROBE_RATE


def test_a_limit_that_headers_do_not_tell_of_is_found_out() -> None:
    provider = Provider(10.0, 60.0, hidden=5.0)
    world = World(provider, LimitSettings(rpm=600))
    world.run(300)
    assert world.share_refused(100) < 0.05 and world.utilisation(100, 300, 5.0) > 0.8


def test_a_refusal_without_a_cause_lowers_the_scarcest_limit() -> None:
    budget = opened(LimitSettings(rpm=600, tpm=60_000))
    spent = {Limited.REQUESTS: 4.0, Limited.TOKENS: 800.0}
    largest = {Limited.REQUESTS: 1.0, Limited.TOKENS: 250.0}
    for second in range(1, 40):
        budget.take(worked(4, spent=spent, largest=largest), float(second))
    before = budget.rate()
    budget.take(troubled(FailureKind.RATE, wait=4.0), 40.0)
    scarce, ample = budget.buckets[Limited.TOKENS], budget.buckets[Limited.REQUESTS]
    assert budget.rate() < before and (scarce.refused_at, ample.refused_at) == (40.0, None)


def test_a_limit_that_nobody_told_is_learned_from_refusals() -> None:
    world = World(Provider(5.0, 10.0, headers=False), LimitSettings())
    world.run(300)
    assert world.utilisation(200, 300, 5.0) > 0.75 and world.share_refused(100) < 0.1
    assert describe(world.budget).limits[0].per_minute == pytest.approx(300, rel=0.5)


def test_the_level_is_measured_anew_after_a_rest() -> None:
    """While the fleet rested, another customer emptied the bucket: the old level is not trusted."""
    world = World(Provider(10.0, 60.0), LimitSettings(rpm=600), working=lambda now: not 30 < now < 60)
    world.run(31)
    world.provider.tenant = 30.0
    world.run(29)
    world.provider.tenant = 0.0
    world.run(60)
    assert world.share_refused(60) < 0.01 and world.utilisation(75, 120, 10.0) > 0.95


@pytest.mark.parametrize("headers", [True, False])
@pytest.mark.parametrize("seconds", [5.0, 15.0, 60.0, 300.0])
def test_nothing_jumps_when_budgets_are_kept_again_under_load(seconds: float, headers: bool) -> None:
    world = World(Provider(10.0, 60.0, headers), LimitSettings(rpm=600))
    world.run(120)
    world.kept = False
    world.run(0.2)
    before = world.queue.rate
    world.run(seconds)
    assert world.queue.rate == before, "the queue goes on as it was"
    world.kept, back = True, world.now
    world.run(90)
    soon = [rate for at, rate in world.rates if back < at < back + 25]
    assert min(soon) > 0.75 * min(before, 10.0) and max(soon) < 1.25 * max(before, 10.0)
    assert world.utilisation(back, back + 90, 10.0) > 0.85


def test_a_probe_is_kept_up_while_calls_are_on_their_way_and_nothing_is_heard() -> None:
    """A provider that hangs answers nothing, not even with errors; a process that was killed says no more."""
    budget = Budget("llm-test")
    budget.open(Opening(LimitSettings(rpm=600), 10.0, timeout_seconds=300.0), 0.0)
    busy(budget, 1, 20)
    budget.take(troubled(FailureKind.TIMED_OUT, 300), 20.0)
    budget.take(Report("killed", 1, 1, in_flight=1), 21.0)
    budget.take(Report("w", 1, 1, in_flight=4), 22.0)
    budget.pass_time(200.0)
    assert describe(budget).breaker == "probing"
    budget.take(Report("w", in_flight=0), 210.0)
    budget.pass_time(290.0)
    assert describe(budget).breaker == "probing", "the other's call may still be on its way"
    budget.pass_time(330.0)
    assert describe(budget).breaker == "closed" and budget.rate() <= 1.0


def test_it_says_how_seldom_processes_shall_report_by_how_many_there_are() -> None:
    budget = opened(LimitSettings(rpm=600))
    assert describe(budget).report_seconds == 0
    for number in range(50):
        budget.take(replace(worked(1), process=f"w{number}"), 1.0)
    assert describe(budget).report_seconds == 5.0
    for second in range(2, 40):
        budget.take(replace(worked(1), process="w0"), float(second))
    assert describe(budget).report_seconds == 0.1, "the others have ended"


def test_a_limit_that_was_halved_is_not_raised_again_by_an_answer_from_before() -> None:
    budget = opened()
    busy(budget, 1, 10)
    halved = [Reading(Limited.REQUESTS, 5.0, 20.0, 0.5)]
    budget.take(worked(readings=halved), 10.0)
    capacity = budget.buckets[Limited.REQUESTS].capacity
    for second in (11.0, 12.0, 13.0):
        budget.take(worked(readings=[Reading(Limited.REQUESTS, 10.0, 40.0, second - 9.0)]), second)
        budget.take(worked(readings=halved), second + 0.5)
    assert budget.buckets[Limited.REQUESTS].refill == 5.0
    assert budget.buckets[Limited.REQUESTS].capacity == capacity


def test_what_was_sent_before_an_answer_is_in_it_though_it_is_told_of_later() -> None:
    """A call that had been sent a second before another one's answer told what is left."""
    budget = opened()
    busy(budget, 1, 10)
    bucket = budget.buckets[Limited.REQUESTS]
    bucket.observe(bucket.level, 0.0)
    at = deepcopy(budget)
    before = [Reading(Limited.REQUESTS, 10.0, 25.0, 0.5)]
    budget.take(worked(5, readings=before, sent=[[3.0, 5.0]]), 10.0)
    at.take(worked(5, readings=before, sent=[[0.1, 5.0]]), 10.0)
    assert budget.buckets[Limited.REQUESTS].foreign < at.buckets[Limited.REQUESTS].foreign


def test_a_late_report_lowers_no_bound() -> None:
    ramp = Ramp()
    ramp.begin(4.0, 100.0)
    ramp.climb(None, 80.0)
    assert (ramp.rate, ramp.at) == (4.0, 100.0)
