"""Google's errors, and the keys that it refuses."""

from collections.abc import Mapping
from typing import Any

from fleet.devstack.simulator.calls import Call, Refusal
from fleet.devstack.simulator.limits import OverLimit
from fleet.devstack.simulator.models import Model

_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    529: "UNAVAILABLE",
}
_TYPE = "type.googleapis.com/google.rpc."


def error(status: int, message: str, *details: dict[str, Any]) -> Refusal:
    """An error in Google's form."""
    body: dict[str, Any] = {"code": status, "message": message, "status": _STATUS[status]}
    return Refusal(status, {"error": body | ({"details": list(details)} if details else {})})


def too_long(call: Call, model: Model) -> str:
    """What is said of an input that exceeds the context window."""
    exceeds = "exceeds the maximum number of tokens allowed"
    return f"The input token count ({call.input_tokens}) {exceeds} ({model.window})."


def key_of(headers: Mapping[str, str], query: Mapping[str, str]) -> str:
    """The API key, from header or query; a Refusal if there is none."""
    key = headers.get("x-goog-api-key") or query.get("key") or ""
    if not key.strip():
        raise error(
            403,
            "Method doesn't allow unregistered callers (callers without established identity). Please use API "
            "Key or other form of API consumer identity to call this API.",
        )
    return key.strip()


def _quota(quota_id: str, model: str, value: float) -> dict[str, Any]:
    violation = {
        "quotaMetric": "generativelanguage.googleapis.com/generate_content_requests",
        "quotaId": quota_id,
        "quotaDimensions": {"location": "global", "model": model},
        "quotaValue": f"{value:.0f}",
    }
    return {"@type": f"{_TYPE}QuotaFailure", "violations": [violation]}


def _retry_info(seconds: float) -> dict[str, Any]:
    return {"@type": f"{_TYPE}RetryInfo", "retryDelay": f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"}


def _exhausted(call: Call, quota_id: str, limit: float, wait: float | None) -> Refusal:
    message = (
        "You exceeded your current quota, please check your plan and billing details.\n* Quota exceeded for "
        f"metric: generate_content_requests, limit: {limit:.0f}"
    )
    details = [_quota(quota_id, call.model, limit)]
    return error(429, message, *details, *([_retry_info(wait)] if wait is not None else []))


_PER_MINUTE = "GenerateRequestsPerMinutePerProjectPerModel"
_PER_DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"


def over_limit(call: Call, over: OverLimit) -> Refusal:
    """The 429 of a bucket without room, or of a request that none ever has room for."""
    quota_id = {
        "requests_per_day": _PER_DAY,
        "input_tokens": "GenerateContentInputTokensPerModelPerMinute",
    }.get(over.kind, _PER_MINUTE)
    return _exhausted(call, quota_id, over.limit, over.wait_seconds)


def refusal(kind: str, call: Call, retry_after: float | None, form: str) -> Refusal:
    """A scripted error. Gemini writes its waits into the body, in one form only."""
    bad_key = {"@type": f"{_TYPE}ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}
    wait = None if form == "none" else retry_after
    made = {
        "429": _exhausted(call, _PER_MINUTE, 10, wait),
        "500": error(500, "An internal error has occurred. Please retry or report the issue."),
        "503": error(503, "The model is overloaded. Please try again later."),
        "529": error(529, "The model is overloaded. Please try again later."),
        "401": error(401, "Request had invalid authentication credentials."),
        "revoked_key": error(400, "API key not valid. Please pass a valid API key.", bad_key),
        "403": error(403, "The caller does not have permission"),
        "404": error(404, f"models/{call.model} is not found for API version v1beta."),
        "400": error(400, "Request contains an invalid argument."),
        "quota": _exhausted(call, "GenerateRequestsPerMinutePerProject", 0, None),
        "day_quota": _exhausted(call, _PER_DAY, 50, wait),
        "slow_down": error(503, "The model is overloaded. Please try again later."),
    }
    return made[kind]
