"""Pipelines whose texts are larger than what Temporal carries end with a word, and can be tried again."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle, WorkflowQueryFailedError
from temporalio.exceptions import ApplicationError
from temporalio.worker import Replayer, Worker

from fleet.config import load_settings
from fleet.contracts import (
    ASSISTANTS_QUEUE,
    CSV_MAX_BYTES,
    EXECUTE_ASSISTANT,
    PIPELINE_QUEUE,
    RETRY_MEMO,
    WORKFLOW_TYPE,
    AssistantCall,
    AssistantResult,
    RetryOf,
)
from fleet.execution.activities import LoadActivities
from fleet.pipeline.workflow import AssistantPipelineWorkflow
from fleet.process.data_converter import data_converter
from fleet.process.metrics import Metrics
from tests.temporal import running_temporal

ANSWER = timedelta(seconds=10)


class Project:
    """Assistants that write so many characters each, and a last one that reads ``reads``; it fails at first."""

    def __init__(self, lengths: list[int], *reads: str) -> None:
        self.lengths = {f"key_{number}": length for number, length in enumerate(lengths)}
        self.rows = [self.row(key, order, ("topic",)) for order, key in enumerate(self.lengths, start=1)] + [
            self.row("last", len(lengths) + 1, reads)
        ]
        self.mended = False
        self.asked: list[str] = []

    @staticmethod
    def row(key: str, order: int, reads: tuple[str, ...]) -> dict[str, Any]:
        return {
            "id": key,
            "name": key,
            "functionKey": key,
            "order": order,
            "model_provider": "openai",
            "model": "gpt-4o",
            "system_prompt": "Write.",
            "input_keys": list(reads),
            "active": True,
        }

    async def assistants(self, project_id: str) -> list[dict[str, Any]]:
        return self.rows

    async def api_key(self, provider: str) -> str:
        return "key"

    @activity.defn(name=EXECUTE_ASSISTANT)
    async def execute(self, call: AssistantCall) -> AssistantResult:
        self.asked.append(call.function_key)
        if call.function_key == "last" and not self.mended:
            raise ApplicationError("refused", type="provider_error", non_retryable=True)
        output = "\n" * self.lengths.get(call.function_key, 1)
        return AssistantResult(
            call.function_key, output, "openai", "gpt-4o", "stop", 1, 0, 1, 0.1, None, 1, 0.1, "", "key"
        )


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with running_temporal() as address:
        yield address


@asynccontextmanager
async def working_on(address: str, project: Project, namespace: str = "default") -> AsyncIterator[Client]:
    client = await Client.connect(address, namespace=namespace, data_converter=data_converter())
    settings = load_settings(api_base_url="http://localhost:1")
    backend: Any = SimpleNamespace(assistants=project.assistants, see_key=project.api_key)
    loading = LoadActivities(settings, backend, client, Metrics())
    async with (
        Worker(client, task_queue=PIPELINE_QUEUE, workflows=[AssistantPipelineWorkflow]),
        Worker(client, task_queue=ASSISTANTS_QUEUE, activities=[loading.load, loading.check_csv, loading.collect]),
        Worker(client, task_queue="llm-openai", activities=[project.execute]),
    ):
        yield client


async def started(
    client: Client, workflow_id: str, csv_data: str = "", project_id: str = "project", **options: Any
) -> WorkflowHandle[Any, dict[str, Any]]:
    return await client.start_workflow(
        WORKFLOW_TYPE, args=["topic", project_id, csv_data], id=workflow_id, task_queue=PIPELINE_QUEUE, **options
    )


async def failure_of(handle: WorkflowHandle[Any, dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Record and result of a pipeline that fails."""
    with pytest.raises(WorkflowFailureError) as failed:
        await asyncio.wait_for(handle.result(), 30)
    cause = failed.value.cause
    assert isinstance(cause, ApplicationError)
    return cause.details[0], cause.details[1]


async def test_an_assistant_that_reads_more_than_temporal_carries_fails_before_it_is_paid(address: str) -> None:
    project = Project([400_000] * 3, "key_0", "key_1", "key_2")
    async with working_on(address, project) as client:
        record, result = await failure_of(await started(client, f"p-{uuid.uuid4()}"))
    assert record["code"] == "too_large" and not record["retryable"]
    for part in (
        "last: its prompt and inputs (key_0 800,000, ",
        " bytes, where Temporal carries 2,000,000",
        "Remedy: ",
    ):
        assert part in record["message"]
    assert "last" not in project.asked
    assert [stage["status"] for stage in result["stages"]] == ["done"] * 3 + ["failed"]


@pytest.mark.parametrize("end", ["", "1\n"], ids=["sound", "broken"])
async def test_a_csv_of_the_largest_size_is_read_in_an_activity(address: str, end: str) -> None:
    """Its text takes twice its size as JSON, and its rows a second of CPU: more than a workflow should."""
    row = '"",""\n'
    csv_data = "a,b\n" + row * ((CSV_MAX_BYTES - 6) // len(row)) + end
    project = Project([1], "key_0")
    project.mended = True
    async with working_on(address, project) as client:
        run = await started(client, f"p-{uuid.uuid4()}", csv_data)
        if end:
            record, _ = await failure_of(run)
            assert record["code"] == "bad_input" and "csv_data line 166667 has 1 columns" in record["message"]
            assert not project.asked, "nothing was paid"
        else:
            assert (await asyncio.wait_for(run.result(), 30))["pipeline_success"]
        scheduled = [
            event.activity_task_scheduled_event_attributes.activity_type.name
            async for event in run.fetch_history_events()
            if event.HasField("activity_task_scheduled_event_attributes")
        ]
    assert scheduled[0] == "check_csv"


async def test_what_has_been_answered_can_be_asked_for_however_large_it_is_together(address: str) -> None:
    project = Project([300_000] * 7, "key_0")
    async with working_on(address, project) as client:
        run = await started(client, f"p-{uuid.uuid4()}")
        await failure_of(run)
        with pytest.raises(
            WorkflowQueryFailedError, match=r"Temporal carries 2,000,000 at most\. Remedy: .*function"
        ):
            await run.query("outputs", rpc_timeout=ANSWER)
        outputs = await run.query("outputs", ["key_1", "key_2"], rpc_timeout=ANSWER)
        assert {key: len(text) for key, text in outputs.items()} == {"key_1": 300_000, "key_2": 300_000}
        with pytest.raises(WorkflowQueryFailedError, match="'nobody'"):
            await run.query("outputs", ["nobody"], rpc_timeout=ANSWER)
        progress = await run.query("progress", rpc_timeout=ANSWER)
    shown = {
        assistant["function_key"]: (len(assistant["output"]), assistant["note"])
        for assistant in progress["assistants"]
    }
    assert shown["key_0"] == (300_000, "")
    assert shown["key_6"] == (0, "its output of 300,000 bytes is left out here")


async def test_a_failed_run_of_large_outputs_is_tried_again_and_none_is_asked_for_twice(address: str) -> None:
    project, workflow_id = Project([300_000] * 7, "key_0"), f"p-{uuid.uuid4()}"
    async with working_on(address, project) as client:
        first = await started(client, workflow_id)
        await failure_of(first)
        project.mended = True
        project.asked.clear()
        failed = RetryOf(workflow_id, first.first_execution_run_id or "")
        again = await started(client, workflow_id, memo={RETRY_MEMO: failed})
        result = await asyncio.wait_for(again.result(), 30)
    assert project.asked == ["last"]
    assert [stage["metadata"]["reused_from"] is not None for stage in result["stages"]] == [True] * 7 + [False]


@pytest.mark.parametrize(
    ("same_pipeline", "project_id", "first_run", "said"),
    [
        (False, "project", "", "is another pipeline"),
        (True, "other-project", "", "was of another project"),
        (True, "project", "forged", "does not belong to forged"),
    ],
)
async def test_a_run_of_another_pipeline_or_project_is_not_reused(
    address: str, same_pipeline: bool, project_id: str, first_run: str, said: str
) -> None:
    project, workflow_id = Project([10], "key_0"), f"p-{uuid.uuid4()}"
    async with working_on(address, project) as client:
        first = await started(client, workflow_id)
        await failure_of(first)
        project.mended = True
        project.asked.clear()
        failed = RetryOf(workflow_id, first.first_execution_run_id or "", first_run)
        own_id = workflow_id if same_pipeline else f"p-{uuid.uuid4()}"
        again = await started(client, own_id, project_id=project_id, memo={RETRY_MEMO: failed})
        record, _ = await failure_of(again)
    assert record["code"] == "bad_input" and said in record["message"]
    assert f"`fleet retry {workflow_id}`" in record["message"] and project.asked == []


@pytest.mark.parametrize("run_id", ["01234567-89ab-cdef-0123-456789abcdef", "no run id", ""])
async def test_a_retry_of_a_run_that_does_not_exist_fails_at_once(address: str, run_id: str) -> None:
    project, workflow_id = Project([10], "key_0"), f"p-{uuid.uuid4()}"
    async with working_on(address, project) as client:
        run = await started(client, workflow_id, memo={RETRY_MEMO: RetryOf(workflow_id, run_id)})
        record, _ = await failure_of(run)
    assert record["code"] == "bad_input" and record["attempts"] <= 1
    assert f"Temporal knows no run {run_id!r} of {workflow_id}" in record["message"]
    assert "`fleet list`" in record["message"] and project.asked == []


@pytest.mark.parametrize("memo", ["text", {"workflow_id": "p"}, ["p", "run"], 7])
async def test_a_memo_that_does_not_name_a_run_fails_the_pipeline_instead_of_its_tasks(
    address: str, memo: Any
) -> None:
    project, workflow_id = Project([10], "key_0"), f"p-{uuid.uuid4()}"
    async with working_on(address, project) as client:
        record, _ = await failure_of(await started(client, workflow_id, memo={RETRY_MEMO: memo}))
    assert record["code"] == "bad_input" and "does not name a run" in record["message"]
    assert project.asked == []


async def test_a_forged_first_run_stays_forged_when_its_run_is_tried_again(address: str) -> None:
    project, workflow_id = Project([10], "key_0"), f"p-{uuid.uuid4()}"
    async with working_on(address, project) as client:
        run = await started(client, workflow_id)
        for _ in range(2):
            await failure_of(run)
            project.asked.clear()
            failed = RetryOf(workflow_id, run.first_execution_run_id or "", "forged")
            run = await started(client, workflow_id, memo={RETRY_MEMO: failed})
        record, _ = await failure_of(run)
    assert "does not belong to forged" in record["message"] and project.asked == []


async def test_a_retry_of_a_retry_reuses_what_the_first_run_finished(address: str) -> None:
    project, workflow_id = Project([10], "key_0"), f"p-{uuid.uuid4()}"
    async with working_on(address, project) as client:
        run = await started(client, workflow_id)
        first_run_id = run.first_execution_run_id or ""
        for mended in (False, True):
            await failure_of(run)
            project.mended = mended
            failed = RetryOf(workflow_id, run.first_execution_run_id or "", first_run_id)
            run = await started(client, workflow_id, memo={RETRY_MEMO: failed})
        await asyncio.wait_for(run.result(), 30)
    assert project.asked == ["key_0", "last", "last", "last"]


SMALL_CSV = "keyword;volume\nkávovar;many\n"
SELECTIONS = [
    (SMALL_CSV, {"columns": ["volum"]}, "assistant last: the CSV has no column 'volum', the nearest is 'volume'"),
    (SMALL_CSV, {"rows": {"top": 3, "by": "volume"}}, "since row 1 has 'many' there, which is not a number"),
    (SMALL_CSV + "mlýnek;2\n" * 5000, {"columns": ["price"]}, "assistant last: the CSV has no column 'price'"),
]


@pytest.mark.parametrize(("csv_data", "selection", "said"), SELECTIONS)
async def test_a_choice_that_the_csv_cannot_satisfy_fails_the_pipeline_before_anything_is_paid(
    address: str, csv_data: str, selection: dict[str, Any], said: str
) -> None:
    project = Project([1], "csv")
    project.rows[-1]["csv"] = selection
    async with working_on(address, project) as client:
        run = await started(client, f"p-{uuid.uuid4()}", csv_data)
        record, result = await failure_of(run)
        assert record["code"] == "bad_input" and said in record["message"] and ". Remedy: " in record["message"]
        assert project.asked == [] and [stage["status"] for stage in result["stages"]] == ["waiting"] * 2
        project.mended = True  # without a CSV there is nothing to choose from
        assert (await asyncio.wait_for((await started(client, f"p-{uuid.uuid4()}")).result(), 30))[
            "pipeline_success"
        ]
        history = await run.fetch_history()
    await Replayer(workflows=[AssistantPipelineWorkflow], data_converter=data_converter()).replay_workflow(history)


async def test_a_choice_travels_through_the_history_once(address: str) -> None:
    """The whole CSV is in the arguments alone, however many assistants choose from it."""
    project = Project([1, 1, 1], "csv")
    for row in project.rows:
        row["input_keys"], row["csv"] = ["csv"], {"rows": {"first": 2}}
    project.mended = True
    mark = "rare-word"
    csv_data = "keyword\n" + "word\n" * 10_000 + f"{mark}\n"
    async with working_on(address, project) as client:
        run = await started(client, f"p-{uuid.uuid4()}", csv_data)
        assert (await asyncio.wait_for(run.result(), 30))["pipeline_success"]
        events = [event async for event in run.fetch_history_events()]
    # In the arguments of the pipeline, and of the activity that checks a large CSV.
    assert sum(mark.encode() in event.SerializeToString() for event in events) == 2


@pytest.mark.parametrize(
    ("csv_data", "warned"),
    [
        ("keyword,volume\n", "csv_data has a header and no rows"),
        (" \n", "csv_data has only white space"),
        ("keyword,volume\nk\ufffdvovar,2\n", "csv_data has 1 characters that were lost"),
    ],
)
async def test_a_csv_that_says_little_is_warned_of_in_the_result(address: str, csv_data: str, warned: str) -> None:
    project = Project([1], "csv")
    project.mended = True
    async with working_on(address, project) as client:
        run = await started(client, f"p-{uuid.uuid4()}", csv_data)
        result = await asyncio.wait_for(run.result(), 30)
    (warning,) = result["warnings"]
    assert result["pipeline_success"] and warning.startswith(warned)


async def test_what_is_no_csv_fails_a_pipeline_whoever_starts_it(address: str) -> None:
    project = Project([1], "csv")
    async with working_on(address, project) as client:
        record, _ = await failure_of(await started(client, f"p-{uuid.uuid4()}", "a" * 5000))
    assert record["code"] == "bad_input" and "has 5,000 letters and digits" in record["message"]
    assert not project.asked
