"""Machines with systemd, a host name and a network of their own (``scripts/machines.sh``), and the servers of this
host that they work with."""

import os
import shlex
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.config import PROJECT_ROOT, load_settings
from fleet.control.supervision.supervisord_client import ProcessStatus, Supervisor, SupervisorAway
from fleet.control.supervision.supervisord_home import Home
from fleet.devstack.detached_processes import ProcessRecord, end_processes
from fleet.devstack.simulated_settings import simulated_providers
from fleet.devstack.stack import Ports, Stack
from fleet.process.machine_id import Place, known_id, place_of
from fleet.process.wall_clock import CLOCK_AHEAD
from tests.commands import Command
from tests.end_with_parent import done_if_killed
from tests.evidence import last_lines, ledger_lines
from tests.fleet import ENVIRONMENT, OPENAI_ALONE, QUICK_SECONDS, Fleet, json_of
from tests.ports import free_port_base
from tests.waiting import wait_for

STEP_SECONDS = 900
SERVICE = "seo-worker"
CLOCK_AHEAD_SECONDS = 20.0
#: This host, as the machines name it: under localhost, so that plain http is allowed by each release.
HOST = "host.localhost"
_SCRIPT = str(PROJECT_ROOT / "scripts" / "machines.sh")
#: A killed worker is known soon; see tests/fleet.py. The added providers of there are not for here.
QUICK_TO_NOTICE = {name: value for name, value in ENVIRONMENT.items() if "PROVIDERS" not in name} | {
    "FLEET_OTHER_MACHINE_SECONDS": "40",
    "FLEET_PROVIDERS__OPENAI__CONCURRENCY": "1",  # busy, it polls nothing: a poll of a cut machine takes tasks
}


@dataclass(frozen=True)
class Machine:
    """Machine ``number`` of the set in ``folder``. Its files are below ``root``, also for this host."""

    folder: Path
    number: int

    @property
    def root(self) -> Path:
        return self.folder / str(self.number) / "root"

    @property
    def environment(self) -> Path:
        return self.root / f"etc/{SERVICE}/environment"

    @property
    def state(self) -> Path:
        return self.root / f"var/lib/{SERVICE}"

    @property
    def logs(self) -> Path:
        return self.root / f"var/log/{SERVICE}"

    @property
    def checkout(self) -> Path:
        return self.root / "root/checkout"

    @property
    def current(self) -> str:
        """The name of the release that is installed."""
        return (self.root / f"opt/{SERVICE}/current").readlink().name

    @property
    def host(self) -> str:
        return (self.root / "etc/hostname").read_text("utf-8").strip()

    def start(self, command: str) -> "subprocess.Popen[str]":
        """A command of the guides, as it stands there, by root in the checkout and with a strict umask."""
        shell = ["env", "-C", "/root/checkout", "FLEET_UPDATE_PATIENCE_SECONDS=40", "bash", "-c"]
        words = ["exec", str(self.number), *shell, f"umask 077; {command}"]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [_SCRIPT, *words], env=_variables(self.folder), stdout=pipe, stderr=pipe, text=True
        )

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        process = self.start(command)
        try:
            out, err = process.communicate(timeout=STEP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def does(self, command: str) -> str:
        """What a command says that succeeds."""
        done = self.run(command)
        assert done.returncode == 0, f"{command}: {done.stdout} {done.stderr}"
        return done.stdout

    def cut(self, port: int | None = None) -> None:
        """From now on all is lost that it and this host, or that port of it, send each other."""
        _machines(self.folder, "cut", str(self.number), *([] if port is None else [str(port)]))

    def delay(self, milliseconds: int) -> None:
        """From now on all that it and the servers of this host send each other comes so much later."""
        _machines(self.folder, "delay", str(self.number), str(milliseconds))

    def join(self) -> None:
        """End cuts and delays."""
        _machines(self.folder, "join", str(self.number))

    def kill(self) -> None:
        """Take its power away."""
        _machines(self.folder, "kill", str(self.number))

    def reboot(self) -> None:
        """Have it shut down and boot anew."""
        _machines(self.folder, "reboot", str(self.number))

    def boot(self) -> None:
        """Start it, or wait until it has started; its service may come up later."""
        _machines(self.folder, "start", str(self.number))

    def configure(self, settings: Mapping[str, str]) -> None:
        """Set the service's settings."""
        self.environment.write_text("".join(f"{name}={value}\n" for name, value in settings.items()), "utf-8")

    def is_well(self) -> bool:
        """What `fleet health` asks, without the cost of a command."""
        return self.run("curl -fsS http://127.0.0.1:8020/health").returncode == 0

    def wait_until_well(self) -> None:
        wait_for(f"machine {self.number} is well", self.is_well, 240)

    def status(self) -> dict[str, Any]:
        """What its control process tells."""
        token = '-H "Authorization: Bearer $(cat /var/lib/seo-worker/page/token)"'
        return json_of(self.does(f"curl -fsS {token} http://127.0.0.1:8020/status"))

    def pids(self) -> dict[str, int]:
        """The pid of each process as the machine counts them, once supervisord starts and stops none."""

        def settled() -> list[ProcessStatus] | None:
            try:
                processes = Supervisor(Home.at(self.state).socket).processes()
            except SupervisorAway:
                return None
            return None if any(process.state in ("STARTING", "STOPPING") for process in processes) else processes

        found = wait_for("no process starts or stops", settled) or []
        return {process.process: process.pid for process in found if process.state == "RUNNING" and process.pid}

    def calls(self, project: str, provider: str = "openai") -> list[str]:
        """The states (:class:`fleet.execution.journal_records.State`) of a project's calls in its journal."""
        path = self.state / f"journal/{provider}.db"
        if not path.exists():
            return []
        with closing(sqlite3.connect(path)) as journal:
            rows = journal.execute("SELECT state FROM calls WHERE workflow_id LIKE ?", (f"{project}-%",))
            return [state for (state,) in rows]

    @property
    def id(self) -> str:
        """By which the fleet tells it from others."""
        return known_id(self.state)

    def unit(self, name: str) -> str:
        """A property of the service, as systemd has it."""
        return self.does(f"systemctl show --value -p {name} {SERVICE}").strip()

    def evidence(self, since: float) -> Iterator[tuple[str, str]]:
        """What went on on the machine since then; see :mod:`tests.evidence`."""
        yield "systemd", self.run(f"systemctl status --no-pager {SERVICE}").stdout
        yield "journal", self.run(f"journalctl -n 20 --no-pager -u {SERVICE}").stdout
        yield from last_lines(self.logs, since)


def _machines(folder: Path, *words: str) -> None:
    done = subprocess.run(
        [_SCRIPT, *words], env=_variables(folder), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"{shlex.join(words)}: {done.stdout} {done.stderr}"


def _variables(folder: Path) -> dict[str, str]:
    return os.environ | {"FLEET_MACHINES_DIR": str(folder)}


@contextmanager
def running_machines(folder: Path, count: int, *options: str) -> Iterator[list[Machine]]:
    """So many machines, until the block ends; the options are those of ``scripts/machines.sh up``."""
    with done_if_killed([_SCRIPT, "down"], _variables(folder)):
        _machines(folder, "up", str(count), *options)
        try:
            yield [Machine(folder, number) for number in range(1, count + 1)]
        finally:
            _machines(folder, "down")


def addresses(host: str, port_base: int) -> dict[str, str]:
    """The settings of a fleet that works with the embedded servers of this host, which has that name there."""
    providers = load_settings(API_BASE_URL="http://localhost").providers.values()
    return {
        "API_BASE_URL": f"http://{host}:{port_base + 2}",
        "TEMPORAL_HOST": f"{host}:{port_base}",
        **simulated_providers(f"http://{host}:{port_base + 3}", providers),
    }


@dataclass
class Servers(Fleet):
    """Temporal, backend and simulator of this host, with no fleet of its own."""

    @property
    def variables(self) -> dict[str, str]:
        return super().variables | addresses("127.0.0.1", self.port_base)

    def server(self, name: str) -> ProcessRecord:
        (running,) = (process for process in self.further if process.name == name and process.alive)
        return running

    def evidence(self, since: float) -> Iterator[tuple[str, str]]:
        """What went on since then; see :mod:`tests.evidence`."""
        yield from last_lines(self.state / "logs", since)
        yield "ledger of the providers", ledger_lines([*self.simulator.ledger()])
        yield "pipelines", self.temporal("workflow", "list", "--limit", "20").stdout


@contextmanager
def running_servers(state: Path) -> Iterator[Servers]:
    """The embedded servers, until the block ends, with quick answers."""
    servers = Servers(state, free_port_base())
    stack = Stack(state / "devstack", state / "logs", Ports.from_base(servers.port_base))
    servers.further += stack.start()
    try:
        for provider in ("openai", "anthropic", "gemini"):
            servers.simulator.put(
                "latency", provider=provider, median_seconds=QUICK_SECONDS, seconds_per_output_token=0
            )
        yield servers
    finally:
        end_processes(servers.further)


@dataclass
class TwoMachines:
    """Two machines at work for the same servers, which are this host's: what would be paid is in
    ``servers.simulator.ledger()``, whatever becomes of a machine."""

    servers: Servers
    first: Machine
    second: Machine

    @property
    def both(self) -> tuple[Machine, Machine]:
        return self.first, self.second

    def places(self, queue: str) -> set[Place]:
        """The fleet's processes that have polled a task queue within the last minutes."""
        places = map(place_of, self.servers.pollers(queue))
        return {place for place in places if place is not None}

    def both_poll(self) -> bool:
        queues = ("pipeline", "assistants", "llm-openai")
        return all(
            {place.machine for place in self.places(queue)} >= {machine.id for machine in self.both}
            for queue in queues
        )

    def begin(self, project: str) -> tuple[Command, Machine, Machine]:
        """A pipeline, the machine that has its one call on its way, and the other one."""
        self.servers.simulator.clear()
        run = self.servers.start("run", "Kávovar", "--project", project, "--json")

        wait_for("a call is on its way", lambda: self.servers.in_flight("openai"))
        (caller,) = (machine for machine in self.both if "intent" in machine.calls(project))
        return run, caller, self.second if caller is self.first else self.first

    def evidence(self, since: float) -> Iterator[tuple[str, str]]:
        """What went on since then; see :mod:`tests.evidence`."""
        for told in (self.servers, *self.both):
            for title, text in told.evidence(since):
                yield f"{told.number if isinstance(told, Machine) else 'host'}: {title}", text


@contextmanager
def running_two_machines(folder: Path) -> Iterator[TwoMachines]:
    """Two machines at work until the block ends. The second is a clone of the first, made while that was at work,
    with the same host name, state and logs; its clock is ahead. Both call openai alone."""
    with (
        running_servers(folder / "servers") as servers,
        running_machines(folder / "machines", 2, "--same-name") as (first, second),
    ):
        two = TwoMachines(servers, first, second)
        settings = addresses(HOST, servers.port_base) | QUICK_TO_NOTICE | OPENAI_ALONE
        first.configure(settings)
        second.configure(settings | {CLOCK_AHEAD: str(CLOCK_AHEAD_SECONDS)})
        first.does(f"systemctl enable --now {SERVICE}")
        first.wait_until_well()
        first.does(f"pkill -STOP -u {SERVICE}")  # no file changes while it is copied
        for mine, copy in ((first.state, second.state), (first.logs, second.logs)):
            shutil.rmtree(copy)
            subprocess.run(["cp", "-a", str(mine), str(copy)], check=True)
        first.does(f"pkill -CONT -u {SERVICE}")
        second.does(f"systemctl enable --now {SERVICE}")
        for machine in two.both:
            machine.wait_until_well()
        wait_for("both poll", two.both_poll)
        yield two
