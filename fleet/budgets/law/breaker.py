"""What a provider's failures mean for its queue, by their kind and not only by their number. Pure.

::

    closed ──(most recent calls, or the last eight, failed by the provider's own fault)──► probing
       ▲                                                        (one call every two seconds) │
       └────────(three answers in a row, or no calls for a minute)────────────────────────────┘
    any ──(credit spent, key rejected)──► parked until the operator resumes it or the key changes
    any ──(daily quota used up)─────────► parked until the quota's reset

Calls that one machine could not send, while another machine's arrive, are not the provider's fault and change
nothing.
"""

from dataclasses import dataclass, field

from fleet.budgets.law.cut_off_machines import Machines
from fleet.budgets.messages import Trouble
from fleet.failures import FailureKind, traits_of

#: Calls per second while probing whether the provider has recovered.
PROBE_RATE = 0.5
#: How long to wait for a quota's reset where the provider does not say when it comes.
RESET_UNKNOWN_SECONDS = 3600.0

_HALF_LIFE_SECONDS = 10.0
_MIN_FAILURES = 4.5
_FAILED_SHARE = 0.5
# Enough on its own, however many calls were answered before; and few enough that a retried call has not yet used
# up its attempts.
_FAILED_IN_A_ROW = 7.5
_REFUSED_SHARE = 0.85
_MIN_REFUSALS = 8.0
_ANSWERS_TO_CLOSE = 3
_FORGOTTEN_SECONDS = 60.0


@dataclass(slots=True)
class Breaker:
    """``state`` is ``closed``, ``probing`` or ``parked``; ``why`` is the reason for it. ``until`` is when a parked
    breaker closes by itself (unix seconds), None: only after an intervention. ``unsent`` counts calls in a row
    that failed before they were sent, on any of the ``machines``."""

    state: str = "closed"
    why: str = ""
    at: float = 0.0
    good: float = 0.0
    failed: float = 0.0
    refused: float = 0.0
    in_a_row: float = 0.0
    answers: int = 0
    until: float | None = None
    rejected_key: str = ""
    unsent: float = 0.0
    machines: Machines = field(default_factory=Machines)

    def take(self, answered: int, troubles: list[Trouble], now: float, machine: str = "") -> None:
        """Process the answered and failed calls of a machine since its last report. Where the machine is not
        known, calls that failed before they were sent count like the others."""
        self._fade(now)
        self.good += answered
        if machine:
            troubles = self._apart(machine, answered, troubles, now)
        for trouble in troubles:
            traits = traits_of(_failure_kind(trouble))
            if traits.parks:
                self._park(trouble, now)
            elif traits.outage:
                self.failed += trouble.count
                self.in_a_row += trouble.count
            elif traits.limit:
                self.refused += trouble.count
        if answered:
            self.in_a_row = self.unsent = 0.0
        worst = max(
            (trouble for trouble in troubles if _troubles(trouble)),
            key=lambda trouble: trouble.count,
            default=None,
        )
        if self.state == "closed" and worst is not None and self._sick(0.0, self.in_a_row):
            self._try(f"{worst.meaning}: {worst.detail}".strip(": "))
        elif self.state == "closed":
            self._see_whether_all_are_cut_off(now)
        elif self.state == "probing":
            self.answers = 0 if worst is not None else self.answers + answered
            if self.answers >= _ANSWERS_TO_CLOSE:
                self.close()

    def _apart(self, machine: str, answered: int, troubles: list[Trouble], now: float) -> list[Trouble]:
        """Record the calls that failed before they were sent; returns the other troubles."""
        lost = [trouble for trouble in troubles if traits_of(_failure_kind(trouble)).before_sending]
        rest = [trouble for trouble in troubles if trouble not in lost]
        count = sum(trouble.count for trouble in lost)
        why = "".join(f"{trouble.meaning}: {trouble.detail}" for trouble in lost[-1:])
        self.machines.take(machine, count, why, now, arrived=bool(answered or rest))
        self.unsent += count
        return rest

    def _see_whether_all_are_cut_off(self, now: float) -> None:
        lost = self.machines.lost_everywhere(now)
        if lost and self._sick(lost, self.in_a_row + self.unsent):
            self._try(self.machines.why().strip(": "))

    def _try(self, why: str) -> None:
        self.state, self.answers, self.why = "probing", 0, why

    def _sick(self, lost: float, in_a_row: float) -> bool:
        failed = self.failed + lost
        called = self.good + failed + self.refused
        return (
            in_a_row >= _FAILED_IN_A_ROW
            or (failed >= _MIN_FAILURES and failed >= _FAILED_SHARE * called)
            or (self.refused >= _MIN_REFUSALS and failed + self.refused >= _REFUSED_SHARE * called)
        )

    def _fade(self, now: float) -> None:
        kept = 0.5 ** (max(now - self.at, 0.0) / _HALF_LIFE_SECONDS)
        self.good, self.failed, self.refused = self.good * kept, self.failed * kept, self.refused * kept
        self.in_a_row, self.unsent = self.in_a_row * kept, self.unsent * kept
        self.at = max(now, self.at)

    def _park(self, trouble: Trouble, now: float) -> None:
        failure_kind = _failure_kind(trouble)
        self.state = "parked"
        self.why = f"{failure_kind}: {trouble.detail}. Remedy: {traits_of(failure_kind).remedy}"
        self.rejected_key = trouble.key
        self.until = None
        if failure_kind is FailureKind.QUOTA_UNTIL_RESET:
            self.until = now + (trouble.wait_seconds or RESET_UNKNOWN_SECONDS)

    def pass_time(self, now: float, *, in_flight: bool = False) -> bool:
        """Close a parked breaker whose time is over, and a probing one without any calls for a minute; whether it
        closed. Calls ``in_flight`` without an outcome yet are no sign of health."""
        if self.state == "closed":
            self._see_whether_all_are_cut_off(max(now, self.at))
        if self.state == "probing" and not in_flight and now - self.at > _FORGOTTEN_SECONDS:
            self.close()
            return True
        if self.state == "parked" and self.until is not None and now >= self.until:
            self.close()
            return True
        return False

    def close(self) -> None:
        """The provider is healthy again, or is declared healthy."""
        self.state, self.why, self.until, self.rejected_key = "closed", "", None, ""
        self.good = self.failed = self.refused = self.in_a_row = self.unsent = 0.0
        self.answers = 0
        self.machines.forget()


def _troubles(trouble: Trouble) -> bool:
    traits = traits_of(_failure_kind(trouble))
    return traits.outage or traits.limit


def _failure_kind(trouble: Trouble) -> FailureKind:
    """During a roll, a process of a later release may report a kind that this release does not know."""
    try:
        return FailureKind(trouble.meaning)
    except ValueError:
        return FailureKind.OUTAGE
