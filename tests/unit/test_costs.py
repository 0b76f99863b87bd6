"""What calls cost of each limit, and what headers tell of it."""

from datetime import UTC, datetime

import pytest

from fleet.budgets.costs import Costs
from fleet.budgets.headers import HeaderReading, limits_in
from fleet.config import Kind
from fleet.contracts import Limited
from fleet.providers.base import LlmAnswer, LlmRequest

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def request(max_tokens: int | None = None, text: str = "x" * 3500) -> LlmRequest:
    return LlmRequest(
        model="m",
        system_prompt="",
        user_message=text,
        temperature=0.7,
        top_p=None,
        max_tokens=max_tokens,
        idempotency_key="k",
    )


def answer(tokens_in: int, tokens_out: int, cached: int = 0) -> LlmAnswer:
    return LlmAnswer("y", "m", "stop", tokens_in, tokens_out, cached)


@pytest.mark.parametrize(
    ("kind", "most", "together"),
    [("openai", 5000, 5000), ("openai", 10, 1008), ("anthropic", 10, 1018), ("gemini", 5000, 1008)],
)
def test_each_kind_counts_tokens_its_own_way(kind: Kind, most: int, together: float) -> None:
    cost = Costs(kind).estimate(request(most))
    assert cost[Limited.REQUESTS] == 1 and cost[Limited.TOKENS] == pytest.approx(together)
    assert cost[Limited.INPUT_TOKENS] == pytest.approx(1008)


def test_estimates_are_learned_from_usage() -> None:
    costs = Costs("anthropic")
    for _ in range(200):
        costs.actual(request(), answer(1758, 300))
    learned = costs.estimate(request())
    assert learned[Limited.INPUT_TOKENS] == pytest.approx(1758, rel=0.02)
    assert learned[Limited.OUTPUT_TOKENS] == pytest.approx(300, rel=0.05)


def test_anthropics_cache_costs_no_input() -> None:
    assert Costs("anthropic").actual(request(), answer(1000, 10, 900))[Limited.INPUT_TOKENS] == 100
    assert Costs("openai").actual(request(), answer(1000, 10, 900))[Limited.INPUT_TOKENS] == 1000


def test_openais_headers() -> None:
    headers = {
        "x-ratelimit-limit-requests": "600",
        "x-ratelimit-remaining-requests": "599",
        "x-ratelimit-reset-requests": "100ms",
        "x-ratelimit-limit-tokens": "60000",
        "x-ratelimit-remaining-tokens": "30000",
        "x-ratelimit-reset-tokens": "30s",
    }
    assert limits_in(headers, NOW) == [
        HeaderReading(Limited.REQUESTS, 10.0, 599.0),
        HeaderReading(Limited.TOKENS, 1000.0, 30_000.0),
    ]


def test_anthropics_headers_count_input_and_output_apart() -> None:
    headers = {}
    for name, limit, left in (("requests", 50, 49), ("tokens", 8000, 1), ("input-tokens", 30_000, 29_000)):
        headers |= {
            f"anthropic-ratelimit-{name}-limit": str(limit),
            f"anthropic-ratelimit-{name}-remaining": str(left),
            f"anthropic-ratelimit-{name}-reset": "2026-01-01T00:00:02Z",
        }
    found = {one.what: one for one in limits_in(headers, NOW)}
    assert found.keys() == {Limited.REQUESTS, Limited.INPUT_TOKENS}
    assert found[Limited.INPUT_TOKENS] == HeaderReading(Limited.INPUT_TOKENS, 500.0, 29_000.0)


def test_a_limit_of_a_day_is_told_by_its_reset() -> None:
    headers = {
        "x-ratelimit-limit-requests": "14400",
        "x-ratelimit-remaining-requests": "14000",
        "x-ratelimit-reset-requests": "40m",
    }
    (found,) = limits_in(headers, NOW)
    assert found.refill == pytest.approx(400 / 2400)


@pytest.mark.parametrize("bad", ["", "many", "-1", "inf", "nan"])
def test_headers_that_make_no_sense_tell_nothing(bad: str) -> None:
    headers = {"x-ratelimit-limit-requests": bad, "x-ratelimit-remaining-requests": bad}
    assert limits_in(headers, NOW) == []
