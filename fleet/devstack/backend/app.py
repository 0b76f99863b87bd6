"""The backend's three calls."""

import sqlite3
from contextlib import closing
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from fleet.devstack.backend.database import api_key_of, assistants_of, connect


def create_app(database: Path) -> Starlette:
    """The ASGI application over a database file."""

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

    def api_key(request: Request) -> JSONResponse:
        with closing(connect(database)) as connection:
            return JSONResponse(
                {"api_key": api_key_of(connection, request.path_params["provider"]) or "Not found"}
            )

    return Starlette(
        routes=[
            Route("/health", health),
            Route("/api/assistant/{project_id}", assistants),
            Route("/api-keys/{provider}", api_key),
        ]
    )
