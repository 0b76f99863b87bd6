"""``python -m workers.assistants``: loads a project's assistants from the Backend API."""

from temporalio.client import Client
from temporalio.worker import Worker

from fleet.config import Settings
from fleet.contracts import ASSISTANTS_QUEUE
from fleet.execution.activities import LoadActivities
from fleet.execution.backend_client import Backend
from fleet.process.liveness import Liveness
from fleet.process.metrics import Metrics
from fleet.process.runtime import WorkerProcess, run_temporal_process, worker_options


async def life(settings: Settings, name: str, liveness: Liveness, metrics: Metrics) -> int:
    """Serve the queue ``assistants``."""
    backend = Backend.from_settings(settings)

    def build(client: Client) -> list[Worker]:
        loading = LoadActivities(settings, backend, client, metrics)
        worker = Worker(
            client,
            task_queue=ASSISTANTS_QUEUE,
            activities=[loading.load, loading.check_csv, loading.collect],
            max_concurrent_activities=settings.assistants_concurrency,
            **worker_options(settings),
        )
        return [worker]

    return await WorkerProcess(settings, name, liveness, build, close=backend.aclose).run()


if __name__ == "__main__":
    run_temporal_process("assistants", life)
