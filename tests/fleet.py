"""A whole fleet, started by its own command: the embedded stack, supervisord, its programs."""

import json
import os
import re
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio.client import Client

from fleet.config import PROJECT_ROOT, load_settings
from fleet.control.supervision.supervisord_client import Supervisor, SupervisorAway
from fleet.control.supervision.supervisord_home import Home
from fleet.devstack.detached_processes import ProcessRecord, end_processes, spawn
from fleet.devstack.simulated_settings import simulated_providers
from fleet.devstack.simulator.testing import RunningSimulator
from fleet.devstack.stack import Ports, Stack
from tests.commands import BIN, Command
from tests.end_with_parent import done_if_killed
from tests.evidence import last_lines, ledger_lines
from tests.ports import free_port_base
from tests.waiting import wait_for

COMMAND_SECONDS = 180
QUICK_SECONDS = 0.4
PROGRAMS = {"pipeline", "assistants", "openai", "anthropic", "gemini", "control", "logs", "guardian"}
# Added is a provider with a model of limits of its own; the heartbeat tells soon of a killed worker.
ENVIRONMENT = {
    "FLEET_HEARTBEAT_TIMEOUT_SECONDS": "6",
    "FLEET_HEARTBEAT_INTERVAL_SECONDS": "0.5",
    "FLEET_API_KEY_CACHE_SECONDS": "0",
    "FLEET_ATTEMPT_SPACING_SECONDS": "0",
    "FLEET_RETRY_MAX_SECONDS": "5",
    "FLEET_FALLBACK_AFTER_SECONDS": "2",
    "FLEET_PROVIDERS__GROQ__KIND": "openai",
    "FLEET_PROVIDERS__GROQ__BASE_URL": "https://api.groq.invalid/openai/v1",
    "FLEET_PROVIDERS__GROQ__MODELS__LLAMA-GUARD__RPM": "120",
}
#: Two more providers, with calls that outlive their process.
BACKGROUND = {
    "FLEET_PROVIDERS__LASTING__KIND": "openai",
    "FLEET_PROVIDERS__LASTING__BASE_URL": "https://lasting.invalid/v1",
    "FLEET_PROVIDERS__LASTING__API": "responses",
    "FLEET_PROVIDERS__LASTING__BACKGROUND": "true",
    "FLEET_PROVIDERS__ENDURING__KIND": "gemini",
    "FLEET_PROVIDERS__ENDURING__BASE_URL": "https://enduring.invalid",
    "FLEET_PROVIDERS__ENDURING__BACKGROUND": "true",
}
#: Two processes fewer to start, for tests that call no other provider.
OPENAI_ALONE = {
    "FLEET_PROVIDERS__ANTHROPIC__ENABLED": "false",
    "FLEET_PROVIDERS__GEMINI__ENABLED": "false",
}


@dataclass
class Fleet:
    """A fleet with a state folder of its own, operated through its commands; ``said`` is what ``fleet up``
    printed."""

    state: Path
    port_base: int
    environment: Mapping[str, str] = field(default_factory=dict)
    further: list[ProcessRecord] = field(default_factory=list)
    said: str = ""

    @property
    def simulator(self) -> RunningSimulator:
        return RunningSimulator(f"http://127.0.0.1:{self.port_base + 3}")

    async def client(self) -> Client:
        """A Temporal client with nothing of the fleet's own."""
        return await Client.connect(f"127.0.0.1:{self.port_base}")

    def temporal(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The `temporal` command, as a foreign client uses it."""
        command = [str(BIN / "temporal"), *arguments, "--address", f"127.0.0.1:{self.port_base}"]
        return subprocess.run(
            command, env=self.variables, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
        )

    @property
    def variables(self) -> dict[str, str]:
        return os.environ | {"FLEET_STATE_DIR": str(self.state)} | dict(self.environment)

    def fleet(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.start(*arguments).end(COMMAND_SECONDS)

    def start(self, *arguments: str) -> Command:
        return Command("fleet", *arguments, environment=self.variables)

    def supervisorctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        configuration = str(self.state / "supervisord.conf")
        called = Command("supervisorctl", "-c", configuration, *arguments, environment=self.variables)
        return called.end(COMMAND_SECONDS)

    def pollers(self, queue: str) -> set[str]:
        """The identities of those that have polled a task queue within the last minutes."""
        told = self.temporal("task-queue", "describe", "--task-queue", queue, "--output", "json")
        return {poller["identity"] for poller in json_of(told.stdout.replace("\n", ""))["pollers"] or []}

    def wait_for_open_pipelines(self) -> None:
        """Until those that other tests have started have ended."""
        query = "ExecutionStatus = 'Running' AND WorkflowType = 'AssistantPipelineWorkflow'"
        count = ("workflow", "count", "--query", query)
        wait_for("no pipeline is open", lambda: "Total: 0" in self.temporal(*count).stdout)

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.fleet("status", "--json").stdout.splitlines()[-1])
        return answer

    def seen(self) -> dict[str, Any]:
        """What :meth:`status` tells, of half a second ago at most and without the cost of a command; empty while
        the control process does not answer."""
        try:
            answer: dict[str, Any] = self.control("status").json()
        except httpx.HTTPError:
            return {}
        return answer

    def budget(self, provider: str, breaker: str) -> dict[str, Any] | None:
        """The budget of a provider's queue, if its breaker stands like that; see :meth:`seen`."""
        found: dict[str, Any] | None = self.seen().get("budgets", {}).get(f"llm-{provider}")
        return found if found and found["breaker"] == breaker else None

    def wait_until_well(self) -> None:
        """Until the control process reports no problem. A single look may find one, as on a busy machine where a
        server does not answer it in time."""
        problems: object = "control does not answer"

        def is_well() -> bool:
            nonlocal problems
            try:
                problems = self.control("health").json()["problems"]
            except httpx.HTTPError as error:
                problems = error
            return not problems

        try:
            wait_for("all is well", is_well)
        except AssertionError as error:
            raise AssertionError(f"{error}: {problems}") from None

    def pids(self) -> dict[str, int]:
        """The pid of each program's first process, as supervisord has it."""
        found: dict[str, int] = {}
        try:
            processes = Supervisor(Home.at(self.state).socket).processes()
        except SupervisorAway:
            return found
        for process in processes:
            if process.state == "RUNNING" and process.pid:
                found.setdefault(process.program, process.pid)
        return found

    def control(self, path: str) -> httpx.Response:
        """What the control process answers to the fleet's user."""
        # verify=False: reading the certificate store takes longer than the answer, which is plain http.
        address = f"http://127.0.0.1:{self.port_base + 4}/{path}"
        return httpx.get(address, headers=self.reader(), trust_env=False, timeout=20, verify=False)

    def reader(self) -> dict[str, str]:
        """The header with which this user's commands read; empty before the control process has made its token."""
        token = self.state / "page" / "token"
        return {"authorization": f"Bearer {token.read_text('ascii').strip()}"} if token.exists() else {}

    def evidence(self, since: float) -> Iterator[tuple[str, str]]:
        """What went on in the fleet since then; see :mod:`tests.evidence`."""
        yield from last_lines(self.state / "logs", since)
        yield "supervisord", self.supervisorctl("status").stdout
        yield "ledger of the providers", ledger_lines(self.simulator.ledger())
        query = "ExecutionStatus = 'Running' AND WorkflowType = 'AssistantPipelineWorkflow'"
        listed = self.temporal("workflow", "list", "--limit", "20", "--query", query)
        yield "open pipelines", listed.stdout + listed.stderr

    def all_run(self) -> dict[str, int] | None:
        """The pids, once every program runs."""
        pids = self.pids()
        return pids if pids.keys() >= self.programs else None

    @property
    def programs(self) -> set[str]:
        """Those that its settings ask for."""
        added = {name for name, _ in self._providers("KIND")}
        disabled = {name for name, value in self._providers("ENABLED") if value == "false"}
        return PROGRAMS - disabled | added

    def _providers(self, setting: str) -> Iterator[tuple[str, str]]:
        """Which providers have that setting, and its values."""
        for name, value in self.environment.items():
            if found := re.fullmatch(rf"FLEET_PROVIDERS__(\w+?)__{setting}", name):
                yield found[1].lower(), value

    def log(self, process: str) -> str:
        return (self.state / "logs" / f"{process}.log").read_text("utf-8")

    def backend(self, statement: str, *values: Any) -> None:
        """Change the embedded backend's database."""
        with closing(sqlite3.connect(self.state / "devstack" / "backend.db")) as connection, connection:
            connection.execute(statement, values)

    def server(self, name: str) -> ProcessRecord:
        """The embedded server of that name, as it runs now."""
        record = json.loads((self.state / "fleet.json").read_text("utf-8"))
        known = [ProcessRecord(**process) for process in record["processes"]] + self.further
        (running,) = (process for process in known if process.name == name and process.alive)
        return running

    @contextmanager
    def without(self, name: str) -> Iterator[None]:
        """An embedded server is dead until the block ends."""
        running = self.server(name)
        command = Path("/proc", str(running.pid), "cmdline").read_text("utf-8").rstrip("\0").split("\0")
        os.kill(running.pid, signal.SIGKILL)
        wait_for(f"{name} is gone", lambda: not running.alive)
        try:
            yield
        finally:
            spawn(name, command, self.state / "logs" / f"devstack-{name}.log", known=self.further)

    @contextmanager
    def latency(self, provider: str, seconds: float) -> Iterator[None]:
        """Let a provider's calls take that long until the block ends."""
        self.simulator.put("latency", provider=provider, median_seconds=seconds, sigma=0)
        try:
            yield
        finally:
            self.simulator.put("latency", provider=provider, median_seconds=QUICK_SECONDS)

    def in_flight(self, provider: str) -> int:
        """How many calls of a provider are on their way."""
        calls = self.simulator.ledger()
        return sum(call["outcome"] == "in_flight" and call["provider"] == provider for call in calls)

    def add_project(self, project: str, *assistants: Mapping[str, Any]) -> None:
        """Give the backend a project; each assistant's missing columns get usable values."""
        self.backend("INSERT INTO Project VALUES (?, ?)", project, project)
        for order, given in enumerate(assistants, start=1):
            row = {
                "id": f"{project}-{order}",
                "project_id": project,
                "functionKey": f"assistant_{order}",
                "name": f"Assistant {order}",
                "order": order,
                "model_provider": "openai",
                "model": "gpt-4o",
                "system_prompt": "Write.",
                **given,
            }
            columns, places = ", ".join(f'"{name}"' for name in row), ", ".join("?" for _ in row)
            self.backend(f"INSERT INTO Assistant ({columns}) VALUES ({places})", *row.values())


def json_of(text: str) -> dict[str, Any]:
    """The object that a command's last line is."""
    answer: dict[str, Any] = json.loads(text.splitlines()[-1])
    return answer


@pytest.fixture
def idle(tmp_path: Path) -> Iterator[Fleet]:
    """A state folder in which no fleet is up. One that a failed test leaves up is taken down."""
    fleet = Fleet(tmp_path / "state", free_port_base())
    yield fleet
    if (fleet.state / "fleet.json").exists():
        fleet.fleet("down")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The embedded servers alone, no fleet on them; the first of their ports."""
    folder, base = tmp_path_factory.mktemp("stack"), free_port_base()
    servers = Stack(folder / "devstack", folder / "logs", Ports.from_base(base)).start()
    try:
        yield base
    finally:
        end_processes(servers)


@contextmanager
def running_fleet(state: Path, environment: Mapping[str, str], *options: str) -> Iterator[Fleet]:
    """A fleet that is up until the block ends, with quick answers; ``options`` are further ones of `fleet up`."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("FLEET_", "TEMPORAL_", "API_BASE_URL"))]:
            patch.delenv(name)
        running = Fleet(state, free_port_base(), environment)
        with done_if_killed([str(BIN / "fleet"), "down"], running.variables):
            up = running.fleet("up", "--detach", "--port-base", str(running.port_base), *options)
            assert up.returncode == 0, up.stderr
            running.said = up.stdout
            quick = {"median_seconds": QUICK_SECONDS, "seconds_per_output_token": 0}
            for provider in ("openai", "anthropic", "gemini", "groq", "lasting"):
                running.simulator.put("latency", provider=provider, **quick)
            try:
                yield running
            finally:
                down = running.fleet("down")
                end_processes(running.further)
                assert down.returncode == 0, down.stderr


@contextmanager
def second_machine(first: Fleet, state: Path, environment: Mapping[str, str]) -> Iterator[Fleet]:
    """A fleet with a state folder, and so a machine's id, of its own, on the servers of the first one. It is up
    until the block ends, or somebody ends it."""
    providers = load_settings(api_base_url="http://localhost:1").providers.values()
    port_base = free_port_base()
    shared = {
        "TEMPORAL_HOST": f"127.0.0.1:{first.port_base}",
        "API_BASE_URL": f"http://127.0.0.1:{first.port_base + 2}",
        "FLEET_CONTROL_URL": f"http://127.0.0.1:{port_base + 4}",
        **simulated_providers(first.simulator.base_url, providers),
    }
    second = Fleet(state, port_base, shared | dict(environment))
    with done_if_killed([str(BIN / "fleet"), "down"], second.variables):
        options = ("--detach", "--external", "--real-providers", "--port-base", str(second.port_base))
        up = second.fleet("up", *options)
        assert up.returncode == 0, up.stderr
        try:
            yield second
        finally:
            down = second.fleet("down")
            assert down.returncode == 0, down.stderr


@dataclass(frozen=True)
class FilesOfFleet:
    """Files whose tests share a fleet with these settings. Where several processes share the files, one of them
    runs these in a row, so that the fleet is started once."""

    environment: Mapping[str, str]
    files: tuple[str, ...]


SHARED_FLEETS = (
    FilesOfFleet(
        ENVIRONMENT,
        (
            "tests/process/test_operate.py",
            "tests/faults/test_budgets.py",
            "tests/process/test_look_back.py",
            "tests/process/test_topics.py",
            "tests/process/test_try.py",
        ),
    ),
    FilesOfFleet(
        ENVIRONMENT | BACKGROUND,
        (
            "tests/faults/test_paid_once.py",
            "tests/process/test_fleet.py",
            "tests/faults/test_explain.py",
            "tests/process/test_pipeline.py",
            "tests/process/test_structured.py",
            "tests/monitoring/test_scrape.py",
            "tests/monitoring/test_documents.py",
        ),
    ),
)


class SharedFleet:
    """The fleet for the tests of several files.

    It is up from its first use until the tests of a file begin that does without, since idle it would cost them
    time, or needs other settings.
    """

    def __init__(self, folders: Callable[[], Path]) -> None:
        self._folders = folders
        self._up = ExitStack()
        self._running: Fleet | None = None
        self._file: Path | None = None

    def used_by(self, file: Path) -> Fleet:
        """The fleet, for a test of that file."""
        name = str(file.relative_to(PROJECT_ROOT))
        (environment,) = (shared.environment for shared in SHARED_FLEETS if name in shared.files)
        if self._running is not None and self._running.environment != environment:
            self.end()
        if self._running is None:
            self._running = self._up.enter_context(running_fleet(self._folders(), environment))
            # It serves a little sooner than supervisord counts its processes as running, and tests kill some.
            wait_for("every program runs", self._running.all_run)
        elif file != self._file:
            self._running.wait_for_open_pipelines()
        self._file = file
        return self._running

    def not_used_by(self, file: Path) -> None:
        """A test of that file begins without it."""
        if file != self._file:
            self.end()

    def end(self) -> None:
        self._running = None
        self._up.close()


@pytest.fixture(scope="session")
def shared_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedFleet]:
    shared = SharedFleet(lambda: tmp_path_factory.mktemp("fleet"))
    yield shared
    shared.end()


@pytest.fixture(autouse=True)
def _fleet_is_up_while_it_is_used(request: pytest.FixtureRequest, shared_fleet: SharedFleet) -> None:
    if "fleet" not in request.fixturenames:
        shared_fleet.not_used_by(request.path)


@pytest.fixture
def fleet(request: pytest.FixtureRequest, shared_fleet: SharedFleet) -> Fleet:
    """The fleet that many tests share."""
    return shared_fleet.used_by(request.path)
