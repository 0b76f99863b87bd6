"""Anthropic's wire: the Messages API as requests, answers, streams and errors."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fleet.devstack.simulator.answer_text import THOUGHT, pieces
from fleet.devstack.simulator.calls import Answer, Call, Refusal
from fleet.devstack.simulator.engine import Engine, Wire, body_of
from fleet.devstack.simulator.limits import Kind, OverLimit, Reading
from fleet.devstack.simulator.models import Model, exceeds_window
from fleet.devstack.simulator.vendors import Address, SimulatedVendor, model_of
from fleet.devstack.simulator.waits import retry_after_headers, rfc3339
from fleet.devstack.simulator.wires import anthropic_options

_MODELS = {
    "claude-3-haiku-20240307": Model(4_096, schema=False, window=200_000, window_has_output=True),
    "claude-3-opus-20240229": Model(4_096, schema=False, window=200_000, window_has_output=True),
    "claude-3-opus-latest": Model(4_096, schema=False, window=200_000, window_has_output=True),
    "claude-3-5-sonnet": Model(8_192, schema=False, window=200_000, window_has_output=True),
    "claude-3-5-haiku": Model(8_192, schema=False, window=200_000, window_has_output=True),
    "claude-3-7-sonnet": Model(64_000, schema=False, window=200_000, window_has_output=True),
    "claude-sonnet-4-0": Model(64_000, schema=False, window=200_000, window_has_output=True),
    "claude-sonnet-4-20250514": Model(64_000, schema=False, window=200_000, window_has_output=True),
    "claude-sonnet-4-5": Model(64_000, "one", window=200_000),
    "claude-haiku-4-5": Model(64_000, "one", window=200_000),
    "claude-opus-4-0": Model(32_000, schema=False, window=200_000, window_has_output=True),
    "claude-opus-4-20250514": Model(32_000, schema=False, window=200_000, window_has_output=True),
    "claude-opus-4-1": Model(32_000, "one", window=200_000, window_has_output=True),
    "claude-opus-4-5": Model(64_000, "one", window=200_000),
    "claude-sonnet-4-6": Model(128_000, "one", window=1_000_000),
    "claude-opus-4-6": Model(128_000, "one", window=1_000_000),
    "claude-opus-4-7": Model(128_000, "none", window=1_000_000),
    "claude-opus-4-8": Model(128_000, "none", window=1_000_000),
    "claude-haiku-5-5": Model(64_000, "none"),
    "claude-sonnet-5": Model(128_000, "none", window=1_000_000),
    "claude-sonnet-5-5": Model(128_000, "none"),
    "claude-opus-5": Model(128_000, "none", window=1_000_000),
    "claude-opus-5-5": Model(128_000, "none"),
    "claude-fable-5": Model(128_000, "none"),
}
_STOP = {"stop": "end_turn", "length": "max_tokens", "refusal": "refusal"}


def error(status: int, kind: str, message: str) -> Refusal:
    """An error in Anthropic's form."""
    return Refusal(status, {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_sim"})


def key_of(headers: Mapping[str, str]) -> str:
    """The API key; a Refusal if there is none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    key = headers.get("x-api-key", "").strip() or (token.strip() if scheme.lower() == "bearer" else "")
    if not key:
        raise error(401, "authentication_error", "x-api-key header is required")
    return key


def _bad(message: str) -> Refusal:
    return error(400, "invalid_request_error", message)


def parse(body: Any, headers: Mapping[str, str]) -> Call:
    """A request taken apart and checked as Anthropic checks it."""
    key = key_of(headers)
    if "anthropic-version" not in headers:
        raise _bad("anthropic-version: header is required")
    if not isinstance(body, dict):
        raise _bad("The request body is not valid JSON")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise _bad("model: Field required")
    known = model_of("anthropic", model)
    if known is None:
        raise error(404, "not_found_error", f"model: {model}")
    _check_sampling(body, model, known.sampling)
    max_tokens = _max_tokens(body, model, known.max_output_tokens)
    call = Call(
        provider="anthropic",
        api="messages",
        model=model,
        key=key,
        idempotency_key=headers.get("idempotency-key"),
        system=_text(body.get("system") or "", "system"),
        user=_messages_text(body.get("messages")),
        max_tokens=max_tokens,
        stream=bool(body.get("stream")),
        options=anthropic_options.options_in(model, body, max_tokens),
        schema=_schema(body, model, takes_schema=known.schema),
    )
    if exceeds_window(known, call.input_tokens, call.max_tokens):
        raise _too_long(call, known.window or 0)
    return call


def _too_long(call: Call, window: int) -> Refusal:
    if call.input_tokens > window:
        return _bad(f"prompt is too long: {call.input_tokens} tokens > {window} maximum")
    return _bad(
        f"input length and `max_tokens` exceed context limit: {call.input_tokens} + {call.max_tokens} > {window}, "
        "decrease input length or `max_tokens` and try again"
    )


#: Keywords that are refused, by type. Source: Anthropic "Structured outputs", JSON Schema limitations.
_NOT_TAKEN = {
    "integer": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "string": ("minLength", "maxLength"),
    "array": ("maxItems", "uniqueItems"),
}


def _schema(body: Mapping[str, Any], model: str, *, takes_schema: bool) -> dict[str, Any] | None:
    config = body.get("output_config") or {}
    if not isinstance(config, dict):
        raise _bad("output_config: Input should be a valid dictionary")
    wanted = config.get("format")
    if wanted is None:
        return None
    if not takes_schema:
        raise _bad(f"'{model}' does not support output format.")
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        raise _bad("output_config.format.type: Input should be 'json_schema'")
    schema = wanted.get("schema")
    if not isinstance(schema, dict):
        raise _bad("output_config.format.schema: Field required")
    _check_schema(schema)
    return schema


def _check_schema(schema: Any) -> None:
    if isinstance(schema, list):
        for part in schema:
            _check_schema(part)
    if not isinstance(schema, dict):
        return
    kind = schema.get("type")
    if kind == "object" and schema.get("additionalProperties") is not False:
        raise _bad(
            "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to "
            "false"
        )
    refused = [name for name in _NOT_TAKEN.get(str(kind), ()) if name in schema]
    if refused:
        raise _bad(
            f"output_config.format.schema: For '{kind}' type, properties {', '.join(refused)} are not supported"
        )
    for name in ("properties", "$defs", "definitions"):
        for part in (schema.get(name) or {}).values():
            _check_schema(part)
    for name in ("items", "anyOf", "allOf"):
        _check_schema(schema.get(name))


def _max_tokens(body: Mapping[str, Any], model: str, most: int) -> int:
    value = body.get("max_tokens")
    if value is None:
        raise _bad("max_tokens: Field required")
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _bad("max_tokens: Input should be greater than or equal to 1")
    if value > most:
        raise _bad(
            f"max_tokens: {value} > {most}, which is the maximum allowed number of output tokens for {model}"
        )
    return value


def _check_sampling(body: Mapping[str, Any], model: str, sampling: str) -> None:
    given = [name for name in ("temperature", "top_p") if body.get(name) is not None]
    if sampling == "none" and given:
        raise _bad(f"{given[0]}: Extra inputs are not permitted")
    for name in given:
        value = body[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise _bad(f"{name}: range: 0..1")
    if sampling == "one" and len(given) == 2:
        raise _bad("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")


def _text(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    raise _bad(f"{where}: Input should be a valid string or list")


def _messages_text(messages: Any) -> str:
    if not isinstance(messages, list) or not messages:
        raise _bad("messages: at least one message is required")
    texts = []
    for place, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in ("user", "assistant"):
            raise _bad(f"messages.{place}.role: Input should be 'user' or 'assistant'")
        text = _text(message.get("content"), f"messages.{place}.content")
        if not text:
            raise _bad(f"messages.{place}: user messages must have non-empty content")
        texts.append(text)
    return "\n".join(texts)


def rate_headers(readings: Mapping[Kind, Reading]) -> dict[str, str]:
    """``anthropic-ratelimit-*``."""
    headers = {}
    names: dict[Kind, str] = {
        "requests": "requests",
        "input_tokens": "input-tokens",
        "output_tokens": "output-tokens",
    }
    for kind, name in names.items():
        if reading := readings.get(kind):
            headers[f"anthropic-ratelimit-{name}-limit"] = f"{reading.limit:.0f}"
            headers[f"anthropic-ratelimit-{name}-remaining"] = f"{reading.remaining:.0f}"
            headers[f"anthropic-ratelimit-{name}-reset"] = rfc3339(reading.reset_seconds)
    return headers


def over_limit(call: Call, over: OverLimit) -> Refusal:
    """The 429 of a bucket without room, or of a request that none ever has room for."""
    what = over.kind.replace("_", " ")
    message = f"This request would exceed your organization's rate limit of {over.limit:.0f} {what} per minute."
    refused = error(429, "rate_limit_error", message)
    if over.wait_seconds is not None:
        refused.headers = retry_after_headers(max(-(-over.wait_seconds // 1), 1.0), "seconds")
    return refused


def refusal(kind: str, call: Call, retry_after: float | None, form: str) -> Refusal:
    """A scripted error."""
    rising = "Your request rate has increased too quickly (acceleration limit). Please ramp up gradually."
    made = {
        "429": error(429, "rate_limit_error", "This request would exceed your organization's rate limit."),
        "500": error(500, "api_error", "Internal server error"),
        "503": error(503, "api_error", "Service unavailable"),
        "529": error(529, "overloaded_error", "Overloaded"),
        "401": error(401, "authentication_error", "invalid x-api-key"),
        "revoked_key": error(401, "authentication_error", "invalid x-api-key"),
        "403": error(403, "permission_error", "Your API key does not have permission to use this resource."),
        "404": error(404, "not_found_error", f"model: {call.model}"),
        "400": error(400, "invalid_request_error", "messages: Input should be valid"),
        "quota": error(402, "billing_error", "Your organization's spend limit is reached."),
        "day_quota": error(402, "billing_error", "Your organization's spend limit is reached."),
        "slow_down": error(429, "rate_limit_error", rising),
    }[kind]
    made.headers = retry_after_headers(retry_after, form)
    return made


def _usage(call: Call, output_tokens: int) -> dict[str, Any]:
    return {
        "input_tokens": call.input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output_tokens,
        "service_tier": "standard",
    }


def body(call: Call, answer: Answer, number: str) -> dict[str, Any]:
    """A Message."""
    return {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": call.model,
        "content": _blocks(call, answer),
        "stop_reason": _stop_reason(answer),
        "stop_sequence": answer.stopped_by,
        "usage": _usage(call, answer.output_tokens),
    }


def _stop_reason(answer: Answer) -> str:
    return "stop_sequence" if answer.stopped_by is not None else _STOP[answer.finish]


def _blocks(call: Call, answer: Answer) -> list[dict[str, Any]]:
    """The blocks of the content: what it thought, then the text."""
    thought = {
        "type": "thinking",
        "thinking": THOUGHT if call.options.thoughts else "",
        "signature": "W1NJTVVMQVRPUl0=",
    }
    thinking = [thought] if answer.thinking_tokens else []
    return [*thinking, *([{"type": "text", "text": answer.text}] if answer.text else [])]


def _event(name: str, value: Mapping[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name} | dict(value), ensure_ascii=False)}\n\n".encode()


def events(call: Call, answer: Answer, number: str) -> list[bytes]:
    """The stream of a Message, one list item an event."""
    began = body(call, answer, number) | {"content": [], "stop_reason": None, "usage": _usage(call, 1)}
    ended = {"stop_reason": _stop_reason(answer), "stop_sequence": answer.stopped_by}
    blocks = _blocks(call, answer) or [{"type": "text", "text": ""}]
    return [
        _event("message_start", {"message": began}),
        _event("ping", {}),
        *(event for index, block in enumerate(blocks) for event in _block_events(index, block)),
        _event("message_delta", {"delta": ended, "usage": {"output_tokens": answer.output_tokens}}),
        _event("message_stop", {}),
    ]


def _block_events(index: int, block: dict[str, Any]) -> list[bytes]:
    """One block of a stream."""
    if block["type"] == "thinking":
        empty = block | {"thinking": "", "signature": ""}
        thought = [{"type": "thinking_delta", "thinking": block["thinking"]}] if block["thinking"] else []
        deltas = [*thought, {"type": "signature_delta", "signature": block["signature"]}]
    else:
        empty = block | {"text": ""}
        deltas = [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])]
    return [
        _event("content_block_start", {"index": index, "content_block": empty}),
        *(_event("content_block_delta", {"index": index, "delta": delta}) for delta in deltas),
        _event("content_block_stop", {"index": index}),
    ]


_WIRE = Wire(rate_headers, over_limit, refusal, body, events, request_id_header="request-id")


def _addresses(engine: Engine) -> list[Address]:
    async def messages(request: Request) -> Response:
        return await engine.serve(_WIRE, parse(await body_of(request), request.headers), request)

    return [
        Address("POST", "/v1/messages", messages),
        Address("GET", "/v1/models", _list_models, header="anthropic-version"),
    ]


async def _list_models(request: Request) -> Response:
    key_of(request.headers)
    listed = [{"type": "model", "id": name, "display_name": name} for name in _MODELS]
    return JSONResponse({"data": listed, "has_more": False, "first_id": None, "last_id": None})


def _charges(call: Call) -> dict[Kind, float]:
    """Input and output apart; of the output, what it is likely to be."""
    return {
        "requests": 1.0,
        "input_tokens": float(call.input_tokens),
        "output_tokens": float(min(call.max_tokens or 0, 1_000)),
    }


VENDOR = SimulatedVendor(_addresses, _MODELS, _charges, settles_output=True)
