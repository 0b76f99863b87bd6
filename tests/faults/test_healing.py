"""Every way of being alive and of no use is found, and mended by a new process."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.control.pulses import STILL_SECONDS
from tests.fleet import Fleet, json_of, running_fleet
from tests.waiting import wait_for

WEDGES = Path(__file__).parents[1] / "wedge"
HEALED_SECONDS = 60.0


@pytest.fixture(scope="module")
def wedged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    environment = {"PYTHONPATH": str(WEDGES), "FLEET_LOOP_BLOCKED_SECONDS": "6"}
    with running_fleet(tmp_path_factory.mktemp("wedged") / "state", environment) as fleet:
        yield fleet


def healed(fleet: Fleet, before: dict[str, int], victims: set[str]) -> bool:
    now = fleet.pids()
    return now.keys() == before.keys() and all(now[name] != before[name] for name in victims)


def test_blocked_stopped_and_pollerless_processes_are_replaced_within_a_minute(wedged: Fleet) -> None:
    before = wait_for("every program runs", wedged.all_run)
    time.sleep(1)  # a second beat of each pulse
    os.kill(before["openai"], signal.SIGUSR1)
    os.kill(before["anthropic"], signal.SIGSTOP)
    os.kill(before["gemini"], signal.SIGUSR2)
    os.kill(before["control"], signal.SIGUSR1)
    os.kill(before["guardian"], signal.SIGSTOP)
    victims = {"openai", "anthropic", "gemini", "control", "guardian"}
    # The guardian must be back before it can heal the others; each alone is healed within a minute.
    wait_for("all are replaced", lambda: healed(wedged, before, victims), 2 * HEALED_SECONDS)
    blocked = wedged.log("openai_00")
    assert "🧊 EVENT LOOP BLOCKED: openai_00" in blocked and "time.sleep(3600)" in blocked
    assert "🧊 EVENT LOOP BLOCKED: control_00" in wedged.log("control_00")
    guardian = wedged.log("guardian_00")
    assert "🚑 PROCESS REPLACED: anthropic_00" in guardian and "stood still" in guardian
    assert "🚑 PROCESS REPLACED: gemini_00" in guardian and "no poller" in guardian
    assert "🚑 PROCESS REPLACED: guardian_00" in wedged.log("control_00")
    wait_for("all is well", lambda: not wedged.status()["problems"])
    done = wedged.fleet("run", "Kávovar", "--project", "seo-demo", "--json")
    assert json_of(done.stdout)["status"] == "completed"


def test_a_stopped_control_process_is_replaced_by_the_guardian(wedged: Fleet) -> None:
    before = wait_for("every program runs", wedged.all_run)
    wait_for("its pulse is known", lambda: wedged.control("health").status_code == 200)
    began = time.monotonic()
    os.kill(before["control"], signal.SIGSTOP)
    wait_for("it is replaced", lambda: healed(wedged, before, {"control"}), HEALED_SECONDS)
    assert time.monotonic() - began < HEALED_SECONDS
    wait_for("it serves again", lambda: wedged.fleet("health").returncode == 0)
    assert STILL_SECONDS < HEALED_SECONDS
