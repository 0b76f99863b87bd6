"""The table of meanings, against bodies written from the providers' documentation."""

import ssl
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from fleet.budgets.worker.limit_headers import limits_in
from fleet.failures import Billed, FailureKind, traits_of
from fleet.provider_settings import Kind
from fleet.providers.error_mapping import answered_with_error, not_answered
from fleet.providers.response_bodies import count_in
from fleet.providers.retry_after import parse_duration, requested_wait

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def openai(code: str | None, type_: str = "invalid_request_error", message: str = "…") -> dict[str, Any]:
    return {"message": message, "type": type_, "param": None, "code": code}


def anthropic(type_: str, message: str = "…") -> dict[str, Any]:
    return {"type": "error", "error": {"type": type_, "message": message}, "request_id": "req_1"}


def gemini(status: str, code: int, *details: dict[str, Any], message: str = "…") -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


def too_long(message: str) -> dict[str, Any]:
    return anthropic("invalid_request_error", message)


def quota(quota_id: str, value: str = "10") -> dict[str, Any]:
    violation = {"quotaMetric": "requests", "quotaId": quota_id, "quotaValue": value}
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}


CASES: list[tuple[Kind, int, Any, FailureKind]] = [
    ("openai", 429, openai("rate_limit_exceeded", "requests"), FailureKind.RATE),
    ("openai", 429, openai("insufficient_quota", "insufficient_quota"), FailureKind.QUOTA_SPENT),
    ("openai", 503, openai("slow_down", "service_unavailable_error"), FailureKind.SLOW_DOWN),
    ("openai", 401, openai("invalid_api_key"), FailureKind.KEY_REJECTED),
    ("openai", 403, openai(None), FailureKind.FORBIDDEN),
    ("openai", 404, openai("model_not_found"), FailureKind.NOT_FOUND),
    ("openai", 400, openai("unsupported_parameter"), FailureKind.BAD_REQUEST),
    ("openai", 413, "<html>too large</html>", FailureKind.BAD_REQUEST),
    ("openai", 400, openai("context_length_exceeded"), FailureKind.CONTEXT_EXCEEDED),
    ("openai", 400, openai(None, "exceed_context_size_error"), FailureKind.CONTEXT_EXCEEDED),
    (
        "openai",
        400,
        openai(None, "BadRequestError", "This model's maximum context length is 16384 tokens. However, you …"),
        FailureKind.CONTEXT_EXCEEDED,
    ),
    ("openai", 500, openai(None, "server_error"), FailureKind.OUTAGE),
    ("openai", 500, openai("server_error", "server_error"), FailureKind.OUTAGE),
    ("openai", 502, "<html>Bad Gateway</html>", FailureKind.LOST_AFTER_SENDING),
    ("openai", 503, "upstream connect error", FailureKind.LOST_AFTER_SENDING),
    ("openai", 504, {"message": "Endpoint request timed out"}, FailureKind.LOST_AFTER_SENDING),
    ("openai", 307, "", FailureKind.UNUSABLE_BODY),
    ("anthropic", 429, anthropic("rate_limit_error"), FailureKind.RATE),
    ("anthropic", 529, anthropic("overloaded_error"), FailureKind.OVERLOAD),
    ("anthropic", 500, anthropic("overloaded_error"), FailureKind.OVERLOAD),
    ("anthropic", 500, anthropic("api_error"), FailureKind.OUTAGE),
    ("anthropic", 504, "<html>Gateway Timeout</html>", FailureKind.LOST_AFTER_SENDING),
    ("anthropic", 403, anthropic("permission_error"), FailureKind.FORBIDDEN),
    ("anthropic", 402, anthropic("billing_error"), FailureKind.QUOTA_SPENT),
    ("anthropic", 401, anthropic("authentication_error"), FailureKind.KEY_REJECTED),
    ("anthropic", 404, anthropic("not_found_error"), FailureKind.NOT_FOUND),
    ("anthropic", 400, anthropic("invalid_request_error"), FailureKind.BAD_REQUEST),
    (
        "anthropic",
        400,
        too_long("prompt is too long: 208310 tokens > 200000 maximum"),
        FailureKind.CONTEXT_EXCEEDED,
    ),
    (
        "anthropic",
        400,
        too_long("input length and `max_tokens` exceed context limit: 189136 + 20000 > 204648, decrease …"),
        FailureKind.CONTEXT_EXCEEDED,
    ),
    ("anthropic", 529, None, FailureKind.OVERLOAD),
    (
        "gemini",
        429,
        gemini("RESOURCE_EXHAUSTED", 429, quota("GenerateRequestsPerMinutePerProject")),
        FailureKind.RATE,
    ),
    (
        "gemini",
        429,
        gemini("RESOURCE_EXHAUSTED", 429, quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier")),
        FailureKind.MODEL_QUOTA,
    ),
    (
        "gemini",
        429,
        gemini("RESOURCE_EXHAUSTED", 429, quota("GenerateRequestsPerDayPerProject")),
        FailureKind.QUOTA_UNTIL_RESET,
    ),
    (
        "gemini",
        429,
        gemini("RESOURCE_EXHAUSTED", 429, quota("GenerateRequestsPerMinutePerProjectPerModel", "0")),
        FailureKind.MODEL_QUOTA,
    ),
    (
        "gemini",
        429,
        gemini("RESOURCE_EXHAUSTED", 429, quota("GenerateRequestsPerMinutePerProject", "0")),
        FailureKind.QUOTA_SPENT,
    ),
    ("gemini", 400, gemini("INVALID_ARGUMENT", 400, {"reason": "API_KEY_INVALID"}), FailureKind.KEY_REJECTED),
    ("gemini", 400, gemini("INVALID_ARGUMENT", 400), FailureKind.BAD_REQUEST),
    (
        "gemini",
        400,
        gemini(
            "INVALID_ARGUMENT",
            400,
            message="The input token count (1200293) exceeds the maximum number of tokens allowed (1048576).",
        ),
        FailureKind.CONTEXT_EXCEEDED,
    ),
    ("gemini", 403, gemini("PERMISSION_DENIED", 403), FailureKind.FORBIDDEN),
    ("gemini", 403, gemini("PERMISSION_DENIED", 403, {"reason": "SERVICE_DISABLED"}), FailureKind.KEY_REJECTED),
    ("gemini", 403, gemini("PERMISSION_DENIED", 403, {"reason": "BILLING_DISABLED"}), FailureKind.QUOTA_SPENT),
    ("gemini", 503, gemini("UNAVAILABLE", 503), FailureKind.OUTAGE),
    ("gemini", 502, {"message": "<html>", "status": "Bad Gateway"}, FailureKind.LOST_AFTER_SENDING),
    ("gemini", 504, [gemini("DEADLINE_EXCEEDED", 504)], FailureKind.OUTAGE),
    ("gemini", 429, {"error": {"code": "too_many_requests", "message": "slower"}}, FailureKind.RATE),
    ("gemini", 500, {"error": {"code": "internal_error", "message": "oops"}}, FailureKind.OUTAGE),
    ("gemini", 502, {"error": {"code": 502, "message": "Bad Gateway"}}, FailureKind.LOST_AFTER_SENDING),
]


@pytest.mark.parametrize(("kind", "status", "body", "failure_kind"), CASES)
def test_an_answer_means_what_the_provider_documents(
    kind: Kind, status: int, body: Any, failure_kind: FailureKind
) -> None:
    error = answered_with_error(kind, kind, status, {}, body)
    assert (error.failure_kind, error.status, error.provider) == (failure_kind, status, kind)
    assert error.remedy in str(error)


DAY = gemini(
    "RESOURCE_EXHAUSTED",
    429,
    quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier"),
    {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "41s"},
)


@pytest.mark.parametrize(
    ("date", "hours"),
    [
        ("Thu, 01 Jan 2026 12:00:00 GMT", 20),
        ("Thu, 01 Jan 2026 07:00:00 GMT", 1),
        ("Wed, 01 Jul 2026 06:00:00 GMT", 1),
        ("Sat, 07 Mar 2026 08:00:00 GMT", 24),
        ("Sun, 08 Mar 2026 08:00:00 GMT", 23),
    ],
    ids=["winter", "winter night", "summer night", "day before the clocks change", "the day itself"],
)
def test_a_quota_of_the_day_comes_back_at_midnight_in_california(date: str, hours: float) -> None:
    error = answered_with_error("gemini", "gemini", 429, {"Date": date}, DAY)
    assert error.wait_seconds == pytest.approx(hours * 3600)


def test_a_quota_of_the_day_is_waited_for_longer_where_the_provider_asks_for_it() -> None:
    asked = [*DAY["error"]["details"][:1], {"retryDelay": "90000s"}]
    error = answered_with_error("gemini", "gemini", 429, {}, gemini("RESOURCE_EXHAUSTED", 429, *asked))
    assert error.wait_seconds == 90_000


def test_a_key_quoted_in_an_error_is_removed() -> None:
    error = answered_with_error("openai", "openai", 401, {}, openai(None, message="wrong key sk-abcdefghijkl"))
    assert "sk-abc" not in str(error)


@pytest.mark.parametrize(
    ("failure", "failure_kind"),
    [
        (httpx2.ConnectError("refused"), FailureKind.LOST_BEFORE_SENDING),
        (httpx2.ConnectTimeout("slow"), FailureKind.LOST_BEFORE_SENDING),
        (httpx2.PoolTimeout("busy"), FailureKind.LOST_BEFORE_SENDING),
        (ssl.SSLCertVerificationError("certificate is not yet valid"), FailureKind.LOST_BEFORE_SENDING),
        (httpx2.ReadTimeout("silence"), FailureKind.TIMED_OUT),
        (httpx2.ReadError("reset"), FailureKind.LOST_AFTER_SENDING),
        (httpx2.RemoteProtocolError("cut"), FailureKind.LOST_AFTER_SENDING),
    ],
)
def test_a_lost_connection_is_told_apart_by_whether_it_may_be_paid(
    failure: Exception, failure_kind: FailureKind
) -> None:
    wrapper = RuntimeError("the SDK's own")
    wrapper.__cause__ = failure
    assert not_answered("openai", wrapper).failure_kind is failure_kind
    billed = Billed.NO if failure_kind is FailureKind.LOST_BEFORE_SENDING else Billed.UNKNOWN
    assert traits_of(failure_kind).billed is billed


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry-after": "7"}, None, 7),
        ({"retry-after": "0.5"}, None, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "2"}, None, 1.5),
        ({"retry-after": "Thu, 01 Jan 2026 12:00:30 GMT"}, None, 30),
        ({"retry-after": "Thu, 01 Jan 2026 11:00:00 GMT"}, None, 0),
        ({}, gemini("RESOURCE_EXHAUSTED", 429, {"retryDelay": "46s"}), 46),
        ({}, gemini("RESOURCE_EXHAUSTED", 429, {"retryDelay": "1.5s"}), 1.5),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, None, 360),
        ({"x-ratelimit-remaining-tokens": "12", "x-ratelimit-reset-tokens": "6m0s"}, None, None),
        (
            {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2026-01-01T12:00:09Z",
            },
            None,
            9,
        ),
        ({"retry-after": "soon"}, None, None),
        ({"retry-after": "nan"}, None, None),
        ({"retry-after": "1e12"}, None, 7 * 86_400),
        ({}, "<html>", None),
        ({}, {"error": "text"}, None),
    ],
)
def test_a_wait_is_understood_in_every_form(headers: dict[str, str], body: Any, seconds: float | None) -> None:
    assert requested_wait(headers, body, NOW) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"), [("12ms", 0.012), ("1h2m3s", 3723), ("46s", 46), ("", None), ("s", None), ("5", None)]
)
def test_a_duration_is_seconds_or_nothing(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("header", ["retry-after", "date"])
def test_a_year_that_no_date_has_is_no_wait(header: str) -> None:
    headers = {"retry-after": "soon"} | {header: "Mon, 01 Jan 99999999999999 00:00:00 GMT"}
    error = answered_with_error("openai", "openai", 429, headers, "{}")
    assert (error.failure_kind, error.wait_seconds) == (FailureKind.RATE, None)


def test_a_reset_in_infinite_time_leaves_the_limit_as_it_is() -> None:
    names = {"limit": "10", "remaining": "3", "reset": "9" * 400 + "s"}
    (found,) = limits_in({f"x-ratelimit-{part}-requests": value for part, value in names.items()})
    assert found.refill == 10 / 60


def test_a_number_that_no_count_has_is_none() -> None:
    assert count_in({"input_tokens": 10**400}, "input_tokens") == 0
    assert count_in({"input_tokens": 10**9}, "input_tokens") == 10**9
