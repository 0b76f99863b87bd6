"""The Backend API's contract over HTTP: its three endpoints, for projects from a folder and any other source."""

from collections.abc import Callable
from secrets import compare_digest
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fleet.projects.served_projects import Served, ServedProjects

KeySource = Callable[[str], str | None]
#: Answers of :func:`contract_app`'s sources.
Answer = Callable[[str], Response]


def contract_app(
    health: Callable[[], Response],
    assistants: Answer,
    key_of: KeySource,
    token: str = "",
    variable_of: Callable[[str], str] | None = None,
) -> Starlette:
    """The ASGI application; ``assistants`` answers for a project id, ``key_of`` returns a provider's key or None.
    With a ``token``, keys are only given to requests that bear it, and requests for other hosts than this one are
    refused: a web page could have a browser send them (DNS rebinding). ``variable_of`` returns the environment
    variable in which the source looks for a provider's key."""

    def healthy(request: Request) -> Response:
        return health()

    def of_project(request: Request) -> Response:
        return assistants(request.path_params["project_id"])

    def api_key(request: Request) -> Response:
        given = request.headers.get("authorization", "").encode()
        if token and not compare_digest(given, f"Bearer {token}".encode()):
            return JSONResponse({"detail": "the token of this fleet is required"}, 401)
        provider = request.path_params["provider"]
        key = key_of(provider)
        named = {} if key or variable_of is None else {"variable": variable_of(provider)}
        return JSONResponse({"api_key": key or "Not found"} | named)

    hosts = [Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])]
    return Starlette(
        routes=[
            Route("/health", healthy),
            Route("/api/assistant/{project_id}", of_project),
            Route("/api-keys/{provider}", api_key),
        ],
        middleware=hosts if token else [],
    )


def create_app(
    projects: ServedProjects,
    key_of: KeySource,
    token: str = "",
    variable_of: Callable[[str], str] | None = None,
) -> Starlette:
    """The application for the projects of a folder; the arguments are those of :func:`contract_app`."""

    def health() -> Response:
        return JSONResponse({"status": "ok", "projects": told(projects)})

    def assistants(project_id: str) -> Response:
        return answer_for(projects.project(project_id)) or not_found()

    return contract_app(health, assistants, key_of, token, variable_of)


def told(projects: ServedProjects) -> dict[str, Any]:
    """The fingerprint and the problems of each project, as ``GET /health`` has them."""
    return {project_id: served.to_json() for project_id, served in projects.all().items()}


def answer_for(served: Served | None) -> Response | None:
    """The answer for a project from a folder; None if there is no such folder."""
    if served is None:
        return None
    if served.project is None:
        return JSONResponse({"detail": "; ".join(map(str, served.problems))}, 422)
    return JSONResponse(served.project.assistants)


def not_found() -> Response:
    """The answer for a project that does not exist."""
    return JSONResponse({"detail": "Project not found"}, 404)
