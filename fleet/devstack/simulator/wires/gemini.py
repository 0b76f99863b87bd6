"""Gemini's wire: generateContent as requests, answers, streams and errors."""

import json
from collections.abc import Mapping
from typing import Any

from fleet.devstack.simulator.calls import Answer, Call, Refusal, tokens_of
from fleet.devstack.simulator.limits import OverLimit
from fleet.devstack.simulator.models import find_model
from fleet.devstack.simulator.wires.openai import pieces

_FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "refusal": "SAFETY"}
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


def parse(model: str, body: Any, headers: Mapping[str, str], query: Mapping[str, str], *, stream: bool) -> Call:
    """A request taken apart and checked as Google checks it."""
    key = key_of(headers, query)
    if not isinstance(body, dict):
        raise error(400, "Invalid JSON payload received.")
    known = find_model("gemini", model)
    if known is None:
        raise error(
            404,
            f"models/{model} is not found for API version v1beta, or is not supported for generateContent. Call "
            "ListModels to see the list of available models and their supported methods.",
        )
    config = _field(body, "generationConfig") or {}
    return Call(
        provider="gemini",
        api="generate_content",
        model=model,
        key=key,
        idempotency_key=headers.get("idempotency-key"),
        system=_parts_text(_field(body, "systemInstruction") or {}),
        user=_contents_text(body.get("contents")),
        max_tokens=_max_tokens(config, known.max_output_tokens),
        stream=stream,
    )


def _field(body: Mapping[str, Any], name: str) -> Any:
    """A field under its JSON name or its proto name: both are accepted."""
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    return body.get(name, body.get(snake))


def _parts_text(content: Any) -> str:
    parts = content.get("parts") if isinstance(content, dict) else None
    return "".join(str(part.get("text", "")) for part in parts or [] if isinstance(part, dict))


def _contents_text(contents: Any) -> str:
    if not isinstance(contents, list) or not contents:
        raise error(400, "* GenerateContentRequest.contents: contents is not specified\n")
    return "\n".join(_parts_text(content) for content in contents)


def _max_tokens(config: Mapping[str, Any], most: int) -> int | None:
    for name, highest in (("temperature", 2), ("topP", 1)):
        value = _field(config, name)
        if value is not None and (not isinstance(value, int | float) or not 0 <= value <= highest):
            raise error(400, f"* GenerateContentRequest.generation_config.{name}: out of range [0, {highest}]\n")
    value = _field(config, "maxOutputTokens")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise error(400, f"Unable to submit request because it has a maxOutputTokens value of {value} but the "
                         f"supported range is from 1 (inclusive) to {most + 1} (exclusive).")  # fmt: skip
    return value


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


def _usage(call: Call, output_tokens: int) -> dict[str, Any]:
    system, user = tokens_of(call.system), tokens_of(call.user)
    return {
        "promptTokenCount": call.input_tokens,
        "candidatesTokenCount": output_tokens,
        "totalTokenCount": call.input_tokens + output_tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": system + user}],
    }


def _response(call: Call, number: str, text: str, finish: str | None, usage: dict[str, Any]) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
    if finish == "SAFETY" or not text:
        candidate = {"index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": call.model,
        "responseId": number,
    }


def body(call: Call, answer: Answer, number: str) -> dict[str, Any]:
    """A GenerateContentResponse."""
    return _response(call, number, answer.text, _FINISH[answer.finish], _usage(call, answer.output_tokens))


def events(call: Call, answer: Answer, number: str) -> list[bytes]:
    """The stream of a GenerateContentResponse."""
    parts = pieces(answer.text)
    chunks = []
    for place, piece in enumerate(parts):
        last = place == len(parts) - 1
        usage = _usage(call, answer.output_tokens if last else 0)
        chunks.append(_response(call, number, piece, _FINISH[answer.finish] if last else None, usage))
    return [f"data: {json.dumps(chunk, ensure_ascii=False)}\r\n\r\n".encode() for chunk in chunks]
