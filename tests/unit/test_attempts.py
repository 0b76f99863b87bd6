"""What a new attempt knows of those before it."""

from dataclasses import asdict
from typing import Any

import pytest

from fleet.attempts import Attempts

HERE, THERE = "journal of this host", "journal of another host"


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


def test_a_settled_call_is_open_nowhere() -> None:
    resumed = after(at=THERE, under_way=True, response_id="resp_1")
    resumed.settled()
    assert (resumed.may_be_open_elsewhere, resumed.response_id) == (False, "")


def test_details_of_another_shape_are_no_harm() -> None:
    assert Attempts.resume(["text"], 2).made == 0
