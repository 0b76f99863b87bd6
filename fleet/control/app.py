"""What the control process serves: health and status of this machine's part of the fleet."""

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fleet.control.metrics import CONTENT_TYPE
from fleet.control.status import FleetStatus

StatusSource = Callable[[], Awaitable[FleetStatus]]


def create_app(status: StatusSource, metrics: Callable[[], Awaitable[bytes]]) -> Starlette:
    """``GET /health``: 200 or 503 with ``{"ok", "problems"}``. ``GET /ready``: 200 or 503 with ``{"ready",
    "waiting_for"}``: whether a pipeline that is started now would run. ``GET /status``: as ``fleet status
    --json``.
    ``GET /metrics``: in Prometheus' text form."""

    async def health(request: Request) -> JSONResponse:
        problems = (await status()).problems()
        return JSONResponse({"ok": not problems, "problems": problems}, 503 if problems else 200)

    async def ready(request: Request) -> JSONResponse:
        waiting = (await status()).not_ready()
        return JSONResponse({"ready": not waiting, "waiting_for": waiting}, 503 if waiting else 200)

    async def show(request: Request) -> JSONResponse:
        return JSONResponse((await status()).to_json())

    async def measure(request: Request) -> Response:
        return Response(await metrics(), media_type=CONTENT_TYPE)

    routes = [Route("/health", health), Route("/ready", ready), Route("/status", show), Route("/metrics", measure)]
    return Starlette(routes=routes)
