"""What ``GET /metrics`` tells Prometheus: this machine's journals, and the budgets of the whole fleet.

Budgets belong to all machines together, so every machine tells the same of them: aggregate with ``max``.
"""

import asyncio
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from temporalio.service import RPCError

from fleet.budgets.reports import Standing
from fleet.config import Settings
from fleet.control.status import budgets_of
from fleet.errors import JournalUnavailable, TemporalUnavailable
from fleet.journal import Counts, Journal
from fleet.runtime import connect_once

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BREAKERS = ("closed", "probing", "parked", "paused")


async def metrics_of(settings: Settings) -> bytes:
    """All metrics, read now, in Prometheus' text form."""
    journals, budgets = await asyncio.gather(asyncio.to_thread(_journals, settings), _budgets(settings))
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Found([*_journal_metrics(journals), *_budget_metrics(budgets)]))
    return generate_latest(registry)


class _Found(Collector):
    """Metrics that were read already."""

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


async def _budgets(settings: Settings) -> Mapping[str, Standing]:
    """Those that somebody keeps; none while Temporal is away."""
    try:
        return await budgets_of(await connect_once(settings), settings)
    except (TemporalUnavailable, RPCError):
        return {}


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


def _budget_metrics(budgets: Mapping[str, Standing]) -> Iterator[Metric]:
    rate = GaugeMetricFamily(
        "fleet_budget_rate", "Calls a second that the queue hands out at most.", labels=["queue"]
    )
    limit = GaugeMetricFamily(
        "fleet_budget_limit_per_minute", "Height of each limit, as the budget knows it.", labels=["queue", "limit"]
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
    for queue, one in budgets.items():
        rate.add_metric([queue], one.rate)
        exact.add_metric([queue], int(one.exact))
        calls.add_metric([queue], one.calls)
        refused.add_metric([queue], one.refused)
        for known in one.limits:
            limit.add_metric([queue, known.what], known.per_minute)
        for state in _BREAKERS:
            breaker.add_metric([queue, state], int(one.breaker == state))
    yield from (rate, limit, breaker, exact, calls, refused)
