"""Every way of being dead, or alive and of no use, is found and mended: by a new process, long before Temporal's
heartbeat timeout would tell.
"""

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.contracts import PIPELINE_QUEUE, WORKFLOW_TYPE
from tests.fleet import QUICK_SECONDS, Fleet, json_of, running_fleet
from tests.waiting import wait_for

WEDGES = Path(__file__).parents[1] / "blocked_worker"
HEALED_SECONDS = 60.0
SLOTS = 2
CALLS = 10
#: A third of the heartbeat timeout; a machine with nothing else to do takes a few seconds.
RUNNING_AGAIN_SECONDS = REPORTED_SECONDS = 60.0


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet with the usual heartbeat timeout, three minutes, whose processes can be usual."""
    environment = {
        "PYTHONPATH": str(WEDGES),
        "FLEET_KEEP_VARIABLES": "PYTHONPATH",
        "FLEET_LOOP_BLOCKED_SECONDS": "6",
        "FLEET_PROVIDERS__GEMINI__CONCURRENCY": str(SLOTS),
    }
    with running_fleet(tmp_path_factory.mktemp("usual") / "state", environment) as fleet:
        fleet.add_project("one-call", {})
        fleet.add_project("one-slot", {"model_provider": "gemini", "model": "gemini-2.5-flash"})
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


def test_blocked_stopped_and_pollerless_processes_are_each_replaced_within_a_minute(usual: Fleet) -> None:
    before = wait_for("every program runs", usual.all_run)
    usual.wait_until_well()
    os.kill(before["openai"], signal.SIGUSR1)
    os.kill(before["anthropic"], signal.SIGSTOP)
    os.kill(before["gemini"], signal.SIGUSR2)
    os.kill(before["control"], signal.SIGUSR1)
    took = seconds_to_heal(usual, before, {"openai", "anthropic", "gemini", "control"})
    assert max(took.values()) < HEALED_SECONDS, took
    blocked = usual.log("openai_00")
    assert "🧊 EVENT LOOP BLOCKED: openai_00" in blocked and "time.sleep(3600)" in blocked
    assert "🧊 EVENT LOOP BLOCKED: control_00" in usual.log("control_00")
    guardian = usual.log("guardian_00")
    assert "🚑 PROCESS REPLACED: anthropic_00" in guardian and "stood still" in guardian
    assert "🚑 PROCESS REPLACED: gemini_00" in guardian and "no poller" in guardian
    liveness_records = wait_for("all is well", lambda: _liveness_of_the_well(usual))
    assert {name for name, liveness in liveness_records.items() if liveness["restarts"]} >= took.keys()
    done = usual.fleet("run", "Kávovar", "--project", "seo-demo", "--json")
    assert json_of(done.stdout)["status"] == "completed"


def _liveness_of_the_well(fleet: Fleet) -> dict[str, Any] | None:
    """The pulses by program, once no process is starting any more and nothing is wrong."""
    now = fleet.seen()
    liveness_records = {process["program"]: process["pulse"] for process in now.get("processes", [])}
    alive = all(
        record and record["loop_alive"] and record["connected"] is not False
        for record in liveness_records.values()
    )
    return liveness_records if liveness_records and alive and not now["problems"] else None


@pytest.mark.parametrize(("victim", "healer"), [("control", "guardian"), ("guardian", "control")])
def test_who_looks_after_the_others_is_looked_after(usual: Fleet, victim: str, healer: str) -> None:
    before = wait_for("every program runs", usual.all_run)
    usual.wait_until_well()
    os.kill(before[victim], signal.SIGSTOP)
    took = seconds_to_heal(usual, before, {victim})
    assert took[victim] < HEALED_SECONDS
    assert f"🚑 PROCESS REPLACED: {victim}_00" in usual.log(f"{healer}_00")
    wait_for("all is well", lambda: usual.fleet("health").returncode == 0)


def test_a_worker_with_its_hands_full_is_known_from_one_that_has_lost_its_pollers(usual: Fleet) -> None:
    wait_for("every program runs", usual.all_run)
    with usual.latency("gemini", 5.0):
        runs = [usual.start("run", f"Topic {number}", "--project", "one-slot") for number in range(SLOTS)]
        liveness = wait_for(
            "it has its hands full", lambda: (now := _liveness(usual)) and _queue(now)["full"] and now
        )
        assert _queue(liveness)["pollers"] == 0 and liveness["connected"]
        for run in runs:
            run.communicate(timeout=60)
            assert run.returncode == 0
    wait_for("it polls again", lambda: (now := _liveness(usual)) and not _queue(now)["full"])


def _liveness(fleet: Fleet) -> dict[str, Any] | None:
    """Gemini's process's, where it is known."""
    return next(
        (process["pulse"] for process in fleet.seen().get("processes", []) if process["program"] == "gemini"), None
    )


def _queue(liveness: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = liveness["queues"]["llm-gemini"]
    return found


async def test_ten_calls_of_a_killed_process_run_again_long_before_the_heartbeat_timeout(usual: Fleet) -> None:
    pids = wait_for("every program runs", usual.all_run)
    usual.simulator.clear()
    with usual.latency("openai", 60.0):
        client = await usual.client()
        runs = [
            await client.start_workflow(
                WORKFLOW_TYPE, args=[f"Topic {number}", "one-call"], id=f"run-{number}", task_queue=PIPELINE_QUEUE
            )
            for number in range(CALLS)
        ]
        wait_for("all are on their way", lambda: usual.in_flight("openai") == CALLS)
        os.kill(pids["openai"], signal.SIGKILL)
        wait_for("the calls are cut off", lambda: usual.in_flight("openai") == 0)
        usual.simulator.put("latency", provider="openai", median_seconds=QUICK_SECONDS)
        wait_for("all run again", lambda: len(usual.simulator.ledger()) == 2 * CALLS, RUNNING_AGAIN_SECONDS)
        results = await asyncio.gather(*(run.result() for run in runs))
        assert len(usual.simulator.ledger()) == 2 * CALLS
    found = [result["stages"][0]["metadata"] for result in results]
    assert [(metadata["attempts"], metadata["possibly_paid_twice"]) for metadata in found] == [(2, 1)] * CALLS


async def test_an_answer_that_a_killed_process_had_not_reported_is_reported_within_seconds(usual: Fleet) -> None:
    wait_for("every program runs", usual.all_run)
    usual.simulator.clear()
    client = await usual.client()
    with usual.latency("openai", 2.0):
        run = await client.start_workflow(
            WORKFLOW_TYPE, args=["Topic", "one-call"], id="unreported", task_queue=PIPELINE_QUEUE
        )
        wait_for("the call is on its way", lambda: usual.in_flight("openai"))
        with usual.without("temporal"):  # the answer cannot be reported
            wait_for("its activity is over", lambda: _over(usual))
            os.kill(usual.pids()["openai"], signal.SIGKILL)
        async with asyncio.timeout(REPORTED_SECONDS):
            (stage,) = (await run.result())["stages"]
    assert (stage["metadata"]["attempts"], stage["metadata"]["possibly_paid_twice"]) == (1, 0)
    assert [call["outcome"] for call in usual.simulator.ledger()] == ["answered"]


def _over(fleet: Fleet) -> bool:
    lines = fleet.log("openai_00").splitlines()
    return any("workflow_id=unreported" in line and "✅ ACTIVITY SUCCESS" in line for line in lines)


def test_a_guardian_that_is_told_to_stop_ends_in_order_and_counts_no_restart(usual: Fleet) -> None:
    before = wait_for("every program runs", usual.all_run)
    assert usual.supervisorctl("restart", "guardian:*").returncode == 0
    after = wait_for(
        "it runs again", lambda: (now := usual.all_run()) and now["guardian"] != before["guardian"] and now
    )
    record = wait_for("its new pulse is known", lambda: _record_of_guardian(usual, after["guardian"]))
    assert record["restarts"] == 0
    assert "guardian_00 (exit status 0)" in (usual.state / "logs" / "supervisord.log").read_text("utf-8")


def _record_of_guardian(fleet: Fleet, pid: int) -> dict[str, Any] | None:
    record: dict[str, Any] = json.loads((fleet.state / "pulse" / "guardian_00.json").read_text("utf-8"))
    return record if record["pid"] == pid else None
