"""Collects what one process's calls report about a queue between two reports."""

import time
from dataclasses import dataclass, field

from fleet.budgets.messages import Reading, Report, Trouble
from fleet.budgets.worker.call_costs import Cost
from fleet.budgets.worker.limit_headers import HeaderReading
from fleet.budgets.worker.report_rate import Haste
from fleet.contracts import Limited
from fleet.errors import ProviderError
from fleet.failures import FailureKind
from fleet.process.wall_clock import unix_time

_LITTLE_LEFT_SECONDS = 1.0
# A change of a limit by more than this share is reported urgently.
_CHANGED = 0.02
# Calls that were sent within this time are reported under one moment; there are at most this many moments.
_MOMENT_SECONDS, _MAX_MOMENTS = 0.1, 200


@dataclass(frozen=True, slots=True)
class _Heard:
    """A header's value of one limit. Of two, the one from a refusal wins, otherwise the one of the later call."""

    reading: HeaderReading
    at: float
    refused: bool

    def says_more_than(self, other: "_Heard | None") -> bool:
        return other is None or (self.refused, self.at) >= (other.refused, other.at)

    def told(self, now: float) -> Reading:
        reading, age = self.reading, max(now - self.at, 0.0)
        return Reading(reading.what, round(reading.refill, 4), reading.remaining, round(age, 3), self.refused)


@dataclass(frozen=True, slots=True)
class SentCall:
    """A call to ``model`` that was sent: its estimated cost, and when (monotonic seconds)."""

    model: str
    cost: Cost
    at: float


@dataclass(slots=True)
class News:
    """Counted as in :class:`~fleet.budgets.messages.Report`; points in time are monotonic seconds. ``moments`` has
    when calls were sent and how many, ``refills`` the limits as last reported. ``haste``: how soon all this should
    be reported."""

    calls: int = 0
    charged: int = 0
    answered: int = 0
    spent: Cost = field(default_factory=dict)
    largest: Cost = field(default_factory=dict)
    heard: dict[Limited, _Heard] = field(default_factory=dict)
    troubles: dict[str, Trouble] = field(default_factory=dict)
    haste: Haste = Haste.USUAL
    held: int = 0
    moments: list[list[float]] = field(default_factory=list)
    refills: dict[Limited, float] = field(default_factory=dict)

    def sent(self, cost: Cost) -> None:
        """A call with this estimated cost was sent."""
        self.calls += 1
        self.charged += 1
        self._spend(cost, 1)
        self._see_largest(cost)
        self._sent_at(time.monotonic(), 1)

    def _sent_at(self, moment: float, calls: float) -> None:
        last = self.moments[-1] if self.moments else None
        if last and (moment - last[0] < _MOMENT_SECONDS or len(self.moments) >= _MAX_MOMENTS):
            last[1] += calls
        else:
            self.moments.append([moment, calls])

    def _hurry(self, haste: Haste) -> None:
        self.haste = max(self.haste, haste)

    def _spend(self, cost: Cost, sign: int) -> None:
        for what, amount in cost.items():
            self.spent[what] = self.spent.get(what, 0.0) + sign * amount

    def _see_largest(self, cost: Cost) -> None:
        for what, amount in cost.items():
            self.largest[what] = max(self.largest.get(what, 0.0), amount)

    def answered_well(self, call: SentCall, actual: Cost, readings: list[HeaderReading]) -> None:
        """The call was answered."""
        self.answered += 1
        self._spend(call.cost, -1)
        self._spend(actual, 1)
        self._read(readings, call.at, refused=False)

    def failed(self, error: ProviderError, call: SentCall, readings: list[HeaderReading], key: str) -> None:
        """The call failed; ``key`` marks the API key that it was made with."""
        refused = error.traits.limit
        if not error.traits.uses_limit:
            self.charged -= 1
            self._spend(call.cost, -1)
        if error.failure_kind is FailureKind.TOO_LARGE:
            # Do not reserve room for a call that never fits.
            self.largest = {what: most for what, most in self.largest.items() if most > call.cost.get(what, 0.0)}
        self._read(readings, time.monotonic() if refused else call.at, refused=refused)
        self.answered += error.traits.works
        if error.traits.holds_model or not error.traits.works:
            held = call.model if error.traits.holds_model else ""
            self._trouble(Trouble(error.failure_kind, 1, error.detail, error.wait_seconds, key, held))
            self._hurry(Haste.URGENT)

    def _read(self, readings: list[HeaderReading], at: float, *, refused: bool) -> None:
        for reading in readings:
            self._hear(_Heard(reading, at, refused))
            if reading.remaining < _LITTLE_LEFT_SECONDS * reading.refill:
                self._hurry(Haste.SOON)
            if abs(reading.refill - self.refills.get(reading.what, 0.0)) > _CHANGED * reading.refill:
                self._hurry(Haste.URGENT)

    def _hear(self, heard: _Heard) -> None:
        if heard.says_more_than(self.heard.get(heard.reading.what)):
            self.heard[heard.reading.what] = heard

    def _trouble(self, trouble: Trouble) -> None:
        kind = f"{trouble.meaning} {trouble.model}"
        known = self.troubles.get(kind)
        waits = [
            entry.wait_seconds
            for entry in (known, trouble)
            if entry is not None and entry.wait_seconds is not None
        ]
        self.troubles[kind] = Trouble(
            meaning=trouble.meaning,
            count=(known.count if known else 0) + trouble.count,
            detail=trouble.detail,
            wait_seconds=max(waits, default=None),
            key=trouble.key,
            model=trouble.model,
        )

    def add(self, later: "News") -> None:
        """Merge ``later``, which was collected since, because this could not be reported."""
        self.calls += later.calls
        self.charged += later.charged
        self.answered += later.answered
        self._spend(later.spent, 1)
        self._see_largest(later.largest)
        for heard in later.heard.values():
            self._hear(heard)
        for trouble in later.troubles.values():
            self._trouble(trouble)
        self._hurry(later.haste)
        self.held += later.held
        for moment, calls in later.moments:
            self._sent_at(moment, calls)

    def next(self) -> "News":
        """An empty collection for the time after this one was reported."""
        return News(refills=self.refills | {what: heard.reading.refill for what, heard in self.heard.items()})

    def report(self, process: str, in_flight: int) -> Report:
        """Everything collected, as a report to be sent now."""
        now = time.monotonic()
        return Report(
            process=process,
            calls=self.calls,
            charged=max(self.charged, 0),
            answered=self.answered,
            spent={what: round(amount, 2) for what, amount in self.spent.items()},
            largest={what: round(amount, 2) for what, amount in self.largest.items()},
            readings=[heard.told(now) for heard in self.heard.values()],
            troubles=list(self.troubles.values()),
            sent_at=round(unix_time(), 3),
            in_flight=in_flight,
            held=self.held,
            sent=[[round(now - moment, 2), calls] for moment, calls in self.moments],
        )
