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
from fleet.config import KINDS, ProviderSettings, Settings
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
from fleet.providers.connections import forget_certificates, see_reachable
from fleet.providers.prices import load_prices
from fleet.providers.registry import provider_address, provider_factory
from fleet.providers.session import ProviderSession


async def life(settings: Settings, name: str, liveness: Liveness, metrics: Metrics, provider_name: str) -> int:
    """Serve the queues of one provider."""
    provider = settings.provider(provider_name)
    backend = Backend.from_settings(settings)
    with loading():
        factory = provider_factory(provider, settings.sdk_variables)
        load_prices()
    session = ProviderSession(
        provider, factory, lambda fresh: provider_key(backend, provider, fresh=fresh), metrics
    )
    journal = AsyncJournal(Journal.of(settings, provider.name))
    for queue in provider.limits:
        metrics.serves(provider.name, queue)
    with loading():
        await prepared(session)
    admissions: dict[str, Admission] = {}
    runner = CallRunner(settings, provider, session, journal, admissions, metrics)
    arrivals = Arrivals()
    reach = reach_of(provider, journal, session)
    reporters: list[Reporter] = []
    cost = first_cost(provider.kind)
    process = process_on(machine_id(settings.state_dir), name)
    home = MachineHome(machine_name(settings.state_dir), version("assistant-fleet"), settings.control_address)

    async def prepare(client: Client) -> None:
        reporters[:] = [
            Reporter(client, queue, limits, process, cost, provider.timeout_seconds, session.present_key, home)
            for queue, limits in provider.limits.items()
        ]
        for reporter in reporters:
            await reporter.open()

    def build(client: Client) -> list[Worker]:
        costs = Costs(provider.kind)
        for reporter in reporters:
            admissions[reporter.queue] = admissions.get(reporter.queue) or Admission(
                Gate(), costs, reporter, lambda: session.used_key, of_one_model=reporter.queue != provider.queue
            )
        execute = ExecuteActivities(settings, provider, journal, runner, client, metrics, reach, arrivals).execute
        return [
            Worker(
                client,
                task_queue=queue,
                activities=[execute],
                max_concurrent_activities=provider.concurrency,
                **worker_options(settings),
            )
            for queue in admissions
        ]

    async def report(client: Client) -> None:
        await asyncio.gather(*(reporter.run_reports() for reporter in reporters))

    async def recover(client: Client) -> None:
        await Recovery(client, provider, journal, lambda: liveness.doubts).run()

    async def close() -> None:
        await runner.close()
        await journal.close()
        await session.close()
        await backend.aclose()

    beside = [recover, report]
    return await WorkerProcess(settings, name, liveness, build, prepare, beside, close, reach=reach).run()


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
