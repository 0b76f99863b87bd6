"""Who polled which queue, from when to when, by what the processes recorded; and how long nobody did."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fleet.process.liveness import LivenessRecord
from fleet.process.process_id import start_ticks

#: How long a poll waits at the server when there is nothing to dispatch; measured, see fleet.process.pollers.
POLL_SECONDS = 60.0


@dataclass
class Span:
    """A process at a queue, in unix seconds. ``since`` is its first pulse that shows it polling, ``polled_at`` its
    first recorded poll that came back well, ``until`` when it was last seen at it."""

    queue: str
    process: str
    since: float
    until: float
    polled_at: float | None = None

    @property
    def counts(self) -> bool:
        """Whether a poll has come back well, or it was gone before one had to."""
        return self.polled_at is not None or self.until - self.since < POLL_SECONDS


@dataclass
class Presence:
    """Looks at the pulses, which processes write every second, and at the processes themselves.

    A poll waits at the server for up to a minute, so its coming back tells that it was there and not since when.
    So a process polls from its first pulse that says: connected, a poller on, and its polls do not fail. Of one
    that lives for longer than a poll waits, a poll must have come back well, or it counts as absent all its life.
    It polls until the last look, 0.2 s apart, that found it living and not draining.
    """

    state: Path
    clock: Callable[[], float] = time.time
    ticks_of: Callable[[int], int | None] = start_ticks
    spans: dict[tuple[str, int, float], Span] = field(default_factory=dict)
    _ticks: dict[tuple[int, float], int] = field(default_factory=dict)

    def look(self) -> None:
        """See who is there."""
        for path in self.state.glob("pulse/*.json"):
            liveness = LivenessRecord.read(path)
            if liveness is not None and liveness.stage == "serving" and self._lives(liveness):
                self._take(liveness)

    def _lives(self, liveness: LivenessRecord) -> bool:
        """Whether the process that wrote it still is; its pid may be another's by now."""
        ticks = self.ticks_of(liveness.pid)
        return ticks is not None and ticks == self._ticks.setdefault((liveness.pid, liveness.started_at), ticks)

    def _take(self, liveness: LivenessRecord) -> None:
        now = self.clock()
        for queue, polls in liveness.queues.items():
            if not polls.pollers or polls.failing_since is not None or liveness.connected is False:
                continue
            key = (queue, liveness.pid, liveness.started_at)
            span = self.spans.setdefault(key, Span(queue, liveness.process, liveness.at, now))
            span.until = now
            span.polled_at = span.polled_at or polls.polled_at

    def polled(self, queues: Iterable[str], since: float) -> bool:
        """Whether each of these queues is polled by a process that came after that moment."""
        fresh = self.clock() - 2
        there = {span.queue for span in list(self.spans.values()) if span.since > since and span.until > fresh}
        return set(queues) <= there


def longest_gaps(
    spans: Iterable[Span],
    queues: Iterable[str],
    began: float,
    ended: float,
    excused: Iterable[tuple[float, float]],
) -> dict[str, float]:
    """For each queue, the longest time between these moments in which nobody polled it; ``excused`` are stretches
    that do not count."""
    there: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for span in spans:
        if span.counts:
            there[span.queue].append((span.since, span.until))
    excused = list(excused)
    return {queue: _longest_gap([*there[queue], *excused], began, ended) for queue in queues}


def _longest_gap(covered: list[tuple[float, float]], began: float, ended: float) -> float:
    longest, reached = 0.0, began
    for since, until in sorted(covered):
        longest = max(longest, min(since, ended) - reached)
        reached = max(reached, until)
    return max(longest, ended - reached)
