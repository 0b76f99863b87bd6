"""The backend's three endpoints."""

import sqlite3
from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from fleet.devstack.backend.database import api_key_of, assistants_of, connect

KeySource = Callable[[str], str | None]


def create_app(database: Path, keys: KeySource | None = None, stored_for: Collection[str] = ()) -> Starlette:
    """The ASGI application on a database file; ``keys`` replaces the keys in the database, but not those of the
    providers in ``stored_for``."""

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
        provider = request.path_params["provider"]
        key = keys(provider) if keys and provider not in stored_for else stored_key(provider)
        return JSONResponse({"api_key": key or "Not found"})

    return Starlette(
        routes=[
            Route("/health", health),
            Route("/api/assistant/{project_id}", assistants),
            Route("/api-keys/{provider}", api_key),
        ]
    )
