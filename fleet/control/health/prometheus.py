"""What ``GET /metrics`` reports to Prometheus: this machine's processes, calls and journals, and the fleet's
queues, budgets and pipelines.

Queues, budgets and pipelines belong to all machines together, so every machine reports the same: aggregate them
with ``max``. The counters of processes are summed over all of them, including processes that have ended.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fleet.budgets.messages import BudgetStatus
from fleet.config import Settings
from fleet.control.health.observer import Snapshot
from fleet.control.health.pipeline_runs import Runs
from fleet.control.health.status import FleetStatus
from fleet.errors import JournalUnavailable
from fleet.execution.journal import Journal
from fleet.execution.journal_records import Counts
from fleet.process.liveness import LivenessRecord

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BREAKERS = ("closed", "probing", "parked", "paused")
LivenessRecords = Mapping[str, LivenessRecord | None]


async def metrics_of(settings: Settings, snapshot: Snapshot) -> bytes:
    """All metrics in Prometheus' text format; for a server or a journal that does not answer, ``up`` is 0."""
    journals = await asyncio.to_thread(_journals, settings)
    return await asyncio.to_thread(_text, snapshot, journals)


def _text(snapshot: Snapshot, journals: Mapping[str, Counts | None]) -> bytes:
    found = [
        *_server_metrics(snapshot.status),
        *_process_metrics(snapshot.status, snapshot.liveness_records),
        *_queue_metrics(snapshot.status),
        *_budget_metrics(snapshot.status.budgets),
        *_pipeline_metrics(snapshot.runs, snapshot.at),
        *_disk_metrics(snapshot.disks),
        *_journal_metrics(journals),
        *_sdk_gauges(snapshot.liveness_records),
        *snapshot.counted.metrics,
    ]
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Found(found))
    return generate_latest(registry)


class _Found(Collector):
    """Metrics that were already read."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics

    def describe(self) -> list[Metric]:
        return []


def _journals(settings: Settings) -> dict[str, Counts | None]:
    return {provider: _counts(settings, provider) for provider in sorted(settings.providers)}


def _counts(settings: Settings, provider: str) -> Counts | None:
    try:
        with Journal.of(settings, provider) as journal:
            return journal.counts()
    except JournalUnavailable:
        return None


def _server_metrics(status: FleetStatus) -> Iterator[Metric]:
    up = GaugeMetricFamily("fleet_server_up", "Whether a server that the fleet needs answers.", labels=["server"])
    up.add_metric(["temporal"], int(status.temporal.ok))
    up.add_metric(["backend"], int(status.backend.ok))
    build = GaugeMetricFamily("fleet_build_info", "Which release runs.", labels=["version"])
    build.add_metric([version("assistant-fleet")], 1)
    project = GaugeMetricFamily(
        "fleet_project_info",
        "Which version of a project the backend serves from a folder.",
        labels=["project", "fingerprint"],
    )
    for name, told in status.backend.projects.items():
        if told.fingerprint:
            project.add_metric([name, told.fingerprint], 1)
    yield from (up, build, project)


def _pipeline_metrics(runs: Runs | None, at: float) -> Iterator[Metric]:
    if runs is None:
        return
    counts = GaugeMetricFamily(
        "fleet_pipelines", "Pipelines on the server, as long as it keeps them.", labels=["status"]
    )
    for status, count in runs.counts.items():
        counts.add_metric([status], count)
    age = 0.0 if runs.oldest_at is None else max(at - runs.oldest_at, 0.0)
    yield counts
    yield GaugeMetricFamily("fleet_pipeline_oldest_seconds", "Age of the oldest that runs.", value=age)


def _disk_metrics(disks: Mapping[str, tuple[int, int]]) -> Iterator[Metric]:
    free = GaugeMetricFamily("fleet_disk_free_bytes", "Free room where a folder is.", labels=["folder"])
    size = GaugeMetricFamily("fleet_disk_size_bytes", "All room where a folder is.", labels=["folder"])
    for folder, (left, whole) in disks.items():
        free.add_metric([folder], left)
        size.add_metric([folder], whole)
    yield from (free, size)


def _sdk_gauges(liveness_records: LivenessRecords) -> Iterator[Metric]:
    """The gauges of Temporal's SDK in the running processes."""
    found: dict[str, Metric] = {}
    for process, liveness in liveness_records.items():
        for gauge in liveness.gauges if liveness is not None else ():
            metric = found.setdefault(gauge.name, Metric(gauge.name, "Of Temporal's SDK.", "gauge"))
            metric.add_sample(gauge.name, gauge.labels | {"process": process}, gauge.value)
    yield from found.values()


def _process_metrics(status: FleetStatus, liveness_records: LivenessRecords) -> Iterator[Metric]:
    labels = ["program", "process"]
    up = GaugeMetricFamily("fleet_process_up", "Whether a process runs.", labels=labels)
    uptime = GaugeMetricFamily("fleet_process_uptime_seconds", "How long a process has run.", labels=labels)
    lag = GaugeMetricFamily(
        "fleet_process_loop_lag_seconds", "How long its event loop took to answer.", labels=labels
    )
    age = GaugeMetricFamily("fleet_process_pulse_age_seconds", "Since when its pulse is known.", labels=labels)
    lost = GaugeMetricFamily(
        "fleet_process_unreachable", "1 while it takes no calls, since it could not send them.", labels=labels
    )
    for process in status.processes:
        names = [process.program, process.process]
        up.add_metric(names, int(process.pid is not None))
        uptime.add_metric(names, process.uptime_seconds)
        if liveness := liveness_records[process.process]:
            lag.add_metric(names, liveness.lag_seconds)
            age.add_metric(names, max(time.time() - liveness.at, 0.0))
            lost.add_metric(names, int(liveness.stage == "probing"))
    yield from (up, uptime, lag, age, lost)


def _queue_metrics(status: FleetStatus) -> Iterator[Metric]:
    pollers = GaugeMetricFamily("fleet_queue_pollers", "Processes that poll a queue.", labels=["queue"])
    backlog = GaugeMetricFamily("fleet_queue_backlog", "Tasks that wait in a queue.", labels=["queue"])
    age = GaugeMetricFamily(
        "fleet_queue_backlog_age_seconds", "How long the oldest of them has waited.", labels=["queue"]
    )
    for queue in status.queues:
        for metric, value in (
            (pollers, queue.pollers),
            (backlog, queue.backlog),
            (age, queue.backlog_age_seconds),
        ):
            if value is not None:
                metric.add_metric([queue.queue], value)
    yield from (pollers, backlog, age)


def _journal_metrics(journals: Mapping[str, Counts | None]) -> Iterator[Metric]:
    up = GaugeMetricFamily(
        "fleet_journal_up", "Whether the provider's journal on this host can be used.", labels=["provider"]
    )
    calls = GaugeMetricFamily(
        "fleet_journal_calls",
        "Calls in the provider's journal on this host, by state; old ones leave it.",
        labels=["provider", "state"],
    )
    twice = GaugeMetricFamily(
        "fleet_journal_possibly_paid_twice",
        "Calls in that journal that may have been paid more than once.",
        labels=["provider"],
    )
    for provider, counts in journals.items():
        up.add_metric([provider], int(counts is not None))
        if counts is not None:
            twice.add_metric([provider], counts.maybe_paid)
            for state, count in counts.by_state.items():
                calls.add_metric([provider, str(state)], count)
    yield from (up, calls, twice)


def _budget_metrics(budgets: Mapping[str, BudgetStatus]) -> Iterator[Metric]:
    rate = GaugeMetricFamily(
        "fleet_budget_rate_per_second", "Calls that the queue dispatches at most.", labels=["queue"]
    )
    limit = GaugeMetricFamily(
        "fleet_budget_limit_per_second", "Each limit, as the budget knows it.", labels=["queue", "limit"]
    )
    breaker = GaugeMetricFamily(
        "fleet_budget_breaker", "1 for the state that the queue's breaker is in.", labels=["queue", "state"]
    )
    exact = GaugeMetricFamily(
        "fleet_budget_exact", "0 where the server does not hold the rate exactly.", labels=["queue"]
    )
    calls = CounterMetricFamily("fleet_budget_calls", "Calls that were sent.", labels=["queue"])
    refused = CounterMetricFamily(
        "fleet_budget_refused", "Calls refused for the sake of a limit.", labels=["queue"]
    )
    for queue, budget in budgets.items():
        rate.add_metric([queue], budget.rate)
        exact.add_metric([queue], int(budget.exact))
        calls.add_metric([queue], budget.calls)
        refused.add_metric([queue], budget.refused)
        for known in budget.limits:
            limit.add_metric([queue, known.what], known.per_minute / 60)
        for state in _BREAKERS:
            breaker.add_metric([queue, state], int(budget.breaker == state))
    yield from (rate, limit, breaker, exact, calls, refused)
