"""A real Temporal server, the backend and the simulator on free ports, and workers of this process's code."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from temporalio.client import Client

from fleet.devstack.simulator.testing import RunningSimulator
from fleet.devstack.stack import Ports, end_processes, spawn, start_stack

PROGRAMS = {
    "pipeline": ["workers.pipeline"],
    "assistants": ["workers.assistants"],
    "openai": ["workers.llm", "openai"],
    "anthropic": ["workers.llm", "anthropic"],
    "gemini": ["workers.llm", "gemini"],
}


class Fleet:
    """Addresses and processes of a running fleet."""

    def __init__(self, ports: Ports, logs: Path, pids: dict[str, int]) -> None:
        self.ports, self.logs, self.pids = ports, logs, pids
        self.simulator = RunningSimulator(f"http://127.0.0.1:{ports.simulator}")

    async def client(self) -> Client:
        return await Client.connect(f"127.0.0.1:{self.ports.temporal}")


def free_ports() -> Ports:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(5)]
    ports = Ports(*(one.getsockname()[1] for one in sockets))
    for one in sockets:
        one.close()
    return ports


def environment(ports: Ports, state: Path) -> dict[str, str]:
    simulator = f"http://127.0.0.1:{ports.simulator}"
    return os.environ | {
        "TEMPORAL_HOST": f"127.0.0.1:{ports.temporal}",
        "API_BASE_URL": f"http://127.0.0.1:{ports.backend}",
        "FLEET_STATE_DIR": str(state),
        "FLEET_PROVIDERS__OPENAI__BASE_URL": f"{simulator}/v1",
        "FLEET_PROVIDERS__ANTHROPIC__BASE_URL": simulator,
        "FLEET_PROVIDERS__GEMINI__BASE_URL": simulator,
    }


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    state, ports = tmp_path_factory.mktemp("fleet"), free_ports()
    logs = state / "logs"
    records = start_stack(state / "devstack", logs, ports)
    workers = {
        name: spawn(name, [sys.executable, "-m", *module], logs / f"{name}.stdout.log", environment(ports, state))
        for name, module in PROGRAMS.items()
    }
    try:
        yield Fleet(ports, logs, {name: record.pid for name, record in workers.items()})
    finally:
        end_processes(list(workers.values()))
        end_processes(records)


def run_temporal(fleet: Fleet, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "temporal"), *arguments]
    address = ["--address", f"127.0.0.1:{fleet.ports.temporal}"]
    return subprocess.run([*command, *address], capture_output=True, text=True, timeout=90, check=False)
