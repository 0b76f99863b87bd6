"""``python -m workers.pipeline``: decides the order of assistants. No I/O, no provider."""

from temporalio.client import Client
from temporalio.worker import Worker

from fleet.config import Settings
from fleet.contracts import PIPELINE_QUEUE
from fleet.pipeline import AssistantPipelineWorkflow
from fleet.runtime import WorkerProcess, run_process, worker_options


async def life(settings: Settings, name: str) -> int:
    """Serve the queue ``pipeline``."""

    def build(client: Client) -> Worker:
        return Worker(
            client,
            task_queue=PIPELINE_QUEUE,
            workflows=[AssistantPipelineWorkflow],
            max_concurrent_workflow_tasks=settings.pipeline_concurrency,
            **worker_options(settings),
        )

    return await WorkerProcess(settings, name, build).run()


if __name__ == "__main__":
    run_process("pipeline", life)
