"""The processes of both variants, by what they do; their CPU time and memory, and the requests that the Temporal
server has answered."""

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.throughput.bare import queue_of
from fleet.control.supervision.supervisord_client import Supervisor
from fleet.control.supervision.supervisord_home import Home
from tests.fleet import Fleet
from tests.waiting import wait_for

PROVIDERS = ("openai", "anthropic", "gemini")
ROLES = ("pipeline", "assistants", *PROVIDERS)
STARTED_SECONDS = 60.0
_REQUEST = re.compile(
    r'^service_requests\{(?=[^}]*service_name="frontend")[^}]*operation="(\w+)"[^}]*\} (\S+)$', re.M
)


def kind_of(program: str) -> str:
    """The part of the fleet that a program belongs to."""
    if program in PROVIDERS:
        return "providers"
    return program if program in ("pipeline", "assistants") else "control"


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its threads. Source: proc(5), utime and stime."""
    fields = Path("/proc", str(pid), "stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def megabytes_of(pid: int) -> dict[str, float]:
    """A process's USS and PSS in MB. Source: proc(5), smaps_rollup."""
    text = Path("/proc", str(pid), "smaps_rollup").read_text("utf-8")
    found: Counter[str] = Counter()
    for name, kilobytes in re.findall(r"^(\w+): +(\d+) kB$", text, re.M):
        found["pss"] += int(kilobytes) if name == "Pss" else 0
        found["uss"] += int(kilobytes) if name in ("Private_Clean", "Private_Dirty") else 0
    return {name: round(found[name] / 1000, 1) for name in ("uss", "pss")}


@dataclass(frozen=True)
class Processes:
    """The running processes of a variant: ``workers`` has a pid and its program's name each."""

    workers: dict[int, str]
    server: int
    simulator: int

    def cpu(self) -> Counter[str]:
        """CPU seconds by part."""
        found = Counter({"server": cpu_seconds(self.server), "simulator": cpu_seconds(self.simulator)})
        for pid, program in self.workers.items():
            found[kind_of(program)] += cpu_seconds(pid)
        return found

    def memory(self) -> dict[str, dict[str, float]]:
        """USS and PSS in MB by program."""
        return {
            program: megabytes_of(pid) for pid, program in sorted(self.workers.items(), key=lambda item: item[1])
        }


@contextmanager
def fleet_works(fleet: Fleet) -> Iterator[Processes]:
    """The fleet's programs run until the block ends, one process each."""
    started = fleet.supervisorctl("start", "all")
    assert started.returncode == 0, started.stdout
    try:
        wait_for("the fleet serves", lambda: _serves(fleet), STARTED_SECONDS)
        found = Supervisor(Home.at(fleet.state).socket).processes()
        workers = {process.pid: process.program for process in found if process.pid}
        yield Processes(workers, fleet.server("temporal").pid, fleet.server("simulator").pid)
    finally:
        fleet.supervisorctl("stop", "all")


def _serves(fleet: Fleet) -> bool:
    now = fleet.seen()
    return bool(now) and not now["problems"] and all(process["pulse"] for process in now["processes"])


@contextmanager
def bare_works(fleet: Fleet) -> Iterator[Processes]:
    """The bare workers run until the block ends, one process a role, on the fleet's servers."""
    environment = os.environ | {
        "TEMPORAL_HOST": f"127.0.0.1:{fleet.port_base}",
        "API_BASE_URL": f"http://127.0.0.1:{fleet.port_base + 2}",
    }
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for role in ROLES:
            url = {"PROVIDER_URL": fleet.simulator.provider_url(role)} if role in PROVIDERS else {}
            command = [sys.executable, "-m", "bench.throughput.bare", role]
            running[role] = subprocess.Popen(command, env=environment | url)
        wait_for("the bare workers poll", lambda: all(_polls(fleet, role) for role in ROLES), STARTED_SECONDS)
        workers = {process.pid: role for role, process in running.items()}
        yield Processes(workers, fleet.server("temporal").pid, fleet.server("simulator").pid)
    finally:
        for process in running.values():
            process.send_signal(signal.SIGTERM)
        for process in running.values():
            process.wait(STARTED_SECONDS)


def _polls(fleet: Fleet, role: str) -> bool:
    kind = "workflow" if role == "pipeline" else "activity"
    queue = ("--task-queue", queue_of(role), "--task-queue-type", kind)
    told = fleet.temporal("task-queue", "describe", *queue, "--output", "json")
    return bool(json.loads(told.stdout)["pollers"])


def server_requests(server: int) -> Counter[str]:
    """How many requests the Temporal server has answered since its start, by kind.

    Raises:
        RuntimeError: its metrics are not found.
    """
    for port in _ports_of(server):
        try:
            text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False, timeout=5).text
        except (httpx.HTTPError, UnicodeDecodeError):
            continue
        if found := _REQUEST.findall(text):
            counts: Counter[str] = Counter()
            for operation, count in found:
                counts[operation] += int(float(count))
            return counts
    raise RuntimeError("the Temporal server's metrics were not found on any of its ports")


def _ports_of(pid: int) -> list[int]:
    """The TCP ports that a process listens on. Source: proc(5), net/tcp."""
    opened = (str(link.readlink()) for link in Path("/proc", str(pid), "fd").iterdir())
    inodes = {target.removeprefix("socket:[").rstrip("]") for target in opened if target.startswith("socket:[")}
    ports: set[int] = set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc", str(pid), "net", table).read_text("utf-8").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                ports.add(int(fields[1].rpartition(":")[2], 16))
    return sorted(ports)
