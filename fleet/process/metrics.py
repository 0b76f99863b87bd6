"""What a process counts, kept in files that outlive it: ``<state>/measures/<kind>_<process>.db``.

They are those of prometheus_client's multi-process mode, named by supervised process instead of by pid: the
process of that name that is started next goes on counting where the last one ended. So what a dead process counted
neither vanishes nor counts twice, and there are no more files than there have been processes. Counters and
histograms only; what is true of a living process alone stands in its pulse.
Source: prometheus.github.io/client_python/multiprocess.

Durations are in seconds, money is in US dollars. Labels are bounded: no topic, and no project unless asked for.
"""

import os
import struct
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from loguru import logger
from prometheus_client import CollectorRegistry, Counter, Histogram, values
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from fleet.contracts import PIPELINE_DURATION
from fleet.failures import FailureKind

if TYPE_CHECKING:
    from temporalio.runtime import BufferedMetricUpdate

ANSWERED, CUT_OFF = "answered", "cut_off"

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
_ANSWERS = (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 300, 600)
_PIPELINE_SECONDS = (1, 5, 10, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 21_600)
_SDK_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 600)
_MAX_NAMES = 100
_OTHER = "other"
# Of the labels that Temporal's SDK gives; the others never differ within a process, or are not bounded.
_SDK_LABELS = (
    "activity_type",
    "failure_reason",
    "operation",
    "poller_type",
    "status_code",
    "task_queue",
    "worker_type",
    "workflow_type",
)
_FOLDER = "measures"
#: How a file shows that it is damaged.
DAMAGED = (RuntimeError, ValueError, TypeError, KeyError, OSError, struct.error)


def metrics_folder(state: Path) -> Path:
    """Where the processes of a state folder keep what they count."""
    return state.absolute() / _FOLDER


def merged(paths: Iterable[Path]) -> list[Metric]:
    """The metrics in these files, summed over them.

    Raises:
        RuntimeError, ValueError, TypeError, KeyError, OSError, struct.error: one is damaged.
    """
    return list(MultiProcessCollector.merge([str(path) for path in paths]))  # type: ignore[no-untyped-call]


def can_be_read(path: Path) -> bool:
    """Whether what a process counted is there undamaged; a file that is not is told of."""
    try:
        merged([path])
    except DAMAGED as error:
        logger.error("{} is damaged ({}): what it counted is left out", path, error)
        return False
    return True


@dataclass(frozen=True)
class Usage:
    """What an answer used. ``input_tokens`` includes the cached ones; ``cost_usd`` is None where no price is
    known, and is not paid where ``simulated``."""

    model: str
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    cost_usd: float | None
    simulated: bool = False


class _Bounded:
    """Names as a label's values: the first hundred; all others share one."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def __call__(self, name: str) -> str:
        if name not in self._known and len(self._known) >= _MAX_NAMES:
            return _OTHER
        self._known.add(name)
        return name


class Metrics:
    """The counters and histograms of one process."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        def counter(name: str, help_text: str, *labels: str) -> Counter:
            return Counter(name, help_text, labels, registry=registry)

        def histogram(name: str, help_text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, help_text, labels, buckets=buckets, registry=registry)

        self._starts = counter("fleet_process_starts", "Times that a process was started.", "program", "process")
        self._activities = histogram(
            "fleet_activity_duration_seconds", "Attempts at activities.", _SECONDS, "activity", "outcome"
        )
        self._calls = counter(
            "fleet_provider_calls", "Calls to a provider that ended.", "provider", "queue", "outcome"
        )
        self._responses = histogram(
            "fleet_provider_response_seconds", "How long answered calls took.", _ANSWERS, "provider", "queue"
        )
        self._tokens = counter(
            "fleet_provider_tokens",
            "Tokens of answers; input includes cached_input.",
            "provider",
            "queue",
            "model",
            "kind",
        )
        of_model = ("provider", "queue", "model")
        self._cost = counter("fleet_provider_cost_usd", "What paid answers cost.", *of_model)
        self._simulated_cost = counter(
            "fleet_provider_simulated_cost_usd",
            "What simulated answers would have cost; nothing is paid.",
            *of_model,
        )
        self._unpriced = counter(
            "fleet_provider_unpriced_calls", "Paid answers whose price is not known.", *of_model
        )
        self._project_cost = counter("fleet_project_cost_usd", "What a project's paid answers cost.", "project")
        self._project_simulated_cost = counter(
            "fleet_project_simulated_cost_usd",
            "What a project's simulated answers would have cost; nothing is paid.",
            "project",
        )
        self._dropped = counter(
            "fleet_log_lines_dropped", "Lines that could not be written, or went unmerged.", "process"
        )
        self._pipelines = histogram(
            f"{PIPELINE_DURATION}_seconds", "Pipelines that ended.", _PIPELINE_SECONDS, "outcome"
        )
        self._model, self._project = _Bounded(), _Bounded()
        self._sdk_counters: dict[tuple[str, tuple[str, ...]], Counter] = {}
        self._sdk_histograms: dict[tuple[str, tuple[str, ...]], Histogram] = {}

    @classmethod
    def of_process(cls, state: Path, process: str) -> Self:
        """Those of the supervised process of that name, to be made once, before any other."""
        folder = metrics_folder(state)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
        for path in folder.glob(f"*_{process}.db"):
            if not can_be_read(path):
                path.replace(path.with_suffix(f".damaged-{time.time():.0f}"))
        values.ValueClass = values.MultiProcessValue(lambda: process)  # type: ignore[no-untyped-call]
        return cls()

    def started(self, program: str, process: str) -> None:
        """The process begins."""
        self._starts.labels(program, process).inc()
        self._dropped.labels(process)

    def serves(self, provider: str, queue: str) -> None:
        """The process will call a provider. What has not happened yet is told as 0, so that Prometheus sees the
        first time as a rise."""
        for outcome in (ANSWERED, CUT_OFF, *FailureKind):
            self._calls.labels(provider, queue, outcome)
        self._responses.labels(provider, queue)

    def activity_ended(self, activity: str, outcome: str, seconds: float) -> None:
        """An attempt ended as ``success``, ``error``, ``wait`` or ``cancelled``."""
        self._activities.labels(activity, outcome).observe(seconds)

    def call_ended(self, provider: str, queue: str, outcome: str, seconds: float = 0.0) -> None:
        """A call to a provider ended as ``answered``, ``cut_off`` or a kind of :mod:`fleet.failures`."""
        self._calls.labels(provider, queue, outcome).inc()
        if outcome == ANSWERED:
            self._responses.labels(provider, queue).observe(seconds)

    def used(self, provider: str, queue: str, usage: Usage) -> None:
        """A provider's answer, usable or not, used tokens. A simulated one adds nothing to what is paid."""
        model = self._model(usage.model)
        for kind, count in (
            ("input", usage.input_tokens),
            ("cached_input", usage.cached_input_tokens),
            ("output", usage.output_tokens),
        ):
            self._tokens.labels(provider, queue, model, kind).inc(count)
        labels = (provider, queue, model)
        paid, simulated = (0.0, usage.cost_usd) if usage.simulated else (usage.cost_usd, None)
        self._unpriced.labels(*labels).inc(1 if paid is None else 0)
        for counter, amount in ((self._cost, paid), (self._simulated_cost, simulated)):
            if amount is not None:
                counter.labels(*labels).inc(amount)

    def project_paid(self, project: str, cost_usd: float | None, *, simulated: bool = False) -> None:
        """An answer was paid for a project; where ``simulated`` nothing was."""
        label = self._project(project)
        self._project_cost.labels(label).inc(0.0 if simulated else cost_usd or 0.0)
        if simulated:
            self._project_simulated_cost.labels(label).inc(cost_usd or 0.0)

    def lines_dropped(self, process: str, count: int = 1) -> None:
        """Log lines of a process are lost."""
        self._dropped.labels(process).inc(count)

    def take(self, updates: "Iterable[BufferedMetricUpdate]") -> None:
        """Count what Temporal's SDK measured, under the SDK's own names, and what the workflows did."""
        # Only a process that has loaded the SDK is given any.
        from temporalio.runtime import BUFFERED_METRIC_KIND_COUNTER, BUFFERED_METRIC_KIND_HISTOGRAM

        for update in updates:
            name = update.metric.name
            if name == PIPELINE_DURATION:
                self._pipelines.labels(str(update.attributes.get("outcome"))).observe(update.value)
            elif not name.startswith("temporal_"):
                continue
            elif update.metric.kind == BUFFERED_METRIC_KIND_COUNTER:
                labels = sdk_labels(update.attributes)
                self._sdk_counter(name, tuple(labels)).labels(*labels.values()).inc(update.value)
            elif update.metric.kind == BUFFERED_METRIC_KIND_HISTOGRAM:
                labels = sdk_labels(update.attributes)
                self._sdk_histogram(name, tuple(labels)).labels(*labels.values()).observe(update.value)

    # Metrics of one name may have different labels there, which no registry would allow.
    def _sdk_counter(self, name: str, labels: tuple[str, ...]) -> Counter:
        if (name, labels) not in self._sdk_counters:
            self._sdk_counters[name, labels] = Counter(name, "Of Temporal's SDK.", labels, registry=None)
        return self._sdk_counters[name, labels]

    def _sdk_histogram(self, name: str, labels: tuple[str, ...]) -> Histogram:
        if (name, labels) not in self._sdk_histograms:
            self._sdk_histograms[name, labels] = Histogram(
                f"{name}_seconds", "Of Temporal's SDK.", labels, buckets=_SDK_SECONDS, registry=None
            )
        return self._sdk_histograms[name, labels]


def sdk_labels(attributes: Mapping[str, str | int | float | bool]) -> dict[str, str]:
    """The labels of one of the SDK's metrics that are kept, always in one order."""
    return {name: str(attributes[name]) for name in _SDK_LABELS if name in attributes}
