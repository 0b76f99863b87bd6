"""Gemini's wire: generateContent as requests, answers and streams, and all addresses."""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from fleet.devstack.simulator.answer_json import is_schema
from fleet.devstack.simulator.answer_text import THOUGHT, pieces
from fleet.devstack.simulator.background import Backgrounds, Form, wants_background
from fleet.devstack.simulator.calls import Answer, Call, tokens_of
from fleet.devstack.simulator.engine import Engine, Wire, body_of
from fleet.devstack.simulator.limits import Kind
from fleet.devstack.simulator.models import Model, exceeds_window
from fleet.devstack.simulator.vendors import Address, SimulatedVendor, model_of
from fleet.devstack.simulator.wires import gemini_interactions as interactions
from fleet.devstack.simulator.wires import gemini_options
from fleet.devstack.simulator.wires.gemini_errors import error, key_of, over_limit, refusal, too_long

_MODELS = {
    "gemini-1.5-flash": Model(8_192, window=1_048_576),
    "gemini-1.5-pro": Model(8_192, window=2_097_152),
    "gemini-2.0-flash": Model(8_192, window=1_048_576),
    "gemini-2.5-flash": Model(65_536, window=1_048_576),
    "gemini-2.5-flash-lite": Model(65_536, window=1_048_576),
    "gemini-2.5-pro": Model(65_536, window=1_048_576),
    "gemini-3-pro": Model(65_536, window=1_048_576),
    "gemini-3-flash": Model(65_536, window=1_048_576),
    "gemini-3.5-flash": Model(65_536, window=1_048_576),
    "gemini-3.5-flash-lite": Model(65_536, window=1_048_576),
}
_FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "refusal": "SAFETY"}


def parse(model: str, body: Any, headers: Mapping[str, str], query: Mapping[str, str], *, stream: bool) -> Call:
    """A request taken apart and checked as Google checks it."""
    key = key_of(headers, query)
    if not isinstance(body, dict):
        raise error(400, "Invalid JSON payload received.")
    known = model_of("gemini", model)
    if known is None:
        raise error(
            404,
            f"models/{model} is not found for API version v1beta, or is not supported for generateContent. Call "
            "ListModels to see the list of available models and their supported methods.",
        )
    config = _field(body, "generationConfig") or {}
    gemini_options.refuse_unknown(body, config, error)
    call = Call(
        provider="gemini",
        api="generate_content",
        model=model,
        key=key,
        idempotency_key=headers.get("idempotency-key"),
        system=_parts_text(_field(body, "systemInstruction") or {}),
        user=_contents_text(body.get("contents")),
        max_tokens=_max_tokens(config, known.max_output_tokens),
        stream=stream,
        options=gemini_options.options_in(model, config, _field, error),
        schema=_schema(config),
    )
    if exceeds_window(known, call.input_tokens, call.max_tokens):
        raise error(400, too_long(call, known))
    return call


def _schema(config: Mapping[str, Any]) -> dict[str, Any] | None:
    schema = _field(config, "responseJsonSchema")
    kind = _field(config, "responseMimeType")
    if schema is None:
        return None
    if kind != "application/json":
        raise error(
            400,
            "* GenerateContentRequest.generation_config.response_json_schema: only allowed when "
            "response_mime_type is 'application/json'\n",
        )
    if _field(config, "responseSchema") is not None:
        raise error(400, "response_schema and response_json_schema cannot both be set.")
    if not is_schema(schema):
        raise error(400, 'Invalid value at "generation_config.response_json_schema".')
    return dict(schema)


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


def _usage(call: Call, output_tokens: int, thinking_tokens: int) -> dict[str, Any]:
    system, user = tokens_of(call.system), tokens_of(call.user)
    thoughts = {"thoughtsTokenCount": thinking_tokens} if thinking_tokens else {}
    return thoughts | {
        "promptTokenCount": call.input_tokens,
        "candidatesTokenCount": output_tokens - thinking_tokens,
        "totalTokenCount": call.input_tokens + output_tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": system + user}],
    }


def _response(
    call: Call, number: str, text: str, finish: str | None, usage: dict[str, Any], *, thought: bool
) -> dict[str, Any]:
    thoughts = [{"text": THOUGHT, "thought": True}] if thought else []
    candidate: dict[str, Any] = {"content": {"parts": [*thoughts, {"text": text}], "role": "model"}, "index": 0}
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
    usage = _usage(call, answer.output_tokens, answer.thinking_tokens)
    thought = call.options.thoughts and answer.thinking_tokens > 0
    return _response(call, number, answer.text, _FINISH[answer.finish], usage, thought=thought)


def events(call: Call, answer: Answer, number: str) -> list[bytes]:
    """The stream of a GenerateContentResponse."""
    parts = pieces(answer.text)
    chunks = []
    for place, piece in enumerate(parts):
        last = place == len(parts) - 1
        usage = _usage(call, answer.output_tokens, answer.thinking_tokens) if last else _usage(call, 0, 0)
        finish = _FINISH[answer.finish] if last else None
        thought = not place and call.options.thoughts and answer.thinking_tokens > 0
        chunks.append(_response(call, number, piece, finish, usage, thought=thought))
    return [f"data: {json.dumps(chunk, ensure_ascii=False)}\r\n\r\n".encode() for chunk in chunks]


_GENERATE = Wire(lambda readings: {}, over_limit, refusal, body, events)
_INTERACTION = Wire(lambda readings: {}, interactions.over_limit, interactions.refusal, interactions.body, events)
_BACKGROUND = Form(
    replace(_INTERACTION, body=partial(interactions.body, status="in_progress")),
    lambda request: key_of(request.headers, request.query_params),
    interactions.body,
    interactions.not_found,
    interactions.deleted,
)


def _addresses(engine: Engine) -> list[Address]:
    made = Backgrounds(engine, _BACKGROUND)

    async def generate(request: Request) -> Response:
        model, _, method = request.path_params["model"].rpartition(":")
        if method not in ("generateContent", "streamGenerateContent"):
            return PlainTextResponse("Not Found", 404)
        stream = method == "streamGenerateContent"
        call = parse(model, await body_of(request), request.headers, request.query_params, stream=stream)
        return await engine.serve(_GENERATE, call, request)

    async def interact(request: Request) -> Response:
        body = await body_of(request)
        call = interactions.parse(body, request.headers, request.query_params)
        if wants_background(body):
            return await made.start(call, request)
        return await engine.serve(_INTERACTION, call, request)

    return [
        Address("POST", "/v1beta/models/{model:path}", generate),
        Address("GET", "/v1beta/models", _list_models),
        Address("POST", "/v1beta/interactions", interact),
        Address("POST", "/v1beta/interactions/{id}/cancel", made.cancel),
        Address("GET", "/v1beta/interactions/{id}", made.show),
        Address("DELETE", "/v1beta/interactions/{id}", made.delete),
    ]


async def _list_models(request: Request) -> Response:
    key_of(request.headers, request.query_params)
    methods = ["generateContent", "streamGenerateContent"]
    models = [{"name": f"models/{name}", "supportedGenerationMethods": methods} for name in _MODELS]
    return JSONResponse({"models": models})


def _charges(call: Call) -> dict[Kind, float]:
    """Requests and input a minute, requests a day."""
    return {"requests": 1.0, "requests_per_day": 1.0, "input_tokens": float(call.input_tokens)}


VENDOR = SimulatedVendor(_addresses, _MODELS, _charges)
