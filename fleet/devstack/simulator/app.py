"""The simulator's addresses: all vendors', and its own controls."""

from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet.devstack.simulator.calls import Refusal
from fleet.devstack.simulator.engine import Engine, body_of
from fleet.devstack.simulator.latency import number
from fleet.devstack.simulator.vendors import Address, Handler, all_vendors

#: Header of every answer: the call is simulated, so nothing is paid for it.
SIMULATED = (b"x-simulator", b"true")
NOTICE = (
    "This is a simulator of LLM providers. No text from here was written by a model, and no call "
    "costs anything. Any key is taken but one with the word revoked in it. Controls: GET/DELETE /ledger, "
    "GET/POST/DELETE /faults, GET/PUT /limits, PUT /latency, PUT /tenant, GET /stats.\n"
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


def _refusing(handler: Handler) -> Handler:
    """A handler whose Refusals become answers."""

    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except Refusal as refused:
            return JSONResponse(refused.body, refused.status, refused.headers)

    return handle


def _provider_routes(engine: Engine) -> list[Route]:
    """A route for each method and path, whichever vendors have it."""
    sharing: dict[tuple[str, str], list[Address]] = {}
    for vendor in all_vendors().values():
        for address in vendor.addresses(engine):
            sharing.setdefault((address.method, address.path), []).append(address)
    return [
        Route(path, _refusing(_chosen_by_header(addresses)), methods=[method])
        for (method, path), addresses in sharing.items()
    ]


def _chosen_by_header(addresses: list[Address]) -> Handler:
    """The handler whose header a request has, else the one that needs none."""
    by_header = {address.header: address.handler for address in addresses}

    async def handle(request: Request) -> Response:
        sent = next((header for header in by_header if header and header in request.headers), "")
        handler = by_header.get(sent)
        return await handler(request) if handler else PlainTextResponse("Not Found", 404)

    return handle


def _controlling(change: Callable[[dict[str, Any]], object]) -> Handler:
    """A control that takes a JSON object; what it raises as ValueError becomes a 400 with that message."""

    async def handle(request: Request) -> Response:
        body = await body_of(request)
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
