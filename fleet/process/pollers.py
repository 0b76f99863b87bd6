"""Whether Temporal answers a process, and hands it tasks, as the SDK's own metrics tell.

What can be known, measured (SDK 1.35.0, server 1.32.0): a poll of a queue in which nothing happens comes back
well, and empty, after 50 to 60 s. Where nobody listens, polls fail at once and are sent again within 12 s at most.
Where nothing answers any more, they fail every 45 s, by the SDK's keep-alive. The gauge of the pollers says the
same all the while; it goes to 0 for a worker that is shut down, and for one that has no free slot, which polls
nothing either.

So nobody can tell from a poll that has just been sent whether it will come back: a fresh process counts as
connected by the requests that it made before, and its polls count as good until they fail or are overdue.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from temporalio.runtime import BufferedMetricUpdate

#: A poll that has not come back well for so long is overdue.
OVERDUE_SECONDS = 90.0
_BROKEN_SECONDS = 10.0
_QUIET_SECONDS, _LONGEST_QUIET_SECONDS = 15.0, 60.0

_POLLERS, _FREE_SLOTS = "temporal_num_pollers", "temporal_worker_task_slots_available"
_POLL_ENDED, _POLL_FAILED = "temporal_long_request_latency", "temporal_long_request_failure"
_REQUEST_ENDED, _REQUEST_FAILED = "temporal_request_latency", "temporal_request_failure"
# What a request fails with when the server has not answered it; all else is an answer.
_UNANSWERED = frozenset({"TRANSPORT_ERROR", "UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"})
# What says of a task that was dispatched again meanwhile.
_ON_TASKS = frozenset(
    {
        "RespondActivityTaskCompleted",
        "RespondActivityTaskFailed",
        "RespondActivityTaskCanceled",
        "RecordActivityTaskHeartbeat",
    }
)


@dataclass
class QueuePolls:
    """A queue in one process. ``full``: it works on as many tasks as it may, and therefore polls nothing.

    ``polled_at`` is when a poll last came back well, ``failing_since`` since when they fail, if they do;
    ``due_since`` since when nothing has kept one from coming back well (unix seconds).
    """

    pollers: int = 0
    polled_at: float | None = None
    full: bool = False
    failing_since: float | None = None
    due_since: float | None = None

    @property
    def served(self) -> bool:
        """Whether the process takes this queue's tasks, or has as many as it may."""
        return self.pollers > 0 or self.full


@dataclass
class Line:
    """Whether requests come through, from how those ended that have.

    After failures nothing may come back for a minute although all is well again, since polls wait. So a line is
    good again when one has come back well, or when it has been quiet for longer than between its failures.
    """

    failing_since: float | None = None
    _failed_at: float = 0.0
    _longest_gap: float = 0.0
    _owed: int = 0

    def take(self, ended: int, failed: int, now: float) -> bool:
        """So many have ended since the last time, of them so many badly; whether one has ended well."""
        # The SDK tells of a failure and of its end one after the other: they may come in two goes.
        well = ended - failed + self._owed
        self._owed = min(well, 0)
        if well > 0:
            self.failing_since, self._longest_gap = None, 0.0
        elif failed:
            if self.failing_since is None:
                self.failing_since = now
            else:
                self._longest_gap = max(self._longest_gap, now - self._failed_at)
            self._failed_at = now
        return well > 0

    def broken_since(self, now: float) -> float | None:
        """Since when requests fail, if they have failed for a while and still do."""
        if self.failing_since is None or self._failed_at - self.failing_since < _BROKEN_SECONDS:
            return None
        quiet = min(max(_QUIET_SECONDS, 1.5 * self._longest_gap), _LONGEST_QUIET_SECONDS)
        return self.failing_since if now - self._failed_at <= quiet else None


@dataclass
class Ends:
    """How requests ended."""

    ended: int = 0
    failed: int = 0
    unanswered: int = 0
    late: int = 0

    def add(self, other: "Ends") -> None:
        """Count those, too."""
        self.ended += other.ended
        self.failed += other.failed
        self.unanswered += other.unanswered
        self.late += other.late


class Polls:
    """What this process polls, and whether Temporal answers it. ``doubts`` counts the signs that it may not have
    heard what came of a task."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.queues: dict[str, QueuePolls] = {}
        self._clock = clock
        self._pollers: dict[tuple[str, str], int] = {}
        self._free: dict[tuple[str, str], int] = {}
        self._lines: dict[str, Line] = {}
        self._connection = Line()
        self._answered = False
        self.doubts = 0

    def expect(self, queues: Iterable[str]) -> None:
        """These are to be polled from now on."""
        for queue in queues:
            self._queue(queue).due_since = self._clock()

    def connected(self) -> bool | None:
        """Whether Temporal answers this process; None where it has not asked it anything yet."""
        broken = self._connection.broken_since(self._clock()) is not None
        return (not broken) if self._answered or broken else None

    def take(self, updates: "Iterable[BufferedMetricUpdate]") -> None:
        """What the SDK measured since the last time."""
        polls: dict[str, Ends] = {}
        requests = Ends()
        for update in updates:
            self._take_gauge(update)
            ends = _ends_of(update)
            requests.add(ends)
            queue = update.attributes.get("task_queue")
            if isinstance(queue, str) and update.metric.name in (_POLL_ENDED, _POLL_FAILED):
                polls.setdefault(queue, Ends()).add(ends)
        self.doubts += requests.unanswered + requests.late
        now = self._clock()
        self._answered |= self._connection.take(requests.ended, requests.unanswered, now)
        for queue, seen in self.queues.items():
            self._judge(queue, seen, polls.get(queue, Ends()), now)

    def _take_gauge(self, update: "BufferedMetricUpdate") -> None:
        known: Mapping[str, dict[tuple[str, str], int]] = {_POLLERS: self._pollers, _FREE_SLOTS: self._free}
        queue, kept = update.attributes.get("task_queue"), known.get(update.metric.name)
        if not isinstance(queue, str) or kept is None:
            return
        kind = str(update.attributes.get("poller_type" if kept is self._pollers else "worker_type"))
        if kind != "sticky_workflow_task":
            kept[queue, kind] = int(update.value)
            self._queue(queue)

    def _judge(self, queue: str, seen: QueuePolls, ends: Ends, now: float) -> None:
        line = self._lines.setdefault(queue, Line())
        seen.pollers = sum(count for (name, _), count in self._pollers.items() if name == queue)
        seen.full = any(count == 0 for (name, _), count in self._free.items() if name == queue)
        if line.take(ends.ended, ends.failed, now):
            seen.polled_at = seen.due_since = now
        elif ends.failed or seen.full or seen.due_since is None:
            seen.due_since = now
        seen.failing_since = line.broken_since(now)

    def _queue(self, name: str) -> QueuePolls:
        return self.queues.setdefault(name, QueuePolls())


def _ends_of(update: "BufferedMetricUpdate") -> Ends:
    if update.metric.name in (_POLL_ENDED, _REQUEST_ENDED):
        return Ends(ended=1)
    if update.metric.name in (_POLL_FAILED, _REQUEST_FAILED):
        count = int(update.value)
        status, operation = (str(update.attributes.get(name)) for name in ("status_code", "operation"))
        late = status == "NOT_FOUND" and operation in _ON_TASKS
        unanswered = status in _UNANSWERED
        return Ends(failed=count, unanswered=count if unanswered else 0, late=count if late else 0)
    return Ends()
