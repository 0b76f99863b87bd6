"""The web application of the control process: health, status and metrics of this machine's part of the fleet; its
page."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from loguru import logger
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet.config import Settings
from fleet.control.health.observer import Observer, Snapshot
from fleet.control.health.prometheus import CONTENT_TYPE, metrics_of
from fleet.control.web import operations
from fleet.control.web.access import Access, Authentication, Caller, access_to, caller_of
from fleet.control.web.hosts import KnownHosts, asked_for, is_here
from fleet.control.web.login import login_routes, refused_page
from fleet.control.web.openapi import description, methods_of
from fleet.control.web.operations import EVENTS, HTML, JSON, MAX_RUNS
from fleet.control.web.operator_actions import act
from fleet.control.web.orders import order_in
from fleet.control.web.pipeline_detail import detail_of
from fleet.control.web.streams import MAX_VIEWERS, Pictures, Progresses, dumped
from fleet.errors import FleetError, InputError, OperationError, SettingsError

PAGE = Path(__file__).with_name("page")
_MEDIA_TYPES = {".html": HTML, ".js": "text/javascript", ".css": "text/css"}
_BAD_HOST = "the Host header is not a name or address. Remedy: send one, e.g. Host: localhost:8020"
_UNKNOWN_HOST = (
    "{} is not a name of this machine. Remedy: add it to FLEET_CONTROL_ALLOWED_HOSTS, `fleet roll control`"
)
_NOT_HERE = (
    "the page only answers requests from its own machine. Remedy: ssh -L 8020:127.0.0.1:8020 to it, then open "
    "http://localhost:8020"
)
_NO_READER = "log in first. Remedy: `fleet page` prints a link; or send a token, as `Authorization: Bearer TOKEN`"
_NO_OPERATOR = "the token is wrong or missing"
_SLOWED = "too many tokens were refused. Remedy: wait a few seconds"
_FAILED = "it could not be carried out. Remedy: see the control process's log"
_NO_PATH = "there is no such path. Remedy: /openapi.json lists them"
_NO_METHOD = "that method is not answered here. Remedy: use one of {}"
_TOO_LARGE = "the order is larger than {:,} bytes. Remedy: send a shorter one"
_NO_RUN = "no workflow_id was sent. Remedy: add ?workflow_id=ID (`fleet list`)"
_MANY_RUNS = f"more than {MAX_RUNS} runs were sent. Remedy: send several requests"
_TOO_MANY = f"{MAX_VIEWERS} viewers are connected already. Remedy: close pages that nobody looks at"
_HEALTH_AGE_SECONDS, _SCRAPE_AGE_SECONDS, _SCRAPE_PATIENCE_SECONDS = 0.5, 2.0, 0.5
_MAX_BODY_BYTES = 20_000
# Nothing from other origins and nothing inline: a script in an output stays text.
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Views:
    """What the routes use."""

    settings: Settings
    observer: Observer
    pictures: Pictures
    count_login: Callable[[str], None] = lambda outcome: None

    async def snapshot(self) -> Snapshot:
        """A snapshot recent enough for health checks."""
        return await self.observer.snapshot(_HEALTH_AGE_SECONDS)


def create_app(views: Views) -> ASGIApp:
    """``GET /health``: 200 or 503 with ``{"ok", "problems"}``. ``GET /ready``: 200 or 503 with ``{"ready",
    "waiting_for"}``: whether a pipeline started now would run. ``GET /status``: the JSON of ``fleet status
    --json``. ``GET /metrics``: Prometheus' text format. ``GET /``: the page, which uses ``/api/…``. Who may
    request what: :mod:`fleet.control.web.access`; strangers get reduced answers of the first three."""
    authentication = Authentication(views.settings, views.count_login)
    routes = [
        *_for_machines(views),
        *_for_the_page(views, authentication),
        *_for_one_pipeline(views),
        operations.ACT.route(_operated(views)),
        *login_routes(authentication),
    ]
    gate = Middleware(_Gate, authentication=authentication, settings=views.settings)
    # Around all of it, so that refusals and errors have the headers too.
    handlers = {HTTPException: _not_answered, ClientDisconnect: _gone, Exception: _failed}
    return _Headers(Starlette(routes=routes, middleware=[gate], exception_handlers=handlers))


async def _not_answered(request: Request, error: Exception) -> Response:
    """No operation has this path, or none this method of it."""
    if isinstance(error, HTTPException) and error.status_code == 405:
        methods = ", ".join(methods_of(request.scope["path"]))
        return JSONResponse({"error": _NO_METHOD.format(methods)}, 405, {"allow": methods})
    return JSONResponse({"error": _NO_PATH}, 404)


async def _failed(request: Request, error: Exception) -> Response:
    """A defect; the server logs it."""
    return JSONResponse({"error": _FAILED}, 500)


async def _gone(request: Request, error: Exception) -> Response:
    """The client left before its request was complete: nobody gets this answer."""
    return Response(status_code=408)


class _Gate:
    """Passes on the requests that have the access that their path needs, with their caller.

    Serves the page, which contains what pipelines wrote, only to this machine, whatever address the server
    listens on; requests through a tunnel come from this machine too, what a proxy forwards does not. On every path
    the Host header must be well-formed and name this machine (:mod:`fleet.control.web.hosts`)."""

    def __init__(self, app: ASGIApp, authentication: Authentication, settings: Settings) -> None:
        self._app = app
        self._authentication = authentication
        self._hosts = KnownHosts(settings)
        self._operable = settings.control_token is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on allowed requests."""
        if scope["type"] == "http" and (refusal := self._refusal(Request(scope))):
            return await refusal(scope, receive, send)
        return await self._app(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        name, access = asked_for(request.headers), access_to(request.scope["path"])
        if name is None:
            return JSONResponse({"error": _BAD_HOST}, 400)
        here = is_here(request, name)
        if not here and access not in (Access.OPEN, Access.PUBLIC):
            return JSONResponse({"error": _NOT_HERE}, 403)
        if not self._hosts.has(name):
            return JSONResponse({"error": _UNKNOWN_HOST.format(name)}, 403)
        if access in (Access.HERE, Access.PUBLIC) or (access is Access.OPERATE and not self._operable):
            return None  # the route itself refuses all orders where there is no token
        caller = self._authentication.caller(request, access, here=here)
        request.state.caller = caller
        allowed = access is Access.OPEN or (caller.operates if access is Access.OPERATE else caller.reads)
        if allowed:
            return None
        if request.scope["path"] == "/":
            return refused_page(request)
        return _unauthorised(caller, access)


def _unauthorised(caller: Caller, access: Access) -> JSONResponse:
    if caller.wait_seconds:
        return JSONResponse({"error": _SLOWED}, 429, {"retry-after": f"{caller.wait_seconds:.0f}"})
    error = _NO_OPERATOR if access is Access.OPERATE else _NO_READER
    return JSONResponse({"error": error}, 401, {"www-authenticate": "Bearer"})


class _Headers:
    """Adds the security headers to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on the application's response with these headers."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, sending)


def _for_machines(views: Views) -> list[Route]:
    async def health(request: Request) -> JSONResponse:
        found = (await views.snapshot()).status
        problems = found.problems() if caller_of(request).reads else found.public_problems()
        return JSONResponse({"ok": not problems, "problems": problems}, 503 if problems else 200)

    async def ready(request: Request) -> JSONResponse:
        found = (await views.snapshot()).status
        waiting = found.not_ready() if caller_of(request).reads else found.public_not_ready()
        return JSONResponse({"ready": not waiting, "waiting_for": waiting}, 503 if waiting else 200)

    async def status(request: Request) -> JSONResponse:
        found = (await views.snapshot()).status
        return JSONResponse(found.to_json() if caller_of(request).reads else found.to_public_json())

    async def metrics(request: Request) -> Response:
        snapshot = await views.observer.snapshot(_SCRAPE_AGE_SECONDS, _SCRAPE_PATIENCE_SECONDS)
        return Response(await metrics_of(views.settings, snapshot), media_type=CONTENT_TYPE)

    async def description_(request: Request) -> JSONResponse:
        return JSONResponse(await asyncio.to_thread(description, views.settings.control_port))

    return [
        operations.HEALTH.route(health),
        operations.READY.route(ready),
        operations.STATUS.route(status),
        operations.METRICS.route(metrics),
        operations.DESCRIPTION.route(description_),
    ]


def _for_the_page(views: Views, authentication: Authentication) -> list[Route]:
    pictures = views.pictures

    async def page(request: Request) -> Response:
        return await _page_file("index.html")

    async def page_file(request: Request) -> Response:
        return await _page_file(request.path_params["file"])

    async def state(request: Request) -> Response:
        await pictures.latest()
        return Response(pictures.state, media_type=JSON)

    async def pipelines(request: Request) -> Response:
        await pictures.latest()
        return Response(pictures.pipelines, media_type=JSON)

    async def events(request: Request) -> Response:
        if pictures.is_full:
            return JSONResponse({"error": _TOO_MANY}, 503, {"retry-after": "10"})
        if EVENTS not in request.headers.get("accept", "") or request.method == "HEAD":
            await pictures.latest()
            return Response(pictures.present(), media_type=EVENTS)
        return StreamingResponse(events_for(caller_of(request)), media_type=EVENTS)

    async def events_for(caller: Caller) -> AsyncIterator[str]:
        """Events until the caller's session ends."""
        async with aclosing(pictures.events()) as following:
            async for event in following:
                if not authentication.still_reads(caller):
                    return
                yield event

    return [
        operations.PAGE.route(page),
        operations.PAGE_FILE.route(page_file),
        operations.STATE.route(state),
        operations.PIPELINES.route(pipelines),
        operations.EVENTS_STREAM.route(events),
    ]


def _for_one_pipeline(views: Views) -> list[Route]:
    progresses = Progresses(views.observer, views.settings)

    async def progress(request: Request) -> Response:
        runs = request.query_params.getlist("run")
        if len(runs) > MAX_RUNS:
            return JSONResponse({"error": _MANY_RUNS}, 400)
        found = await asyncio.gather(*(progresses.of(*_run_of(run)) for run in runs))
        return Response(dumped(dict(zip(runs, found, strict=True))), media_type=JSON)

    async def pipeline(request: Request) -> Response:
        asked = request.query_params
        run = (asked.get("workflow_id", ""), asked.get("run_id", ""))
        if not run[0]:
            return JSONResponse({"error": _NO_RUN}, 400)
        if (client := await views.observer.client()) is None:
            return JSONResponse({"error": "Temporal is away. Remedy: see `fleet status`"}, 503)
        try:
            found = await detail_of(client, views.settings, *run, (await views.snapshot()).status)
        except OperationError as error:
            return JSONResponse({"error": str(error)}, 404)
        return Response(dumped(found), media_type=JSON)

    return [operations.PROGRESS.route(progress), operations.PIPELINE.route(pipeline)]


async def _page_file(name: str) -> Response:
    """A file of the page, whole: no ranges, and nothing outside of its folder."""
    media_type = _MEDIA_TYPES.get(Path(name).suffix)
    try:
        if media_type is None or "/" in name:
            raise FileNotFoundError
        return Response(await asyncio.to_thread((PAGE / name).read_bytes), media_type=media_type)
    except (OSError, ValueError):
        return JSONResponse({"error": _NO_PATH}, 404)


def _run_of(text: str) -> tuple[str, str]:
    workflow_id, _, run_id = text.rpartition("~")
    return workflow_id, run_id


def _operated(views: Views) -> Callable[[Request], Awaitable[JSONResponse]]:
    """``POST /api/act``: only for requests with the token."""

    async def operate(request: Request) -> JSONResponse:
        if views.settings.control_token is None:
            return JSONResponse({"error": "read-only. Remedy: set FLEET_CONTROL_TOKEN"}, 403)
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > _MAX_BODY_BYTES:
                return JSONResponse({"error": _TOO_LARGE.format(_MAX_BODY_BYTES)}, 413)
        try:
            said = await act(views.settings, views.observer, order_in(bytes(body)))
        except InputError as error:
            return JSONResponse({"error": str(error)}, 400)
        except (OperationError, SettingsError) as error:
            return JSONResponse({"error": str(error)}, 409)
        except FleetError as error:
            return JSONResponse({"error": str(error)}, 502)
        except Exception:
            logger.exception("an order from the page could not be carried out")
            return JSONResponse({"error": _FAILED}, 500)
        return JSONResponse({"ok": True, "said": said})

    return operate
