"""The shapes of the control process's JSON answers, for its code and for its OpenAPI description. Times are unix
seconds unless they are text."""

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from fleet.budgets.messages import BudgetStatus
from fleet.control.health.status import QueueStatus, Reachable
from fleet.control.machines.other_machines import OtherMachine
from fleet.control.supervision.process_health import Vitals

Series = list[float | None]


class Error(TypedDict):
    """Why a request was not carried out, mostly with a remedy."""

    error: str


class Health(TypedDict):
    """Whether the machine's part of the fleet has no problem."""

    ok: bool
    problems: list[str]


class Readiness(TypedDict):
    """Whether a pipeline that is started now would run."""

    ready: bool
    waiting_for: list[str]


class StatusProcess(TypedDict):
    """A supervised process. ``state`` is supervisord's name of it."""

    program: str
    process: str
    state: str
    pid: int | None
    uptime_seconds: int
    said: str
    pulse: Vitals | None


class Status(TypedDict):
    """What ``fleet status --json`` shows."""

    temporal: Reachable
    backend: Reachable
    processes: list[StatusProcess]
    queues: list[QueueStatus]
    supervisor_problem: str
    budgets: dict[str, BudgetStatus]
    complaints: list[str]
    machines: list[OtherMachine]
    machine: str
    version: str
    problems: list[str]
    notices: list[str]


class PublicServer(TypedDict):
    """A server that the fleet needs."""

    ok: bool


class PublicProject(TypedDict):
    """A project that the backend serves from a folder."""

    fingerprint: str


class PublicBackend(PublicServer):
    """The backend, with its projects by id."""

    projects: dict[str, PublicProject]


class PublicProcess(TypedDict):
    """A supervised process."""

    program: str
    process: str
    state: str
    uptime_seconds: int


class PublicBudget(TypedDict):
    """The state of a queue's budget."""

    breaker: str


class PublicStatus(TypedDict):
    """What is told without a credential: names, counts and states."""

    machine: str
    version: str
    temporal: PublicServer
    backend: PublicBackend
    supervisor: PublicServer
    processes: list[PublicProcess]
    queues: list[QueueStatus]
    budgets: dict[str, PublicBudget]
    machine_count: int
    problems: list[str]
    notice_count: int


class Queue(TypedDict):
    """A task queue; the numbers are null if Temporal did not answer."""

    queue: str
    pollers: int | None
    backlog: int | None
    backlog_age_seconds: float | None


class Limit(TypedDict):
    """One limit of a queue as its budget sees it."""

    what: str
    per_minute: float
    level: float
    others_per_minute: float


class Budget(TypedDict):
    """What determines the rate of a queue; null where its budget workflow does not answer."""

    breaker: str | None
    why: str
    until: float | None
    rate: float | None
    exact: bool
    calls_per_minute: float | None
    limits: list[Limit]


class ProviderHour(TypedDict):
    """Calls of the last hour."""

    answered: float
    refused: float
    failed: float
    median_seconds: float | None


class ProviderToday(TypedDict):
    """Calls since midnight."""

    answered: float
    input_tokens: float
    output_tokens: float
    cost_usd: float
    simulated_cost_usd: float
    unpriced_calls: float


class ProviderSeries(TypedDict):
    """Calls and backlog of each minute of the last hour, null for a minute without an observation."""

    answered: Series
    troubled: Series
    backlog: Series


class Provider(Queue, Budget):
    """A provider's queue; ``model`` is null unless the queue is one model's."""

    provider: str
    model: str | None
    program: str
    hour: ProviderHour
    today: ProviderToday
    series: ProviderSeries


class Process(TypedDict):
    """A supervised process of this machine."""

    program: str
    process: str
    state: str
    pid: int | None
    uptime_seconds: int
    lag_seconds: float | None
    stage: str | None
    cannot: str | None
    restarts: int


class Today(TypedDict):
    """This machine's sums since midnight (``since``)."""

    since: float
    answered: float
    input_tokens: float
    output_tokens: float
    cost_usd: float
    simulated_cost_usd: float
    unpriced_calls: float
    completed: float
    failed: float


class LoggedError(TypedDict):
    """An error of the merged log; ``time`` is ISO 8601."""

    time: str
    level: str
    process: str
    message: str
    workflow_id: str | None


class FleetSeries(TypedDict):
    """Pipelines and cost of each minute of the last hour, up to ``until``."""

    step_seconds: int
    until: float
    completed: Series
    failed: Series
    cost_usd: Series
    simulated_cost_usd: Series


class TemporalState(TypedDict):
    """The Temporal server; ``ui`` is the address of its own pages."""

    address: str
    ok: bool
    ui: str | None


class BackendState(TypedDict):
    """The backend."""

    address: str
    ok: bool


class State(TypedDict):
    """What the page shows, except the pipelines."""

    at: float
    host: str
    version: str
    operable: bool
    open_reads: bool
    ok: bool
    problems: list[str]
    notices: list[str]
    temporal: TemporalState
    backend: BackendState
    providers: list[Provider]
    queues: list[Queue]
    processes: list[Process]
    machines: list[OtherMachine]
    today: Today
    errors: list[LoggedError]
    series: FleetSeries


class PipelineRun(TypedDict):
    """A running pipeline; ``retry`` says whether it repeats another one."""

    workflow_id: str
    run_id: str
    started_at: float
    retry: bool


class EndedRun(PipelineRun):
    """A pipeline that ended."""

    ended_at: float | None
    status: str


class Pipelines(TypedDict):
    """The pipelines: how many run, the latest of them, and the latest that ended."""

    at: float
    running: int
    listed: list[PipelineRun]
    ended: list[EndedRun]


class PipelineProgress(TypedDict):
    """How far a pipeline is."""

    topic: str
    project_id: str
    done: int
    total: int
    running: list[str]
    state: str
    why: str


class PipelineError(TypedDict):
    """Why a pipeline failed."""

    code: str
    message: str


Span = TypedDict(
    "Span",
    {
        "kind": Literal["waiting", "running"],
        "from": float,
        "until": float | None,
        "attempt": int,
    },
)


class Stage(TypedDict):
    """An assistant of a pipeline. ``output_json`` is there for structured outputs, the last four fields where it
    is known why the assistant stands where it does."""

    function_key: str
    name: str
    order: int
    provider: str
    model: str
    state: str
    attempts: int
    calls: int
    note: str
    spans: list[Span]
    inputs: list[str]
    output: str
    output_json: NotRequired[Any]
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    unpriced_calls: int
    price_note: str
    simulated: bool
    possibly_paid_twice: int
    reused: bool
    explained_state: NotRequired[str]
    cause: NotRequired[str]
    why: NotRequired[str]
    remedy: NotRequired[str]


class PipelineDetail(TypedDict):
    """One pipeline with its assistants. ``cause``, ``why`` and ``remedy`` say why it is not done yet."""

    workflow_id: str
    run_id: str
    kind: Literal["try", "pipeline"]
    status: str
    topic: str
    project_id: str
    started_at: float
    ended_at: float | None
    at: float
    error: PipelineError | None
    warnings: list[str]
    ui: str | None
    stages: list[Stage]
    cause: NotRequired[str]
    why: NotRequired[str]
    remedy: NotRequired[str]


class Done(TypedDict):
    """An order was carried out; ``said`` is for the operator."""

    ok: Literal[True]
    said: str
