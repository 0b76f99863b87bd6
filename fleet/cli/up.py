"""``fleet up``: starts the embedded stack, then supervisord, then waits until every queue is polled."""

import asyncio
import fcntl
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from temporalio.client import Client

from fleet.cli.down import take_down
from fleet.cli.find_fleet import settings_for_embedded
from fleet.cli.fleet_record import FleetRecord
from fleet.cli.supervised_environment import supervised_environment
from fleet.config import Settings, load_settings
from fleet.control.health.doctor.settings import unknown_variables
from fleet.control.health.status import queue_statuses, status_of
from fleet.control.supervision.operation_waits import Wait, WaitLines
from fleet.control.supervision.programs import write_programs
from fleet.control.supervision.supervisord_client import Supervisor, SupervisorAway
from fleet.control.supervision.supervisord_home import Home
from fleet.devstack.backend.keys import key_variables, real_key
from fleet.devstack.detached_processes import spawn
from fleet.devstack.simulated_settings import is_simulated, simulated_providers, without_temporal
from fleet.devstack.stack import Ports, Stack, refuse_taken_ports
from fleet.errors import OperationError
from fleet.execution.backend_client import Backend
from fleet.process.temporal_connection import connect_once
from fleet.projects.folder import problems_in, projects_in, refuse_no_projects
from fleet.provider_settings import ProviderSettings
from fleet.providers.sdk_environment import withheld_proxies

_READY_SECONDS = 120.0
_POLL_SECONDS = 0.4
_EMBEDDED_NAMESPACE = "default"

Say = Callable[[str], None]


@dataclass(frozen=True)
class UpOptions:
    """``external``: Temporal and backend are the user's own. ``real_providers``: calls go to the providers
    themselves and are paid. ``all_simulated``: none does, not even to a model server on a loopback address.
    ``projects``: a folder whose projects the embedded backend serves."""

    port_base: int | None = None
    external: bool = False
    real_providers: bool = False
    all_simulated: bool = False
    projects: Path | None = None

    def simulates(self, provider: ProviderSettings) -> bool:
        """Whether a provider's calls go to the simulator."""
        return self.all_simulated or is_simulated(provider, real_providers=self.real_providers)


def bring_up(options: UpOptions, say: Say) -> FleetRecord:
    """Start a fleet and wait until it works; if it does not, everything is ended again.

    Raises:
        OperationError: it cannot be started; the message gives the reason.
        SettingsError: a setting is wrong.
        TemporalUnavailable, BackendError: with ``external``, a server does not answer.
    """
    settings = load_settings() if options.external else settings_for_embedded()
    for warning in settings.warnings:
        say(warning)
    for says, remedy in unknown_variables():
        say(f"warning: {says}. Remedy: {remedy}")
    if not options.all_simulated and (warning := withheld_proxies(os.environ, settings.sdk_variables)):
        say(warning)
    options = replace(options, projects=_projects(options, settings, say))
    home = Home.of(settings)
    home.prepare()
    with _alone(home):
        _refuse_second(home)
        ports = _ports(options, settings)
        stack = _stack(options, settings, home, ports)
        refuse_taken_ports(stack.listening | {"control": ports.control} | _own_backend(options, settings))
        if options.external:
            asyncio.run(_see_servers(settings))
        elif options.real_providers:
            _see_keys(settings, options)
        record = _record_of(stack, options, settings)
        try:
            _start(record, stack, settings, home, say)
            say("starting the workers ...")
            asyncio.run(_until_polled(_settings_of(record, home), home, say))
        except BaseException:
            take_down(home, record, say=lambda text: None)
            raise
    return record


@contextmanager
def _alone(home: Home) -> Iterator[None]:
    """Keep a second `fleet up` out of the same state folder while this one starts."""
    with (home.state / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OperationError(
                f"another `fleet up` is at work in {home.state}. Remedy: wait for it, or set FLEET_STATE_DIR to "
                "another folder"
            ) from None
        yield


def _refuse_second(home: Home) -> None:
    record = FleetRecord.load(home.state)
    running = record is not None and bool(record.alive)
    try:
        Supervisor(home.socket).pid()
        running = True
    except SupervisorAway:
        pass
    if running:
        raise OperationError(
            f"a fleet is up in {home.state} already. Remedy: use it (`fleet status`), end it with "
            "`fleet down`, or set FLEET_STATE_DIR to another folder"
        )


def _ports(options: UpOptions, settings: Settings) -> Ports:
    if options.port_base is None:
        return replace(Ports(), control=settings.control_port)
    return Ports.from_base(options.port_base)


def _own_backend(options: UpOptions, settings: Settings) -> dict[str, int]:
    """The port of the program ``backend``, if the fleet will have one; raises OperationError if its folder has no
    projects."""
    if not options.external or not settings.serves_projects or settings.projects_dir is None:
        return {}
    refuse_no_projects(settings.projects_dir)
    return {"backend": settings.projects_port}


async def _see_servers(settings: Settings) -> None:
    """Check that the user's own servers answer before anything is started."""
    await connect_once(settings)
    if settings.serves_projects:
        return  # it is one of the programs that are yet to be started
    async with Backend.from_settings(settings) as backend:
        await backend.health()


def _see_keys(settings: Settings, options: UpOptions) -> None:
    """Check that at least one provider can be called."""
    real = [provider for provider in settings.providers.values() if not options.simulates(provider)]
    if all(provider.key_from_backend and not real_key(provider.name) for provider in real):
        variables = ", ".join(key_variables(name)[0] for name in sorted(settings.providers))
        raise OperationError(
            f"--real-providers without an API key. Remedy: set one of {variables}; or "
            "FLEET_PROVIDERS__<NAME>__API_KEY_FILE; or FLEET_PROVIDERS__<NAME>__NEEDS_KEY=false for a server that "
            "wants none; or use a backend of your own with --external"
        )


def _projects(options: UpOptions, settings: Settings, say: Say) -> Path | None:
    """The folder of projects for the embedded backend; its problems are told, and do not keep the fleet down."""
    if options.external:
        if options.projects is not None:
            raise OperationError(
                "--projects is for the embedded stack. Remedy: leave out --external; or set FLEET_PROJECTS_DIR "
                "and leave API_BASE_URL unset, so that a program of the fleet serves the folder"
            )
        return None
    folder = options.projects or settings.projects_dir
    if folder is None:
        return None
    for problem in problems_in(folder, settings.provider):
        say(f"problem: {problem}")
    return folder.absolute()


def example_project(record: FleetRecord) -> str:
    """The id of a project that can be run: the first of the user's own, or the sample."""
    own = projects_in(Path(record.projects)) if record.projects else []
    return own[0].name if own else "PROJECT" if record.ui is None else "seo-demo"


def _stack(options: UpOptions, settings: Settings, home: Home, ports: Ports) -> Stack:
    """The embedded stack with the parts that the options need."""
    parts = frozenset() if options.external else frozenset({"temporal", "backend"})
    simulated = tuple(sorted(_simulated(options, settings)))
    real = tuple(name for name in settings.providers if name not in simulated)
    parts |= {"simulator"} if simulated else frozenset()
    return Stack(
        home.state / "devstack",
        home.logs,
        ports,
        parts,
        simulated,
        real_key_providers=real,
        projects=options.projects,
        keep_variables=settings.keep_variables,
    )


def _simulated(options: UpOptions, settings: Settings) -> list[str]:
    return [name for name, provider in settings.providers.items() if options.simulates(provider)]


def _record_of(stack: Stack, options: UpOptions, settings: Settings) -> FleetRecord:
    """What the fleet will be, none of whose processes has been started."""
    ports = stack.ports
    return FleetRecord(
        temporal=settings.temporal_host if options.external else f"127.0.0.1:{ports.temporal}",
        namespace=settings.temporal_namespace if options.external else _EMBEDDED_NAMESPACE,
        backend=settings.api_base_url if options.external else f"http://127.0.0.1:{ports.backend}",
        control=f"http://{settings.control_host}:{ports.control}",
        simulator=f"http://127.0.0.1:{ports.simulator}" if "simulator" in stack.parts else None,
        ui=None if options.external else f"http://127.0.0.1:{ports.ui}",
        processes=[],
        simulated=sorted(_simulated(options, settings)),
        backend_token_file=str(stack.token_file or ""),
        projects=str(options.projects) if options.projects else None,
    )


def _start(record: FleetRecord, stack: Stack, settings: Settings, home: Home, say: Say) -> None:
    """Start the stack and supervisord; the record has each process as soon as it has started."""
    if stack.parts:
        say(f"starting {', '.join(sorted(stack.parts))} ...")
    stack.start(record.processes)
    write_programs(home, settings)
    command = [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(home.configuration)]
    log = home.logs / "supervisord.stdout.log"
    spawn("supervisord", command, log, _environment(settings, home, record), known=record.processes)
    record.save(home.state)


def _environment(settings: Settings, home: Home, record: FleetRecord) -> dict[str, str]:
    """The environment of supervisord and its processes: what they need of the user's, overridden by this fleet's
    addresses; with an embedded Temporal without what is meant for another one."""
    own = supervised_environment(os.environ, settings)
    environment = (
        (without_temporal(own) if record.embedded else own)
        | record.variables()
        | {
            "TEMPORAL_HOST": record.temporal,
            "TEMPORAL_NAMESPACE": record.namespace,
            "API_BASE_URL": record.backend,
            "FLEET_STATE_DIR": str(home.state),
            "FLEET_CONTROL_PORT": record.control.rpartition(":")[2],
        }
    )
    if record.simulator is not None:
        simulated = [settings.provider(name) for name in record.simulated]
        environment |= simulated_providers(record.simulator, simulated)
        if record.ui is None and settings.serves_projects:
            environment |= {key_variables(name)[0]: f"sim-{name}-key" for name in record.simulated}
    return environment


def _settings_of(record: FleetRecord, home: Home) -> Settings:
    return load_settings(**record.overrides(), state_dir=home.state)


async def _until_polled(
    settings: Settings, home: Home, say: Say, clock: Callable[[], float] = time.monotonic
) -> None:
    """Wait until every queue has a poller, and say now and then what is waited for; raises if a program cannot
    start."""
    started, tell = clock(), WaitLines(say)
    client, supervisor = await connect_once(settings), Supervisor(home.socket)
    while wait := await _next_wait(client, settings, supervisor, home, started):
        now = clock()
        tell([wait], now)
        if now > started + _READY_SECONDS:
            problems = "; ".join((await status_of(settings)).problems())
            raise OperationError(
                f"the fleet did not come up within {_READY_SECONDS:.0f} s: {problems}. Remedy: read the logs in "
                f"{home.logs}"
            )
        await asyncio.sleep(_POLL_SECONDS)


async def _next_wait(
    client: Client, settings: Settings, supervisor: Supervisor, home: Home, started: float
) -> Wait | None:
    """What is not ready yet; None if everything is."""
    try:
        processes = supervisor.processes()
    except SupervisorAway:  # it has not opened its socket yet
        return Wait("answer", started, ["supervisord"])
    for process in processes:
        if process.state in ("BACKOFF", "FATAL"):
            said = _last_line(home.logs / f"{process.process}.stdout.log") or process.said
            raise OperationError(f"{process.process} does not start: {said}. Its log is in {home.logs}")
    if idle := [queue.queue for queue in await queue_statuses(client, settings) if not queue.pollers]:
        return Wait("be polled by a worker", started, idle)
    # The link to the page that is printed next shall work at once.
    served = any(process.program == "control" for process in processes)
    if served and not await asyncio.to_thread(_listens, settings):
        return Wait("answer", started, ["the page"])
    return None


def _listens(settings: Settings) -> bool:
    address = urlsplit(settings.page_address)
    try:
        socket.create_connection((str(address.hostname), settings.control_port), timeout=_POLL_SECONDS).close()
    except OSError:
        return False
    return True


def _last_line(path: Path) -> str:
    lines = path.read_text("utf-8", "replace").split("\n") if path.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
