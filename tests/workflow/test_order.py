"""What is delivered in one order and replayed in another is no harm to a budget."""

from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from fleet.budgets.workflow import ProviderBudgetWorkflow
from fleet.process.data_converter import data_converter
from tests.workflow.record_order import HISTORY, turned


async def test_it_replays_what_it_heard_before_it_was_told_that_its_rate_is_set() -> None:
    history = WorkflowHistory.from_json("budget-llm-test", HISTORY.read_text("utf-8"))
    assert turned(history), "it is on record"
    await Replayer(workflows=[ProviderBudgetWorkflow], data_converter=data_converter()).replay_workflow(history)
