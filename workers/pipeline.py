"""``python -m workers.pipeline``: runs the pipeline workflows, which order the assistants, and the budget
workflows. Calls no provider."""

from datetime import timedelta

from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from fleet.budgets.queue_client import QueueActivities
from fleet.budgets.workflow import ProviderBudgetWorkflow
from fleet.config import Settings
from fleet.contracts import CONTROL_QUEUE, PIPELINE_QUEUE
from fleet.pipeline.try_workflow import AssistantTryWorkflow
from fleet.pipeline.workflow import AssistantPipelineWorkflow
from fleet.process.liveness import Liveness
from fleet.process.metrics import Metrics
from fleet.process.runtime import WorkerProcess, run_temporal_process, worker_options

# A budget must not wait long for a process that has died.
_BUDGET_STICKY = timedelta(seconds=2)
# Workflow tasks are short and other processes repeat them, but the SDK's shutdown has been seen to hang.
_DRAIN_SECONDS = 15.0


async def life(settings: Settings, name: str, liveness: Liveness, metrics: Metrics) -> int:
    """Serve the queues ``pipeline`` and ``control``.

    The workflows run outside the SDK's sandbox: docs/decisions/0018-workflows-outside-the-sandbox.md.
    """

    def build(client: Client) -> list[Worker]:
        pipelines = Worker(
            client,
            task_queue=PIPELINE_QUEUE,
            workflows=[AssistantPipelineWorkflow, AssistantTryWorkflow],
            workflow_runner=UnsandboxedWorkflowRunner(),
            max_concurrent_workflow_tasks=settings.pipeline_concurrency,
            **worker_options(settings),
        )
        budgets = Worker(
            client,
            task_queue=CONTROL_QUEUE,
            workflows=[ProviderBudgetWorkflow],
            workflow_runner=UnsandboxedWorkflowRunner(),
            activities=[QueueActivities(client).set_queue_rate],
            sticky_queue_schedule_to_start_timeout=_BUDGET_STICKY,
            **worker_options(settings),
        )
        return [pipelines, budgets]

    return await WorkerProcess(settings, name, liveness, build, max_drain_seconds=_DRAIN_SECONDS).run()


if __name__ == "__main__":
    run_temporal_process("pipeline", life)
