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

    ``at`` names the journal of the process that the attempt runs in; ``open_at`` the journal in which a call
    of an earlier attempt may stand open, empty where none can. ``untold``: there was an earlier attempt and
    nothing is known of it. ``response_id`` is the provider's own name of a call that goes on there.
    ``maybe_paid``: earlier calls of which nobody knows whether they were paid.
    """

    provider_failures: int = 0
    lost_workers: int = 0
    waits: int = 0
    under_way: bool = False
    at: str = ""
    open_at: str = ""
    response_id: str = ""
    untold: bool = False
    maybe_paid: int = 0

    @classmethod
    def resume(cls, details: Sequence[Any], number: int = 1) -> "Attempts":
        """The counts after the attempts that these heartbeat details tell of, at the start of a new one, which
        is Temporal's ``number``.

        Details are delivered late or not at all when a process dies, so of one that had begun the worst is
        assumed: that it had sent its call.
        """
        last = details[-1] if details and isinstance(details[-1], dict) else {}
        attempts = cls(
            provider_failures=int(last.get("provider_failures", 0)),
            lost_workers=int(last.get("lost_workers", 0)) + bool(last.get("under_way")),
            waits=int(last.get("waits", 0)),
            open_at=str(last.get("open_at", "") or (last.get("at", "") if last.get("under_way") else "")),
            response_id=str(last.get("response_id", "")),
            untold=bool(last.get("untold")) or (number > 1 and not last),
            maybe_paid=int(last.get("maybe_paid", 0)),
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

    def settled(self) -> None:
        """The call that was sent has ended, and how is known."""
        self.open_at, self.response_id = "", ""

    def sending(self, maybe_paid: int) -> None:
        """A call is about to be sent, and stands in this process's journal."""
        self.open_at, self.untold, self.maybe_paid = self.at, False, max(self.maybe_paid, maybe_paid)
        self.beat()

    def goes_on(self, response_id: str) -> None:
        """The call goes on at the provider under this id, whatever becomes of this process."""
        self.response_id = response_id
        self.beat()

    def cut_off(self) -> None:
        """This process gives up in mid-call; to be called just before that is reported."""
        self.lost_workers += 1
        self.under_way = False
        self.beat()

    @property
    def may_be_open_elsewhere(self) -> bool:
        """Whether a call may have been sent that this process's journal does not know of."""
        return self.untold or self.open_at not in ("", self.at)

    def make_current(self) -> None:
        """Let :func:`current_attempts` find these counts in this activity."""
        _current.set(self)


def current_attempts() -> Attempts:
    """The counts of the activity that is running."""
    return _current.get()
