"""The pulse of a process: a thread that sees whether the event loop answers, and writes down how it goes.

A blocked loop still looks alive to Temporal, since the SDK's core polls on in threads of its own. So the thread
asks the loop every second; when it has not answered for long, it logs where the loop stands and ends the process,
and supervisord starts a new one. What it writes, ``<state>/pulse/<process>.json``, lets others on this machine
see a process that stands still altogether, or that has lost its pollers.
"""

import asyncio
import json
import os
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Self

from loguru import logger
from temporalio.runtime import BUFFERED_METRIC_KIND_GAUGE, BufferedMetricUpdate, MetricBuffer

from fleet.config import Settings
from fleet.measures import Measures, sdk_labels

BEAT_SECONDS = 1.0
#: Exit status of a process that ended since its event loop was blocked. Source: sysexits.h, EX_SOFTWARE.
EXIT_BLOCKED = 70

_LAST_WORDS_SECONDS = 5.0
_POLLERS, _POLL_ENDED, _POLL_FAILED = (
    "temporal_num_pollers",
    "temporal_long_request_latency",
    "temporal_long_request_failure",
)


@dataclass
class QueuePolls:
    """The pollers of one queue in one process; ``polled_at`` is when a poll last came back well (unix seconds)."""

    pollers: int = 0
    polled_at: float | None = None


@dataclass
class Gauge:
    """What Temporal's SDK says is so now."""

    name: str
    labels: dict[str, str]
    value: float


@dataclass
class PulseRecord:
    """What a process writes down. Points in time are unix seconds; ``stage`` is ``starting``, ``serving`` or
    ``draining``; ``lag_seconds`` is how long the loop took to answer; ``connected``: to Temporal, once."""

    process: str
    pid: int
    at: float = 0.0
    started_at: float = 0.0
    stage: str = "starting"
    lag_seconds: float = 0.0
    connected: bool = False
    queues: dict[str, QueuePolls] = field(default_factory=dict)
    serving_since: float | None = None
    gauges: list[Gauge] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The record in a file; None where there is none that can be read."""
        try:
            found: dict[str, Any] = json.loads(path.read_text("utf-8"))
            queues = {name: QueuePolls(**polls) for name, polls in found.pop("queues").items()}
            gauges = [Gauge(**one) for one in found.pop("gauges", [])]
            return cls(**found, queues=queues, gauges=gauges)
        except (OSError, ValueError, TypeError, KeyError):
            return None


def pulse_file(state: Path, process: str) -> Path:
    """Where a process writes its pulse."""
    return state / "pulse" / f"{process}.json"


class Pollers:
    """The pollers of this process, as the SDK's own metrics tell of them."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}
        self._queues: dict[str, QueuePolls] = {}

    def take(self, updates: Iterable[BufferedMetricUpdate]) -> dict[str, QueuePolls]:
        """The pollers of each queue, after these."""
        ended: Counter[str] = Counter()
        for update in updates:
            queue = update.attributes.get("task_queue")
            if not isinstance(queue, str):
                continue
            if update.metric.name == _POLLERS:
                self._count(queue, update)
            elif update.metric.name in (_POLL_ENDED, _POLL_FAILED):
                ended[queue] += 1 if update.metric.name == _POLL_ENDED else -1
        for queue, polls in self._queues.items():
            if ended[queue] > 0:
                polls.polled_at = time.time()
        return self._queues

    def _count(self, queue: str, update: BufferedMetricUpdate) -> None:
        kind = str(update.attributes.get("poller_type"))
        if kind == "sticky_workflow_task":
            return
        self._counts[queue, kind] = int(update.value)
        polls = self._queues.setdefault(queue, QueuePolls())
        polls.pollers = sum(count for (name, _), count in self._counts.items() if name == queue)


class Gauges:
    """What Temporal's SDK says is so now, of this process."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], Gauge] = {}

    def take(self, updates: Iterable[BufferedMetricUpdate]) -> list[Gauge]:
        """All of them, after these."""
        for update in updates:
            if update.metric.kind == BUFFERED_METRIC_KIND_GAUGE:
                labels = sdk_labels(update.attributes)
                gauge = Gauge(update.metric.name, labels, update.value)
                self._known[update.metric.name, *labels.values()] = gauge
        return list(self._known.values())


class Pulse:
    """Beats from :meth:`start` on, in a thread of its own, until the process ends."""

    def __init__(
        self, settings: Settings, process: str, measures: Measures, buffer: MetricBuffer | None = None
    ) -> None:
        self.record = PulseRecord(process, os.getpid(), started_at=time.time())
        self._path = pulse_file(settings.state_dir.absolute(), process)
        self._blocked_seconds = settings.loop_blocked_seconds
        self._measures = measures
        self._buffer = buffer
        self._pollers, self._gauges = Pollers(), Gauges()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked_at = self._answered_at = time.monotonic()
        self._thread_id = threading.get_ident()
        self._told = False
        self._taking = threading.Lock()

    def start(self) -> None:
        """Begin to beat; called from within the event loop that is watched."""
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        threading.Thread(target=self._beat_for_ever, name="pulse", daemon=True).start()

    def serving(self) -> None:
        """From now on it does what it is there for."""
        self.record.stage, self.record.connected = "serving", True
        self.record.serving_since = time.time()

    def end(self) -> None:
        """Count what was measured last; to be called when all else has ended."""
        self._take()

    def draining(self) -> None:
        """From now on it takes nothing new."""
        self.record.stage = "draining"

    def _beat_for_ever(self) -> None:
        self._asked_at = self._answered_at = time.monotonic()
        answered = threading.Event()
        answered.set()
        while True:
            if answered.is_set():
                answered.clear()
                self._asked_at = time.monotonic()
                self._ask(answered)
            answered.wait(BEAT_SECONDS)
            silent = time.monotonic() - self._asked_at
            self.record.lag_seconds = round(self._answered_at - self._asked_at, 3) if answered.is_set() else silent
            if not answered.is_set() and silent > self._blocked_seconds:
                self._leave(silent)
            self._write()
            time.sleep(max(BEAT_SECONDS - (time.monotonic() - self._asked_at), 0.05))

    def _ask(self, answered: threading.Event) -> None:
        def answer() -> None:
            self._answered_at = time.monotonic()
            answered.set()

        try:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(answer)
        except RuntimeError:  # the loop is closed: the process is on its way out
            answer()

    def _write(self) -> None:
        self.record.at = time.time()
        self._take()
        fresh = self._path.with_name(f".{self._path.name}.{self.record.pid}")
        try:
            fresh.write_text(json.dumps(asdict(self.record)), "utf-8")
            fresh.replace(self._path)
        except OSError as error:
            if not self._told:
                logger.warning("the pulse cannot be written to {}: {}", self._path, error.strerror)
            self._told = True

    def _take(self) -> None:
        """What Temporal's SDK measured since the last time."""
        if self._buffer is None:
            return
        with self._taking:
            updates = self._buffer.retrieve_updates()
            self.record.queues = self._pollers.take(updates)
            self.record.gauges = self._gauges.take(updates)
            self._measures.take(updates)

    def _leave(self, silent: float) -> NoReturn:
        """Say where the loop stands, and end the process; what holds the log back holds it for seconds only."""
        frame = sys._current_frames().get(self._thread_id)
        stack = traceback.format_stack(frame) if frame is not None else ["(unknown)"]
        words = threading.Thread(target=_last_words, args=(self.record.process, silent, stack), daemon=True)
        words.start()
        words.join(_LAST_WORDS_SECONDS)
        os._exit(EXIT_BLOCKED)


def _last_words(process: str, silent: float, stack: list[str]) -> None:
    logger.critical("🧊 EVENT LOOP BLOCKED: {} for {:.0f} s; it ends, to be started anew", process, silent)
    for entry in stack:
        for line in entry.splitlines():
            logger.critical("🧊 {}", line)
