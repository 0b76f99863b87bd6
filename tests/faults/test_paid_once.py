"""Kills, stops and outages on real processes: what the provider's ledger shows is what would be paid."""

import asyncio
import os
import signal
import sqlite3
import time
import uuid
from contextlib import closing
from typing import Any

import pytest

from fleet.budgets.messages import RESUME_SIGNAL, budget_id
from fleet.contracts import PIPELINE_QUEUE, WORKFLOW_TYPE
from tests.commands import Command
from tests.fleet import Fleet, json_of
from tests.waiting import wait_for

HEARTBEAT_SECONDS = 6.0
TWICE_METRIC = 'fleet_journal_possibly_paid_twice{provider="openai"}'


def project(fleet: Fleet, **assistant: Any) -> str:
    """A project of one assistant."""
    name = f"one-{uuid.uuid4().hex[:8]}"
    fleet.add_project(name, assistant)
    return name


def begin(fleet: Fleet, name: str, provider: str = "openai") -> Command:
    """A pipeline whose one call is on its way."""
    wait_for("every program runs", fleet.all_run)
    fleet.simulator.clear()
    run = fleet.start("run", "Kávovar", "--project", name, "--json")
    wait_for("the call is on its way", lambda: fleet.in_flight(provider))
    return run


def finished(run: Command, seconds: float = 120) -> dict[str, Any]:
    """The one assistant of a pipeline that completed."""
    out, err = run.communicate(timeout=seconds)
    assert run.returncode == 0, err
    (assistant,) = json_of(out)["assistants"]
    return {name: assistant[name] for name in ("attempts", "possibly_paid_twice")}


def outcomes(fleet: Fleet) -> list[str]:
    return [call["outcome"] for call in fleet.simulator.ledger()]


def test_a_process_killed_in_mid_call_costs_one_call_more_and_says_so(fleet: Fleet) -> None:
    with fleet.latency("openai", 1.5):
        run = begin(fleet, project(fleet))
        os.kill(fleet.pids()["openai"], signal.SIGKILL)
        assert finished(run) == {"attempts": 2, "possibly_paid_twice": 1}
    assert outcomes(fleet) == ["client_gone", "answered"]
    metrics = fleet.control("metrics").text
    (twice,) = (line for line in metrics.splitlines() if line.startswith(TWICE_METRIC))
    assert float(twice.split()[-1]) >= 1
    assert "earlier calls that may have been paid: 1" in fleet.log("openai_00")


def test_by_policy_a_call_that_may_have_been_paid_is_not_sent_again(fleet: Fleet) -> None:
    with fleet.latency("openai", 1.5):
        run = begin(fleet, project(fleet, on_ambiguous="fail"))
        os.kill(fleet.pids()["openai"], signal.SIGKILL)
        out, _ = run.communicate(timeout=120)
    assert run.returncode == 1
    assert json_of(out)["error"]["code"] == "ambiguous_call"
    assert outcomes(fleet) == ["client_gone"]


@pytest.mark.parametrize("fault", ["reset", "truncate", "empty", "html"])
def test_a_call_that_may_have_been_paid_and_failed_is_counted_or_by_policy_not_sent_again(
    fleet: Fleet, fault: str
) -> None:
    for policy in ("send", "fail"):
        wait_for("every program runs", fleet.all_run)
        fleet.simulator.clear()
        fleet.simulator.fault("openai", fault, count=1)
        run = fleet.fleet("run", "Kávovar", "--project", project(fleet, on_ambiguous=policy), "--json")
        found = json_of(run.stdout)
        (assistant,) = found["assistants"]
        if policy == "send":
            assert (assistant["attempts"], assistant["possibly_paid_twice"]) == (2, 1)
        else:
            assert (found["error"]["code"], assistant["attempts"]) == ("ambiguous_call", 1)
        assert len(fleet.simulator.ledger()) == (2 if policy == "send" else 1)


def test_a_process_killed_after_the_answer_costs_nothing(fleet: Fleet) -> None:
    with fleet.latency("openai", 1.0):
        name = project(fleet)
        run = begin(fleet, name)
        temporal = fleet.server("temporal")
        os.kill(temporal.pid, signal.SIGSTOP)  # the answer cannot be reported
        try:
            wait_for("the call is answered", lambda: outcomes(fleet) == ["answered"])
            wait_for(
                "it is in the journal", lambda: [state for _, state in _in_journal(fleet, name)] == ["answered"]
            )
            os.kill(fleet.pids()["openai"], signal.SIGKILL)
        finally:
            os.kill(temporal.pid, signal.SIGCONT)
        assert finished(run) == {"attempts": 1, "possibly_paid_twice": 0}
    assert outcomes(fleet) == ["answered"]


def _in_journal(fleet: Fleet, project_name: str) -> list[tuple[str, str]]:
    """Workflow id and state of each call of a project."""
    with closing(sqlite3.connect(fleet.state / "journal" / "openai.db")) as connection:
        return connection.execute(
            "SELECT workflow_id, state FROM calls WHERE workflow_id LIKE ?", (f"{project_name}-%",)
        ).fetchall()


def test_a_process_that_stands_still_for_longer_than_the_heartbeat_timeout_costs_nothing(fleet: Fleet) -> None:
    with fleet.latency("openai", 1.5):
        run = begin(fleet, project(fleet))
        pid = fleet.pids()["openai"]
        os.kill(pid, signal.SIGSTOP)
        time.sleep(HEARTBEAT_SECONDS + 2)  # what is tested is exactly this time
        os.kill(pid, signal.SIGCONT)
        assert finished(run) == {"attempts": 1, "possibly_paid_twice": 0}
    assert outcomes(fleet) == ["answered"]


def test_a_temporal_outage_longer_than_the_heartbeat_timeout_costs_nothing(fleet: Fleet) -> None:
    name = project(fleet)
    with fleet.latency("openai", 1.0):
        wait_for("every program runs", fleet.all_run)
        fleet.simulator.clear()
        fleet.fleet("run", "Kávovar", "--project", name, "--no-wait")
        wait_for("the call is on its way", lambda: fleet.in_flight("openai"))
        with fleet.without("temporal"):
            time.sleep(HEARTBEAT_SECONDS + 2)  # what is tested is exactly this time
        wait_for("Temporal is back", lambda: fleet.seen().get("temporal", {}).get("ok"))
        query = f'WorkflowId STARTS_WITH "{name}"'
        listing = ("workflow", "list", "--output", "json", "--query", query)
        wait_for("it completes", lambda: "COMPLETED" in fleet.temporal(*listing).stdout)
    assert outcomes(fleet) == ["answered"]


@pytest.mark.parametrize(
    ("program", "provider", "model", "id_begins"),
    [("lasting", "lasting", "gpt-4o", "resp_"), ("enduring", "gemini", "gemini-2.5-flash", "v1_")],
)
def test_a_call_that_goes_on_at_the_provider_is_picked_up_by_the_next_process(
    fleet: Fleet, program: str, provider: str, model: str, id_begins: str
) -> None:
    with fleet.latency(provider, 4.0):
        run = begin(fleet, project(fleet, model_provider=program, model=model), provider)
        wait_for("its id is known", lambda: id_begins in _response_ids(fleet, program))
        os.kill(fleet.pids()[program], signal.SIGKILL)
        assert finished(run)["possibly_paid_twice"] == 0
    assert outcomes(fleet) == ["answered"]


def _response_ids(fleet: Fleet, program: str) -> str:
    with closing(sqlite3.connect(fleet.state / "journal" / f"{program}.db")) as journal:
        rows = journal.execute("SELECT response_id FROM calls WHERE state = 'intent'").fetchall()
    return " ".join(str(row[0]) for row in rows)


def test_a_failed_pipeline_is_retried_from_where_it_failed_and_pays_only_for_the_rest(fleet: Fleet) -> None:
    wait_for("every program runs", fleet.all_run)
    name = f"retried-{uuid.uuid4().hex[:8]}"
    fleet.add_project(name, {}, {"model": "gpt-nonexistent"}, {})
    failed = fleet.fleet("run", "Kávovar", "--project", name, "--json")
    first = json_of(failed.stdout)
    assert failed.returncode == 1
    assert [assistant["status"] for assistant in first["assistants"]] == ["done", "failed"]
    again = fleet.fleet("retry", first["workflow_id"], "--json")
    assert json_of(again.stdout)["error"]["code"] == "provider_error"  # nothing was mended yet
    fleet.backend("UPDATE Assistant SET model = 'gpt-4o' WHERE project_id = ? AND \"order\" = 2", name)
    fleet.simulator.clear()
    mended = fleet.fleet("retry", first["workflow_id"], "--json")
    assert mended.returncode == 0, mended.stderr
    result = json_of(mended.stdout)
    assert result["workflow_id"] == first["workflow_id"] and result["run_id"] != first["run_id"]
    assert [assistant["reused"] for assistant in result["assistants"]] == [True, False, False]
    assert (result["assistants"][0]["cost_usd"], result["assistants"][0]["attempts"]) == (0.0, 0)
    assert outcomes(fleet) == ["answered", "answered"]
    refused = fleet.fleet("retry", first["workflow_id"])
    assert refused.returncode == 1 and "has completed" in refused.stderr
    unknown = fleet.fleet("retry", "nobody")
    assert unknown.returncode == 1 and "knows no pipeline 'nobody'" in unknown.stderr


def failed(fleet: Fleet, project_name: str, *options: str) -> str:
    """The workflow id of a pipeline that has failed."""
    run = fleet.fleet("run", "Kávovar", "--project", project_name, "--json", *options)
    assert run.returncode == 1
    workflow_id: str = json_of(run.stdout)["workflow_id"]
    return workflow_id


def test_a_retry_counts_what_the_failed_run_may_have_paid(fleet: Fleet) -> None:
    wait_for("every program runs", fleet.all_run)
    fleet.simulator.clear()
    fleet.simulator.fault("openai", "empty", count=3)
    workflow_id = failed(fleet, project(fleet))
    assert finished(fleet.start("retry", workflow_id, "--json")) == {"attempts": 1, "possibly_paid_twice": 3}
    assert len(outcomes(fleet)) == 4


def test_a_retry_sends_again_what_by_policy_was_not_since_a_person_has_seen_to_it(fleet: Fleet) -> None:
    wait_for("every program runs", fleet.all_run)
    fleet.simulator.clear()
    fleet.simulator.fault("openai", "empty", count=2)
    workflow_id = failed(fleet, project(fleet, on_ambiguous="fail"))
    again = fleet.fleet("retry", workflow_id, "--json")
    assert json_of(again.stdout)["error"]["code"] == "ambiguous_call" and len(outcomes(fleet)) == 2
    assert finished(fleet.start("retry", workflow_id, "--json")) == {"attempts": 1, "possibly_paid_twice": 2}


def test_a_retry_gets_the_answer_of_the_call_that_a_terminated_run_had_sent(fleet: Fleet) -> None:
    with fleet.latency("openai", 2.0):
        name = project(fleet)
        run = begin(fleet, name)
        ((workflow_id, _),) = _in_journal(fleet, name)
        assert fleet.temporal("workflow", "terminate", "--workflow-id", workflow_id).returncode == 0
        run.communicate(timeout=60)
        again = finished(fleet.start("retry", workflow_id, "--json"))
    assert again == {"attempts": 1, "possibly_paid_twice": 0}
    assert outcomes(fleet) == ["answered"]


async def test_a_new_run_under_an_old_workflow_id_gets_no_old_answer(fleet: Fleet) -> None:
    name, client = project(fleet), await fleet.client()
    fleet.simulator.clear()
    for _ in range(2):
        await client.execute_workflow(
            WORKFLOW_TYPE, args=["Kávovar", name], id=f"{name}-again", task_queue=PIPELINE_QUEUE
        )
    assert outcomes(fleet) == ["answered", "answered"]


async def test_a_retry_that_ended_before_it_had_taken_over_loses_nothing(fleet: Fleet) -> None:
    """It keeps the priority, too."""
    wait_for("every program runs", fleet.all_run)
    name = f"taken-over-{uuid.uuid4().hex[:8]}"
    fleet.add_project(name, {}, {"model": "gpt-nonexistent"})
    workflow_id = failed(fleet, name, "--priority", "2")
    fleet.simulator.clear()
    fleet.supervisorctl("stop", "assistants:*")
    try:
        begun = json_of(fleet.fleet("retry", workflow_id, "--no-wait", "--json").stdout)
        assert fleet.temporal("workflow", "terminate", "--workflow-id", workflow_id).returncode == 0
    finally:
        fleet.supervisorctl("start", "assistants:*")
    fleet.backend("UPDATE Assistant SET model = 'gpt-4o' WHERE project_id = ?", name)
    mended = json_of(fleet.fleet("retry", workflow_id, "--json").stdout)
    assert [assistant["reused"] for assistant in mended["assistants"]] == [True, False]
    assert outcomes(fleet) == ["answered"]
    for run_id in (begun["run_id"], mended["run_id"]):
        described = await (await fleet.client()).get_workflow_handle(workflow_id, run_id=run_id).describe()
        assert described.raw_description.workflow_execution_info.priority.priority_key == 2


async def test_twenty_limits_in_a_row_are_no_attempt(fleet: Fleet) -> None:
    """The queue is kept open: where nothing else is answered, it would only be probed from the eighth on."""
    wait_for("every program runs", fleet.all_run)
    name, client = project(fleet), await fleet.client()
    fleet.simulator.clear()
    fleet.simulator.fault("openai", "429", count=20, retry_after=0.05)
    run = fleet.start("run", "Kávovar", "--project", name, "--json")
    while len(outcomes(fleet)) < 21:
        await client.get_workflow_handle(budget_id("llm-openai")).signal(RESUME_SIGNAL)
        await asyncio.sleep(0.2)
    assert finished(run, 60) == {"attempts": 1, "possibly_paid_twice": 0}
    assert outcomes(fleet) == ["rejected"] * 20 + ["answered"]
