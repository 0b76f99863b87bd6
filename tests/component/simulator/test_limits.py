"""The providers' limits as true token buckets; the clock is the test's."""

from typing import Any

import pytest

from fleet.devstack.simulator.calls import Call
from fleet.devstack.simulator.limits import Limits, OverLimit
from fleet.devstack.simulator.vendors import vendor_of


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def call(provider: str = "openai", *, model: str = "m", key: str = "k", max_tokens: int | None = None) -> Call:
    return Call(provider, "chat", model, key, None, "", "x" * 324, max_tokens)  # 90 + 8 input tokens


def limits(clock: Clock, provider: str = "openai", **values: Any) -> Limits:
    made = Limits(vendor_of, clock)
    made.set(provider, None, {"rpm": None, "input_tpm": None, "output_tpm": None} | values)
    return made


def admitted(bucket: Limits, request: Call, most: int = 1000) -> int:
    """How many calls pass before one is refused."""
    for count in range(most):
        try:
            bucket.admit(request)
        except OverLimit:
            return count
    return most


def test_a_full_bucket_lets_its_burst_through_and_then_its_rate() -> None:
    clock = Clock()
    bucket = limits(clock, rpm=60, burst_seconds=10)
    assert admitted(bucket, call()) == 10
    clock.now += 3
    assert admitted(bucket, call()) == 3


def test_sending_again_too_early_keeps_openais_bucket_empty() -> None:
    clock = Clock()
    bucket = limits(clock, rpm=60, burst_seconds=1)
    assert admitted(bucket, call()) == 1
    for _ in range(5):
        clock.now += 0.9
        assert admitted(bucket, call()) == 0
    clock.now += 1.0
    assert admitted(bucket, call()) == 1


def test_a_refusal_names_the_seconds_until_there_is_room() -> None:
    bucket = limits(Clock(), "anthropic", rpm=60, burst_seconds=2)
    assert admitted(bucket, call("anthropic")) == 2
    with pytest.raises(OverLimit) as caught:
        bucket.admit(call("anthropic"))
    assert (caught.value.kind, caught.value.limit, caught.value.wait_seconds) == ("requests", 60, 1.0)


def test_refused_calls_count_at_openai_alone() -> None:
    for provider, passed in (("openai", 1), ("anthropic", 2), ("gemini", 2), ("groq", 2)):
        clock = Clock()
        bucket = limits(clock, provider, rpm=60, input_tpm=100, burst_seconds=2)
        with pytest.raises(OverLimit):  # its tokens never fit beside another's
            bucket.admit(call(provider))
            bucket.admit(call(provider))
        bucket.set(provider, None, {"input_tpm": None})
        clock.now += 1.0
        assert admitted(bucket, call(provider)) == passed


def test_a_request_larger_than_a_minutes_tokens_never_finds_room() -> None:
    clock = Clock()
    bucket = limits(clock, input_tpm=97)
    for _ in range(3):
        with pytest.raises(OverLimit) as caught:
            bucket.admit(call())
        assert (caught.value.limit, caught.value.requested, caught.value.wait_seconds) == (97, 98, None)
        clock.now += 3600


def test_openai_charges_the_larger_of_max_tokens_and_the_input() -> None:
    bucket = limits(Clock(), input_tpm=6000, burst_seconds=10)
    assert admitted(bucket, call(max_tokens=500)) == 2
    bucket = limits(Clock(), input_tpm=6000, burst_seconds=10)
    assert admitted(bucket, call(max_tokens=10)) == 10  # 98 tokens of input each


def test_an_added_provider_charges_as_openai_does() -> None:
    bucket = limits(Clock(), "groq", input_tpm=6000, burst_seconds=10)
    assert admitted(bucket, call("groq", max_tokens=500)) == 2


def test_anthropic_gives_back_what_the_answer_did_not_use() -> None:
    bucket = limits(Clock(), "anthropic", output_tpm=6000, burst_seconds=10)
    request = call("anthropic", max_tokens=800)
    bucket.admit(request)
    assert bucket.readings(request)["output_tokens"].remaining == 200
    bucket.settle(request, 100)
    assert bucket.readings(request)["output_tokens"].remaining == 900


def test_geminis_day_does_not_refill_with_the_minute() -> None:
    clock = Clock()
    bucket = limits(clock, "gemini", rpd=3)
    assert admitted(bucket, call("gemini")) == 3
    clock.now += 3600
    with pytest.raises(OverLimit) as caught:
        bucket.admit(call("gemini"))
    assert caught.value.kind == "requests_per_day"


def test_every_key_has_buckets_of_its_own_and_a_model_where_it_is_set() -> None:
    bucket = limits(Clock(), rpm=60, burst_seconds=2)
    bucket.set("openai", "small", {"rpm": 60, "burst_seconds": 1})
    assert admitted(bucket, call()) == 2
    assert admitted(bucket, call(key="other")) == 2
    assert admitted(bucket, call(model="small")) == 1


def test_another_customer_drains_the_same_bucket() -> None:
    clock = Clock()
    bucket = limits(clock, rpm=60, burst_seconds=10)
    assert admitted(bucket, call()) == 10
    bucket.set_tenant("openai", 30)
    clock.now += 6
    assert admitted(bucket, call()) == 3


def test_a_changed_limit_keeps_the_buckets_share() -> None:
    bucket = limits(Clock(), rpm=60, burst_seconds=10)
    for _ in range(5):
        bucket.admit(call())
    bucket.set("openai", None, {"rpm": 120})
    assert bucket.readings(call())["requests"].remaining == 10


def test_looking_at_the_levels_tells_of_every_key_and_changes_nothing() -> None:
    clock = Clock()
    looked_at, left_alone = (limits(clock, rpm=60, burst_seconds=10) for _ in range(2))
    for bucket in (looked_at, left_alone):
        assert admitted(bucket, call()) == 10
        bucket.set_tenant("openai", 90)
        bucket.admit(call(key="other"))
    for _ in range(8):
        clock.now += 0.5
        looked_at.levels()
    assert [level["level"] for level in looked_at.levels()] == [0, 7]
    assert len({level["key"] for level in looked_at.levels()}) == 2
    assert looked_at.levels() == left_alone.levels()
    for bucket in (looked_at, left_alone):
        bucket.set_tenant("openai", 0)
    clock.now += 3
    assert admitted(looked_at, call()) == admitted(left_alone, call()) == 3


@pytest.mark.parametrize("value", [-1, "many", True, float("nan")])
def test_a_limit_that_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="rpm"):
        limits(Clock(), rpm=value)
