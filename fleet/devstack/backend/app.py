"""The backend's three endpoints."""

import sqlite3
from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path
from secrets import compare_digest

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from fleet.devstack.backend.database import api_key_of, assistants_of, connect

KeySource = Callable[[str], str | None]


def create_app(
    database: Path, keys: KeySource | None = None, stored_for: Collection[str] = (), token: str = ""
) -> Starlette:
    """The ASGI application on a database file; ``keys`` replaces the keys in the database, but not those of the
    providers in ``stored_for``. With a ``token``, keys are only given to requests that bear it, and requests for
    other hosts than this one are refused: a web page could have a browser send them (DNS rebinding)."""

    def health(request: Request) -> JSONResponse:
        try:
            with closing(connect(database)) as connection:
                connection.execute("SELECT count(*) FROM Project").fetchone()
        except sqlite3.Error as error:
            return JSONResponse({"status": "error", "database": str(error)}, 503)
        return JSONResponse({"status": "ok"})

    def assistants(request: Request) -> JSONResponse:
        with closing(connect(database)) as connection:
            found = assistants_of(connection, request.path_params["project_id"])
        return JSONResponse({"detail": "Project not found"}, 404) if found is None else JSONResponse(found)

    def stored_key(provider: str) -> str | None:
        with closing(connect(database)) as connection:
            return api_key_of(connection, provider)

    def api_key(request: Request) -> JSONResponse:
        if token and not compare_digest(
            request.headers.get("authorization", "").encode(), f"Bearer {token}".encode()
        ):
            return JSONResponse({"detail": "the token of this fleet is required"}, 401)
        provider = request.path_params["provider"]
        key = keys(provider) if keys and provider not in stored_for else stored_key(provider)
        return JSONResponse({"api_key": key or "Not found"})

    hosts = [Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])]
    return Starlette(
        routes=[
            Route("/health", health),
            Route("/api/assistant/{project_id}", assistants),
            Route("/api-keys/{provider}", api_key),
        ],
        middleware=hosts if token else [],
    )
