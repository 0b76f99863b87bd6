"""Holds single calls back within one process, where the queue's rate is too coarse: sizes, bursts, refusals.

The rate is right on average; the gate sees to the single call. It waits until what headers said remains will
cover it, stops all calls for as long as a refusal asked, and afterwards comes back by steps, each process at a
moment of its own. It is also all there is where the server does not let a queue's rate be set.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Iterable

from fleet.budgets.costs import Cost
from fleet.budgets.headers import HeaderReading
from fleet.contracts import Limited

#: Longest time that a call is held here; one that must wait longer goes back to its queue.
LONGEST_HOLD_SECONDS = 20.0

_UNTOLD_WAIT_SECONDS = 1.0
_SPREAD = 0.15
_LOOK_SECONDS = 0.5
_TRUSTED_SECONDS = 30.0
_COUNTED_SECONDS = 5.0
_LEAST_PACE = 0.5
_PACE_GROWTH = 0.1


class _Level:
    """One limit as the last answer left it."""

    def __init__(self, reading: HeaderReading, sent_at: float) -> None:
        self.refill = reading.refill
        self.remaining = reading.remaining
        self.sent_at = sent_at
        self.spent = 0.0

    def seconds_until(self, amount: float, now: float) -> float:
        """When ``amount`` will be there, by what this process alone can know."""
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
        self._sent: deque[float] = deque()
        self._pace: float | None = None
        self._full_pace = 0.0
        self._paced_at = 0.0

    async def pass_through(self, cost: Cost) -> float | None:
        """Wait until a call of that cost may be sent, one after the other.

        None: it may; else the seconds that it would have to wait, which is too long to keep a slot for it.
        """
        given_up = self._clock() + LONGEST_HOLD_SECONDS
        async with self._turn:
            while (wait := self._wait_for(cost)) > 0:
                if self._clock() + wait > given_up:
                    return wait
                await asyncio.sleep(min(wait, _LOOK_SECONDS))
            self._count(cost)
        return None

    def _wait_for(self, cost: Cost) -> float:
        now = self._clock()
        waits = [level.seconds_until(cost.get(what, 0.0), now) for what, level in self._levels.items()]
        return max([self._hold_until - now, self._next_turn(now) - now, *waits])

    def _next_turn(self, now: float) -> float:
        if self._pace is None:
            return now
        grown = self._pace + _PACE_GROWTH * self._full_pace * (now - self._paced_at)
        self._paced_at = now
        self._pace = grown if grown < self._full_pace else None
        return self._sent[-1] + 1 / grown if self._sent else now

    def _count(self, cost: Cost) -> None:
        now = self._clock()
        self._sent.append(now)
        while self._sent[0] < now - _COUNTED_SECONDS:
            self._sent.popleft()
        for what, level in self._levels.items():
            level.spent += cost.get(what, 0.0)

    def heard(self, readings: Iterable[HeaderReading], sent_at: float) -> None:
        """An answer to a call sent at that moment told what remains."""
        for reading in readings:
            known = self._levels.get(reading.what)
            if known is None or known.sent_at <= sent_at:
                fresh = _Level(reading, sent_at)
                if known is not None:
                    # What was sent after the call that was answered is not in the answer.
                    later = sum(moment > sent_at for moment in self._sent)
                    fresh.spent = known.spent * later / max(len(self._sent), 1)
                self._levels[reading.what] = fresh

    def refused(self, wait_seconds: float | None) -> None:
        """A call was refused for the sake of a limit: stop for as long as was asked, then come back by steps."""
        now = self._clock()
        wait = (_UNTOLD_WAIT_SECONDS if wait_seconds is None else wait_seconds) * (1 + _SPREAD * self._chance())
        self._hold_until = max(self._hold_until, now + wait)
        if self._pace is None:
            self._full_pace = max(len(self._sent) / _COUNTED_SECONDS, 2 * _LEAST_PACE)
        self._pace, self._paced_at = max((self._pace or self._full_pace) / 2, _LEAST_PACE), self._hold_until
