"""Why an assistant waits: each cause is produced on a real fleet, and what is said of it names it and its remedy.

What the page asks for comes from the same function as what the commands print, and costs no start of a command.
"""

import os
import signal
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.fleet import Fleet, json_of
from tests.waiting import wait_for

#: The providers of the tests below, which no other test of these files pauses or stops.
LLAMA = {"model_provider": "groq", "model": "llama-3.3-70b", "input_keys": '["topic"]'}
TWO = (LLAMA, LLAMA | {"input_keys": '["assistant_1"]'})


def started(fleet: Fleet, *assistants: dict[str, Any]) -> str:
    """The workflow id of a pipeline of these assistants."""
    wait_for("every program runs", fleet.all_run)
    name = f"explained-{uuid.uuid4().hex[:8]}"
    fleet.add_project(name, *assistants)
    done = fleet.fleet("run", "Kávovar", "--project", name, "--no-wait", "--json")
    assert done.returncode == 0, done.stderr
    workflow_id: str = json_of(done.stdout)["workflow_id"]
    return workflow_id


def detail(fleet: Fleet, workflow_id: str) -> dict[str, Any]:
    found: dict[str, Any] = fleet.control(f"api/pipeline?workflow_id={workflow_id}").json()
    return found


def stands(fleet: Fleet, workflow_id: str, state: str, cause: str, number: int = 0) -> dict[str, Any]:
    """The assistant of that number, once it stands like that."""
    seen: list[tuple[str, str]] = []

    def look() -> dict[str, Any] | None:
        stages = detail(fleet, workflow_id).get("stages", [])
        if len(stages) <= number:
            return None
        stage: dict[str, Any] = stages[number]
        seen.append((stage["explained_state"], stage["cause"]))
        return stage if seen[-1] == (state, cause) else None

    try:
        return wait_for(f"it is {state} since it is {cause}", look)
    except AssertionError as error:
        raise AssertionError(f"{error}; seen: {list(dict.fromkeys(seen))}") from None


def completes(fleet: Fleet, workflow_id: str) -> None:
    ended = wait_for("it ends", lambda: (found := detail(fleet, workflow_id))["status"] != "running" and found)
    assert ended and ended["status"] == "completed", ended


@contextmanager
def paused(fleet: Fleet, provider: str) -> Iterator[None]:
    assert fleet.fleet("pause", provider, "--why", "the budget is reviewed").returncode == 0
    try:
        yield
    finally:
        assert fleet.fleet("resume", provider).returncode == 0


def test_a_paused_provider_is_named_with_who_waits_for_whom(fleet: Fleet) -> None:
    with paused(fleet, "groq"):
        workflow_id = started(fleet, *TWO)
        stands(fleet, workflow_id, "in_queue", "paused")
        told = json_of(fleet.fleet("explain", workflow_id, "--json").stdout)
        assert (told["workflow_id"], told["state"]) == (workflow_id, "running")
        first, second = told["assistants"]
        assert first["function_key"] == "assistant_1" and first["since"].startswith("20")
        assert (first["state"], first["remedy"]) == ("in_queue", "`fleet resume groq`")
        assert first["why"] == "groq was paused: the budget is reviewed"
        assert (second["state"], second["why"]) == ("waiting", "it reads the output of assistant_1 (in_queue)")
        assert second["remedy"] == "`fleet resume groq`", "what moves the first one moves the second"
        text = fleet.fleet("explain", workflow_id).stdout
        assert "in queue" in text and "remedy: `fleet resume groq`" in text
        wait_for("top tells it", lambda: _on_top(fleet, "groq was paused"))
    completes(fleet, workflow_id)
    told = json_of(fleet.fleet("explain", workflow_id, "--json").stdout)
    assert {assistant["state"] for assistant in told["assistants"]} == {"done"} and told["state"] == "completed"


def _on_top(fleet: Fleet, said: str) -> bool:
    progress = json_of(fleet.fleet("top", "--once", "--json").stdout)["progress"]
    return any(said in (each or {}).get("why", "") for each in progress.values())


def test_a_run_says_at_once_why_it_waits(fleet: Fleet) -> None:
    wait_for("every program runs", fleet.all_run)
    name = f"explained-{uuid.uuid4().hex[:8]}"
    fleet.add_project(name, LLAMA)
    with paused(fleet, "groq"):
        run = fleet.start("run", "Kávovar", "--project", name, "--json")
        lines: list[str] = []
        reading = threading.Thread(target=lambda: [lines.append(line) for line in run.stderr], daemon=True)
        reading.start()
        wait_for("it says why", lambda: any("paused" in line for line in lines))
    reading.join(60)
    with run.stdout, run.stderr:
        assert json_of(run.stdout.read())["status"] == "completed"
    said = "Assistant 1 in queue: groq was paused: the budget is reviewed. Remedy: `fleet resume groq`"
    assert said in "".join(lines)


def test_a_parked_provider_says_what_was_refused(fleet: Fleet) -> None:
    fleet.simulator.fault("groq", "quota", count=1)
    workflow_id = started(fleet, LLAMA)
    try:
        parked = stands(fleet, workflow_id, "in_queue", "parked")
        assert "groq is parked: quota_spent" in parked["why"]
        assert "add credit" in parked["remedy"] and "then `fleet resume groq`" in parked["remedy"]
    finally:
        fleet.fleet("resume", "groq")
    completes(fleet, workflow_id)


def test_a_limit_that_is_reached_is_told_with_the_rate_and_the_backlog(fleet: Fleet) -> None:
    wait_for("every program runs", fleet.all_run)
    set_now = fleet.fleet("limits", "groq", "--rpm", "6")
    assert set_now.returncode == 0, set_now.stderr
    try:
        workflow_id = started(fleet, *[LLAMA] * 12)
        last = wait_for("some are held", lambda: _held(fleet, workflow_id))
        assert "limit" in last["why"] and "`fleet limits groq`" in last["remedy"]
    finally:
        assert fleet.fleet("limits", "groq", "--reset").returncode == 0
        fleet.fleet("cancel", workflow_id)
    wait_for("it ends", lambda: detail(fleet, workflow_id)["status"] != "running")


def _held(fleet: Fleet, workflow_id: str) -> dict[str, Any] | None:
    stages: list[dict[str, Any]] = detail(fleet, workflow_id).get("stages", [])
    held = [
        stage
        for stage in stages
        if stage["explained_state"] == "held_by_limit" and stage["cause"] in ("limit", "gate")
    ]
    return held[-1] if held else None


def test_a_queue_that_no_process_polls_is_told_with_the_program_to_start(fleet: Fleet) -> None:
    wait_for("every program runs", fleet.all_run)
    fleet.supervisorctl("stop", "groq:*")
    try:
        workflow_id = started_anyhow(fleet)
        unpolled = stands(fleet, workflow_id, "in_queue", "no_pollers")
        assert unpolled["why"] == "no process polls the queue llm-groq; groq_00 is STOPPED"
        assert "`supervisorctl start groq:*`" in unpolled["remedy"]
    finally:
        fleet.supervisorctl("start", "groq:*")
    completes(fleet, workflow_id)


def started_anyhow(fleet: Fleet) -> str:
    """The workflow id of a pipeline, whether every program runs or not."""
    name = f"explained-{uuid.uuid4().hex[:8]}"
    fleet.add_project(name, LLAMA)
    workflow_id: str = json_of(fleet.fleet("run", "K", "--project", name, "--no-wait", "--json").stdout)[
        "workflow_id"
    ]
    return workflow_id


def test_a_backend_that_is_away_is_told_while_loading_and_for_a_call(fleet: Fleet) -> None:
    with paused(fleet, "groq"):
        called = started(fleet, LLAMA)
        stands(fleet, called, "in_queue", "paused")
        with fleet.without("backend"):
            loading = started_anyhow(fleet)
            told = wait_for("loading waits for the backend", lambda: _loading(fleet, loading))
            assert "its assistants are being loaded" in told["why"] and told["remedy"]
            fleet.supervisorctl("restart", "groq:*")  # the key that it has known serves for a minute more
            fleet.fleet("resume", "groq")
            away = stands(fleet, called, "between_attempts", "backend_away")
            assert "comes in" in away["why"] and away["remedy"]
    completes(fleet, called)
    completes(fleet, loading)


def _loading(fleet: Fleet, workflow_id: str) -> dict[str, Any] | None:
    found = detail(fleet, workflow_id)
    return found if found.get("cause") == "backend_away" else None


def test_a_call_whose_worker_was_killed_says_so(fleet: Fleet) -> None:
    with fleet.latency("groq", 8.0):
        workflow_id = started(fleet, LLAMA)
        sent = stands(fleet, workflow_id, "running", "sent")
        assert "groq_00" in sent["why"] and "has sent it to groq/llama-3.3-70b" in sent["why"]
        assert "this machine's journal: sent at " in sent["why"]
        os.kill(fleet.pids()["groq"], signal.SIGKILL)
        told = wait_for("its loss is told", lambda: _lost(fleet, workflow_id))
        assert "has died" in told or "worker lost" in told
        again = "an earlier call of it may have been paid"
        wait_for("the journal's count is shown", lambda: again in detail(fleet, workflow_id)["stages"][0]["why"])
    completes(fleet, workflow_id)


def _lost(fleet: Fleet, workflow_id: str) -> str | None:
    (stage,) = detail(fleet, workflow_id)["stages"]
    why: str = stage["why"]
    return why if stage["cause"] == "worker_lost" or "the one before ended with: worker lost" in why else None


def test_between_two_attempts_the_last_failure_and_the_next_attempt_are_told(fleet: Fleet) -> None:
    fleet.simulator.fault("groq", "html", count=2)
    workflow_id = started(fleet, LLAMA)
    between = stands(fleet, workflow_id, "between_attempts", "provider_error")
    assert "unusable_body" in between["why"] and "comes in" in between["why"]
    assert "base_url" in between["remedy"]
    completes(fleet, workflow_id)


def test_a_call_that_a_retry_after_holds_says_when_it_is_sent_again(fleet: Fleet) -> None:
    fleet.simulator.fault("groq", "429", count=1, retry_after=30)
    workflow_id = started(fleet, LLAMA)
    try:
        held = stands(fleet, workflow_id, "held_by_limit", "retry_after")
        assert "429" in held["why"] or "no room" in held["why"]
        assert "comes in" in held["why"] and held["remedy"]
    finally:
        fleet.fleet("resume", "groq")  # forgets the refusal
    completes(fleet, workflow_id)
