"""The simulator's addresses: the three providers', and its own controls."""

import functools
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet.devstack.simulator.background import Backgrounds, Form, wants_background
from fleet.devstack.simulator.calls import Refusal
from fleet.devstack.simulator.engine import Engine, Wire
from fleet.devstack.simulator.latency import number
from fleet.devstack.simulator.models import MODELS
from fleet.devstack.simulator.wires import anthropic, gemini, openai
from fleet.devstack.simulator.wires import gemini_interactions as interactions

Handler = Callable[[Request], Awaitable[Response]]
#: Header of every answer: the call is simulated, so nothing is paid for it.
SIMULATED = (b"x-simulator", b"true")
NOTICE = (
    "This is a simulator of OpenAI, Anthropic and Gemini. No text from here was written by a model, and no call "
    "costs anything. Any key is taken but one with the word revoked in it. Controls: GET/DELETE /ledger, "
    "GET/POST/DELETE /faults, GET/PUT /limits, PUT /latency, PUT /tenant, GET /stats.\n"
)

_RESPONSES = Wire(
    openai.rate_headers, openai.over_limit, openai.refusal, openai.responses_body, openai.responses_events
)
_CHAT = Wire(
    openai.rate_headers,
    openai.over_limit,
    openai.refusal,
    openai.chat_body,
    functools.partial(openai.chat_events, with_usage=False),
)
_CHAT_WITH_USAGE = Wire(
    openai.rate_headers,
    openai.over_limit,
    openai.refusal,
    openai.chat_body,
    functools.partial(openai.chat_events, with_usage=True),
)
_MESSAGES = Wire(
    anthropic.rate_headers,
    anthropic.over_limit,
    anthropic.refusal,
    anthropic.body,
    anthropic.events,
    request_id_header="request-id",
)
_GENERATE = Wire(lambda readings: {}, gemini.over_limit, gemini.refusal, gemini.body, gemini.events)
_INTERACTION = Wire(
    lambda readings: {}, interactions.over_limit, interactions.refusal, interactions.body, gemini.events
)
_BACKGROUND_RESPONSES = Form(
    replace(_RESPONSES, body=functools.partial(openai.responses_body, status="queued")),
    lambda request: openai.key_of(request.headers),
    lambda *shown: openai.responses_body(*shown) | {"background": True},
    openai.not_found,
    openai.deleted,
)
_BACKGROUND_INTERACTIONS = Form(
    replace(_INTERACTION, body=functools.partial(interactions.body, status="in_progress")),
    lambda request: gemini.key_of(request.headers, request.query_params),
    interactions.body,
    interactions.not_found,
    interactions.deleted,
)


def create_app(engine: Engine) -> Starlette:
    """The ASGI application around an engine."""
    routes = [*_provider_routes(engine), *_control_routes(engine)]
    return Starlette(routes=routes, middleware=[Middleware(_Marked)])


class _Marked:
    """Adds the header that says that an answer is simulated."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, with the header."""

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), SIMULATED]
            await send(message)

        await self._app(scope, receive, send_marked)


async def _json(request: Request) -> Any:
    """The body, None where it is no JSON."""
    try:
        return json.loads(await request.body())
    except (ValueError, UnicodeDecodeError):
        return None


def _refusing(handler: Handler) -> Handler:
    """A handler whose Refusals become answers."""

    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except Refusal as refused:
            return JSONResponse(refused.body, refused.status, refused.headers)

    return handle


#: Method, path and handler of each address of a provider.
Addresses = list[tuple[str, str, Handler]]


def _provider_routes(engine: Engine) -> list[Route]:
    async def messages(request: Request) -> Response:
        return await engine.serve(_MESSAGES, anthropic.parse(await _json(request), request.headers), request)

    addresses: Addresses = [
        *_openai_addresses(engine),
        ("POST", "/v1/messages", messages),
        *_gemini_addresses(engine),
        ("GET", "/v1/models", _list_models),
    ]
    return [Route(path, _refusing(handler), methods=[method]) for method, path, handler in addresses]


def _openai_addresses(engine: Engine) -> Addresses:
    made = Backgrounds(engine, _BACKGROUND_RESPONSES)

    async def responses(request: Request) -> Response:
        body = await _json(request)
        call = openai.parse("responses", _provider(request), body, request.headers)
        if wants_background(body):
            return await made.start(call, request)
        return await engine.serve(_RESPONSES, call, request)

    async def chat(request: Request) -> Response:
        body = await _json(request)
        call = openai.parse("chat", _provider(request), body, request.headers)
        options = body.get("stream_options") or {}
        wire = _CHAT_WITH_USAGE if options.get("include_usage") else _CHAT
        return await engine.serve(wire, call, request)

    return [
        ("POST", "/v1/responses", responses),
        ("POST", "/{provider}/v1/responses", responses),
        ("POST", "/v1/chat/completions", chat),
        ("POST", "/{provider}/v1/chat/completions", chat),
        ("POST", "/v1/responses/{id}/cancel", made.cancel),
        ("GET", "/v1/responses/{id}", made.show),
        ("GET", "/{provider}/v1/responses/{id}", made.show),
        ("DELETE", "/v1/responses/{id}", made.delete),
    ]


def _gemini_addresses(engine: Engine) -> Addresses:
    made = Backgrounds(engine, _BACKGROUND_INTERACTIONS)

    async def generate(request: Request) -> Response:
        model, _, method = request.path_params["model"].rpartition(":")
        if method not in ("generateContent", "streamGenerateContent"):
            return PlainTextResponse("Not Found", 404)
        stream = method == "streamGenerateContent"
        query = request.query_params
        call = gemini.parse(model, await _json(request), request.headers, query, stream=stream)
        return await engine.serve(_GENERATE, call, request)

    async def interact(request: Request) -> Response:
        body = await _json(request)
        call = interactions.parse(body, request.headers, request.query_params)
        if wants_background(body):
            return await made.start(call, request)
        return await engine.serve(_INTERACTION, call, request)

    return [
        ("POST", "/v1beta/models/{model:path}", generate),
        ("GET", "/v1beta/models", _list_gemini_models),
        ("POST", "/v1beta/interactions", interact),
        ("POST", "/v1beta/interactions/{id}/cancel", made.cancel),
        ("GET", "/v1beta/interactions/{id}", made.show),
        ("DELETE", "/v1beta/interactions/{id}", made.delete),
    ]


def _provider(request: Request) -> str:
    name: str = request.path_params.get("provider", "openai")
    return name


async def _list_models(request: Request) -> Response:
    """OpenAI and Anthropic share this address; Anthropic's clients send their version along."""
    if "anthropic-version" in request.headers:
        anthropic.key_of(request.headers)
        listed = [{"type": "model", "id": name, "display_name": name} for name in MODELS["anthropic"]]
        return JSONResponse({"data": listed, "has_more": False, "first_id": None, "last_id": None})
    openai.key_of(request.headers)
    entries = [{"id": name, "object": "model", "created": 0, "owned_by": "openai"} for name in MODELS["openai"]]
    return JSONResponse({"object": "list", "data": entries})


async def _list_gemini_models(request: Request) -> Response:
    gemini.key_of(request.headers, request.query_params)
    methods = ["generateContent", "streamGenerateContent"]
    models = [{"name": f"models/{name}", "supportedGenerationMethods": methods} for name in MODELS["gemini"]]
    return JSONResponse({"models": models})


def _controlling(change: Callable[[dict[str, Any]], object]) -> Handler:
    """A control that takes a JSON object; what it raises as ValueError becomes a 400 with that message."""

    async def handle(request: Request) -> Response:
        body = await _json(request)
        if not isinstance(body, dict):
            return JSONResponse({"error": "the body must be a JSON object"}, 400)
        try:
            change(body)
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 400)
        return JSONResponse({"ok": True})

    return handle


def _named(body: dict[str, Any]) -> str:
    provider = body.get("provider")
    if not isinstance(provider, str) or not provider:
        raise ValueError("provider must be named")
    return provider


def _control_routes(engine: Engine) -> list[Route]:
    elsewhere: list[str] = []

    def set_latency(body: dict[str, Any]) -> None:
        name = _named(body)
        engine.latencies[name] = engine.latency_of(name).changed(body)

    async def ledger(request: Request) -> Response:
        if request.method == "DELETE":
            engine.ledger.clear()
        return Response(engine.ledger.to_json(), media_type="application/json")

    async def faults(request: Request) -> Response:
        if request.method == "DELETE":
            engine.faults.clear()
        return JSONResponse({"faults": engine.faults.shown()})

    async def limits(request: Request) -> Response:
        return JSONResponse({"limits": engine.limits.shown(), "buckets": engine.limits.levels()})

    async def stats(request: Request) -> Response:
        mean = engine.overhead_seconds / engine.calls if engine.calls else 0.0
        return JSONResponse(
            {"calls": engine.calls, "overhead_seconds_per_call": round(mean, 6), "elsewhere": elsewhere}
        )

    async def redirected(request: Request) -> Response:
        elsewhere.extend(name for name in request.headers if "key" in name or name == "authorization")
        return PlainTextResponse("you were redirected here")

    async def notice(request: Request) -> Response:
        return PlainTextResponse(NOTICE)

    set_faults = _controlling(engine.faults.add)
    set_limits = _controlling(lambda body: engine.limits.set(_named(body), body.get("model"), body))
    set_tenant = _controlling(lambda body: engine.limits.set_tenant(_named(body), number("rpm", body.get("rpm"))))
    return [
        Route("/", notice),
        Route("/health", notice),
        Route("/ledger", ledger, methods=["GET", "DELETE"]),
        Route("/faults", faults, methods=["GET", "DELETE"]),
        Route("/faults", set_faults, methods=["POST"]),
        Route("/limits", limits, methods=["GET"]),
        Route("/limits", set_limits, methods=["PUT"]),
        Route("/latency", _controlling(set_latency), methods=["PUT"]),
        Route("/tenant", set_tenant, methods=["PUT"]),
        Route("/stats", stats),
        Route("/elsewhere", redirected, methods=["GET", "POST"]),
    ]
