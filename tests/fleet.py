"""A whole fleet, started by its own command: the embedded stack, supervisord, seven programs."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client

from fleet.devstack.simulator.testing import RunningSimulator
from tests.ports import free_port_base

BIN = Path(sys.executable).parent
COMMAND_SECONDS = 180
# An added provider, and a heartbeat that makes a killed worker noticed soon.
ENVIRONMENT = {
    "FLEET_HEARTBEAT_TIMEOUT_SECONDS": "3",
    "FLEET_HEARTBEAT_INTERVAL_SECONDS": "0.5",
    "FLEET_PROVIDERS__GROQ__KIND": "openai",
    "FLEET_PROVIDERS__GROQ__BASE_URL": "https://api.groq.invalid/openai/v1",
}


@dataclass
class Fleet:
    """A fleet with a state folder of its own, operated through its commands."""

    state: Path
    port_base: int
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def simulator(self) -> RunningSimulator:
        return RunningSimulator(f"http://127.0.0.1:{self.port_base + 3}")

    async def client(self) -> Client:
        """A Temporal client with nothing of the fleet's own."""
        return await Client.connect(f"127.0.0.1:{self.port_base}")

    def temporal(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The `temporal` command, as a foreign client uses it."""
        return self._run(str(BIN / "temporal"), *arguments, "--address", f"127.0.0.1:{self.port_base}")

    @property
    def variables(self) -> dict[str, str]:
        return os.environ | {"FLEET_STATE_DIR": str(self.state)} | dict(self.environment)

    def fleet(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run(str(BIN / "fleet"), *arguments)

    def supervisorctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run(str(BIN / "supervisorctl"), "-c", str(self.state / "supervisord.conf"), *arguments)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [str(BIN / "fleet"), *arguments], env=self.variables, stdout=pipe, stderr=pipe, text=True
        )

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.fleet("status", "--json").stdout.splitlines()[-1])
        return answer

    def pids(self) -> dict[str, int]:
        """The pid of each program's first process, as supervisord has it."""
        lines = [line.split() for line in self.supervisorctl("status").stdout.splitlines()]
        return {line[0].partition(":")[0]: int(line[3].rstrip(",")) for line in lines if line[1] == "RUNNING"}

    def log(self, process: str) -> str:
        return (self.state / "logs" / f"{process}.log").read_text("utf-8")

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=self.variables, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
        )


def json_of(text: str) -> dict[str, Any]:
    """The object that a command's last line is."""
    answer: dict[str, Any] = json.loads(text.splitlines()[-1])
    return answer


@pytest.fixture
def idle(tmp_path: Path) -> Fleet:
    """A state folder in which no fleet is up."""
    return Fleet(tmp_path / "state", free_port_base())


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One fleet for all tests, with an added provider and quick answers."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("FLEET_", "TEMPORAL_", "API_BASE_URL"))]:
            patch.delenv(name)
        running = Fleet(tmp_path_factory.mktemp("fleet"), free_port_base(), ENVIRONMENT)
        up = running.fleet("up", "--detach", "--port-base", str(running.port_base))
        assert up.returncode == 0, up.stderr
        for provider in ("openai", "anthropic", "gemini", "groq"):
            running.simulator.put("latency", provider=provider, median_seconds=0.4, seconds_per_output_token=0)
        try:
            yield running
        finally:
            down = running.fleet("down")
            assert down.returncode == 0, down.stderr
