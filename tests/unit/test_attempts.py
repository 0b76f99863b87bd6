"""What a new attempt knows of those before it."""

from dataclasses import asdict
from typing import Any

import pytest

from fleet.errors import ProviderError
from fleet.execution.attempts import Attempts
from fleet.failures import FailureKind

HERE, THERE = "journal of this host", "journal of another host"


def failure(failure_kind: FailureKind) -> ProviderError:
    return ProviderError(failure_kind, "openai", "…")


def after(number: int = 2, **details: Any) -> Attempts:
    """A second attempt here, after one with these heartbeat details."""
    resumed = Attempts.resume([asdict(Attempts()) | details], number)
    resumed.at = HERE
    return resumed


def test_the_first_attempt_knows_that_there_was_none() -> None:
    first = Attempts.resume([], 1)
    assert (first.made, first.under_way, first.may_be_open_elsewhere) == (0, True, False)


def test_an_attempt_that_never_ended_is_a_lost_worker_and_not_the_providers_failure() -> None:
    resumed = after(provider_failures=1, under_way=True, at=HERE)
    assert (resumed.provider_failures, resumed.lost_workers, resumed.made) == (1, 1, 2)


@pytest.mark.parametrize(
    ("details", "open_elsewhere"),
    [
        ({"at": HERE, "under_way": True}, False),  # this host's journal knows what became of it
        ({"at": THERE, "under_way": True}, True),  # it had begun there: it may have been sent
        ({"at": THERE, "under_way": False}, False),  # it ended before it sent anything
        ({"at": THERE, "under_way": False, "open_at": THERE}, True),  # it was cut off there
        ({"at": HERE, "under_way": False, "open_at": THERE}, True),  # and has not been settled since
    ],
)
def test_only_what_another_host_may_have_sent_is_ambiguous(details: dict[str, Any], open_elsewhere: bool) -> None:
    assert after(**details).may_be_open_elsewhere is open_elsewhere


def test_an_earlier_attempt_of_which_nothing_is_known_may_have_sent() -> None:
    resumed = Attempts.resume([], 2)
    assert resumed.may_be_open_elsewhere
    assert (resumed.lost_workers, resumed.seconds_for_elsewhere(1000.0, 60.0)) == (0, 60.0), (
        "it may not have begun"
    )
    resumed.was_here()
    assert (resumed.lost_workers, resumed.seconds_for_elsewhere(1000.0, 60.0)) == (1, 0.0)


def test_a_call_whose_failure_was_told_is_open_nowhere() -> None:
    resumed = after(at=THERE, under_way=True, response_id="resp_1")
    resumed.failed(failure(FailureKind.OUTAGE))
    assert (resumed.may_be_open_elsewhere, resumed.response_id) == (False, "")


UNPAID = {
    FailureKind.RATE,
    FailureKind.SLOW_DOWN,
    FailureKind.OVERLOAD,
    FailureKind.OUTAGE,
    FailureKind.FORBIDDEN,
    FailureKind.QUOTA_SPENT,
    FailureKind.QUOTA_UNTIL_RESET,
    FailureKind.MODEL_QUOTA,
    FailureKind.KEY_REJECTED,
    FailureKind.NOT_FOUND,
    FailureKind.BAD_REQUEST,
    FailureKind.TOO_LARGE,
    FailureKind.CONTEXT_EXCEEDED,
    FailureKind.LOST_BEFORE_SENDING,
}


@pytest.mark.parametrize("failure_kind", FailureKind)
def test_a_call_counts_as_sent_unless_it_was_refused_as_unpaid_for_certain(
    failure_kind: FailureKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Attempts, "beat", lambda self: None)
    attempts = after(at=HERE)
    attempts.sending(0)
    attempts.failed(failure(failure_kind))
    assert attempts.may_have_sent is (failure_kind not in UNPAID)
    following = after(**asdict(attempts))
    following.sending(0)
    following.failed(failure(FailureKind.RATE))
    assert following.may_have_sent is (failure_kind not in UNPAID), "a later refusal takes nothing back"


def test_a_call_that_was_sent_before_a_worker_died_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Attempts, "beat", lambda self: None)
    resumed = after(at=HERE, under_way=True)
    resumed.sending(1)
    resumed.failed(failure(FailureKind.RATE))
    assert resumed.may_have_sent


def test_a_call_that_is_sent_waits_for_the_heartbeat_that_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    beats: list[dict[str, Any]] = []
    monkeypatch.setattr("fleet.execution.attempts.activity.heartbeat", beats.append)
    attempts = after(at=HERE)
    attempts.at = HERE
    attempts.sending(0)
    assert beats == []
    attempts.beat()
    assert (beats[0]["calls"], beats[0]["open_at"]) == (1, HERE)


def test_another_execution_goes_on_with_what_the_one_before_knew() -> None:
    before = asdict(Attempts(provider_failures=2, open_at=THERE, response_id="resp_1", maybe_paid=1))
    taken_over = Attempts.resume([], 1, before)
    taken_over.at = HERE
    assert (taken_over.made, taken_over.response_id, taken_over.maybe_paid) == (2, "resp_1", 1)
    assert taken_over.may_be_open_elsewhere and taken_over.may_have_sent
    assert Attempts.resume([], 1, {"untold": True}).may_be_open_elsewhere
    assert Attempts.resume([], 2, before).untold, "its own first attempt told nothing"
    own = Attempts.resume([asdict(Attempts(provider_failures=1))], 2, before)
    assert (own.made, own.untold) == (1, False), "its own attempts know better"


def test_trouble_excuses_for_a_day_and_however_often() -> None:
    attempts = Attempts()
    assert all(attempts.excuse(1000.0 + 60 * minute) for minute in range(24 * 60))
    assert not attempts.excuse(1000.0 + 24 * 3600)
    assert not after(excused_at=1000.0).excuse(1000.0 + 30 * 3600)


def test_details_of_another_shape_are_no_harm() -> None:
    assert Attempts.resume(["text"], 2).made == 0


def test_another_machines_answer_is_waited_for_within_the_bound_over_all_attempts() -> None:
    resumed = after(at=THERE, machine="vm1+0a", under_way=True)
    assert (resumed.open_on, resumed.seconds_for_elsewhere(1000.0, 60.0)) == ("vm1+0a", 60.0)
    later = after(**asdict(resumed) | {"at": HERE, "machine": "vm2+0b", "under_way": False})
    assert (later.open_on, later.seconds_for_elsewhere(1050.0, 60.0)) == ("vm1+0a", 10.0)
    assert later.seconds_for_elsewhere(1060.0, 60.0) == 0.0
    here = after(at=HERE, under_way=True)
    goes_on = after(at=THERE, under_way=True, response_id="resp_1")
    assert {attempts.seconds_for_elsewhere(1000.0, 60.0) for attempts in (here, goes_on)} == {0.0}


@pytest.mark.parametrize("told", [None, "x", True, float("inf"), float("nan"), -5, [1]])
@pytest.mark.parametrize(
    "name", ["provider_failures", "lost_workers", "maybe_paid", "outage_at", "elsewhere_since"]
)
def test_what_no_release_can_have_counted_counts_as_nothing(name: str, told: Any) -> None:
    found = Attempts.resume([{name: told, "calls": 2}], number=2)
    assert asdict(found)[name] == 0 and found.calls == 2
