"""One pipeline, opened: what its history and what is under way make of its stages."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from temporalio.api.enums.v1 import PendingActivityState, WorkflowExecutionStatus
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from temporalio.client import WorkflowHistory
from temporalio.service import RPCError, RPCStatusCode

from fleet.cli.look_back import _spent, show_detail
from fleet.config import Settings
from fleet.contracts import WORKFLOW_TYPE, FailedCalls
from fleet.control.web.pipeline_detail import detail_of
from fleet.errors import OperationError
from fleet.process.data_converter import data_converter

HISTORIES = Path(__file__).parents[1] / "workflow" / "histories"
KEYS = {"function_key", "name", "order", "provider", "model", "state", "attempts", "note", "spans", "output"}


@dataclass
class FakeHandle:
    """A pipeline as the server would tell of it."""

    described: DescribeWorkflowExecutionResponse
    events: list[HistoryEvent]

    async def describe(self) -> Any:
        return SimpleNamespace(raw_description=self.described)

    async def fetch_history_events(self) -> Any:
        for event in self.events:
            yield event


@dataclass
class FakeClient:
    handle: Any

    def get_workflow_handle(self, workflow_id: str, run_id: str) -> Any:
        return self.handle


def recorded(name: str, status: str, until: int | None = None) -> FakeHandle:
    """A recorded pipeline, or its first events."""
    history = WorkflowHistory.from_json(name, (HISTORIES / f"0.1.0-{name}.json").read_text("utf-8"))
    described = DescribeWorkflowExecutionResponse()
    described.workflow_execution_info.status = WorkflowExecutionStatus.Value(f"WORKFLOW_EXECUTION_STATUS_{status}")
    described.workflow_execution_info.execution.run_id = "run-1"
    described.workflow_execution_info.type.name = WORKFLOW_TYPE
    return FakeHandle(described, list(history.events)[:until])


async def opened(handle: Any, **settings: Any) -> dict[str, Any]:
    known = Settings(API_BASE_URL="http://localhost:8000", **settings)
    return await detail_of(FakeClient(handle), known, "seo-1", "run-1")  # type: ignore[arg-type]


async def test_a_completed_pipeline_has_all_stages_with_their_spans_and_outputs() -> None:
    found = await opened(recorded("pipeline-completed", "COMPLETED"))
    assert found["status"] == "completed" and found["error"] is None and found["ended_at"] > found["started_at"]
    assert [stage["order"] for stage in found["stages"]] == list(range(1, 9))
    for stage in found["stages"]:
        assert stage.keys() >= KEYS and stage["state"] == "done" and stage["output"] and stage["attempts"] == 1
        assert stage["cost_usd"] > 0 and stage["simulated"] is False and stage["price_note"] == "", "as in 0.1.0"
        wait, work = stage["spans"]
        assert (wait["kind"], work["kind"]) == ("waiting", "running")
        assert found["started_at"] <= wait["from"] <= wait["until"] == work["from"] < work["until"]
        assert work["until"] <= found["ended_at"]


async def test_a_stage_that_a_simulator_answered_or_whose_price_is_not_exact_says_so() -> None:
    handle = recorded("pipeline-completed", "COMPLETED")
    completed = [e for e in handle.events if e.HasField("activity_task_completed_event_attributes")]
    (payload,) = completed[-1].activity_task_completed_event_attributes.result.payloads
    values = json.loads(payload.data) | {"simulated": True, "price_note": "priced at the standard tier"}
    payload.data = json.dumps(values).encode()
    last = (await opened(handle))["stages"][-1]
    assert (last["simulated"], last["price_note"]) == (True, "priced at the standard tier")


async def test_a_failed_pipeline_says_why_and_which_stage_failed() -> None:
    found = await opened(recorded("pipeline-failed", "FAILED"))
    assert found["status"] == "failed" and found["error"]["code"] and found["error"]["message"]
    states = {stage["state"] for stage in found["stages"]}
    assert "failed" in states and "running" not in states


async def test_a_stage_that_failed_shows_its_calls_and_what_they_cost() -> None:
    handle = recorded("pipeline-failed", "FAILED")
    failed = next(e for e in handle.events if e.HasField("activity_task_failed_event_attributes"))
    failure = failed.activity_task_failed_event_attributes.failure.application_failure_info
    calls = data_converter().payload_converter.to_payloads([FailedCalls(2, 1, 20, 0, 16, 0.25)])
    failure.details.payloads.extend(calls)
    found = await opened(handle)
    (stage,) = (stage for stage in found["stages"] if stage["state"] == "failed")
    assert (stage["calls"], stage["possibly_paid_twice"], stage["cost_usd"]) == (2, 1, 0.25)
    assert (stage["input_tokens"], stage["output_tokens"], stage["unpriced_calls"]) == (20, 16, 0)
    console = Console(width=200, record=True)
    show_detail(console, found | {"spent": _spent(found["stages"])})
    (row,) = (line.strip() for line in console.export_text().splitlines() if "$0.2500" in line)
    assert row.startswith(f"{stage['function_key']} ") and " 20/16 " in row
    paid = sum(each["cost_usd"] for each in found["stages"] if each["state"] in ("done", "failed"))
    assert _spent(found["stages"])["cost_usd"] == pytest.approx(paid)


async def test_a_stage_that_failed_has_the_attempts_of_its_error() -> None:
    handle = recorded("pipeline-failed", "FAILED")
    failed = next(e for e in handle.events if e.HasField("activity_task_failed_event_attributes"))
    details = failed.activity_task_failed_event_attributes.failure.application_failure_info.details
    details.payloads[0].data = json.dumps(json.loads(details.payloads[0].data) | {"attempts": 7}).encode()
    (stage,) = (stage for stage in (await opened(handle))["stages"] if stage["state"] == "failed")
    assert stage["attempts"] == 7 and stage["calls"] == 0, "0.1.0 does not say how many calls it made"


@pytest.mark.parametrize(("name", "status"), [("pipeline-completed", "COMPLETED"), ("pipeline-failed", "FAILED")])
async def test_the_warnings_of_a_result_are_shown_whether_it_failed_or_not(name: str, status: str) -> None:
    handle = recorded(name, status)
    if status == "FAILED":
        details = handle.events[-1].workflow_execution_failed_event_attributes.failure.application_failure_info
        payload = details.details.payloads[1]
    else:
        payload = handle.events[-1].workflow_execution_completed_event_attributes.result.payloads[0]
    payload.data = json.dumps(json.loads(payload.data) | {"warnings": ["its answer was cut off"]}).encode()
    assert (await opened(handle))["warnings"] == ["its answer was cut off"]


async def test_a_stage_that_moved_to_its_fallback_names_who_answered_and_shows_both_waits() -> None:
    found = await opened(recorded("pipeline-fallback", "COMPLETED"))
    moved = [stage for stage in found["stages"] if len(stage["spans"]) > 2]
    assert moved and all(stage["state"] == "done" for stage in moved)
    assert [span["kind"] for span in moved[0]["spans"]] == ["waiting", "waiting", "running"]


async def test_what_is_under_way_is_told_by_what_the_server_has_pending() -> None:
    handle = recorded("pipeline-completed", "RUNNING", until=13)
    pending = handle.described.pending_activities.add()
    scheduled = [e for e in handle.events if e.HasField("activity_task_scheduled_event_attributes")]
    pending.activity_id = scheduled[-1].activity_task_scheduled_event_attributes.activity_id
    pending.state = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
    pending.attempt = 2
    pending.last_failure.message = "openai: outage (HTTP 500)"
    pending.last_started_time.FromSeconds(int(scheduled[-1].event_time.ToSeconds()) + 3)
    found = await opened(handle, temporal_ui="http://localhost:8233")
    (running,) = (stage for stage in found["stages"] if stage["state"] == "running")
    assert running["function_key"] == pending.activity_id and running["attempts"] == 2
    assert running["note"] == "openai: outage (HTTP 500)" and running["spans"][-1]["until"] is None
    assert {stage["state"] for stage in found["stages"]} >= {"running", "waiting"}
    assert found["ended_at"] is None
    assert found["ui"] == "http://localhost:8233/namespaces/default/workflows/seo-1/run-1"


async def test_foreign_arguments_are_shown_and_break_nothing() -> None:
    handle = recorded("pipeline-completed", "RUNNING", until=1)
    payloads = handle.events[0].workflow_execution_started_event_attributes.input.payloads
    payloads[0].data = b"\xff no json"
    found = await opened(handle)
    assert found["topic"] == "" and found["stages"] == []


async def test_a_pipeline_that_the_server_no_longer_has_is_said_so() -> None:
    class Gone:
        async def describe(self) -> Any:
            raise RPCError("workflow not found", RPCStatusCode.NOT_FOUND, b"")

    with pytest.raises(OperationError, match=r"knows no pipeline 'seo-1'. Remedy:"):
        await opened(Gone())


async def test_another_workflow_is_not_opened_and_its_history_not_read() -> None:
    handle = recorded("pipeline-completed", "COMPLETED")
    handle.described.workflow_execution_info.type.name = "PayrollWorkflow"
    handle.events = [HistoryEvent()]
    with pytest.raises(OperationError, match=r"seo-1 is a PayrollWorkflow. Remedy: "):
        await opened(handle)


@pytest.mark.parametrize("bound", ["history_length", "history_size_bytes"])
async def test_a_history_that_is_too_large_is_not_read(bound: str) -> None:
    handle = recorded("pipeline-completed", "COMPLETED")
    setattr(handle.described.workflow_execution_info, bound, 60_000_000)
    with pytest.raises(OperationError, match=r"too large to be shown.* Remedy: read it in the Temporal UI"):
        await opened(handle)
