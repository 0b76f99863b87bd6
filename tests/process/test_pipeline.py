"""The main job on real parts: Temporal, worker processes, SDKs; the providers are simulated."""

import asyncio
import json
import uuid
from contextlib import ExitStack
from importlib.resources import files
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.worker import Replayer

from fleet.budgets.messages import BUDGET_WORKFLOW
from fleet.budgets.workflow import ProviderBudgetWorkflow
from fleet.contracts import PIPELINE_QUEUE, WORKFLOW_TYPE
from fleet.pipeline.workflow import AssistantPipelineWorkflow
from fleet.process.data_converter import data_converter
from tests.fleet import QUICK_SECONDS, Fleet
from tests.waiting import LONGEST_SECONDS, wait_for

CSV = files("fleet.devstack.sample").joinpath("keywords.csv").read_text("utf-8")
NAMES = ["BriefAssistant", "ResearchAssistant", "FactValidator", "DraftAssistant"]


async def run(fleet: Fleet, *arguments: Any) -> dict[str, Any]:
    client = await fleet.client()
    result: dict[str, Any] = await client.execute_workflow(
        WORKFLOW_TYPE, args=list(arguments), id=f"test-{uuid.uuid4()}", task_queue=PIPELINE_QUEUE
    )
    return result


async def test_eight_assistants_over_three_providers_complete_and_are_paid_once(fleet: Fleet) -> None:
    fleet.simulator.clear()
    result = await run(fleet, "Jak vybrat kávovar", "seo-demo", CSV, "2025-01-31")
    assert result["pipeline_success"] and result["assistants_executed"] == 8
    assert [stage["stage"] for stage in result["stages"]][:4] == NAMES
    assert {stage["metadata"]["provider"] for stage in result["stages"]} == {"openai", "anthropic", "gemini"}
    assert all(
        stage["metadata"]["cost_usd"] > 0 and stage["metadata"]["attempts"] == 1 for stage in result["stages"]
    )
    assert all(stage["metadata"]["simulated"] for stage in result["stages"])
    assert result["spent"]["cost_usd"] == 0 < result["spent"]["simulated_cost_usd"]
    calls = fleet.simulator.ledger()
    keys = {stage["metadata"]["idempotency_key"] for stage in result["stages"]}
    assert len(calls) == 8 and {call["idempotency_key"] for call in calls} == keys


async def test_a_foreign_client_starts_a_pipeline_with_nothing_of_ours(fleet: Fleet) -> None:
    arguments = ["Jak vybrat kávovar", "seo-classic", "", "2025-01-31"]
    start = ["workflow", "execute", "--type", WORKFLOW_TYPE, "--task-queue", PIPELINE_QUEUE, "--output", "json"]
    for argument in arguments:
        start += ["--input", json.dumps(argument)]
    done = fleet.temporal(*start)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["result"]["pipeline_success"] is True


BAD = [
    (("", "seo-demo"), "topic is empty"),
    ((7, "seo-demo"), "topic must be a string"),
    ((), "topic must be a string"),
    (("t", "seo-demo", "", "", "more"), "takes four arguments and got 5"),
    (("t", "../etc"), "project_id"),
    (("t", "nobody"), "project 'nobody' does not exist"),
    (("t", "seo-demo", "a,b\n1\n"), "csv_data line 2"),
    (("t", "seo-demo", "", "31.1.2025"), "current_date"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD)
async def test_bad_input_fails_with_one_record_before_anything_is_paid(
    fleet: Fleet, arguments: tuple[Any, ...], said: str
) -> None:
    before = len(fleet.simulator.ledger())
    with pytest.raises(WorkflowFailureError) as caught:
        await run(fleet, *arguments)
    cause = caught.value.cause
    assert isinstance(cause, ApplicationError) and said in cause.message
    record, partial = cause.details
    assert (record["retryable"], record["attempts"]) == (False, 0)
    assert partial["pipeline_success"] is False
    assert len(fleet.simulator.ledger()) == before


DAMAGED: list[tuple[str, list[dict[str, Any]], str]] = [
    ("no-assistants", [], "has no assistants"),
    ("all-inactive", [{"active": 0}], "are inactive"),
    ("no-name", [{"name": None}], "Asistent nemá název - databáze poškozená"),
    ("no-prompt", [{"system_prompt": None}], "system_prompt is missing"),
    ("no-order", [{"order": None}], "order is missing"),
    ("unknown-provider", [{"model_provider": "acme"}], "unknown provider 'acme'"),
    ("twin-keys", [{"functionKey": "a"}, {"functionKey": "a"}], "is used by two active assistants"),
    ("twin-orders", [{"order": 1}, {"order": 1}], "both have order 1"),
    ("unknown-input", [{"input_keys": '["nobody"]'}], "'nobody' does not exist"),
    ("cycle", [{"input_keys": '["assistant_2"]'}, {"input_keys": '["assistant_1"]'}], "form a cycle"),
    ("not-a-list", [{"input_keys": '"topic"'}], "input_keys is not a list"),
]


@pytest.mark.parametrize(("project", "assistants", "said"), DAMAGED, ids=[row[0] for row in DAMAGED])
async def test_a_damaged_project_fails_by_name_before_anything_is_paid(
    fleet: Fleet, project: str, assistants: list[dict[str, Any]], said: str
) -> None:
    fleet.simulator.clear()
    fleet.add_project(project, *assistants)
    with pytest.raises(WorkflowFailureError) as caught:
        await run(fleet, "Kávovar", project)
    cause = caught.value.cause
    assert isinstance(cause, ApplicationError) and said in cause.message and "Remedy:" in cause.message
    assert cause.details[0]["retryable"] is False
    assert fleet.simulator.ledger() == []


async def test_a_missing_api_key_fails_before_anything_is_paid(fleet: Fleet) -> None:
    fleet.simulator.clear()
    fleet.backend("UPDATE ApiKey SET provider = 'nobody' WHERE provider = 'gemini'")
    fleet.supervisorctl("restart", "assistants:*")  # a key that it has known serves for a minute more
    try:
        with pytest.raises(WorkflowFailureError) as caught:
            await run(fleet, "Kávovar", "seo-demo")
    finally:
        fleet.backend("UPDATE ApiKey SET provider = 'gemini' WHERE provider = 'nobody'")
    cause = caught.value.cause
    assert isinstance(cause, ApplicationError) and "holds no API key for gemini" in cause.message
    assert fleet.simulator.ledger() == []
    assert (await run(fleet, "Kávovar", "seo-demo"))["pipeline_success"]


async def test_a_revoked_key_parks_its_queue_and_a_mended_one_opens_it(fleet: Fleet) -> None:
    fleet.simulator.clear()
    fleet.backend("UPDATE ApiKey SET api_key = 'sk-revoked-1234' WHERE provider = 'openai'")
    fleet.add_project("one-call", {})
    pipeline = asyncio.create_task(run(fleet, "Kávovar", "one-call"))
    try:
        parked = await asyncio.to_thread(wait_for, "it is parked", lambda: fleet.budget("openai", "parked"))
        assert "key_rejected" in parked["why"] and "sk-revoked-1234" not in str(parked)
        assert any("openai" in problem and "parked" in problem for problem in fleet.status()["problems"])
        assert "⛔ PROVIDER PARKED" in fleet.log("pipeline_00") and not pipeline.done()
        doctor = (await asyncio.to_thread(fleet.fleet, "doctor")).stdout
        remedy = "remedy: store a valid API key for this provider in the backend; then `fleet resume openai`"
        assert remedy in " ".join(doctor.split()) and doctor.count("store a valid API key") == 1
    finally:
        fleet.backend("UPDATE ApiKey SET api_key = 'sim-openai-key' WHERE provider = 'openai'")
    result = await asyncio.wait_for(pipeline, LONGEST_SECONDS)
    assert result["stages"][0]["metadata"]["attempts"] == 1
    # Where the server did not take the rate at once, the call may have been sent before the budget knew the key.
    await asyncio.to_thread(wait_for, "it is open", lambda: fleet.budget("openai", "closed"))
    history = fleet.temporal("workflow", "list", "--output", "json")
    assert history.returncode == 0 and "sk-revoked" not in history.stdout
    assert "sk-revoked" not in fleet.log("openai_00") + fleet.log("assistants_00") + fleet.log("pipeline_00")


async def test_three_failures_of_a_provider_end_the_pipeline_with_the_known_phrase(fleet: Fleet) -> None:
    fleet.simulator.fault("gemini", "500", count=3)
    with pytest.raises(WorkflowFailureError) as caught:
        await run(fleet, "Jak vybrat kávovar", "seo-demo", "", "")
    cause = caught.value.cause
    assert isinstance(cause, ApplicationError) and "LLM selhalo po 3 pokusech" in cause.message
    record, partial = cause.details
    assert (record["provider"], record["attempts"]) == ("gemini", 3)
    kept = {stage["function_key"]: stage["output"] for stage in partial["stages"]}
    assert kept["brief_assistant"] and not kept["draft_assistant"]
    assert "❌ ACTIVITY ERROR: execute_assistant" in fleet.log("gemini_00")


async def test_the_history_stays_within_four_times_the_outputs_beside_what_is_passed_along(fleet: Fleet) -> None:
    client = await fleet.client()
    handle = await client.start_workflow(
        WORKFLOW_TYPE,
        args=["Jak vybrat kávovar", "seo-demo", CSV, "2025-01-31"],
        id=f"test-{uuid.uuid4()}",
        task_queue=PIPELINE_QUEUE,
    )
    result: dict[str, Any] = await handle.result()
    outputs = sum(len(stage["output"].encode()) for stage in result["stages"])
    history = (await handle.describe()).raw_description.workflow_execution_info.history_size_bytes
    passed = sum(
        event.activity_task_scheduled_event_attributes.input.ByteSize()
        for event in (await handle.fetch_history()).events
    )
    assert outputs < history - passed <= 4 * outputs
    assert 0 < passed <= 4 * outputs


@pytest.mark.timeout(500)
async def test_progress_can_be_asked_for_at_any_time(fleet: Fleet) -> None:
    expected = [{"waiting", "running"}, {"waiting", "running", "done"}]
    # On a machine that is slow to answer queries the calls must last longer for each state to be seen.
    for seconds in (QUICK_SECONDS, 5.0, 25.0):
        states = await _states_in_progress(fleet, seconds)
        if all(state in states for state in expected):
            break
    else:
        pytest.fail(f"{expected} were not seen among {states}")


async def _states_in_progress(fleet: Fleet, call_seconds: float) -> list[set[str]]:
    """What queries saw of a pipeline from its start to its end: at each, the states that its assistants had."""
    client = await fleet.client()
    states: list[set[str]] = []
    with ExitStack() as slow:
        for provider in ("openai", "anthropic", "gemini"):
            slow.enter_context(fleet.latency(provider, call_seconds))
        handle = await client.start_workflow(
            WORKFLOW_TYPE,
            args=["Jak vybrat kávovar", "seo-demo", "", ""],
            id=f"test-{uuid.uuid4()}",
            task_queue=PIPELINE_QUEUE,
        )
        while (progress := await handle.query("progress"))["state"] in ("loading", "running"):
            states.append({assistant["state"] for assistant in progress["assistants"]})
    assert progress["state"] == "completed"
    assert {assistant["state"] for assistant in progress["assistants"]} == {"done"}
    assert all(assistant["attempt"] == 1 and assistant["seconds"] > 0 for assistant in progress["assistants"])
    return states


async def test_a_csv_that_nobody_reads_is_told_of(fleet: Fleet) -> None:
    result = await run(fleet, "Jak vybrat kávovar", "seo-classic", "a,b\n1,2\n", "")
    (warning,) = result["warnings"]
    assert "no assistant reads it" in warning


async def test_all_that_ran_on_the_fleet_replays(fleet: Fleet) -> None:
    await run(fleet, "Jak vybrat kávovar", "seo-demo")
    replayer = Replayer(
        workflows=[AssistantPipelineWorkflow, ProviderBudgetWorkflow], data_converter=data_converter()
    )
    client, kinds = await fleet.client(), set()
    async for execution in client.list_workflows(""):
        if execution.history_length < 2_000:
            handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
            await replayer.replay_workflow(await handle.fetch_history())
            kinds.add(execution.workflow_type)
    assert kinds == {WORKFLOW_TYPE, BUDGET_WORKFLOW}
