"""OpenAI's wire: the Responses API as requests, answers, streams and errors; of chat completions, the requests."""

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fleet.devstack.simulator.answer_text import pieces
from fleet.devstack.simulator.background import Backgrounds, Form, wants_background
from fleet.devstack.simulator.calls import Answer, Call, Refusal
from fleet.devstack.simulator.engine import Engine, Wire, body_of
from fleet.devstack.simulator.limits import Kind, OverLimit, Reading
from fleet.devstack.simulator.models import Model, exceeds_window
from fleet.devstack.simulator.vendors import Address, SimulatedVendor, model_of
from fleet.devstack.simulator.waits import go_duration, retry_after_headers
from fleet.devstack.simulator.wires import openai_chat, openai_formats, openai_options
from fleet.devstack.simulator.wires.openai_formats import error

Api = Literal["responses", "chat"]
_MODELS = {
    "gpt-3.5-turbo": Model(4_096, schema=False, window=16_385),
    "gpt-4": Model(8_192, schema=False, window=8_192),
    "gpt-4-turbo": Model(4_096, schema=False, window=128_000),
    "gpt-4o": Model(16_384, window=128_000),
    "gpt-4o-mini": Model(16_384, window=128_000),
    "gpt-4.1": Model(32_768, window=1_047_576),
    "gpt-4.1-mini": Model(32_768, window=1_047_576),
    "gpt-4.1-nano": Model(32_768, window=1_047_576),
    "gpt-5": Model(128_000, "none", window=272_000),
    "gpt-5-mini": Model(128_000, "none", window=272_000),
    "gpt-5-nano": Model(128_000, "none", window=272_000),
    "gpt-5.1": Model(128_000, "none", window=272_000),
    "gpt-5.4": Model(128_000, "none"),
    "gpt-5.4-mini": Model(128_000, "none", window=272_000),
    "gpt-5.5": Model(128_000, "none"),
    "gpt-6-sol": Model(128_000, "none"),
    "gpt-6-luna": Model(128_000, "none"),
    "gpt-6.2-sol": Model(128_000, "none"),
    "gpt-5-chat-latest": Model(16_384, window=128_000),
    "o1": Model(100_000, "none", window=200_000),
    "o3": Model(100_000, "none", window=200_000),
    "o3-mini": Model(100_000, "none", window=200_000),
    "o4-mini": Model(100_000, "none", window=200_000),
}

#: What is said of an input that exceeds the context window, and the parameter that it is in.
_TOO_LONG: dict[Api, tuple[str, str]] = {
    "responses": (
        "Your input exceeds the context window of this model. Please adjust your input and try again.",
        "input",
    ),
    "chat": (
        "This model's maximum context length is {window} tokens. However, your messages resulted in {tokens} "
        "tokens. Please reduce the length of the messages.",
        "messages",
    ),
}


def key_of(headers: Mapping[str, str]) -> str:
    """The API key; a Refusal if there is none."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise error(
            401,
            "You didn't provide an API key. You need to provide your API key in an Authorization header using "
            "Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
            "invalid_request_error",
        )
    return key.strip()


def parse(api: Api, provider: str, body: Any, headers: Mapping[str, str]) -> Call:
    """A request taken apart and checked as OpenAI checks it."""
    key = key_of(headers)
    if not isinstance(body, dict):
        raise error(400, "We could not parse the JSON body of your request.", "invalid_request_error")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise error(
            400, "you must provide a model parameter", "invalid_request_error", "missing_required_parameter"
        )
    known = model_of(provider, model)
    if known is None:
        message = f"The model `{model}` does not exist or you do not have access to it."
        raise error(404, message, "invalid_request_error", "model_not_found")
    system, user = _responses_text(body) if api == "responses" else _chat_text(body)
    _check_sampling(body, model, known.sampling)
    call = Call(
        provider=provider,
        api=api,
        model=model,
        key=key,
        idempotency_key=headers.get("idempotency-key"),
        system=system,
        user=user,
        max_tokens=_max_tokens(api, provider, body, known.max_output_tokens),
        stream=bool(body.get("stream")),
        options=openai_options.options_in(api, provider, model, body),
        schema=openai_formats.schema_in(api, body, model, takes_schema=known.schema),
    )
    if exceeds_window(known, call.input_tokens, call.max_tokens):
        raise _too_long(api, call, known)
    return call


def _too_long(api: Api, call: Call, known: Model) -> Refusal:
    says, param = _TOO_LONG[api]
    message = says.format(window=known.window, tokens=call.input_tokens)
    return error(400, message, "invalid_request_error", "context_length_exceeded", param)


def _check_sampling(body: Mapping[str, Any], model: str, sampling: str) -> None:
    for name, highest in (("temperature", 2), ("top_p", 1)):
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            message = f"Invalid type for '{name}': expected a decimal, but got something else instead."
            raise error(400, message, "invalid_request_error", "invalid_type", name)
        if not 0 <= value <= highest:
            message = f"Invalid '{name}': decimal out of range. Expected a value between 0 and {highest}."
            raise error(400, message, "invalid_request_error", "decimal_out_of_range", name)
        if sampling == "none" and value != 1:
            message = f"Unsupported parameter: '{name}' is not supported with the model {model}."
            raise error(400, message, "invalid_request_error", "unsupported_parameter", name)


def _max_tokens(api: Api, provider: str, body: Mapping[str, Any], most: int) -> int | None:
    names = ("max_output_tokens",) if api == "responses" else ("max_completion_tokens", "max_tokens")
    least = 16 if api == "responses" and provider == "openai" else 1
    for name in names:
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            message = f"Invalid '{name}': integer below minimum value. Expected a value >= {least}."
            raise error(400, message, "invalid_request_error", "integer_below_min_value", name)
        if value > most:
            message = f"{name} is too large: {value}. This model supports at most {most} completion tokens."
            raise error(400, message, "invalid_request_error", "invalid_value", name)
        return value
    return None


def _content_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    raise error(400, "Invalid type for 'content'.", "invalid_request_error", "invalid_type", "messages")


def _responses_text(body: Mapping[str, Any]) -> tuple[str, str]:
    given = body.get("input")
    if isinstance(given, list):
        given = "\n".join(_content_text(item.get("content")) for item in given if isinstance(item, dict))
    if not isinstance(given, str):
        message = "Missing required parameter: 'input'."
        raise error(400, message, "invalid_request_error", "missing_required_parameter", "input")
    return str(body.get("instructions") or ""), given


def _chat_text(body: Mapping[str, Any]) -> tuple[str, str]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(turn, dict) for turn in messages):
        message = "Invalid 'messages': empty array. Expected an array with minimum length 1."
        raise error(400, message, "invalid_request_error", "empty_array", "messages")
    texts: dict[bool, list[str]] = {True: [], False: []}
    for turn in messages:
        texts[turn.get("role") in ("system", "developer")].append(_content_text(turn.get("content")))
    return "\n".join(texts[True]), "\n".join(texts[False])


def rate_headers(readings: Mapping[Kind, Reading]) -> dict[str, str]:
    """``x-ratelimit-*``: requests, and tokens of both directions together."""
    headers = {}
    for kind, name in (("requests", "requests"), ("input_tokens", "tokens")):
        if reading := readings.get(kind):  # type: ignore[call-overload]
            headers[f"x-ratelimit-limit-{name}"] = f"{reading.limit:.0f}"
            headers[f"x-ratelimit-remaining-{name}"] = f"{reading.remaining:.0f}"
            headers[f"x-ratelimit-reset-{name}"] = go_duration(reading.reset_seconds)
    return headers


def over_limit(call: Call, over: OverLimit) -> Refusal:
    """The 429 of a bucket without room, or of a request that none ever has room for."""
    what = "requests" if over.kind == "requests" else "tokens"
    if over.wait_seconds is None:
        message = (
            f"Request too large for {call.model} on tokens per min (TPM): Limit {over.limit:.0f}, Requested "
            f"{over.requested:.0f}. The input or output tokens must be reduced in order to run successfully."
        )
        return error(429, message, what, "rate_limit_exceeded")
    message = (
        f"Rate limit reached for {call.model} on {what} per min: Limit {over.limit:.0f}. "
        f"Please try again in {go_duration(over.wait_seconds)}."
    )
    refusal = error(429, message, what, "rate_limit_exceeded")
    refusal.headers = retry_after_headers(max(over.wait_seconds, 0.001), "ms")
    return refusal


def refusal(kind: str, call: Call, retry_after: float | None, form: str) -> Refusal:
    """A scripted error."""
    wait = retry_after_headers(retry_after, form)
    spent = "You exceeded your current quota, please check your plan and billing details."
    made = {
        "429": error(429, f"Rate limit reached for {call.model}.", "requests", "rate_limit_exceeded"),
        "500": error(500, "The server had an error while processing your request.", "server_error"),
        "503": error(503, "The engine is currently overloaded, please try again later.", "server_error"),
        "529": error(529, "Overloaded.", "server_error"),
        "401": error(401, "Incorrect API key provided.", "invalid_request_error", "invalid_api_key"),
        "revoked_key": error(401, "Incorrect API key provided.", "invalid_request_error", "invalid_api_key"),
        "403": error(403, "Country, region, or territory not supported.", "request_forbidden"),
        "404": error(404, f"The model `{call.model}` does not exist.", "invalid_request_error", "model_not_found"),
        "400": error(400, "Invalid request.", "invalid_request_error", "invalid_value"),
        "quota": error(429, spent, "insufficient_quota", "insufficient_quota"),
        "day_quota": error(429, spent, "insufficient_quota", "insufficient_quota"),
        "slow_down": error(503, "Slow down.", "service_unavailable_error", "slow_down"),
    }[kind]
    made.headers = wait | ({"x-should-retry": "false"} if kind in ("quota", "day_quota") else {})
    return made


def _usage(call: Call, answer: Answer) -> dict[str, Any]:
    return {
        "input_tokens": call.input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": answer.output_tokens,
        "output_tokens_details": {"reasoning_tokens": answer.thinking_tokens},
        "total_tokens": call.input_tokens + answer.output_tokens,
    }


def responses_body(call: Call, answer: Answer, number: str, status: str | None = None) -> dict[str, Any]:
    """A Response object; ``status`` queued or in_progress for one that runs in the background."""
    part: dict[str, Any] = {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}
    if answer.finish == "refusal":
        part = {"type": "refusal", "refusal": answer.text}
    state = status or ("incomplete" if answer.finish == "length" else "completed")
    done = state in ("completed", "incomplete")
    message: dict[str, Any] = {
        "id": f"msg_{number}",
        "type": "message",
        "status": state,
        "role": "assistant",
        "content": [part],
    }
    output = [message] if answer.text or not answer.thinking_tokens else []
    if answer.thinking_tokens:
        output = [{"id": f"rs_{number}", "type": "reasoning", "summary": []}, *output]
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": int(time.time()),
        "status": state,
        "background": status is not None,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if answer.finish == "length" and done else None,
        "instructions": call.system or None,
        "max_output_tokens": call.max_tokens,
        "model": call.model,
        "output": output if done else [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "service_tier": "default",
        "usage": _usage(call, answer) if done else None,
        "metadata": {},
    }


def not_found(number: str) -> Refusal:
    """The error of a response that is not there, or not any more."""
    return error(404, f"Response with id '{number}' not found.", "invalid_request_error")


def deleted(number: str) -> dict[str, Any]:
    """What the deletion of a response is answered with."""
    return {"id": number, "object": "response", "deleted": True}


def _event(name: str, value: Mapping[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name} | dict(value), ensure_ascii=False)}\n\n".encode()


def responses_events(call: Call, answer: Answer, number: str) -> list[bytes]:
    """The stream of a Response, one list item an event."""
    body = responses_body(call, answer, number)
    began = body | {"status": "in_progress", "output": [], "usage": None}
    steps = [("response.created", {"response": began}), ("response.in_progress", {"response": began})]
    for index, item in enumerate(body["output"]):
        steps += _message_steps(item, index) if item["type"] == "message" else _reasoning_steps(item, index)
    steps.append((f"response.{body['status']}", {"response": body}))
    return [_event(name, value | {"sequence_number": place}) for place, (name, value) in enumerate(steps)]


_Steps = list[tuple[str, dict[str, Any]]]


def _reasoning_steps(item: dict[str, Any], index: int) -> _Steps:
    at = {"output_index": index, "item": item}
    return [("response.output_item.added", at), ("response.output_item.done", at)]


def _message_steps(item: dict[str, Any], index: int) -> _Steps:
    (part,) = item["content"]
    text = part.get("text", part.get("refusal", ""))
    at = {"item_id": item["id"], "output_index": index, "content_index": 0}
    empty_part = {"type": "output_text", "text": "", "annotations": []}
    added = {"output_index": index, "item": item | {"content": [], "status": "in_progress"}}
    return [
        ("response.output_item.added", added),
        ("response.content_part.added", at | {"part": empty_part}),
        *(("response.output_text.delta", at | {"delta": piece, "logprobs": []}) for piece in pieces(text)),
        ("response.output_text.done", at | {"text": text, "logprobs": []}),
        ("response.content_part.done", at | {"part": part}),
        ("response.output_item.done", {"output_index": index, "item": item}),
    ]


_RESPONSES = Wire(rate_headers, over_limit, refusal, responses_body, responses_events)
_CHAT = replace(_RESPONSES, body=openai_chat.body, events=partial(openai_chat.events, with_usage=False))
_CHAT_WITH_USAGE = replace(_CHAT, events=partial(openai_chat.events, with_usage=True))
_BACKGROUND = Form(
    replace(_RESPONSES, body=partial(responses_body, status="queued")),
    lambda request: key_of(request.headers),
    lambda *shown: responses_body(*shown) | {"background": True},
    not_found,
    deleted,
)


def _addresses(engine: Engine) -> list[Address]:
    """Its own; an added provider's begin with its name."""
    made = Backgrounds(engine, _BACKGROUND)

    async def responses(request: Request) -> Response:
        body = await body_of(request)
        call = parse("responses", _provider(request), body, request.headers)
        if wants_background(body):
            return await made.start(call, request)
        return await engine.serve(_RESPONSES, call, request)

    async def chat(request: Request) -> Response:
        body = await body_of(request)
        call = parse("chat", _provider(request), body, request.headers)
        options = body.get("stream_options") or {}
        wire = _CHAT_WITH_USAGE if options.get("include_usage") else _CHAT
        return await engine.serve(wire, call, request)

    return [
        Address("POST", "/v1/responses", responses),
        Address("POST", "/{provider}/v1/responses", responses),
        Address("POST", "/v1/chat/completions", chat),
        Address("POST", "/{provider}/v1/chat/completions", chat),
        Address("POST", "/v1/responses/{id}/cancel", made.cancel),
        Address("GET", "/v1/responses/{id}", made.show),
        Address("GET", "/{provider}/v1/responses/{id}", made.show),
        Address("DELETE", "/v1/responses/{id}", made.delete),
        Address("GET", "/v1/models", _list_models),
    ]


def _provider(request: Request) -> str:
    name: str = request.path_params.get("provider", "openai")
    return name


async def _list_models(request: Request) -> Response:
    key_of(request.headers)
    entries = [{"id": name, "object": "model", "created": 0, "owned_by": "openai"} for name in _MODELS]
    return JSONResponse({"object": "list", "data": entries})


def _charges(call: Call) -> dict[Kind, float]:
    """One bucket for all tokens: the larger of ``max_tokens`` and the input."""
    return {"requests": 1.0, "input_tokens": float(max(call.max_tokens or 0, call.input_tokens))}


VENDOR = SimulatedVendor(_addresses, _MODELS, _charges, charges_refused=True)
