"""The liveness of a process: a thread checks whether the event loop responds, and writes a liveness record.

A process with a blocked loop still looks alive to Temporal, since the SDK's core keeps polling in threads of its
own. So the thread sends the loop a callback every second. If the loop does not respond for too long, the thread
logs the loop's stack and ends the process, and supervisord starts a new one. The record,
``<state>/pulse/<process>.json``, lets other processes on this machine recognize a process that is frozen, has lost
its pollers or its connection, or keeps ending.
"""

import asyncio
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

from loguru import logger

from fleet.config import Settings
from fleet.process.atomic_file import write_atomically
from fleet.process.freed_memory import FreedMemory
from fleet.process.metrics import Metrics, sdk_labels
from fleet.process.pollers import Polls, QueuePolls

if TYPE_CHECKING:
    from temporalio.runtime import BufferedMetricUpdate, MetricBuffer

BEAT_SECONDS = 1.0
#: How long a process may start: it loads its modules, which takes long on a busy machine, and a new process would
#: begin anew.
LONGEST_START_SECONDS = 120.0
#: The interval between beats from the start of serving until the pollers poll, and how long it applies at most; a
#: roll and a start wait for the pollers.
_FIRST_BEATS_SECONDS, _FIRST_BEATS_FOR_SECONDS = 0.1, 10.0
#: Exit status of a process that ended because its event loop was blocked. Source: sysexits.h, EX_SOFTWARE.
EXIT_BLOCKED = 70

_LAST_WORDS_SECONDS = 5.0
_MAX_STARTS = 5
_CURRENT_SECONDS = 10.0


@dataclass
class Gauge:
    """The current value of one of the gauges of Temporal's SDK."""

    name: str
    labels: dict[str, str]
    value: float


@dataclass
class Unreachable:
    """Why this process cannot send calls: what it ``cannot`` do, such as "reach openai", and ``why``. ``since`` is
    when that began (unix seconds), ``probes`` how many probes were sent since, ``next_at`` the time of the next
    one."""

    cannot: str
    why: str
    since: float = 0.0
    probes: int = 0
    next_at: float = 0.0


@dataclass
class LivenessRecord:
    """What a process writes to its liveness record. Times are unix seconds; ``stage`` is ``starting``,
    ``serving``, ``probing`` (it takes no calls, since it could not send them), ``draining``, or ``ended`` after an
    orderly exit.

    ``lag_seconds`` is how long the loop took to respond. ``connected`` says whether Temporal answers; None if the
    process sends it no requests. ``starts`` are the latest starts since the last orderly exit, ``restarts`` is the
    number of starts since then, without the first. ``alive_at`` is the modification time of the file, which can be
    updated even on a full disk. ``unreachable`` is what keeps the process from sending calls; it is kept over a
    restart, until the process polls.
    """

    process: str
    pid: int
    at: float = 0.0
    started_at: float = 0.0
    stage: str = "starting"
    lag_seconds: float = 0.0
    connected: bool | None = False
    queues: dict[str, QueuePolls] = field(default_factory=dict)
    serving_since: float | None = None
    gauges: list[Gauge] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    restarts: int = 0
    alive_at: float = 0.0
    unreachable: Unreachable | None = None

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The record in a file, which may be from another release; None if there is no readable one."""
        try:
            found: dict[str, Any] = json.loads(path.read_text("utf-8"))
            record = cls(**_known(cls, found))
            record.queues = {
                name: QueuePolls(**_known(QueuePolls, polls)) for name, polls in found["queues"].items()
            }
            record.gauges = [Gauge(**_known(Gauge, gauge)) for gauge in found.get("gauges", [])]
            if record.unreachable is not None:
                record.unreachable = Unreachable(**_known(Unreachable, found["unreachable"]))
            record.alive_at = path.stat().st_mtime
            return record
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    @property
    def current(self) -> bool:
        """Whether the record is up to date. On a full disk its content is old, and only the file's modification
        time is new."""
        return self.alive_at - self.at <= _CURRENT_SECONDS

    def idle_queues(self) -> list[str]:
        """The queues that the process should poll and does not, according to its record; empty if the record is
        out of date."""
        if self.stage != "serving" or not self.current:
            return []
        return [queue for queue, polls in self.queues.items() if not polls.served]

    def follows(self, last: Self | None) -> None:
        """Take over what the previous process of this name recorded; None if there was no record."""
        self.unreachable = None if last is None else last.unreachable
        if last is None or last.stage == "ended":
            self.starts, self.restarts = [self.started_at], 0
        else:
            self.starts = [*last.starts, self.started_at][-_MAX_STARTS:]
            self.restarts = last.restarts + 1


def _known(kind: type[Any], found: dict[str, Any]) -> dict[str, Any]:
    """Those of the found values that are fields of the class."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in found.items() if name in names}


def liveness_file(state: Path, process: str) -> Path:
    """Where a process writes its liveness record."""
    return state / "pulse" / f"{process}.json"


class Gauges:
    """The current gauges of Temporal's SDK in this process."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], Gauge] = {}

    def take(self, updates: "Iterable[BufferedMetricUpdate]") -> list[Gauge]:
        """Apply the updates, and return all gauges."""
        # Imported here because only a process that has loaded the SDK gets updates.
        from temporalio.runtime import BUFFERED_METRIC_KIND_GAUGE

        for update in updates:
            if update.metric.kind == BUFFERED_METRIC_KIND_GAUGE:
                labels = sdk_labels(update.attributes)
                gauge = Gauge(update.metric.name, labels, update.value)
                self._known[update.metric.name, *labels.values()] = gauge
        return list(self._known.values())


class Liveness:
    """Beats in a thread of its own from :meth:`start` until the process ends."""

    def __init__(
        self, settings: Settings, process: str, metrics: Metrics, buffer: "MetricBuffer | None" = None
    ) -> None:
        self.record = LivenessRecord(process, os.getpid(), started_at=time.time())
        self._path = liveness_file(settings.state_dir.absolute(), process)
        self._blocked_seconds = settings.loop_blocked_seconds
        self._metrics = metrics
        self._buffer = buffer
        self._polls, self._gauges = Polls(), Gauges()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked_at = self._answered_at = time.monotonic()
        self._thread_id = threading.get_ident()
        self._told = False
        self._turned = threading.Event()
        self._taking, self._writing = threading.Lock(), threading.Lock()

    def start(self) -> None:
        """Begin to beat; must be called within the event loop that is checked."""
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.record.follows(LivenessRecord.read(self._path))
        threading.Thread(target=self._run_beats, name="pulse", daemon=True).start()

    def serving(self, queues: Iterable[str] = ()) -> None:
        """The process does its work from now on, and polls these queues."""
        with self._taking:
            self._polls.expect(queues)
            # Set before the stage: a record with stage "serving" and no queues would be taken as healthy.
            self.record.queues = self._polls.queues
        self.record.unreachable = None
        self.record.stage, self.record.serving_since = "serving", time.time()
        self._turned.set()

    @property
    def doubts(self) -> int:
        """The number of signs that Temporal may not have received the result of a task."""
        return self._polls.doubts

    def probing(self, unreachable: Unreachable) -> None:
        """The process takes no new tasks from now on, until it can send calls again."""
        self.record.stage, self.record.unreachable = "probing", unreachable
        self._turned.set()

    def end(self, *, well: bool) -> None:
        """Count the last metrics, and record whether the process ended in order; to be called when everything else
        has ended."""
        if well:
            self.record.stage = "ended"
        self._write()

    def draining(self) -> None:
        """The process takes no new tasks from now on."""
        self.record.stage = "draining"
        self._turned.set()

    def _run_beats(self) -> None:
        self._asked_at = self._answered_at = time.monotonic()
        answered = threading.Event()
        answered.set()
        freed_memory = FreedMemory()
        while True:
            if answered.is_set():
                answered.clear()
                self._asked_at = time.monotonic()
                self._ask(answered)
            answered.wait(BEAT_SECONDS)
            silent = time.monotonic() - self._asked_at
            self.record.lag_seconds = round(self._answered_at - self._asked_at, 3) if answered.is_set() else silent
            if not answered.is_set() and silent > self._longest_block():
                self._leave(silent)
            self._write()
            freed_memory.return_if_due()
            rest = self._beat_seconds() - (time.monotonic() - self._asked_at)
            if self._turned.wait(max(rest, 0.05)):
                self._turned.clear()

    def _longest_block(self) -> float:
        if self.record.stage == "starting":
            return max(self._blocked_seconds, LONGEST_START_SECONDS)
        return self._blocked_seconds

    def _beat_seconds(self) -> float:
        """The time between two beats."""
        since = self.record.serving_since
        begins = since is not None and time.time() - since < _FIRST_BEATS_FOR_SECONDS
        return _FIRST_BEATS_SECONDS if begins and self.record.idle_queues() else BEAT_SECONDS

    def _ask(self, answered: threading.Event) -> None:
        def answer() -> None:
            self._answered_at = time.monotonic()
            answered.set()

        try:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(answer)
        except RuntimeError:  # the loop is closed: the process is exiting
            answer()

    def _write(self) -> None:
        with self._writing:
            self._take()
            self.record.at = time.time()
            try:
                write_atomically(self._path, json.dumps(asdict(self.record)))
                self._told = False
            except OSError as error:
                self._sign_of_life(error)

    def _sign_of_life(self, error: OSError) -> None:
        """Update the file's modification time, which needs no space: all that can be done on a full disk."""
        with suppress(OSError):
            self._path.touch()
        if not self._told:
            logger.warning("the pulse cannot be written to {}: {}", self._path, error.strerror)
        self._told = True

    def _take(self) -> None:
        """Take over what Temporal's SDK measured since the last call."""
        if self._buffer is not None:
            with self._taking:
                updates = self._buffer.retrieve_updates()
                self._polls.take(updates)
                self.record.queues = self._polls.queues
                self.record.gauges = self._gauges.take(updates)
                self._metrics.take(updates)
        if self.record.stage != "starting":
            self.record.connected = self._polls.connected()

    def _leave(self, silent: float) -> NoReturn:
        """Log the loop's stack and end the process; a log that blocks delays the exit by a few seconds only."""
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
