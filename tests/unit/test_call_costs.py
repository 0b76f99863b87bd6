"""What calls cost of each limit, and what headers tell of it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from loguru import logger

from fleet.budgets.worker.call_costs import Costs, first_cost
from fleet.budgets.worker.limit_headers import HeaderReading, limits_in
from fleet.budgets.worker.models_with_unlike_limits import Mixing
from fleet.budgets.worker.reporter import first_rate
from fleet.contracts import Limited, LimitSettings
from fleet.provider_settings import Kind
from fleet.providers.base import LlmAnswer, LlmRequest
from fleet.providers.retry_after import requested_wait, time_there

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
        HeaderReading(Limited.REQUESTS, 10.0, 599.0, 600.0),
        HeaderReading(Limited.TOKENS, 1000.0, 30_000.0, 60_000.0),
    ]


def test_anthropics_headers_count_input_and_output_apart() -> None:
    headers = {}
    for name, limit, left in (("requests", 50, 49), ("tokens", 8000, 1), ("input-tokens", 30_000, 29_000)):
        headers |= {
            f"anthropic-ratelimit-{name}-limit": str(limit),
            f"anthropic-ratelimit-{name}-remaining": str(left),
            f"anthropic-ratelimit-{name}-reset": "2026-01-01T00:00:02Z",
        }
    found = {reading.what: reading for reading in limits_in(headers, NOW)}
    assert found.keys() == {Limited.REQUESTS, Limited.INPUT_TOKENS}
    assert found[Limited.INPUT_TOKENS] == HeaderReading(Limited.INPUT_TOKENS, 500.0, 29_000.0, 30_000.0)


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


def test_a_reset_is_read_by_the_clock_of_who_wrote_it() -> None:
    headers = {
        "date": "Thu, 01 Jan 2026 00:00:00 GMT",
        "anthropic-ratelimit-requests-limit": "400",
        "anthropic-ratelimit-requests-remaining": "396",
        "anthropic-ratelimit-requests-reset": "2026-01-01T00:00:01Z",
    }
    (found,) = limits_in(headers)
    assert found.refill == pytest.approx(400 / 60)
    (misread,) = limits_in(headers, NOW - timedelta(seconds=10))
    assert misread.refill < 100 / 60, "this is what a clock behind by ten seconds made of it"
    assert requested_wait(headers | {"retry-after": "Thu, 01 Jan 2026 00:00:05 GMT"}, None) == 5


@pytest.mark.parametrize("date", ["", "yesterday", "99 Foo 2026"])
def test_without_a_usable_date_this_machines_clock_is_taken(date: str) -> None:
    assert abs(time_there({"date": date}) - datetime.now(UTC)) < timedelta(seconds=5)


FIRST_RATES: list[tuple[Kind, LimitSettings, float]] = [
    ("openai", LimitSettings(), 10.0),
    ("openai", LimitSettings(rpm=600), 2.0),
    ("openai", LimitSettings(rpm=60_000), 10.0),
    ("openai", LimitSettings(rpm=90), 1.0),
    ("openai", LimitSettings(rpm=30), 0.5),
    ("openai", LimitSettings(rpm=3), 0.05),
    ("openai", LimitSettings(rpm=6000, tpm=600_000), 2.0),
    ("anthropic", LimitSettings(output_tpm=8_000), 10 / 60),
    ("gemini", LimitSettings(tpm=30_000), 0.5),
]


@pytest.mark.parametrize(("kind", "limits", "rate"), FIRST_RATES)
def test_a_queue_opens_at_a_part_of_its_tightest_limit(kind: Kind, limits: LimitSettings, rate: float) -> None:
    assert first_rate(limits, first_cost(kind)) == pytest.approx(rate)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def told_by_turns(mixing: Mixing, clock: Clock, seconds: int, **limits: float) -> None:
    """Each of these models is answered once a second."""
    for _ in range(seconds):
        for model, refill in limits.items():
            mixing.heard(model, [HeaderReading(Limited.REQUESTS, refill, 5.0, 60 * refill)])
        clock.now += 1


def test_models_of_different_limits_in_one_queue_are_told_of_once(log: list[str]) -> None:
    clock = Clock()
    mixing = Mixing("llm-openai", clock)
    told_by_turns(mixing, clock, 59, small=10.0, large=100.0)
    assert log == []
    told_by_turns(mixing, clock, 100, small=10.0, large=100.0)
    (warning,) = log
    assert "llm-openai serves models of different limits" in warning and "Remedy:" in warning
    assert "6,000 requests a minute for large and 600 for small" in warning


def test_a_limit_that_changes_for_all_is_no_difference(log: list[str]) -> None:
    clock = Clock()
    mixing = Mixing("llm-openai", clock)
    for refill in (10.0, 100.0, 20.0):
        told_by_turns(mixing, clock, 300, a=refill, b=refill)
        told_by_turns(mixing, clock, 5, a=refill, b=2 * refill)  # calls that were under way
    assert log == []


@pytest.fixture
def log() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["message"]), level="WARNING")
    yield lines
    logger.remove(sink)
