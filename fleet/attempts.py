"""Attempts that count what happened, not what was scheduled.

Temporal counts every time it hands out an activity: a 429, a wait, a worker that was killed. What matters
is how often the provider failed, so each execution carries its own counts in its heartbeat details, which
reach every next attempt on whichever host. Details written just before a failure are delivered with it.
"""

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from typing import Any

from temporalio import activity

_current: ContextVar["Attempts"] = ContextVar("attempts")


@dataclass(slots=True)
class Attempts:
    """The counts of one activity over all its attempts.

    ``provider_failures``: calls that the provider failed, deadlines included, 429 not. ``lost_workers``:
    processes that died or were cut off under the call. ``waits``: times in a row that it was too early to
    call. ``under_way``: an attempt began and has not ended; found set by the next attempt, it tells of a
    lost worker.
    """

    provider_failures: int = 0
    lost_workers: int = 0
    waits: int = 0
    under_way: bool = False

    @classmethod
    def resume(cls, details: Sequence[Any]) -> "Attempts":
        """The counts after the attempts that these heartbeat details tell of, at the start of a new one."""
        last = details[-1] if details and isinstance(details[-1], dict) else {}
        attempts = cls(
            provider_failures=int(last.get("provider_failures", 0)),
            lost_workers=int(last.get("lost_workers", 0)) + bool(last.get("under_way")),
            waits=int(last.get("waits", 0)),
        )
        attempts.under_way = True
        return attempts

    @property
    def made(self) -> int:
        """Calls so far that ended in something else than an answer or a 429."""
        return self.provider_failures + self.lost_workers

    def beat(self) -> None:
        """Heartbeat with these counts."""
        activity.heartbeat(asdict(self))

    def end(self) -> None:
        """Record that this attempt ended; to be called just before its failure is reported."""
        self.under_way = False
        self.beat()

    def make_current(self) -> None:
        """Let :func:`current_attempts` find these counts in this activity."""
        _current.set(self)


def current_attempts() -> Attempts:
    """The counts of the activity that is running."""
    return _current.get()
