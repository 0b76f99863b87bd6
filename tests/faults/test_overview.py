"""Two machines on one Temporal server: each sees the other, and sees when it is gone."""

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest

from fleet.control.machines.other_machines import GONE_SECONDS
from fleet.process.machine_id import known_id
from tests.fleet import OPENAI_ALONE, Fleet, json_of, running_fleet, second_machine
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, Fleet]]:
    """The second one tells where it may be asked; the first one listens on its loopback address alone."""
    folder = tmp_path_factory.mktemp("machines")
    with (
        running_fleet(folder / "first", OPENAI_ALONE) as first,
        second_machine(first, folder / "second", OPENAI_ALONE) as second,
    ):
        yield first, second


def other(told: dict[str, Any], machine: Fleet) -> dict[str, Any]:
    """That machine as another one sees it; empty where it is not known."""
    known = known_id(machine.state)
    found: dict[str, Any] = next((listed for listed in told.get("machines", []) if listed["machine"] == known), {})
    return found


def answered(by: Fleet, machine: Fleet, *command: str) -> dict[str, Any]:
    """That machine in the answer of a command that asks it; on a busy host it may need more than one try."""

    def look() -> dict[str, Any] | None:
        found = other(json_of(by.fleet(*command, "--all", "--json").stdout), machine)
        return found if found.get("told") else None

    return wait_for(f"it answers `fleet {command[0]}`", look)


def seen(by: Fleet, machine: Fleet) -> dict[str, Any]:
    """As ``fleet status --all`` shows it."""
    return other(json_of(by.fleet("status", "--all", "--json").stdout), machine)


@pytest.mark.timeout(400)
def test_one_look_shows_the_other_machine_and_since_when_it_is_gone(machines: tuple[Fleet, Fleet]) -> None:
    first, second = machines
    wait_for("it polls", lambda: "llm-openai" in other(first.seen(), second).get("pollers", {}))
    wait_for("all its programs run", second.all_run)
    found = answered(first, second, "status")
    assert found["version"] == version("assistant-fleet") and found["gone_seconds"] is None
    assert found["why_not"] == "" and set(found["told"]["processes"].values()) == {"RUNNING"}
    assert {name.rpartition("_")[0] for name in found["told"]["processes"]} == second.programs
    assert 0 < found["told"]["uptime_seconds"] < 400 and found["heard_seconds"] < 400

    assert answered(first, second, "top")["told"]["processes"] == found["told"]["processes"]
    assert known_id(second.state) in first.fleet("top", "--all", "--once").stdout
    back = seen(second, first)
    assert back["told"] is None and "FLEET_CONTROL_HOST" in back["why_not"]
    assert back["version"] == found["version"], "its budgets know it"

    down = second.fleet("down")
    assert down.returncode == 0, down.stderr
    wait_for("it is gone", lambda: other(first.seen(), second).get("gone_seconds"), GONE_SECONDS + 60)
    found = seen(first, second)
    assert found["told"] is None and found["why_not"] and found["gone_seconds"] > GONE_SECONDS
    assert "gone since 20" in first.fleet("status").stdout
