"""The embedded backend: the Backend API's contract from a database, and from a folder of projects."""

import sqlite3
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response

from fleet.devstack.backend.database import api_key_of, assistants_of, connect
from fleet.devstack.backend.keys import key_variable
from fleet.projects.backend_app import KeySource, answer_for, contract_app, not_found, told
from fleet.projects.served_projects import ServedProjects


def create_app(
    database: Path,
    keys: KeySource | None = None,
    stored_for: Collection[str] = (),
    projects: ServedProjects | None = None,
    token: str = "",
) -> Starlette:
    """The ASGI application on a database file; ``keys`` replaces the keys in the database, but not those of the
    providers in ``stored_for``. A project of ``projects`` wins over one of the same id in the database. For
    ``token`` see :func:`fleet.projects.backend_app.contract_app`."""

    def health() -> Response:
        try:
            with closing(connect(database)) as connection:
                connection.execute("SELECT count(*) FROM Project").fetchone()
        except sqlite3.Error as error:
            return JSONResponse({"status": "error", "database": str(error)}, 503)
        return JSONResponse({"status": "ok"} | ({"projects": told(projects)} if projects else {}))

    def assistants(project_id: str) -> Response:
        if projects and (answer := answer_for(projects.project(project_id))):
            return answer
        with closing(connect(database)) as connection:
            found = assistants_of(connection, project_id)
        return not_found() if found is None else JSONResponse(found)

    def stored_key(provider: str) -> str | None:
        with closing(connect(database)) as connection:
            return api_key_of(connection, provider)

    def key_of(provider: str) -> str | None:
        return keys(provider) if keys and provider not in stored_for else stored_key(provider)

    return contract_app(health, assistants, key_of, token, key_variable if keys else None)
