"""The backend's three endpoints."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from fleet.devstack.backend.database import api_key_of, assistants_of, connect

KeySource = Callable[[str], str | None]


def create_app(database: Path, keys: KeySource | None = None) -> Starlette:
    """The ASGI application on a database file; ``keys`` replaces the keys in the database."""

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
        key = (keys or stored_key)(request.path_params["provider"])
        return JSONResponse({"api_key": key or "Not found"})

    return Starlette(
        routes=[
            Route("/health", health),
            Route("/api/assistant/{project_id}", assistants),
            Route("/api-keys/{provider}", api_key),
        ]
    )
