"""Counts attempts by what happened, not by what was scheduled.

Temporal counts every dispatch of an activity: a 429, a wait, a worker that was killed. What matters is how often
the provider failed, so each execution carries its own counts in its heartbeat details, which reach every next
attempt on any host. Details written just before a failure are delivered with it.
"""

import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from typing import Any

from temporalio import activity

from fleet.errors import ProviderError
from fleet.failures import FailureKind

# After this time a failing provider is no longer an excuse: its failures count.
_LONGEST_EXCUSE_SECONDS = 24 * 3600.0

#: Larger numbers are invalid, both as counts and as times in unix seconds.
_MAX_TOLD = 1e12

_current: ContextVar["Attempts"] = ContextVar("attempts")
_began: ContextVar[float] = ContextVar("began")


@dataclass(slots=True)
class Attempts:
    """The counts of one activity over all its attempts.

    ``provider_failures``: how often the provider failed, deadlines included, 429 not; see
    :mod:`fleet.execution.verdicts` for failures in quick succession. ``calls``: calls that were sent.
    ``outage_at`` is the start of the call with the last counted failure of the outage kinds (unix seconds, by
    Temporal's clock), 0 if there is none; ``outage_tries`` counts such failures in a row. ``lost_workers``:
    processes that died or were cut off during the call. ``waits``: how often in a row it was too early to call.
    ``under_way``: an attempt began and has not ended; if the next attempt finds it set, a worker was lost.

    ``at`` names the journal of the process that runs the attempt; ``open_at`` the journal in which a call of an
    earlier attempt may be open, empty where none can be. ``untold``: there was an earlier attempt, and it was lost
    before its first heartbeat: it may have sent its call, on any machine. ``response_id`` is the provider's id of
    a call that still runs there. ``maybe_paid``: earlier calls that were or may have been paid. ``sent``: a call
    reached the provider and was not certainly refused without a charge. ``excused_at`` is when a failing provider
    first excused a failure (unix seconds), 0 if it never did. ``backend_away_since`` is the start of the first of
    the latest attempts that all found the backend unavailable, or got an error as the pipeline's answer (unix
    seconds, by Temporal's clock), 0 otherwise. ``too_large``: how often in a row the call was refused as larger
    than a limit. ``machine`` is the machine that runs the attempt (HOST+ID), ``open_on`` the machine of
    ``open_at``; ``elsewhere_since`` is when an attempt began to wait for that machine's answer (unix seconds, by
    Temporal's clock), 0 if none waits.

    ``sent_over``: how many earlier calls were or may have been paid when the last one was sent. ``unpriced``:
    calls of these attempts that were or may have been paid, at an unknown cost. ``in_vain``: what the answers that
    cannot be used cost, as :class:`~fleet.execution.failed_calls.Used`.
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
    sent: bool = False
    excused_at: float = 0.0
    backend_away_since: float = 0.0
    calls: int = 0
    outage_at: float = 0.0
    outage_tries: int = 0
    too_large: int = 0
    machine: str = ""
    open_on: str = ""
    elsewhere_since: float = 0.0
    sent_over: int = 0
    unpriced: int = 0
    in_vain: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def resume(
        cls, details: Sequence[Any], number: int = 1, before: Mapping[str, Any] | None = None
    ) -> "Attempts":
        """The counts at the start of a new attempt, from the heartbeat details of earlier attempts. ``number`` is
        Temporal's number of the new attempt. ``before`` are the last details of an earlier execution, which this
        one continues.

        When a process dies, details are delivered late or not at all, and a first attempt has none before its
        first heartbeat. So for an attempt that had begun the worst case is assumed: that it had sent its call.
        """
        own = details[-1] if details and isinstance(details[-1], dict) else {}
        last = own or before or {}
        under_way, untold = bool(last.get("under_way")), number > 1 and not own
        attempts = cls(
            provider_failures=int(_told(last, "provider_failures")),
            lost_workers=int(_told(last, "lost_workers")) + under_way,
            waits=int(_told(last, "waits")),
            open_at=str(last.get("open_at", "") or (last.get("at", "") if under_way else "")),
            response_id=str(last.get("response_id", "")),
            untold=bool(last.get("untold")) or untold,
            maybe_paid=int(_told(last, "maybe_paid")),
            sent=bool(last.get("sent")),
            excused_at=_told(last, "excused_at"),
            backend_away_since=_told(last, "backend_away_since"),
            calls=int(_told(last, "calls")),
            outage_at=_told(last, "outage_at"),
            outage_tries=int(_told(last, "outage_tries")),
            too_large=int(_told(last, "too_large")),
            open_on=str(last.get("open_on", "") or (last.get("machine", "") if under_way else "")),
            elsewhere_since=_told(last, "elsewhere_since"),
            sent_over=int(_told(last, "sent_over")),
            unpriced=int(_told(last, "unpriced")),
            in_vain=_listed(last, "in_vain"),
        )
        attempts.under_way = True
        return attempts

    @staticmethod
    def handed_back(last: Mapping[str, Any], place: str, maybe_paid: int, response_id: str) -> dict[str, Any]:
        """Heartbeat details for the next attempt after one whose process is dead, from that machine's journal,
        which is ``place``: how many of its calls were or may have been paid, and which call still runs at the
        provider. ``last`` are the details of the last heartbeat, which may be an earlier attempt's, on another
        machine."""
        began_elsewhere = last.get("under_way") and last.get("at", "") not in ("", place)
        if began_elsewhere or last.get("open_at", "") not in ("", place):
            return dict(last)  # this journal does not know what another machine may have sent
        known = int(_told(last, "maybe_paid"))
        return dict(last) | {
            "under_way": False,
            "lost_workers": int(_told(last, "lost_workers")) + 1,
            "open_at": "",
            "response_id": response_id,
            "maybe_paid": max(known, maybe_paid),
            "unpriced": int(_told(last, "unpriced")) + (maybe_paid > known),
            "sent": bool(last.get("sent")) or maybe_paid > 0,
        }

    @property
    def made(self) -> int:
        """Calls so far that ended in anything but an answer or a 429."""
        return self.provider_failures + self.lost_workers

    def beat(self) -> None:
        """Heartbeat with these counts."""
        activity.heartbeat(asdict(self))

    def end(self) -> None:
        """Record that this attempt ended; to be called just before its failure is reported."""
        self.under_way = False
        self.beat()

    def failed(self, error: ProviderError) -> None:
        """The call that was sent has failed."""
        self.too_large = self.too_large + 1 if error.failure_kind is FailureKind.TOO_LARGE else 0
        self.sent = self.sent or error.may_be_billed
        self.calls -= error.before_sending and self.calls > 0
        if not error.may_be_billed:
            self.open_at, self.response_id = "", ""
        elif not error.goes_on:
            self.ended_unsure()

    def ended_unsure(self) -> None:
        """The call has ended here, and it was or may have been paid: its answer will not come, unless it still
        runs at the provider."""
        self.sent = True
        if not self.response_id:
            self.maybe_paid, self.open_at = self.maybe_paid + 1, ""
            self.unpriced += 1

    def answered_in_vain(self, maybe_paid: int, used: dict[str, Any] | None = None) -> None:
        """The call was answered, and paid, but the answer cannot be used: another one is asked for.
        ``maybe_paid`` counts the calls so far that were or may have been paid; ``used`` is what the answer cost,
        None if an earlier run of the pipeline asked for it. Both may be noted again by every attempt."""
        self.maybe_paid, self.sent = max(self.maybe_paid, maybe_paid), True
        self.response_id = ""
        if used is not None:
            self.in_vain = [each for each in self.in_vain if not _is_same(each, used)] + [used]

    def count_elsewhere(self) -> None:
        """Count the call that another machine may have sent as one that may have been paid."""
        self.maybe_paid, self.sent, self.open_at, self.untold = self.maybe_paid + 1, True, "", False
        self.unpriced += 1

    def was_here(self) -> None:
        """The earlier attempt of which nothing is known ran on this machine, whose journal knows its call."""
        self.untold, self.lost_workers = False, self.lost_workers + 1

    def was_not_begun(self) -> None:
        """The earlier attempt of which nothing is known sent nothing."""
        self.untold = False

    def unsent(self) -> None:
        """The call was not sent after all; a call that runs at the provider still does."""
        if not self.response_id:
            self.open_at = ""

    def sending(self, maybe_paid: int) -> None:
        """A call is about to be sent, and is recorded in this process's journal.

        The next heartbeat that is due carries it: the SDK would let none through earlier. Until then the first one
        says that an attempt began, of which the worst is assumed.
        """
        self.calls += 1
        self.open_at, self.untold, self.maybe_paid = self.at, False, max(self.maybe_paid, maybe_paid)
        self.open_on, self.elsewhere_since = self.machine, 0.0
        self.sent = self.sent or maybe_paid > 0
        self.sent_over = self.maybe_paid

    def goes_on(self, response_id: str) -> None:
        """The call runs at the provider under this id, even if this process dies; "": it no longer does."""
        self.response_id = response_id
        self.beat()

    def cut_off(self) -> None:
        """This process cuts off the call in flight; to be called just before that is reported."""
        self.lost_workers += 1
        self.under_way = False
        self.beat()

    @property
    def may_be_open_elsewhere(self) -> bool:
        """Whether a call may have been sent that this process's journal does not know."""
        return self.untold or self.open_at not in ("", self.at)

    def seconds_for_elsewhere(self, now: float, bound_seconds: float) -> float:
        """How long another machine still has to deliver the answer of a call that it may have sent; ``now`` is by
        Temporal's clock. The answer of a call that still runs at the provider is requested there instead."""
        if not self.may_be_open_elsewhere or self.response_id:
            return 0.0
        self.elsewhere_since = self.elsewhere_since or now
        return max(self.elsewhere_since + bound_seconds - now, 0.0)

    @property
    def may_have_sent(self) -> bool:
        """Whether a call was sent that the provider may charge for, now or in an earlier attempt."""
        return self.sent or self.untold or bool(self.open_at or self.response_id)

    def excuse(self, now: float) -> bool:
        """Whether the failing provider excuses a failure; a day after the first excuse there are no more."""
        self.excused_at = self.excused_at or now
        return now - self.excused_at < _LONGEST_EXCUSE_SECONDS

    def make_current(self) -> None:
        """Start an attempt with these counts, and let :func:`current_attempts` find them in this activity."""
        _current.set(self)
        _began.set(time.monotonic())


def _told(details: Mapping[str, Any], name: str) -> float:
    """A number in heartbeat details; 0 where there is none, or one that can be neither a count nor a time. Another
    release may have written them, and an exception here would repeat with every attempt."""
    found = details.get(name)
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= _MAX_TOLD:
        return 0
    return found


def _is_same(answer: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(answer.get(name) == other.get(name) for name in ("started", "ask"))


def _listed(details: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The objects of a list in heartbeat details."""
    found = details.get(name)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def seconds_used() -> float:
    """How long the current attempt has run, by the monotonic clock: the wall clock may differ from Temporal's."""
    return time.monotonic() - _began.get()


def current_attempts() -> Attempts:
    """The counts of the running activity."""
    return _current.get()
