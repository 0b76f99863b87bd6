"""Holds single calls back within one process, where the queue's rate is too coarse: sizes, bursts, refusals.

The rate is right on average; the gate controls the single call. It waits until what headers said remains covers
the call, stops all calls for as long as a refusal asked, and afterwards raises its rate by steps; each process
ends its stop at a slightly different moment. Where the server does not let a queue's rate be set, or divides the
queue, the gates keep the rate: each asks for the budget's directive on every call, and holds or paces the call
accordingly.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from fleet.budgets.worker.call_costs import Cost
from fleet.budgets.worker.limit_headers import HeaderReading
from fleet.contracts import Limited

#: Longest time that a call is held here; a call that must wait longer goes back to its queue.
LONGEST_HOLD_SECONDS = 20.0
#: Wait before a call that found its queue paused or parked is dispatched again.
BACK_SECONDS = 5.0

_UNTOLD_WAIT_SECONDS = 1.0
_SPREAD = 0.15
_LOOK_SECONDS = 0.5
_TRUSTED_SECONDS = 30.0
_COUNTED_SECONDS = 5.0
_MIN_PACE = 0.5
_PACE_GROWTH = 0.1
# How much the budget's pace lets through at once after an idle time; a queue does the same.
_CREDIT_SECONDS = 1.0
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Directive:
    """The budget's instruction for a call that everything else allows to be sent.

    ``shut``: no call may be sent. ``queue_holds``: the queue then dispatches none either, so the call may wait
    there. ``pace`` is this process's calls per second; None: the queue paces them.
    """

    shut: bool = False
    queue_holds: bool = True
    pace: float | None = None


#: Returns the budget's directive for a call that was held for this many seconds.
Ask = Callable[[float], Awaitable[Directive]]


async def _no_directive(held_seconds: float) -> Directive:
    return Directive()


async def _no_look() -> None:
    return None


@dataclass(slots=True)
class _Sent:
    """A call that has passed the gate, at the moment ``at`` of the clock."""

    at: float
    cost: Cost


class _Level:
    """What remained of one limit after a call sent at ``sent_at``, as its answer said; ``spent`` is what passed
    since."""

    def __init__(self, reading: HeaderReading, sent_at: float, spent: float) -> None:
        self.refill = reading.refill
        self.remaining = reading.remaining
        self.sent_at = sent_at
        self.spent = spent

    def seconds_until(self, amount: float, now: float) -> float:
        """Seconds until ``amount`` will be available, as far as this process alone can know."""
        age = now - self.sent_at
        if age > _TRUSTED_SECONDS:
            return 0.0
        missing = amount - (self.remaining + self.refill * age - self.spent)
        return min(missing / self.refill, _TRUSTED_SECONDS - age) if missing > 0 else 0.0


class Gate:
    """The gate of one queue in one process."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, chance: Callable[[], float] = random.random
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._turn = asyncio.Lock()
        self._hold_until = 0.0
        self._levels: dict[Limited, _Level] = {}
        self._sent: deque[_Sent] = deque()
        self._pace: float | None = None
        self._full_pace = 0.0
        self._paced_at = 0.0
        # For the budget's pace: the fraction of a call that is due, as of when, and calls per second. Processes
        # that start together do not send together.
        self._due = chance()
        self._due_at = clock()
        self._told_pace = 0.0

    async def pass_through(
        self,
        cost: Cost,
        ask: Ask = _no_directive,
        longest_seconds: float = LONGEST_HOLD_SECONDS,
        look: Callable[[], Awaitable[None]] = _no_look,
    ) -> float | None:
        """Wait until a call of that cost may be sent, one call at a time; while a refusal holds all calls,
        ``look`` checks whether it still does.

        Returns None if the call may be sent; otherwise the seconds that it would have to wait, which is too long
        to keep a slot for it.
        """
        begun = self._clock()
        async with self._turn:
            while True:
                directive, patient = Directive(), False
                if self.stopped:
                    await look()
                if (wait := self._wait_for(cost)) <= 0:
                    directive = await ask(self._clock() - begun)
                    if directive.shut and directive.queue_holds:
                        return BACK_SECONDS
                    # Given back at once, it would be dispatched again at once, so it keeps its slot to the end.
                    wait, patient = self._wait_told(directive), True
                if wait <= 0:
                    self._count(cost, directive.pace)
                    return None
                left = begun + longest_seconds - self._clock()
                if left <= 0 or (wait > left and not patient):
                    return wait
                await asyncio.sleep(min(wait, left, _LOOK_SECONDS))

    def _wait_for(self, cost: Cost) -> float:
        now = self._clock()
        waits = [level.seconds_until(cost.get(what, 0.0), now) for what, level in self._levels.items()]
        return max([self._hold_until - now, self._next_turn(now) - now, *waits])

    def _next_turn(self, now: float) -> float:
        if self._pace is None:
            return now
        if now < self._paced_at:
            return self._paced_at
        grown = self._pace + _PACE_GROWTH * self._full_pace * (now - self._paced_at)
        self._paced_at = now
        self._pace = grown if grown < self._full_pace else None
        return self._sent[-1].at + 1 / grown if self._sent else now

    def _wait_told(self, directive: Directive) -> float:
        """How long the budget's directive makes a call wait."""
        if directive.shut or directive.pace == 0:
            self._follow(0.0)
            return BACK_SECONDS
        if directive.pace is None:
            return 0.0
        self._follow(directive.pace)
        missing = 1 - self._due
        return missing / directive.pace if missing > _ROUNDING else 0.0

    def _follow(self, pace: float) -> None:
        """Apply a new pace from now on; what became due before does so at the previous pace. Otherwise every
        increase would make many processes send at once. Unused calls are forgotten except for about a second's
        worth."""
        now = self._clock()
        due = self._due + self._told_pace * (now - self._due_at)
        self._due, self._due_at, self._told_pace = min(due, max(_CREDIT_SECONDS * pace, 1.0)), now, pace

    def _count(self, cost: Cost, pace: float | None) -> None:
        now = self._clock()
        self._sent.append(_Sent(now, cost))
        while self._sent[0].at < now - _TRUSTED_SECONDS:
            self._sent.popleft()
        for what, level in self._levels.items():
            level.spent += cost.get(what, 0.0)
        if pace is not None:
            self._due -= 1

    def give_back(self, cost: Cost) -> None:
        """The call that has passed with just this cost object was not sent after all."""
        sent = next((call for call in reversed(self._sent) if call.cost is cost), None)
        if sent is None:
            return
        self._sent.remove(sent)
        for what, level in self._levels.items():
            if sent.at > level.sent_at:
                level.spent -= cost.get(what, 0.0)

    def heard(self, readings: Iterable[HeaderReading], sent_at: float) -> None:
        """An answer to a call sent at that moment said what remains."""
        for reading in readings:
            known = self._levels.get(reading.what)
            if known is None or known.sent_at <= sent_at:
                # The answer does not include what was sent after its call.
                spent = self._spent_since(sent_at, reading.what)
                self._levels[reading.what] = _Level(reading, sent_at, spent)

    def _spent_since(self, moment: float, what: Limited) -> float:
        total = 0.0
        for sent in reversed(self._sent):
            if sent.at <= moment:
                break
            total += sent.cost.get(what, 0.0)
        return total

    @property
    def stopped(self) -> bool:
        """Whether a refusal holds all calls."""
        return self._clock() < self._hold_until

    def open(self) -> None:
        """Drop the hold of a refusal, which is no longer valid."""
        self._hold_until, self._pace = 0.0, None

    def refused(self, wait_seconds: float | None) -> None:
        """A call was refused because of a limit: stop for as long as was asked, then raise the rate by steps."""
        now = self._clock()
        wait = (_UNTOLD_WAIT_SECONDS if wait_seconds is None else wait_seconds) * (1 + _SPREAD * self._chance())
        self._hold_until = max(self._hold_until, now + wait)
        if self._pace is None:
            lately = sum(sent.at >= now - _COUNTED_SECONDS for sent in self._sent)
            self._full_pace = max(lately / _COUNTED_SECONDS, 2 * _MIN_PACE)
        self._pace, self._paced_at = max((self._pace or self._full_pace) / 2, _MIN_PACE), self._hold_until
