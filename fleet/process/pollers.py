"""Whether Temporal answers a process and dispatches tasks to it, according to the SDK's own metrics.

What the metrics show, measured (SDK 1.35.0, server 1.32.0): a poll of an idle queue succeeds with an empty result
after 50 to 60 s. If nothing listens at the address, polls fail at once and are repeated within 12 s at most. If
the server stops responding, they fail every 45 s, by the SDK's keep-alive. The gauge of the pollers does not
change in either case; it falls to 0 for a worker that was shut down, and for a worker without a free slot, which
does not poll.

So a poll that was just sent does not show whether it will succeed. A new process counts as connected by its
earlier requests, and its polls count as good until they fail or are overdue.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from temporalio.runtime import BufferedMetricUpdate

#: A poll that has not succeeded for this long is overdue.
OVERDUE_SECONDS = 90.0
_BROKEN_SECONDS = 10.0
_QUIET_SECONDS, _LONGEST_QUIET_SECONDS = 15.0, 60.0

_POLLERS, _FREE_SLOTS = "temporal_num_pollers", "temporal_worker_task_slots_available"
_POLL_ENDED, _POLL_FAILED = "temporal_long_request_latency", "temporal_long_request_failure"
_REQUEST_ENDED, _REQUEST_FAILED = "temporal_request_latency", "temporal_request_failure"
# The status of a request that the server did not answer; any other status is an answer.
_UNANSWERED = frozenset({"TRANSPORT_ERROR", "UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"})
# With status NOT_FOUND, these say that the task was dispatched again in the meantime.
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
    """A queue in one process. ``full``: all its task slots are in use, so it does not poll.

    ``polled_at`` is when a poll last succeeded, ``failing_since`` since when polls fail, if they do; ``due_since``
    is since when a poll has been due to succeed (unix seconds).
    """

    pollers: int = 0
    polled_at: float | None = None
    full: bool = False
    failing_since: float | None = None
    due_since: float | None = None

    @property
    def served(self) -> bool:
        """Whether the process takes this queue's tasks, or has all its slots in use."""
        return self.pollers > 0 or self.full


@dataclass
class Line:
    """Whether requests reach Temporal, according to the results of those that ended.

    After failures there may be no result for a minute although the server is back, since polls wait. So a line is
    good again when a request succeeded, or when it has been quiet for longer than between its failures.
    """

    failing_since: float | None = None
    _failed_at: float = 0.0
    _longest_gap: float = 0.0
    _owed: int = 0

    def take(self, ended: int, failed: int, now: float) -> bool:
        """Count the requests that ended since the last call and those of them that failed; returns whether one
        succeeded."""
        # The SDK reports a failure and the request's end one after the other, so they may arrive in two calls.
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
        """Since when requests fail, if they have failed for some time and still do."""
        if self.failing_since is None or self._failed_at - self.failing_since < _BROKEN_SECONDS:
            return None
        quiet = min(max(_QUIET_SECONDS, 1.5 * self._longest_gap), _LONGEST_QUIET_SECONDS)
        return self.failing_since if now - self._failed_at <= quiet else None


@dataclass
class Ends:
    """How requests ended: counts of all, of failed, of unanswered ones, and of those that were too late for their
    task."""

    ended: int = 0
    failed: int = 0
    unanswered: int = 0
    late: int = 0

    def add(self, other: "Ends") -> None:
        """Add the other counts."""
        self.ended += other.ended
        self.failed += other.failed
        self.unanswered += other.unanswered
        self.late += other.late


class Polls:
    """What this process polls, and whether Temporal answers it. ``doubts`` counts the signs that Temporal may not
    have received the result of a task."""

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
        """These queues should be polled from now on."""
        for queue in queues:
            self._queue(queue).due_since = self._clock()

    def connected(self) -> bool | None:
        """Whether Temporal answers this process; None if it has not sent a request yet."""
        broken = self._connection.broken_since(self._clock()) is not None
        return (not broken) if self._answered or broken else None

    def take(self, updates: "Iterable[BufferedMetricUpdate]") -> None:
        """Take over what the SDK measured since the last call."""
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
