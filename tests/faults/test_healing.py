"""Every way of being alive and of no use is found, and mended by a new process."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fleet import Fleet, json_of, running_fleet
from tests.waiting import wait_for

WEDGES = Path(__file__).parents[1] / "wedge"
HEALED_SECONDS = 60.0
SLOTS = 2


@pytest.fixture(scope="module")
def wedged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    environment = {
        "PYTHONPATH": str(WEDGES),
        "FLEET_LOOP_BLOCKED_SECONDS": "6",
        "FLEET_PROVIDERS__OPENAI__CONCURRENCY": str(SLOTS),
    }
    with running_fleet(tmp_path_factory.mktemp("wedged") / "state", environment) as fleet:
        yield fleet


def seconds_to_heal(fleet: Fleet, before: dict[str, int], victims: set[str]) -> dict[str, float]:
    """How long each takes to run anew; all of them within a minute."""
    began = time.monotonic()
    took: dict[str, float] = {}

    def look() -> bool:
        now = fleet.pids()
        for name in victims - took.keys():
            if now.get(name) not in (None, before[name]):
                took[name] = time.monotonic() - began
        return took.keys() == victims and now.keys() == before.keys()

    wait_for(f"{sorted(victims)} are replaced", look, HEALED_SECONDS)
    return took


def test_blocked_stopped_and_pollerless_processes_are_each_replaced_within_a_minute(wedged: Fleet) -> None:
    before = wait_for("every program runs", wedged.all_run)
    wait_for("their pulses are known", lambda: wedged.control("health").status_code == 200)
    os.kill(before["openai"], signal.SIGUSR1)
    os.kill(before["anthropic"], signal.SIGSTOP)
    os.kill(before["gemini"], signal.SIGUSR2)
    os.kill(before["control"], signal.SIGUSR1)
    took = seconds_to_heal(wedged, before, {"openai", "anthropic", "gemini", "control"})
    assert max(took.values()) < HEALED_SECONDS, took
    blocked = wedged.log("openai_00")
    assert "🧊 EVENT LOOP BLOCKED: openai_00" in blocked and "time.sleep(3600)" in blocked
    assert "🧊 EVENT LOOP BLOCKED: control_00" in wedged.log("control_00")
    guardian = wedged.log("guardian_00")
    assert "🚑 PROCESS REPLACED: anthropic_00" in guardian and "stood still" in guardian
    assert "🚑 PROCESS REPLACED: gemini_00" in guardian and "no poller" in guardian
    pulses = wait_for("all is well", lambda: _pulses_of_the_well(wedged))
    assert {name for name, pulse in pulses.items() if pulse["restarts"]} >= took.keys()
    done = wedged.fleet("run", "Kávovar", "--project", "seo-demo", "--json")
    assert json_of(done.stdout)["status"] == "completed"


def _pulses_of_the_well(fleet: Fleet) -> dict[str, Any] | None:
    """The pulses by program, once no process is starting any more and nothing is wrong."""
    now = fleet.seen()
    pulses = {one["program"]: one["pulse"] for one in now.get("processes", [])}
    alive = all(one and one["loop_alive"] and one["connected"] is not False for one in pulses.values())
    return pulses if pulses and alive and not now["problems"] else None


@pytest.mark.parametrize(("victim", "healer"), [("control", "guardian"), ("guardian", "control")])
def test_who_looks_after_the_others_is_looked_after(wedged: Fleet, victim: str, healer: str) -> None:
    before = wait_for("every program runs", wedged.all_run)
    wait_for("its pulse is known", lambda: wedged.control("health").status_code == 200)
    os.kill(before[victim], signal.SIGSTOP)
    took = seconds_to_heal(wedged, before, {victim})
    assert took[victim] < HEALED_SECONDS
    assert f"🚑 PROCESS REPLACED: {victim}_00" in wedged.log(f"{healer}_00")
    wait_for("all is well", lambda: wedged.fleet("health").returncode == 0)


def test_a_worker_with_its_hands_full_is_known_from_one_that_has_lost_its_pollers(wedged: Fleet) -> None:
    wait_for("every program runs", wedged.all_run)
    wedged.add_project("one-call", {})
    with wedged.latency("openai", 5.0):
        runs = [wedged.start("run", f"Topic {number}", "--project", "one-call") for number in range(SLOTS)]
        pulse = wait_for("it has its hands full", lambda: (now := _pulse(wedged)) and _queue(now)["full"] and now)
        assert _queue(pulse)["pollers"] == 0 and pulse["connected"]
        for run in runs:
            run.communicate(timeout=60)
            assert run.returncode == 0
    wait_for("it polls again", lambda: (now := _pulse(wedged)) and not _queue(now)["full"])


def _pulse(fleet: Fleet) -> dict[str, Any] | None:
    """OpenAI's process's, where it is known."""
    return next((one["pulse"] for one in fleet.seen().get("processes", []) if one["program"] == "openai"), None)


def _queue(pulse: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pulse["queues"]["llm-openai"]
    return found
