"""What the calls of an assistant that failed are said to have cost."""

from dataclasses import asdict
from typing import Any

import pytest

from fleet.contracts import FailedCalls
from fleet.errors import AmbiguousCall, OutputBroken, ProviderError, WorkerLost
from fleet.execution.attempts import Attempts
from fleet.execution.failed_calls import Used, failed_calls
from fleet.failures import FailureKind
from tests.unit.call_world import Attempting


def after(*kinds: FailureKind) -> FailedCalls:
    """What is said after calls that failed so."""
    attempts, error = Attempting(at="here"), ProviderError(kinds[0], "openai", "…")
    for kind in kinds:
        attempts.sending(attempts.maybe_paid)
        error = ProviderError(kind, "openai", "…")
        attempts.failed(error)
    return failed_calls(error, attempts)


def answered(ask: int = 1, **changed: Any) -> dict[str, Any]:
    known = Used("2026-01-01T00:00:00", ask, 10, 4, 20, 0.25, "prices 1", simulated=True)
    return known.to_details() | changed


def test_what_a_provider_refused_costs_nothing() -> None:
    assert after(FailureKind.OUTAGE, FailureKind.RATE, FailureKind.BAD_REQUEST) == FailedCalls(calls=3)


def test_a_call_that_was_never_sent_is_none() -> None:
    assert after(FailureKind.LOST_BEFORE_SENDING) == FailedCalls()


@pytest.mark.parametrize(
    "kind", [FailureKind.TIMED_OUT, FailureKind.LOST_AFTER_SENDING, FailureKind.UNUSABLE_EMPTY]
)
def test_what_may_have_been_paid_has_no_known_cost(kind: FailureKind) -> None:
    once, thrice = after(kind), after(kind, kind, kind)
    assert (once.calls, once.possibly_paid_twice, once.cost_usd) == (1, 0, None)
    assert (thrice.calls, thrice.possibly_paid_twice, thrice.cost_usd) == (3, 2, None)


def test_a_call_that_was_sent_over_one_that_may_have_been_paid_is_counted() -> None:
    assert after(FailureKind.TIMED_OUT, FailureKind.OUTAGE).possibly_paid_twice == 1


def test_an_open_call_of_a_lost_worker_may_have_been_paid() -> None:
    attempts = Attempts.resume([asdict(Attempting(at="here", under_way=True, calls=1, lost_workers=9))], number=11)
    found = failed_calls(WorkerLost(), attempts)
    assert (found.calls, found.possibly_paid_twice, found.cost_usd) == (1, 0, None)


def test_what_a_dead_process_had_sent_may_have_been_paid() -> None:
    last = asdict(Attempting(at="here", under_way=True, calls=1))
    attempts = Attempts.resume([Attempts.handed_back(last, "here", 1, "")], number=2)
    found = failed_calls(AmbiguousCall("w", "brief", "it was lost"), attempts)
    assert (found.calls, found.possibly_paid_twice, found.cost_usd) == (1, 0, None)


def test_answers_that_could_not_be_used_are_summed_up_and_survive_a_heartbeat() -> None:
    attempts = Attempting(calls=2, maybe_paid=2, sent_over=1, in_vain=[answered(1), answered(2)])
    found = failed_calls(OutputBroken(), Attempts.resume([asdict(attempts)], number=2))
    assert found == FailedCalls(2, 1, 20, 8, 40, 0.5, "prices 1", simulated=True)


def test_an_answer_without_a_known_price_leaves_the_sum_unknown() -> None:
    attempts = Attempting(calls=2, maybe_paid=2, in_vain=[answered(1), answered(2, cost_usd=None)])
    found = failed_calls(OutputBroken(), attempts)
    assert (found.cost_usd, found.output_tokens) == (None, 40)


def test_an_answer_is_counted_once_however_often_it_is_read() -> None:
    attempts = Attempting()
    for used in (answered(1), answered(2), answered(1)):
        attempts.answered_in_vain(1, used)
    assert len(attempts.in_vain) == 2


def test_an_answer_of_an_earlier_run_is_not_part_of_this_ones_cost() -> None:
    attempts = Attempting(calls=1)
    attempts.answered_in_vain(1)
    attempts.sending(1)
    assert attempts.in_vain == [] and attempts.sent_over == 1


@pytest.mark.parametrize("odd", [None, 3, "text", [1, "x"], {"a": 1}])
def test_odd_heartbeat_details_are_no_answers(odd: object) -> None:
    assert Attempts.resume([{"in_vain": odd}], number=2).in_vain == []


def test_details_of_another_release_are_read() -> None:
    assert FailedCalls.from_details({"calls": 2, "later": True}) == FailedCalls(calls=2)
    assert Used.from_details({"output_tokens": 3, "later": True}) == Used(output_tokens=3)
