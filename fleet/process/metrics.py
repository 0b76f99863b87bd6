"""The metrics of a process, kept in files that outlive it: ``<state>/measures/<kind>_<process>.db``.

They are the files of prometheus_client's multi-process mode, named by supervised process instead of by pid: the
next process of that name continues the counts of the previous one. So the counts of a dead process neither vanish
nor count twice, and there are no more files than process names. Counters and histograms only; what is true of a
living process alone is in its liveness record. Source: prometheus.github.io/client_python/multiprocess.

Durations are in seconds, money is in US dollars. The number of label values is bounded: there is no topic, and no
project unless the settings ask for it.
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
#: By a one-time link or a token; with a wrong one of them; and refused unseen, after too many wrong ones.
LOGINS = ("link", "token", "refused", "slowed")

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
_ANSWERS = (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 300, 600)
_PIPELINE_SECONDS = (1, 5, 10, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 21_600)
_SDK_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 600)
_MAX_NAMES = 100
_OTHER = "other"
# The labels of Temporal's SDK that are kept; the others never differ within a process, or are not bounded.
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
#: The errors that reading a damaged file raises.
DAMAGED = (RuntimeError, ValueError, TypeError, KeyError, OSError, struct.error)


def metrics_folder(state: Path) -> Path:
    """The folder of the metrics files of a state folder's processes."""
    return state.absolute() / _FOLDER


def merged(paths: Iterable[Path]) -> list[Metric]:
    """The metrics in these files, summed over them.

    Raises:
        RuntimeError, ValueError, TypeError, KeyError, OSError, struct.error: one is damaged.
    """
    return list(MultiProcessCollector.merge([str(path) for path in paths]))  # type: ignore[no-untyped-call]


def can_be_read(path: Path) -> bool:
    """Whether the metrics file of a process is undamaged; a damaged one is logged."""
    try:
        merged([path])
    except DAMAGED as error:
        logger.error("{} is damaged ({}): what it counted is left out", path, error)
        return False
    return True


@dataclass(frozen=True)
class Usage:
    """What an answer used. ``input_tokens`` includes the cached ones; ``cost_usd`` is None if no price is known,
    and is not paid if ``simulated``."""

    model: str
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    cost_usd: float | None
    simulated: bool = False


class _Bounded:
    """Limits the values of a label: the first hundred names keep their own value, all others share one."""

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
        self._logins = counter("fleet_control_logins", "Logins at the control process.", "outcome")
        self._pipelines = histogram(
            f"{PIPELINE_DURATION}_seconds", "Pipelines that ended.", _PIPELINE_SECONDS, "outcome"
        )
        self._model, self._project = _Bounded(), _Bounded()
        self._sdk_counters: dict[tuple[str, tuple[str, ...]], Counter] = {}
        self._sdk_histograms: dict[tuple[str, tuple[str, ...]], Histogram] = {}

    @classmethod
    def of_process(cls, state: Path, process: str) -> Self:
        """The metrics of the supervised process of that name; to be created once, before any other metric."""
        folder = metrics_folder(state)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
        for path in folder.glob(f"*_{process}.db"):
            if not can_be_read(path):
                path.replace(path.with_suffix(f".damaged-{time.time():.0f}"))
        values.ValueClass = values.MultiProcessValue(lambda: process)  # type: ignore[no-untyped-call]
        return cls()

    def started(self, program: str, process: str) -> None:
        """Count a start of the process."""
        self._starts.labels(program, process).inc()
        self._dropped.labels(process)

    def serves(self, provider: str, queue: str) -> None:
        """The process will call a provider. The counters start at 0, so that Prometheus sees the first event as an
        increase."""
        for outcome in (ANSWERED, CUT_OFF, *FailureKind):
            self._calls.labels(provider, queue, outcome)
        self._responses.labels(provider, queue)

    def activity_ended(self, activity: str, outcome: str, seconds: float) -> None:
        """Count an attempt that ended as ``success``, ``error``, ``wait`` or ``cancelled``."""
        self._activities.labels(activity, outcome).observe(seconds)

    def call_ended(self, provider: str, queue: str, outcome: str, seconds: float = 0.0) -> None:
        """Count a call to a provider that ended as ``answered``, ``cut_off`` or a failure kind of
        :mod:`fleet.failures`."""
        self._calls.labels(provider, queue, outcome).inc()
        if outcome == ANSWERED:
            self._responses.labels(provider, queue).observe(seconds)

    def used(self, provider: str, queue: str, usage: Usage) -> None:
        """Count the tokens and the cost of a provider's answer, usable or not. A simulated answer adds nothing to
        the paid cost."""
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
        """Count the cost of a project's answer; if ``simulated``, nothing was paid."""
        label = self._project(project)
        self._project_cost.labels(label).inc(0.0 if simulated else cost_usd or 0.0)
        if simulated:
            self._project_simulated_cost.labels(label).inc(cost_usd or 0.0)

    def lines_dropped(self, process: str, count: int = 1) -> None:
        """Count lost log lines of a process."""
        self._dropped.labels(process).inc(count)

    def serves_page(self) -> None:
        """The process serves the page; the counters of its logins start at 0."""
        for outcome in LOGINS:
            self._logins.labels(outcome)

    def login(self, outcome: str) -> None:
        """Count a login, one of ``LOGINS``."""
        self._logins.labels(outcome).inc()

    def take(self, updates: "Iterable[BufferedMetricUpdate]") -> None:
        """Count what Temporal's SDK measured, under the SDK's own names, and the pipelines that the workflows
        report as ended."""
        # Imported here because only a process that has loaded the SDK gets updates.
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

    # In the SDK, metrics of one name may have different labels, which no registry would allow.
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
    """The kept labels of one of the SDK's metrics, always in the same order."""
    return {name: str(attributes[name]) for name in _SDK_LABELS if name in attributes}
