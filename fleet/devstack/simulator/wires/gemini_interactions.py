"""Gemini's wire of interactions: requests, answers and errors. Their keys are refused as everywhere at Google."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fleet.devstack.simulator.answer_json import is_schema
from fleet.devstack.simulator.calls import Answer, Call, Refusal, tokens_of
from fleet.devstack.simulator.limits import OverLimit
from fleet.devstack.simulator.models import exceeds_window
from fleet.devstack.simulator.vendors import model_of
from fleet.devstack.simulator.waits import retry_after_headers
from fleet.devstack.simulator.wires import gemini_errors, gemini_options

_CODE = {
    400: "invalid_request",
    403: "permission_denied",
    404: "not_found",
    429: "too_many_requests",
    500: "internal_error",
    503: "unavailable",
}
_QUOTA = "You exceeded your current quota, please check your plan and billing details."
#: Refused before the API itself is reached.
_KEY_TROUBLE = ("401", "403", "revoked_key")


def error(status: int, message: str) -> Refusal:
    """An error in the form that interactions have."""
    return Refusal(status, {"error": {"code": _CODE[status], "message": message}})


def parse(body: Any, headers: Mapping[str, str], query: Mapping[str, str]) -> Call:
    """A request taken apart and checked."""
    key = gemini_errors.key_of(headers, query)
    if not isinstance(body, dict):
        raise error(400, "Invalid JSON payload received.")
    model = body.get("model")
    known = model_of("gemini", model) if isinstance(model, str) else None
    if not isinstance(model, str) or known is None:
        raise error(404, f"Model {model} is not found or is not supported for interactions.")
    if body.get("background") is True and body.get("store") is False:
        raise error(400, "background=true needs store=true.")
    if body.get("stream") is True:
        raise error(400, "[SIMULATOR] Interactions are not streamed here.")
    if not isinstance(body.get("input"), str):
        raise error(400, "[SIMULATOR] The input must be a text here.")
    config = body.get("generation_config") or {}
    call = Call(
        provider="gemini",
        api="interactions",
        model=model,
        key=key,
        idempotency_key=headers.get("idempotency-key"),
        system=str(body.get("system_instruction") or ""),
        user=body["input"],
        max_tokens=_max_tokens(config, known.max_output_tokens),
        options=gemini_options.options_in(model, config, _field, error),
        schema=_schema(body.get("response_format")),
    )
    if exceeds_window(known, call.input_tokens, call.max_tokens):
        raise error(400, gemini_errors.too_long(call, known))
    return call


def _field(config: Mapping[str, Any], name: str) -> Any:
    """A field under its proto name: interactions know no other."""
    return config.get("".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name))


def _schema(wanted: Any) -> dict[str, Any] | None:
    if wanted is None:
        return None
    if not isinstance(wanted, dict) or wanted.get("type") != "text":
        raise error(400, "[SIMULATOR] The response_format must be one of text here.")
    schema = wanted.get("schema")
    if schema is None:
        return None
    if wanted.get("mime_type") != "application/json" or not is_schema(schema):
        raise error(400, "response_format.schema must be a JSON Schema, with the mime_type application/json.")
    return dict(schema)


def _max_tokens(config: Mapping[str, Any], most: int) -> int | None:
    for name, highest in (("temperature", 2), ("top_p", 1)):
        value = config.get(name)
        if value is not None and (not isinstance(value, int | float) or not 0 <= value <= highest):
            raise error(400, f"generation_config.{name} is out of range [0, {highest}].")
    value = config.get("max_output_tokens")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most):
        raise error(400, f"generation_config.max_output_tokens must be from 1 to {most}.")
    return value


def over_limit(call: Call, over: OverLimit) -> Refusal:
    """The 429 of a bucket without room, or of a request that none ever has room for."""
    refused = error(429, f"{_QUOTA} Limit: {over.limit:.0f} {over.kind}, model: {call.model}.")
    if over.wait_seconds is not None:
        refused.headers = retry_after_headers(max(over.wait_seconds, 0.001), "ms")
    return refused


def refusal(kind: str, call: Call, retry_after: float | None, form: str) -> Refusal:
    """A scripted error. Which quota it is about, these errors do not say."""
    if kind in _KEY_TROUBLE:
        return gemini_errors.refusal(kind, call, retry_after, form)
    overloaded = error(503, "The model is overloaded. Please try again later.")
    overloaded.status = 529 if kind == "529" else 503
    made = {
        "429": error(429, _QUOTA),
        "quota": error(429, _QUOTA),
        "day_quota": error(429, _QUOTA),
        "400": error(400, "Request contains an invalid argument."),
        "404": error(404, f"Model {call.model} is not found."),
        "500": error(500, "An internal error has occurred. Please retry or report the issue."),
    }.get(kind, overloaded)
    made.headers = retry_after_headers(retry_after, form)
    return made


def not_found(number: str) -> Refusal:
    """The error of an id that is not known, or not any more."""
    return error(404, f"Interaction {number} not found.")


def deleted(number: str) -> dict[str, Any]:
    """What a deletion is answered with."""
    return {}


def _usage(call: Call, output_tokens: int, thinking_tokens: int) -> dict[str, Any]:
    text = tokens_of(call.system) + tokens_of(call.user)
    return {
        "total_input_tokens": call.input_tokens,
        "input_tokens_by_modality": [{"modality": "text", "tokens": text}],
        "total_cached_tokens": 0,
        "total_output_tokens": output_tokens - thinking_tokens,
        "total_thought_tokens": thinking_tokens,
        "total_tool_use_tokens": 0,
        "total_tokens": call.input_tokens + output_tokens,
    }


def body(call: Call, answer: Answer, number: str, status: str | None = None) -> dict[str, Any]:
    """An Interaction; ``status`` is that of one that goes on in the background or was cancelled.

    A refusal is an output without text: the API documents no form of its own for it.
    """
    state = status or ("incomplete" if answer.finish == "length" else "completed")
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    shown: dict[str, Any] = {
        "id": f"v1_{number}",
        "object": "interaction",
        "status": state,
        "model": call.model,
        "role": "model",
        "created": now,
        "updated": now,
    }
    if state not in ("completed", "incomplete"):
        return shown
    content = [] if answer.finish == "refusal" else [{"type": "text", "text": answer.text}]
    steps = [{"type": "thought", "signature": "W1NJTVVMQVRPUl0="}, {"type": "model_output", "content": content}]
    return shown | {"steps": steps, "usage": _usage(call, answer.output_tokens, answer.thinking_tokens)}
