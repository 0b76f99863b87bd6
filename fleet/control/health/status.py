"""The state of a fleet as this machine sees it: Temporal, backend, processes, queues."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from importlib.metadata import version
from typing import Any, NamedTuple

from temporalio.api.enums.v1 import TaskQueueKind, TaskQueueType
from temporalio.api.taskqueue.v1 import PollerInfo, TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError

from fleet.budgets.limits_and_pauses import budget_statuses_of
from fleet.budgets.messages import BudgetStatus, HeldModel
from fleet.budgets.queue_client import still_polls
from fleet.config import Settings
from fleet.contracts import ASSISTANTS_QUEUE, CONTROL_QUEUE, PIPELINE_QUEUE
from fleet.control.machines.ask_machines import ask_machines
from fleet.control.machines.last_seen import last_seen_in
from fleet.control.machines.other_machines import OtherMachine, other_machines
from fleet.control.supervision.process_health import Vitals, complaint, cut_off_here, record_of
from fleet.control.supervision.supervisord_client import AT_REST, ProcessStatus, Supervisor
from fleet.control.supervision.supervisord_home import Home
from fleet.errors import FleetError, OperationError, TemporalUnavailable
from fleet.execution.backend_client import Backend, ToldProject
from fleet.process.machine_id import known_id, process_on
from fleet.process.temporal_connection import connect_once

_RPC_SECONDS = 5.0
#: Bound of all requests to Temporal for one snapshot. The timeout of a single RPC does not include the time in
#: which the SDK connects again, which is minutes where packets are dropped.
TEMPORAL_SECONDS = 8.0
_RUNNING = "RUNNING"

Connect = Callable[[], Awaitable[Client]]


@dataclass(frozen=True)
class Reachable:
    """A server that the fleet needs. ``problem`` is empty if there is none. ``projects`` are those that a backend
    serves from a folder, by id."""

    address: str
    ok: bool
    problem: str = ""
    projects: dict[str, ToldProject] = field(default_factory=dict)


@dataclass(frozen=True)
class QueueStatus:
    """A task queue: the number of processes that poll it or have all their slots in use, the backlog, and the age
    of its oldest task. The numbers are None if Temporal did not answer."""

    queue: str
    pollers: int | None
    backlog: int | None
    backlog_age_seconds: float | None


class Problem(NamedTuple):
    """A line for operators, and one without addresses, pids and texts of errors."""

    line: str
    public: str


@dataclass(frozen=True)
class FleetStatus:
    """Everything that ``fleet status`` shows. ``budgets`` has those whose budget workflow answers, by queue;
    ``complaints`` are the problems that the processes' liveness records show, ``vitals`` their state, by process.
    ``machines`` are the other machines on the same Temporal server; ``machine`` (``HOST+MACHINE``) is this one,
    ``version`` its release. ``providers`` has the provider of each queue, by queue."""

    temporal: Reachable
    backend: Reachable
    processes: list[ProcessStatus]
    queues: list[QueueStatus]
    supervisor_problem: str = ""
    budgets: dict[str, BudgetStatus] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    vitals: dict[str, Vitals] = field(default_factory=dict)
    machines: list[OtherMachine] = field(default_factory=list)
    machine: str = ""
    version: str = ""
    providers: dict[str, str] = field(default_factory=dict)

    def problems(self) -> list[str]:
        """One line for each problem."""
        return [problem.line for problem in self._problems()]

    def _problems(self) -> list[Problem]:
        found = [*self._away()]
        found += (
            [Problem(self.supervisor_problem, "supervisord does not answer")] if self.supervisor_problem else []
        )
        found += [
            Problem(
                f"{process.process} is {process.state} {process.said}".strip() + _start(process),
                f"{process.process} is {process.state}",
            )
            for process in self.processes
            if not _well(process)
        ]
        found += [
            Problem(f"project {project_id}: {problem}", f"project {project_id} has a problem")
            for project_id, told in self.backend.projects.items()
            for problem in told.problems
        ]
        found += [Problem(line, "a project differs between machines") for line in self.unlike_projects()]
        found += [Problem(line, "a process that runs has a problem") for line in self.complaints]
        found += [Problem(line, line) for line in self._unpolled()]
        troubled = [budget for budget in self.budgets.values() if budget.breaker in ("parked", "probing")]
        found += [Problem(self._trouble(budget), f"{budget.queue} is {budget.breaker}") for budget in troubled]
        held = [held for budget in self.budgets.values() for held in budget.held_models]
        # A budget without calls is idle and does not remove expired holds.
        found += [
            Problem(_without_quota(model), f"{model.model} has no quota")
            for model in held
            if model.until > time.time()
        ]
        return found

    def _away(self) -> Iterator[Problem]:
        for name, server in (("Temporal", self.temporal), ("the backend", self.backend)):
            if not server.ok:
                yield Problem(server.problem, f"{name} does not answer")

    def notices(self) -> list[str]:
        """One line for each thing that an operator did on purpose and that keeps calls from being dispatched."""
        paused = [budget for budget in self.budgets.values() if budget.breaker == "paused"]
        return [f"{budget.queue} is paused: {budget.why}; {self._resume(budget)}" for budget in paused]

    def _trouble(self, budget: BudgetStatus) -> str:
        if budget.breaker == "probing":
            return f"{budget.queue} is only probed: {budget.why}"
        until = f" until {_moment(budget.until)}" if budget.until else ""
        return f"{budget.queue} is parked{until}: {budget.why}; then {self._resume(budget)}"

    def _resume(self, budget: BudgetStatus) -> str:
        return f"`fleet resume {self.providers.get(budget.queue, budget.queue.removeprefix('llm-'))}`"

    def unlike_projects(self) -> list[str]:
        """One line for each project that another machine serves from a folder with another content than this one;
        machines that were not asked are not known."""
        here = {name: told.fingerprint for name, told in self.backend.projects.items() if told.fingerprint}
        found = []
        for machine in self.machines:
            for name, there in (machine.told.projects if machine.told else {}).items():
                if there and name in here and here[name] != there:
                    found.append(f"project {name} is {here[name]} here and {there} on {machine.name}")
        return found

    def not_ready(self) -> list[str]:
        """What would keep a pipeline started now from running."""
        return [problem.line for problem in self._away()] + self._unpolled()

    def _unpolled(self) -> list[str]:
        return [f"nobody polls the queue {queue.queue}" for queue in self.queues if queue.pollers == 0]

    def to_json(self) -> dict[str, Any]:
        """The JSON of ``fleet status --json`` and ``GET /status``: each process with its liveness as ``pulse``, or
        null."""
        found = asdict(self)
        vitals = found.pop("vitals")
        del found["providers"]
        processes = [process | {"pulse": vitals.get(process["process"])} for process in found["processes"]]
        return found | {"processes": processes, "problems": self.problems(), "notices": self.notices()}

    def to_public_json(self) -> dict[str, Any]:
        """What anybody who reaches ``GET /status`` may know: names, counts and states; neither an address nor a
        pid nor the text of an error. Other machines of the fleet read it too."""
        whole = self.to_json()
        projects = {name: {"fingerprint": told.fingerprint} for name, told in self.backend.projects.items()}
        return {
            "machine": self.machine,
            "version": self.version,
            "temporal": {"ok": self.temporal.ok},
            "backend": {"ok": self.backend.ok, "projects": projects},
            "supervisor": {"ok": not self.supervisor_problem},
            "processes": [
                {name: process[name] for name in ("program", "process", "state", "uptime_seconds")}
                for process in whole["processes"]
            ],
            "queues": whole["queues"],
            "budgets": {queue: {"breaker": budget.breaker} for queue, budget in self.budgets.items()},
            "machine_count": len(self.machines),
            "problems": self.public_problems(),
            "notice_count": len(self.notices()),
        }

    def public_problems(self) -> list[str]:
        """One line for each problem, with names and states only."""
        return [problem.public for problem in self._problems()]

    def public_not_ready(self) -> list[str]:
        """What would keep a pipeline started now from running, with names and states only."""
        return [problem.public for problem in self._away()] + self._unpolled()


def _without_quota(held: HeldModel) -> str:
    return (
        f"{held.model} has no quota until {_moment(held.until)} and its calls wait, unless they have a fallback: "
        f"{held.why}"
    )


def _moment(unix_seconds: float) -> str:
    return f"{datetime.fromtimestamp(unix_seconds, UTC):%Y-%m-%d %H:%M} UTC"


def _well(process: ProcessStatus) -> bool:
    return process.state in (_RUNNING, "STARTING")


def _start(process: ProcessStatus) -> str:
    """The remedy for a process that supervisord does not start again by itself."""
    if process.state not in AT_REST:
        return ""
    first = "" if process.state == "STOPPED" else "see why with `fleet logs -n 50`; then "
    return f". Remedy: {first}`supervisorctl start {process.program}:{process.process}`"


async def status_of(
    settings: Settings,
    connect: Connect | None = None,
    backend: Backend | None = None,
    *,
    others_too: bool = False,
    budgets_answered: bool = False,
) -> FleetStatus:
    """Ask Temporal, backend, supervisord and liveness records; what does not answer is reported and not raised.
    ``connect`` returns the client to ask Temporal with, or raises TemporalUnavailable; by default a new one
    connects, and so does one of the ``backend``. With ``others_too`` the other machines are asked afterwards.
    ``budgets_answered``: the budgets answered shortly before, so they are asked even if no process is listed that
    runs them; after a restart of the server that list is empty for a while."""
    home = Home.of(settings)
    (temporal, queues, budgets, machines), reachable, (processes, problem) = await asyncio.gather(
        _temporal(settings, connect or partial(connect_once, settings), budgets_answered),
        _backend(settings, backend),
        asyncio.to_thread(_processes, home),
    )
    vitals, complaints = await asyncio.to_thread(_read_liveness, home, processes, temporal.ok)
    served = with_the_busy(queues, vitals)
    machines = await ask_machines(settings, machines) if others_too else machines
    return FleetStatus(
        temporal,
        reachable,
        processes,
        served,
        problem,
        budgets,
        complaints,
        vitals,
        machines,
        process_on(known_id(settings.state_dir), "")[1:],
        running_version(),
        providers_by_queue(settings),
    )


@cache
def running_version() -> str:
    """The release that this process runs, even if another one was installed since the first call."""
    return version("assistant-fleet")


def with_the_busy(queues: list[QueueStatus], vitals: Mapping[str, Vitals]) -> list[QueueStatus]:
    """The queues, counting as pollers also this machine's processes that have all their slots in use: such a
    process does not poll, so the server forgets it although it is there."""
    busy = Counter(queue for vital in vitals.values() for queue, polls in vital.queues.items() if polls.full)
    return [
        status if status.pollers is None else replace(status, pollers=max(status.pollers, busy[status.queue]))
        for status in queues
    ]


def _read_liveness(
    home: Home, processes: list[ProcessStatus], temporal_up: bool
) -> tuple[dict[str, Vitals], list[str]]:
    """The state of the processes, and the problems that supervisord cannot see."""
    vitals: dict[str, Vitals] = {}
    complaints = []
    for process in processes:
        now, record = time.time(), record_of(home, process)
        if record is not None and record.pid == process.pid:
            vitals[process.process] = Vitals.of(record, now)
        if said := complaint(process, record, now, temporal_up=temporal_up):
            complaints.append(said)
    return vitals, complaints


def cut_off_queues(settings: Settings) -> dict[str, list[str]]:
    """The queues for which this machine has processes of which none can send a call, with what each of them
    says."""
    home = Home.of(settings)
    processes, _ = _processes(home)
    vitals, _ = _read_liveness(home, processes, temporal_up=True)
    now, providers = time.time(), providers_by_queue(settings)
    found = {queue: cut_off_here(processes, vitals, name, now) for queue, name in providers.items()}
    return {queue: said for queue, said in found.items() if said}


def _processes(home: Home) -> tuple[list[ProcessStatus], str]:
    try:
        return Supervisor(home.socket).processes(), ""
    except OperationError as error:
        return [], str(error)


def health_client(settings: Settings) -> Backend:
    """A client of the backend with a timeout short enough for a status request."""
    return Backend.from_settings(settings, timeout_seconds=_RPC_SECONDS)


async def _backend(settings: Settings, backend: Backend | None) -> Reachable:
    try:
        async with nullcontext(backend) if backend else health_client(settings) as asked:
            projects = await asked.health()
    except FleetError as error:
        return Reachable(settings.api_base_url, ok=False, problem=str(error))
    return Reachable(settings.api_base_url, ok=True, projects=projects)


async def _temporal(
    settings: Settings, connect: Connect, budgets_answered: bool
) -> tuple[Reachable, list[QueueStatus], dict[str, BudgetStatus], list[OtherMachine]]:
    address = settings.temporal_host
    unknown = [QueueStatus(name, None, None, None) for name in queues_of(settings)]
    try:
        client = await connect()
        async with asyncio.timeout(TEMPORAL_SECONDS):
            queues, pollers = await _queues_and_pollers(client, settings)
            # Where no process runs the budgets, a query only ends with its timeout.
            kept = any(queue.queue == CONTROL_QUEUE and queue.pollers for queue in queues)
            budgets = await budgets_of(client, settings) if kept or budgets_answered else {}
    except TemporalUnavailable as error:
        return Reachable(address, ok=False, problem=str(error)), unknown, {}, []
    except TimeoutError:
        problem = f"Temporal at {address} did not answer within {TEMPORAL_SECONDS:g} s"
        return Reachable(address, ok=False, problem=problem), unknown, {}, []
    except RPCError as error:
        problem = f"Temporal at {address} does not describe its queues: {error}"
        return Reachable(address, ok=False, problem=problem), unknown, {}, []
    last_seen = await asyncio.to_thread(last_seen_in, settings.state_dir)
    machines = other_machines(pollers, budgets.values(), client.identity, last_seen=last_seen)
    return Reachable(address, ok=True), queues, budgets, machines


async def budgets_of(client: Client, settings: Settings) -> dict[str, BudgetStatus]:
    """The budgets whose workflow answers, by queue."""
    found = await budget_statuses_of(
        client, [queue for provider in settings.providers.values() for queue in provider.limits]
    )
    return {queue: budget_status for queue, budget_status in found.items() if budget_status is not None}


def providers_by_queue(settings: Settings) -> dict[str, str]:
    """The name of the provider of each llm queue."""
    return {queue: provider.name for provider in settings.providers.values() for queue in provider.limits}


def queues_of(settings: Settings) -> list[str]:
    """Every task queue that the settings' programs serve."""
    llm = (queue for provider in settings.providers.values() for queue in provider.limits)
    return [PIPELINE_QUEUE, CONTROL_QUEUE, ASSISTANTS_QUEUE, *llm]


async def queue_statuses(client: Client, settings: Settings) -> list[QueueStatus]:
    """All queues, as Temporal describes them.

    Raises:
        RPCError: the server does not answer.
    """
    queues, _ = await _queues_and_pollers(client, settings)
    return queues


async def _queues_and_pollers(
    client: Client, settings: Settings
) -> tuple[list[QueueStatus], dict[str, list[PollerInfo]]]:
    found = await asyncio.gather(*(_queue(client, name) for name in queues_of(settings)))
    return [status for status, _ in found], {status.queue: polling for status, polling in found}


async def _queue(client: Client, name: str) -> tuple[QueueStatus, list[PollerInfo]]:
    kind = (
        TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW
        if name in (PIPELINE_QUEUE, CONTROL_QUEUE)
        else TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY
    )
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=name, kind=TaskQueueKind.TASK_QUEUE_KIND_NORMAL),
        task_queue_type=kind,
        report_stats=True,
        report_pollers=True,
    )
    answer = await client.workflow_service.describe_task_queue(request, timeout=timedelta(seconds=_RPC_SECONDS))
    stats = answer.stats
    age = stats.approximate_backlog_age.ToTimedelta().total_seconds() if stats.approximate_backlog_count else 0.0
    pollers = {poller.identity for poller in answer.pollers if still_polls(poller, client.identity)}
    status = QueueStatus(name, len(pollers), stats.approximate_backlog_count, round(age, 3))
    return status, list(answer.pollers)
