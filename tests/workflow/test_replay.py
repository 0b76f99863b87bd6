"""Open pipelines and budgets survive an update: what was recorded, and what ran today, replays on this code."""

from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from fleet.budgets.workflow import ProviderBudgetWorkflow
from fleet.payloads import data_converter
from fleet.pipeline import AssistantPipelineWorkflow
from tests.fleet import Fleet

HISTORIES = sorted(Path(__file__).parent.joinpath("histories").glob("*.json"))


def replayer() -> Replayer:
    return Replayer(workflows=[AssistantPipelineWorkflow, ProviderBudgetWorkflow], data_converter=data_converter())


def test_both_workflows_are_on_record() -> None:
    kinds = {path.stem.split("-")[1] for path in HISTORIES}
    assert kinds == {"pipeline", "budget"}


def recorded(path: Path) -> str:
    return path.read_text("utf-8")


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
async def test_what_was_recorded_replays(path: Path) -> None:
    history = WorkflowHistory.from_json(path.stem, recorded(path))
    await replayer().replay_workflow(history)


async def test_a_changed_workflow_is_noticed() -> None:
    """The replay test can fail: a pipeline's history is none of a budget."""
    path = next(path for path in HISTORIES if "pipeline-completed" in path.stem)
    text = (
        path.read_text("utf-8")
        .replace('"assistants"', '"elsewhere"')
        .replace("load_assistants", "read_assistants")
    )
    history = WorkflowHistory.from_json(path.stem, text)
    with pytest.raises(Exception, match=r"(?i)nondeterminism"):
        await replayer().replay_workflow(history)


async def test_all_that_ran_on_the_fleet_replays(fleet: Fleet) -> None:
    client, today, count = await fleet.client(), replayer(), 0
    async for execution in client.list_workflows(""):
        if execution.history_length < 2_000:
            handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
            await today.replay_workflow(await handle.fetch_history())
            count += 1
    assert count >= 5
