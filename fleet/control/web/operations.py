"""What can be requested from the control process: each operation with its path, its parameters and its answers.

The routes are made from these operations, and so is the OpenAPI description (:mod:`fleet.control.web.openapi`).
What an operation needs is in :mod:`fleet.control.web.access`.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fleet.control.web import shapes
from fleet.control.web.orders import Order

JSON, HTML, TEXT, EVENTS = "application/json", "text/html", "text/plain", "text/event-stream"
FORM = "application/x-www-form-urlencoded"
#: More runs are refused.
MAX_RUNS = 40

_TEXT = {"type": "string"}
Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Answer:
    """``shape`` is the type of a JSON answer; an answer of another media type has a ``schema``."""

    says: str
    shape: Any = None
    media_types: tuple[str, ...] = (JSON,)
    schema: Mapping[str, Any] = field(default_factory=lambda: _TEXT)


@dataclass(frozen=True)
class Parameter:
    """A parameter with its JSON Schema."""

    name: str
    where: Literal["path", "query"]
    says: str
    schema: Mapping[str, Any]
    required: bool = False


@dataclass(frozen=True)
class Body:
    """The body of a request: a type for JSON, or the JSON Schema of a form."""

    media_type: str
    shape: Any = None
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Operation:
    """One method of one path. ``name`` is its identifier in clients; ``answers`` are those by status that are
    peculiar to it: refusals that many operations share are added to the description."""

    method: Literal["GET", "POST"]
    path: str
    name: str
    says: str
    answers: Mapping[int, Answer]
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    details: str = field(default="")

    def route(self, handler: Handler) -> Route:
        """The route that answers it."""
        return Route(self.path, handler, methods=[self.method], name=self.name)


_ERROR = shapes.Error
_EVENT = {
    "type": "object",
    "properties": {
        "event": {"enum": ["state", "pipelines"]},
        "data": {"type": "string", "contentMediaType": JSON},
    },
    "required": ["event", "data"],
}
_LOGIN_PAGE = Answer("The login page.", media_types=(HTML,))
_LOGGED_IN = Answer("A session has begun, and its cookie is set; the page is at `/`.", media_types=())
_FOREIGN = Answer("The form was not sent by the page itself.", _ERROR)

HEALTH = Operation(
    "GET",
    "/health",
    "health",
    "Whether the machine's part of the fleet has no problem",
    {
        200: Answer("It has none.", shapes.Health),
        503: Answer("It has some, or the server is busy.", shapes.Health),
    },
)
READY = Operation(
    "GET",
    "/ready",
    "ready",
    "Whether a pipeline that is started now would run",
    {
        200: Answer("It would.", shapes.Readiness),
        503: Answer("It would not, or the server is busy.", shapes.Readiness),
    },
)
STATUS = Operation(
    "GET",
    "/status",
    "status",
    "The state of the fleet as this machine sees it",
    {
        200: Answer(
            "With a credential all of it; without, names, counts and states.", shapes.Status | shapes.PublicStatus
        )
    },
)
METRICS = Operation(
    "GET",
    "/metrics",
    "metrics",
    "Metrics for Prometheus",
    {200: Answer("In Prometheus' text format.", media_types=(TEXT,))},
)
PAGE = Operation(
    "GET",
    "/",
    "page",
    "The page for people",
    {
        200: Answer("The page.", media_types=(HTML,)),
        401: _LOGIN_PAGE,
        429: _LOGIN_PAGE,
    },
)
PAGE_FILE = Operation(
    "GET",
    "/page/{file}",
    "page_file",
    "A script or the style sheet of the page",
    {
        200: Answer("The file.", media_types=("text/css", "text/javascript", HTML)),
        404: Answer("There is no such file.", _ERROR),
    },
    (Parameter("file", "path", "Its name.", {"type": "string", "pattern": r"^[a-z_]+\.(js|css|html)$"}, True),),
)
DESCRIPTION = Operation(
    "GET",
    "/openapi.json",
    "description",
    "This description",
    {200: Answer("An OpenAPI document.", dict[str, Any])},
)
STATE = Operation(
    "GET",
    "/api/state",
    "state",
    "What the page shows, except the pipelines",
    {200: Answer("At most two seconds old.", shapes.State)},
)
PIPELINES = Operation(
    "GET",
    "/api/pipelines",
    "pipelines",
    "The running pipelines and the latest that ended",
    {200: Answer("Updated every few seconds.", shapes.Pipelines)},
)
EVENTS_STREAM = Operation(
    "GET",
    "/api/events",
    "events",
    "Both as server-sent events",
    {
        200: Answer(
            "Events `state` and `pipelines`, whose data is what these two paths answer.",
            media_types=(EVENTS,),
            schema=_EVENT,
        ),
        503: Answer("There are too many viewers, or the server is busy.", _ERROR),
    },
    details=(
        "A request whose `Accept` header names `text/event-stream`, as a browser's EventSource sends it, is "
        "answered with an endless stream: an event `state` every two seconds, `pipelines` when they have changed. "
        "Any other request gets the present ones, and the answer ends."
    ),
)
PROGRESS = Operation(
    "GET",
    "/api/progress",
    "progress",
    "How far pipelines are",
    {
        200: Answer("By run, null for one that does not answer.", dict[str, shapes.PipelineProgress | None]),
        400: Answer(f"There are more than {MAX_RUNS} runs, or the Host header is malformed.", _ERROR),
    },
    (
        Parameter(
            "run",
            "query",
            "Runs, each as `WORKFLOW_ID~RUN_ID`.",
            {"type": "array", "items": _TEXT, "maxItems": MAX_RUNS},
        ),
    ),
)
PIPELINE = Operation(
    "GET",
    "/api/pipeline",
    "pipeline",
    "One pipeline with its assistants and their outputs",
    {
        200: Answer("The pipeline.", shapes.PipelineDetail),
        400: Answer("No `workflow_id` was sent, or the Host header is malformed.", _ERROR),
        404: Answer("There is no such pipeline, or it cannot be shown.", _ERROR),
        503: Answer("Temporal is away, or the server is busy.", _ERROR),
    },
    (
        Parameter("workflow_id", "query", "Its workflow id.", {"type": "string", "minLength": 1}, True),
        Parameter("run_id", "query", "Its run id; the latest run if it is left out or empty.", _TEXT),
    ),
)
ACT = Operation(
    "POST",
    "/api/act",
    "act",
    "Pause or resume a provider, scale or roll a program",
    {
        200: Answer("It is done.", shapes.Done),
        400: Answer("The order is not valid, or the Host header is malformed.", _ERROR),
        409: Answer("The order cannot be carried out.", _ERROR),
        413: Answer("The order is too large.", _ERROR),
        502: Answer("Temporal refused it.", _ERROR),
    },
    body=Body(JSON, Order),
    details="The same as with the command `fleet`; the answer comes when it is done, which may take minutes.",
)
LOGIN_BY_LINK = Operation(
    "GET",
    "/login",
    "login_page",
    "The login page; with the code of a one-time link, a session",
    {200: _LOGIN_PAGE, 303: _LOGGED_IN, 401: Answer("The link is not valid any more.", media_types=(HTML,))},
    (Parameter("code", "query", "The code of a link of `fleet page`.", _TEXT),),
)
LOGIN_BY_TOKEN = Operation(
    "POST",
    "/login",
    "login",
    "A session for a token",
    {
        303: _LOGGED_IN,
        401: Answer("The token is wrong or missing.", media_types=(HTML,)),
        403: _FOREIGN,
        429: Answer("Too many wrong tokens were sent; it was not compared.", media_types=(HTML,)),
    },
    body=Body(FORM, schema={"type": "object", "properties": {"token": {"type": "string"}}, "required": ["token"]}),
)
LOGOUT = Operation(
    "POST",
    "/logout",
    "logout",
    "End the session",
    {303: Answer("It has ended, and its cookie is deleted.", media_types=()), 403: _FOREIGN},
)
OPERATIONS = (
    HEALTH,
    READY,
    STATUS,
    METRICS,
    PAGE,
    PAGE_FILE,
    DESCRIPTION,
    STATE,
    PIPELINES,
    EVENTS_STREAM,
    PROGRESS,
    PIPELINE,
    ACT,
    LOGIN_BY_LINK,
    LOGIN_BY_TOKEN,
    LOGOUT,
)
