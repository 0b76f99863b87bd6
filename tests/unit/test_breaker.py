"""What each meaning does to a queue, and how a queue comes back."""

import pytest

from fleet.budgets.law.breaker import RESET_UNKNOWN_SECONDS, Breaker
from fleet.budgets.messages import Trouble
from fleet.failures import FailureKind, traits_of

STORMS = (
    FailureKind.OVERLOAD,
    FailureKind.OUTAGE,
    FailureKind.TIMED_OUT,
    FailureKind.LOST_BEFORE_SENDING,
    FailureKind.LOST_AFTER_SENDING,
    FailureKind.UNUSABLE_BODY,
)
PARKING = [failure_kind for failure_kind in FailureKind if traits_of(failure_kind).parks]
HARMLESS = sorted(set(FailureKind) - {*STORMS, *PARKING, FailureKind.RATE, FailureKind.SLOW_DOWN})


@pytest.mark.parametrize("failure_kind", STORMS)
def test_a_storm_of_the_providers_own_failures_leaves_a_probe(failure_kind: FailureKind) -> None:
    breaker = Breaker()
    breaker.take(1, [Trouble(failure_kind, 6, "HTTP 503")], 1.0)
    assert breaker.state == "probing" and breaker.why == f"{failure_kind}: HTTP 503"


@pytest.mark.parametrize("failure_kind", STORMS)
def test_some_failures_among_many_answers_are_no_storm(failure_kind: FailureKind) -> None:
    breaker = Breaker()
    for second in range(60):
        breaker.take(8, [Trouble(failure_kind, 3)], float(second))
    assert breaker.state == "closed"


@pytest.mark.parametrize("failure_kind", STORMS)
def test_an_outage_after_a_good_day_is_seen_by_its_eighth_failure(failure_kind: FailureKind) -> None:
    breaker = Breaker()
    for second in range(600):
        breaker.take(10, [], float(second))
    breaker.take(2, [Trouble(failure_kind, 3)], 600.0)
    for at in (600.5, 601.0):
        breaker.take(0, [Trouble(failure_kind, 3)], at)
        assert breaker.state == "closed"
    breaker.take(0, [Trouble(failure_kind, 2, "HTTP 503")], 601.5)
    assert breaker.state == "probing" and breaker.why == f"{failure_kind}: HTTP 503"
    breaker.take(3, [], 610.0)
    breaker.take(0, [Trouble(failure_kind, 4)], 611.0)
    assert breaker.state == "closed", "what was before it recovered counts no more"


@pytest.mark.parametrize("failure_kind", HARMLESS)
def test_what_is_wrong_with_an_assistant_harms_no_other(failure_kind: FailureKind) -> None:
    breaker = Breaker()
    breaker.take(0, [Trouble(failure_kind, 1000)], 1.0)
    assert breaker.state == "closed"


@pytest.mark.parametrize("failure_kind", PARKING)
def test_what_no_call_can_mend_parks(failure_kind: FailureKind) -> None:
    breaker = Breaker()
    breaker.take(50, [Trouble(failure_kind, 1, "no credit left", 60.0, "mark")], 1.0)
    assert breaker.state == "parked" and "no credit left" in breaker.why and "Remedy: " in breaker.why
    assert breaker.rejected_key == "mark"
    assert (breaker.until is not None) == (failure_kind is FailureKind.QUOTA_UNTIL_RESET)
    breaker.take(50, [], 2.0)
    assert breaker.state == "parked", "answers to calls that were on their way open nothing"
    breaker.close()
    assert (breaker.state, breaker.why, breaker.until) == ("closed", "", None)


@pytest.mark.parametrize(("told", "wait"), [(90.0, 90.0), (None, RESET_UNKNOWN_SECONDS)])
def test_a_quota_that_comes_back_opens_at_its_reset(told: float | None, wait: float) -> None:
    breaker = Breaker()
    breaker.take(0, [Trouble(FailureKind.QUOTA_UNTIL_RESET, 1, "", told)], 10.0)
    assert breaker.until == 10.0 + wait
    assert not breaker.pass_time(9.0 + wait) and breaker.state == "parked"
    assert breaker.pass_time(10.0 + wait) and breaker.state == "closed"


def test_three_answers_in_a_row_close_it_and_a_failure_begins_anew() -> None:
    breaker = Breaker()
    breaker.take(0, [Trouble(FailureKind.OUTAGE, 10)], 1.0)
    breaker.take(2, [], 3.0)
    breaker.take(0, [Trouble(FailureKind.OUTAGE, 1)], 5.0)
    breaker.take(2, [], 7.0)
    assert breaker.state == "probing"
    breaker.take(1, [], 9.0)
    assert breaker.state == "closed"


def test_trouble_is_forgotten_when_nothing_was_called_for_a_minute() -> None:
    breaker = Breaker()
    breaker.take(0, [Trouble(FailureKind.OUTAGE, 10)], 1.0)
    assert not breaker.pass_time(60.0) and breaker.state == "probing"
    assert breaker.pass_time(62.0) and breaker.state == "closed"


def test_trouble_is_not_forgotten_while_calls_are_on_their_way() -> None:
    breaker = Breaker()
    breaker.take(0, [Trouble(FailureKind.TIMED_OUT, 10)], 1.0)
    assert not breaker.pass_time(600.0, in_flight=True) and breaker.state == "probing"
    assert breaker.pass_time(600.0) and breaker.state == "closed"


def test_only_refusals_for_long_mean_that_something_is_wrong() -> None:
    breaker = Breaker()
    breaker.take(10, [Trouble(FailureKind.RATE, 5)], 1.0)
    assert breaker.state == "closed"
    breaker.take(0, [Trouble(FailureKind.RATE, 100)], 2.0)
    assert breaker.state == "probing"


def test_old_failures_are_forgotten() -> None:
    breaker = Breaker()
    for minute in range(10):
        breaker.take(0, [Trouble(FailureKind.OUTAGE, 3)], 60.0 * minute)
    assert breaker.state == "closed"
