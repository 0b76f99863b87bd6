"""One limit of a provider as the fleet believes it to be, and the rate that it allows. Pure: no I/O, no clock.

The provider's bucket refills at a known speed and somebody else may drink from it too. What is left in it is
known from what the fleet spent, corrected by what headers say; where there are none, by refusals, which say that
nothing is left. The rate spends the refill and steers the level to a reserve that covers what cannot be foreseen:
calls under way, their sizes, the second's worth that a queue lets through at once after a rest.
"""

import math
from dataclasses import dataclass, field

_RESERVE_SECONDS = 1.25
_MOST_BOOST_SECONDS = 2.0
_BOOST_STEP_SECONDS = 0.5
_BOOST_HALF_LIFE_SECONDS = 20.0
# The level returns to the reserve within so many seconds.
_SPEND_SECONDS, _SAVE_SECONDS = 4.0, 2.0
# A full bucket is not emptied at once: what is under way must be seen in time.
_MOST_HASTE = 4.0
# How fast an observation corrects the level, and what others are believed to take.
_LEVEL_SECONDS = 1.2
_FOREIGN_GAIN = 0.12
_LEAST_FOREIGN, _MOST_FOREIGN = -0.5, 0.98
_FOREIGN_PER_REFUSAL = 0.05
_MOST_FOREIGN_STEP = 0.25
_FOREIGN_HALF_LIFE_SECONDS = 90.0
_REMEMBERED_CALLS = 60
_LARGEST_HALF_LIFE_SECONDS = 300.0
_REMEMBERED_SECONDS = 120
_LONGEST_WAIT_SECONDS = 120.0
_ONE_REFUSAL_SECONDS = 1.0
# A limit that nobody told, and only refusals know, is tried upwards by so much a second.
_LEARNED_GROWTH = 0.01


@dataclass(slots=True)
class Bucket:
    """One limit. ``refill`` and ``foreign`` are units a second, ``level`` units at the time ``at`` (seconds).

    ``measured``: headers tell of it. ``capped``: the operator's limit is below the provider's, so headers only
    warn. ``learned``: the limit itself is only known from refusals. ``unsure``: the level is not to be trusted
    until it is measured.
    """

    refill: float
    at: float
    level: float = 0.0
    foreign: float = 0.0
    capacity: float | None = None
    boost_seconds: float = 0.0
    mean_cost: float = 1.0
    largest_cost: float = 1.0
    calls: int = 0
    measured: bool = False
    capped: bool = False
    learned: bool = False
    unsure: bool = True
    observed_at: float | None = None
    read_at: float | None = None
    refused_at: float | None = None
    spent: list[list[float]] = field(default_factory=list)

    @property
    def reserve(self) -> float:
        """The level that it is steered to."""
        unforeseen = (_RESERVE_SECONDS + self.boost_seconds) * self.refill
        wanted = unforeseen + max(2 * self.mean_cost, 1.1 * self.largest_cost)
        return wanted if self.capacity is None else min(wanted, 0.5 * self.capacity)

    @property
    def net(self) -> float:
        """Units a second that are left to us."""
        return self.refill - self.foreign

    def rate(self) -> float:
        """Calls a second that this limit allows; may be below 0."""
        if self.unsure:
            return self.net / self.mean_cost
        above = self.level - self.reserve
        seconds = _SPEND_SECONDS if above > 0 else _SAVE_SECONDS
        # A single call of a slow limit must not swing its rate.
        seconds = max(seconds, self.mean_cost / max(self.refill, 1e-9))
        return min(self.net + above / seconds, _MOST_HASTE * self.refill) / self.mean_cost

    def advance(self, now: float) -> None:
        """Let time pass until ``now``."""
        passed = max(now - self.at, 0.0)
        self.at = max(now, self.at)
        if self.learned and (self.refused_at is None or now - self.refused_at > 5.0):
            self.refill *= (1 + _LEARNED_GROWTH) ** passed
        self.level = min(self.level + self.net * passed, self._most())
        self.boost_seconds *= 0.5 ** (passed / _BOOST_HALF_LIFE_SECONDS)
        self.largest_cost = max(
            self.largest_cost * 0.5 ** (passed / _LARGEST_HALF_LIFE_SECONDS),
            min(self.mean_cost, self.largest_cost),
        )
        if not self.measured:
            self.foreign *= 0.5 ** (passed / _FOREIGN_HALF_LIFE_SECONDS)

    def _most(self) -> float:
        """The level that may be believed in: what was seen, or, unseen, hardly more than the reserve."""
        if self.measured and self.capacity is not None:
            return self.capacity
        return self.reserve + max(0.5 * self.reserve, 2 * self.largest_cost)

    def spend(self, amount: float, calls: int = 0, largest: float = 0.0) -> None:
        """The fleet sent ``calls`` that cost ``amount`` in all; without calls, it is a correction."""
        self.level -= amount
        self._remember(amount)
        if not calls:
            return
        self.calls = min(self.calls + calls, _REMEMBERED_CALLS)
        weight = 1 - (1 - 1 / self.calls) ** calls if self.calls > 1 else 1.0
        self.mean_cost = max(self.mean_cost + weight * (amount / calls - self.mean_cost), 1e-6)
        self.largest_cost = max(self.largest_cost, largest, self.mean_cost)

    def _remember(self, amount: float) -> None:
        second = math.floor(self.at)
        if self.spent and self.spent[-1][0] == second:
            self.spent[-1][1] += amount
        else:
            self.spent.append([second, amount])
        while self.spent[0][0] < second - _REMEMBERED_SECONDS:
            del self.spent[0]

    def _spent_since(self, moment: float) -> float:
        total = 0.0
        for second, amount in self.spent:
            share = min(max(second + 1 - moment, 0.0), 1.0)
            total += amount * share
        return total

    def observe(self, remaining: float, age_seconds: float) -> None:
        """Headers said that ``remaining`` was left ``age_seconds`` ago."""
        moment = self.at - age_seconds
        if self.read_at is not None and moment <= self.read_at:
            return  # something newer is known, above all from refusals, which come at once
        self.read_at = moment
        self.capacity = max(self.capacity or 0.0, remaining)
        self.measured = True
        carried = min(remaining + self.net * age_seconds - self._spent_since(moment), self.capacity)
        if self.capped and carried > self.level:
            self.observed_at = self.at
            return
        error = carried - self.level
        if self.unsure or self.observed_at is None:
            self.level, self.unsure = carried, False
        else:
            passed = min(self.at - self.observed_at, 2.0)
            self.level += error * (1 - math.exp(-passed / _LEVEL_SECONDS))
            # An old observation contains the error that it is to correct.
            gain = min(_FOREIGN_GAIN, 0.3 / _LEVEL_SECONDS / max(age_seconds, 1e-9))
            self._set_foreign(self.foreign - gain * error * passed)
        self.observed_at = self.at

    def refuse(self, wait_seconds: float | None, *, whole: float | None = None) -> None:
        """A call was refused for the sake of this limit: there is not enough left for one.

        ``wait_seconds`` is when there will be; ``whole`` what headers said remains.
        """
        again = self.refused_at is not None and self.at - self.refused_at < _ONE_REFUSAL_SECONDS
        believed = self.level
        wait = min(wait_seconds or 0.0, _LONGEST_WAIT_SECONDS)
        left = whole if whole is not None else self.mean_cost - wait * max(self.net, 0.02 * self.refill)
        self.level = min(self.level, left, self.reserve / 2)
        self.read_at = self.at
        if again:
            return
        self.boost_seconds = min(self.boost_seconds + _BOOST_STEP_SECONDS, _MOST_BOOST_SECONDS)
        step = _FOREIGN_PER_REFUSAL * self.refill
        if not self.measured and self.refused_at is not None:
            # Both times nothing was left, so the belief drifted by what others took in between.
            drift = max(believed, 0.0) / max(self.at - self.refused_at, 2.0)
            step = min(max(step, 0.5 * drift), _MOST_FOREIGN_STEP * self.refill)
        if self.learned:
            self.refill *= 0.9
        else:
            self._set_foreign(self.foreign + step)
        self.refused_at = self.at

    def _set_foreign(self, foreign: float) -> None:
        least = _LEAST_FOREIGN if self.measured else 0.0
        self.foreign = min(max(foreign, least * self.refill), _MOST_FOREIGN * self.refill)

    def set_refill(self, refill: float) -> None:
        """The limit has another height from now on."""
        if refill == self.refill:
            return
        if self.capacity is not None and refill < self.refill:
            self.capacity *= refill / self.refill
        self.foreign *= refill / self.refill
        self.refill = refill
        self.level = min(self.level, self._most())

    def rest(self) -> None:
        """Nothing was heard for a while: the level is measured anew before it is trusted."""
        self.unsure = True
        if not self.measured:
            self.level = min(self.level, 0.0)
