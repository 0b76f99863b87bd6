"""Every command of docs/first-hour.md, in its order, as a newcomer types it."""

import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from fleet.config import PROJECT_ROOT
from tests.end_with_parent import done_if_killed
from tests.fleet import BIN, Fleet, json_of
from tests.process.guides import blocks
from tests.waiting import wait_for

GUIDE = PROJECT_ROOT / "docs" / "first-hour.md"
#: Run elsewhere: the whole demo, in test_fleet.py.
ELSEWHERE = {"scripts/demo.sh"}
#: What a command says once what came before it has had its effect. It is repeated until then.
SAYS = {
    "curl -s http://127.0.0.1:8010/ledger": '"anthropic"',
    "fleet status": "Temporal",
    "fleet logs --provider anthropic": "PROVIDER PARKED: llm-anthropic",
    "fleet logs -n 20": "PROCESS DIED: openai_00",
    "fleet doctor": "`fleet resume anthropic`",
    "fleet resume anthropic": "llm-anthropic",
}
#: Commands whose exit status says that something is wrong, which it is at that place.
PROBLEM_FOUND = ("fleet doctor",)


def typed() -> list[str]:
    """The commands, without their remarks."""
    lines = [line for block in blocks(GUIDE, "bash") for line in block.splitlines()]
    return [re.split(r"\s+# ", line)[0].strip() for line in lines]


@pytest.fixture
def newcomer(idle: Fleet, stack: int, monkeypatch: pytest.MonkeyPatch) -> Iterator["Newcomer"]:
    for name in [name for name in os.environ if name.startswith(("FLEET_", "TEMPORAL_", "API_BASE_URL"))]:
        monkeypatch.delenv(name)
    with done_if_killed([str(BIN / "fleet"), "down"], idle.variables):
        try:
            yield Newcomer(idle, stack)
        finally:
            idle.fleet("down")


class Newcomer:
    """Types commands in the checkout, with free ports in place of the usual ones; ``servers`` is the first port of
    the own servers."""

    def __init__(self, fleet: Fleet, servers: int) -> None:
        self._fleet, self._servers = fleet, servers

    def types(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", self._here(command)],
            cwd=PROJECT_ROOT,
            env=self._fleet.variables,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    def _here(self, command: str) -> str:
        base = self._fleet.port_base
        command = command.replace(":8010", f":{base + 3}").replace("localhost:7233", f"localhost:{self._servers}")
        command = command.replace("localhost:8000", f"localhost:{self._servers + 2}")
        for before in ("--dir ", "check ", "--projects "):
            command = command.replace(f"{before}projects", f"{before}{self._fleet.state.parent / 'projects'}")
        command = command.replace("up --detach", f"up --detach --port-base {base}")
        return command.replace("WORKFLOW_ID", self._latest()) if "WORKFLOW_ID" in command else command

    def _latest(self) -> str:
        listed = json_of(self._fleet.fleet("list", "--json").stdout)
        return str(listed["pipelines"][0]["workflow_id"])


@pytest.mark.timeout(600)
def test_every_command_of_the_first_hour_does_what_the_guide_says(newcomer: Newcomer) -> None:
    commands = [command for command in typed() if command not in ELSEWHERE]
    assert len(commands) > 25
    for command in commands:
        name = command.removeprefix(".venv/bin/")
        expected = SAYS.get(name, "")

        def done(command: str = command, name: str = name, expected: str = expected) -> bool:
            ended = newcomer.types(command)
            well = ended.returncode in ((0, 1) if name in PROBLEM_FOUND or name == "fleet status" else (0,))
            assert well or expected, f"{command}: {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
            return well and expected in ended.stdout

        wait_for(f"`{command}` says {expected!r}", done)
