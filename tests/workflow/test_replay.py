"""Open pipelines and budgets survive an update: what was recorded replays on this code.

``mixed`` is what comes of a roll, in which a new process answers what the old pipeline process does not know yet.
"""

from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from fleet.budgets.workflow import ProviderBudgetWorkflow
from fleet.pipeline.workflow import AssistantPipelineWorkflow
from fleet.process.data_converter import data_converter

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
