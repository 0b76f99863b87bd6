"""Client of supervisord's XML-RPC interface on its unix socket. Source: supervisord.org/api.html."""

import http.client
import socket
import xmlrpc.client
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.errors import OperationError

_CALL_SECONDS = 10.0
# Fault codes: `Faults` in supervisor.xmlrpc, whose import would load supervisord's own HTTP server.
_SHUTDOWN_STATE, _ALREADY_STARTED, _NOT_RUNNING = 6, 60, 70
#: supervisord does not restart a process in these states by itself; it restarts one that has EXITED.
AT_REST = frozenset({"STOPPED", "FATAL", "UNKNOWN"})


@dataclass(frozen=True)
class ProcessStatus:
    """A supervised process. ``state`` is supervisord's name of it (RUNNING, STARTING, BACKOFF, FATAL ...); ``pid``
    is None and ``uptime_seconds`` 0 if it does not run."""

    program: str
    process: str
    state: str
    pid: int | None
    uptime_seconds: int
    said: str = ""


class SupervisorAway(OperationError):
    """supervisord does not answer on the socket."""

    code = "supervisor_away"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_CALL_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of to a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(str(self._path))
        except OSError:
            self.close()
            raise


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        """The connection to the socket, whatever the host; :meth:`close` closes the cached one."""
        _, connection = self._connection
        if connection is None:
            connection = _UnixConnection(self._path)
            self._connection = host, connection
        return connection


class Supervisor:
    """The supervisord behind a socket. Calls block, each for at most ten seconds."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def _calling(self) -> Iterator[Any]:
        with self._proxy() as proxy:
            yield proxy.supervisor

    @contextmanager
    def _proxy(self) -> Iterator[Any]:
        proxy = xmlrpc.client.ServerProxy(
            "http://localhost", transport=_UnixTransport(self._path), allow_none=True
        )
        try:
            with proxy:
                yield proxy
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as error:
            raise SupervisorAway(
                f"no supervisord answers on {self._path} ({error}). Remedy: start the fleet with `fleet up`, or "
                "set FLEET_STATE_DIR to its state folder"
            ) from None
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == _SHUTDOWN_STATE:
                raise SupervisorAway(
                    f"the supervisord behind {self._path} is leaving. Remedy: wait for it"
                ) from None
            raise OperationError(
                f"supervisord refused: {fault.faultString}. Remedy: see logs/supervisord.log and `fleet doctor`"
            ) from None

    def pid(self) -> int:
        """The process id of supervisord itself.

        Raises:
            SupervisorAway: it does not answer.
        """
        with self._calling() as supervisor:
            return int(supervisor.getPID())

    def processes(self) -> list[ProcessStatus]:
        """All supervised processes, by name.

        Raises:
            SupervisorAway: it does not answer.
        """
        with self._calling() as supervisor:
            entries: list[dict[str, Any]] = supervisor.getAllProcessInfo()
        return sorted((_status(entry) for entry in entries), key=lambda status: status.process)

    def stop_all(self) -> None:
        """Drain all processes in parallel; returns at once."""
        with self._calling() as supervisor:
            supervisor.stopAllProcesses(False)

    def signal(self, process: ProcessStatus, name: str) -> None:
        """Send a signal, such as TERM, to one process; ignored if it has ended in the meantime."""
        with self._calling() as supervisor:
            try:
                supervisor.signalProcess(f"{process.program}:{process.process}", name)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode != _NOT_RUNNING:
                    raise

    def start(self, process: ProcessStatus) -> None:
        """Start a process; returns at once. Ignored if it already runs."""
        self._order("startProcess", process, _ALREADY_STARTED)

    def stop(self, process: ProcessStatus) -> None:
        """Drain a process; returns at once. Ignored if it has already ended."""
        self._order("stopProcess", process, _NOT_RUNNING)

    def _order(self, method: str, process: ProcessStatus, harmless: int) -> None:
        with self._calling() as supervisor:
            try:
                getattr(supervisor, method)(f"{process.program}:{process.process}", False)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode != harmless:
                    raise

    def add_process(self, program: str, section: dict[str, str]) -> None:
        """Add the process that a program's section describes to the running group of that name, without starting
        it.

        Source: supervisor_twiddler's ``addProgramToGroup``.
        """
        with self._proxy() as proxy:
            proxy.twiddler.addProgramToGroup(program, program, section)

    def remove_process(self, process: ProcessStatus) -> None:
        """Remove a process that has ended from its group."""
        with self._proxy() as proxy:
            proxy.twiddler.removeProcessFromGroup(process.program, process.process)

    def shutdown(self) -> None:
        """End supervisord."""
        with self._calling() as supervisor:
            supervisor.shutdown()


def _status(entry: dict[str, Any]) -> ProcessStatus:
    runs = bool(entry["pid"])
    return ProcessStatus(
        program=entry["group"],
        process=entry["name"],
        state=entry["statename"],
        pid=entry["pid"] or None,
        uptime_seconds=max(entry["now"] - entry["start"], 0) if runs else 0,
        said=entry["spawnerr"] or ("" if runs else entry["description"]),
    )
