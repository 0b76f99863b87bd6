"""``python -m workers.llm PROVIDER``: calls one provider, and imports only that provider's SDK."""

import asyncio
import sys
from importlib.metadata import version

from loguru import logger
from temporalio.client import Client
from temporalio.worker import Worker

from fleet.budgets.messages import MachineHome
from fleet.budgets.worker.admission import Admission
from fleet.budgets.worker.call_costs import Costs, first_cost
from fleet.budgets.worker.gate import Gate
from fleet.budgets.worker.reporter import Reporter
from fleet.config import Settings
from fleet.errors import BackendError
from fleet.execution.activities import ExecuteActivities
from fleet.execution.async_journal import AsyncJournal
from fleet.execution.backend_client import Backend
from fleet.execution.call_runner import CallRunner
from fleet.execution.journal import Journal
from fleet.execution.provider_keys import provider_key
from fleet.execution.recovery import Recovery
from fleet.execution.task_age import Arrivals
from fleet.process.lifecycle import loading
from fleet.process.liveness import Liveness
from fleet.process.machine_id import machine_id, machine_name, process_on
from fleet.process.metrics import Metrics
from fleet.process.reachability import Reach
from fleet.process.runtime import WorkerProcess, run_temporal_process, worker_options
from fleet.provider_settings import KINDS, ProviderSettings
from fleet.providers.connections import forget_certificates, see_reachable
from fleet.providers.prices import load_prices
from fleet.providers.registry import provider_address, provider_factory
from fleet.providers.session import ProviderSession


async def life(settings: Settings, name: str, liveness: Liveness, metrics: Metrics, provider_name: str) -> int:
    """Serve the queues of one provider."""
    provider = settings.provider(provider_name)
    worker = ProviderWorker(settings, provider, name, liveness, metrics)
    for queue in provider.limits:
        metrics.serves(provider.name, queue)
    with loading():
        await prepared(worker.session)
    beside = [worker.recover, worker.report]
    return await WorkerProcess(
        settings, name, liveness, worker.build, worker.prepare, beside, worker.close, reach=worker.reach
    ).run()


class ProviderWorker:
    """What one process of a provider consists of; :class:`fleet.process.runtime.WorkerProcess` calls the methods.

    A queue keeps its admission when the workers are built anew."""

    def __init__(
        self, settings: Settings, provider: ProviderSettings, name: str, liveness: Liveness, metrics: Metrics
    ) -> None:
        self.settings, self.provider, self.liveness, self.metrics = settings, provider, liveness, metrics
        self.backend = backend = Backend.from_settings(settings)
        with loading():
            load_prices(provider)
            factory = provider_factory(provider, settings.sdk_variables)
        self.session = ProviderSession(
            provider, factory, lambda fresh: provider_key(backend, provider, fresh=fresh), metrics
        )
        self.journal = AsyncJournal(Journal.of(settings, provider.name))
        self.admissions: dict[str, Admission] = {}
        self.runner = CallRunner(settings, provider, self.session, self.journal, self.admissions, metrics)
        self.arrivals = Arrivals()
        self.reach = reach_of(provider, self.journal, self.session)
        self.reporters: list[Reporter] = []
        self.process = process_on(machine_id(settings.state_dir), name)
        self.home = MachineHome(
            machine_name(settings.state_dir), version("assistant-fleet"), settings.control_address
        )

    async def prepare(self, client: Client) -> None:
        """Make sure that each queue has a rate and a budget."""
        key, cost, timeout = (
            self.session.present_key,
            first_cost(self.provider.kind),
            self.provider.timeout_seconds,
        )
        self.reporters[:] = [
            Reporter(client, queue, limits, self.process, cost, timeout, key, self.home)
            for queue, limits in self.provider.limits.items()
        ]
        for reporter in self.reporters:
            await reporter.open()

    def build(self, client: Client) -> list[Worker]:
        """A worker for each queue."""
        costs = Costs(self.provider.kind)
        for reporter in self.reporters:
            if reporter.queue not in self.admissions:
                self.admissions[reporter.queue] = self._admission(reporter, costs)
        activities = ExecuteActivities(
            self.settings,
            self.provider,
            self.journal,
            self.runner,
            client,
            self.metrics,
            self.reach,
            self.arrivals,
        )
        return [
            Worker(
                client,
                task_queue=queue,
                activities=[activities.execute],
                max_concurrent_activities=self.provider.concurrency,
                **worker_options(self.settings),
            )
            for queue in self.admissions
        ]

    def _admission(self, reporter: Reporter, costs: Costs) -> Admission:
        of_one_model = reporter.queue != self.provider.queue
        return Admission(Gate(), costs, reporter, lambda: self.session.used_key, of_one_model=of_one_model)

    async def report(self, client: Client) -> None:
        """Send the budgets reports. Never returns."""
        await asyncio.gather(*(reporter.run_reports() for reporter in self.reporters))

    async def recover(self, client: Client) -> None:
        """Deliver what the journal has from processes that are gone. Never returns."""
        await Recovery(client, self.provider, self.journal, lambda: self.liveness.doubts).run()

    async def close(self) -> None:
        """Release what all of it used."""
        await self.runner.close()
        await self.journal.close()
        await self.session.close()
        await self.backend.aclose()


async def prepared(session: ProviderSession) -> None:
    """Create the client before the first call; if the backend is unreachable, the first call asks it again."""
    try:
        await session.prepare()
    except BackendError as error:
        logger.warning("no API key yet: {}", error)


def reach_of(provider: ProviderSettings, journal: AsyncJournal, session: ProviderSession) -> Reach:
    """What this process needs for a call, and how each of these is probed."""
    probes = {
        f"reach {provider.name}": lambda: see_reachable(provider.name, provider_address(provider)),
        "write its journal": journal.see_writable,
        "get its API key": session.see_key,
    }
    return Reach(probes, renew=lambda: renewed(session))


async def renewed(session: ProviderSession) -> None:
    """Renew the clients, since they may have caused the failure, for example by outdated certificates."""
    forget_certificates()
    await session.renew()


def main(arguments: list[str]) -> None:
    """Run the process for the provider named on the command line."""
    if len(arguments) != 1:
        sys.exit(f"usage: python -m workers.llm PROVIDER ({', '.join(KINDS)}, or an added one)")
    (provider,) = arguments
    run_temporal_process(
        provider, lambda settings, name, liveness, metrics: life(settings, name, liveness, metrics, provider)
    )


if __name__ == "__main__":
    main(sys.argv[1:])
