"""Requests that are larger than a limit allows in a whole minute."""

import pytest

from fleet.budgets.worker.call_costs import Cost
from fleet.budgets.worker.limit_headers import limits_in
from fleet.budgets.worker.oversize import SizeLimits
from fleet.contracts import Limited, LimitSettings


def told(*, requests_left: int = 500, tokens_left: int = 30_000) -> dict[str, str]:
    """OpenAI's headers for limits of 500 requests and 30,000 tokens a minute."""
    return {
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": str(requests_left),
        "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-tokens": str(tokens_left),
    }


def cost(tokens: float) -> Cost:
    return {Limited.REQUESTS: 1.0, Limited.TOKENS: tokens, Limited.INPUT_TOKENS: tokens}


def test_the_limit_that_a_request_exceeds_alone_is_named_with_both_numbers() -> None:
    sizes = SizeLimits(LimitSettings())
    assert sizes.exceeded_by("m", cost(36_278)) is None, "no limit is known yet"
    sizes.heard("m", limits_in(told(tokens_left=0)))
    assert str(sizes.exceeded_by("m", cost(36_278))) == (
        "the request has about 36,278 tokens, the limit is 30,000 a minute"
    )
    assert sizes.exceeded_by("m", cost(32_000)) is None, "the size is an estimate"
    assert sizes.exceeded_by("another", cost(36_278)) is None, "its limits may be others"


def test_a_refusal_for_the_sake_of_another_limit_says_nothing_of_the_size() -> None:
    sizes = SizeLimits(LimitSettings())
    sizes.heard("m", limits_in(told()))
    assert sizes.refused_for("m", cost(40_000), limits_in(told(tokens_left=27_000))) is not None
    assert sizes.refused_for("m", cost(40_000), limits_in(told(requests_left=0, tokens_left=27_000))) is None


def test_the_settings_tell_the_limit_until_headers_do() -> None:
    sizes = SizeLimits(LimitSettings(rpm=10, tpm=20_000))
    assert sizes.exceeded_by("m", cost(25_000)) is not None
    sizes.heard("m", limits_in(told()))
    assert sizes.exceeded_by("m", cost(25_000)) is None


@pytest.mark.parametrize(
    ("tokens", "headers", "too_large"),
    [
        (28_000, told(), True),
        (28_000, told(requests_left=499), True),
        (28_000, told(tokens_left=29_000), False),
        (28_000, told(requests_left=490), False),
        (1_000, told(), False),
        (28_000, {}, False),
    ],
    ids=["unused", "the refusal itself counted", "used", "requests used", "small", "untold"],
)
def test_what_an_unused_limit_refuses_is_too_large_for_it(
    tokens: float, headers: dict[str, str], too_large: bool
) -> None:
    readings = limits_in(headers)
    assert (SizeLimits(LimitSettings()).refused_unused(cost(tokens), readings) is not None) is too_large
