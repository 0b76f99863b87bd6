"""One limit of a provider as the fleet believes it to be, and the rate that it allows. Pure: no I/O, no clock.

The provider's bucket refills at a known speed and somebody else may drink from it too. What is left in it is
known from what the fleet spent, corrected by what headers say; where there are none, by refusals, which say that
nothing is left. The rate spends the refill and steers the level to a reserve that covers what cannot be foreseen:
calls under way, their sizes, the second's worth that a queue lets through at once after a rest.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

_RESERVE_SECONDS = 1.75
_MAX_BOOST_SECONDS = 2.0
_BOOST_STEP_SECONDS = 0.5
_BOOST_HALF_LIFE_SECONDS = 20.0
# The level returns to the reserve within so many seconds, or calls of a slow limit: a single one must not swing
# its rate, which holds only from the call after the next.
_SPEND_SECONDS, _SAVE_SECONDS, _STEER_CALLS = 4.0, 2.0, 2.0
# What is allowed however low the level is, which rises all the same; a rate of 0 would be corrected by no answer.
_CRAWL_RATE, _CRAWL_SHARE = 0.2, 0.5
# A full bucket is not emptied at once: what is under way must be seen in time.
_MAX_HASTE = 4.0
# How fast an observation corrects the level, and what others are believed to take.
_LEVEL_SECONDS = 1.2
_FOREIGN_GAIN, _MAX_FOREIGN_GAIN = 0.12, 0.4
_MIN_FOREIGN, _MAX_FOREIGN = -0.5, 0.98
_FOREIGN_PER_REFUSAL = 0.05
_MAX_FOREIGN_STEP = 0.25
_FOREIGN_HALF_LIFE_SECONDS = 90.0
_GIVEN_HALF_LIFE_SECONDS = 10.0
_OBSERVED_LATELY_SECONDS = 30.0
_FULL_HALF_LIFE_SECONDS = 20.0
_REMEMBERED_CALLS = 60
_LARGEST_HALF_LIFE_SECONDS = 300.0
_REMEMBERED_SECONDS, _COUNT_SECONDS = 120.0, 0.1
# Where a report does not say when its calls were sent, it was within so long.
_MAX_LAG_SECONDS, _LAG_CALLS = 1.2, 0.6
_LONGEST_WAIT_SECONDS, _LONGEST_WAIT_CALLS = 120.0, 2.0
# Two reports differ in how long they were on their way: the call that an answer tells of was not sent after it.
_APART_SECONDS = 0.3
_ONE_REFUSAL_SECONDS = 1.0
_AMPLE_CALLS, _AMPLE_SHARE = 2.0, 0.25
# A limit that nobody told, and only refusals know, is tried upwards by so much a second, or fifth call.
_LEARNED_GROWTH, _GROWTH_CALLS = 0.01, 5.0


@dataclass(slots=True)
class Bucket:
    """One limit. ``refill`` and ``foreign`` are units a second, ``level`` units at the time ``at`` (seconds).

    ``measured``: headers tell of it. ``capped``: the operator's limit is below the provider's, so headers only
    warn. ``learned``: the limit itself is only known from refusals. ``unsure``: the level is not to be trusted
    until it is measured. ``most_reserve``: what of the capacity may be kept back. ``unheard`` is what calls took
    that nobody has told of yet; it is still in the ``level``.
    """

    refill: float
    at: float
    level: float = 0.0
    foreign: float = 0.0
    capacity: float | None = None
    most_reserve: float | None = None
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
    told_at: float | None = None
    refused_at: float | None = None
    spent: list[list[float]] = field(default_factory=list)
    unheard: float = 0.0

    @property
    def reserve(self) -> float:
        """The level that it is steered to."""
        unforeseen = (_RESERVE_SECONDS + self.boost_seconds) * self.refill
        wanted = unforeseen + max(2 * self.mean_cost, 1.1 * self.largest_cost)
        if self.most_reserve is None or self.capped:
            return wanted
        # Half of what the bucket holds before a call; headers tell what is left after it.
        return min(wanted, self.most_reserve + min(0.5 * self.mean_cost, self.most_reserve))

    @property
    def net(self) -> float:
        """Units a second that are left to us."""
        return self.refill - self.foreign

    @property
    def pace(self) -> float:
        """Calls a second that are left to us."""
        return self.net / self.mean_cost

    def ample(self, left: float) -> bool:
        """Whether so much is left that no call can have been refused for the sake of this limit."""
        return left >= max(_AMPLE_CALLS * self.largest_cost, _AMPLE_SHARE * self._most())

    def rate(self) -> float:
        """Calls a second that this limit allows now."""
        if self.unsure:
            return self.pace
        above = self.believed - self.reserve
        seconds = _SPEND_SECONDS if above > 0 else _SAVE_SECONDS
        seconds = max(seconds, _STEER_CALLS * self.mean_cost / self.refill)
        steered = min(self.net + above / seconds, _MAX_HASTE * self.refill) / self.mean_cost
        return max(steered, min(_CRAWL_RATE, _CRAWL_SHARE * self.pace))

    def advance(self, now: float) -> None:
        """Let time pass until ``now``. The level may rise above what is believed in until it is settled, for calls
        may have been sent meanwhile that are not heard of yet."""
        passed = max(now - self.at, 0.0)
        self.at = max(now, self.at)
        if self.learned and (self.refused_at is None or now - self.refused_at > 5.0):
            self.refill *= (1 + _LEARNED_GROWTH) ** (passed * min(1.0, _GROWTH_CALLS * self.pace))
        self.level += self.net * passed
        self.boost_seconds *= 0.5 ** (passed / _BOOST_HALF_LIFE_SECONDS)
        self.largest_cost = max(
            self.largest_cost * 0.5 ** (passed / _LARGEST_HALF_LIFE_SECONDS),
            min(self.mean_cost, self.largest_cost),
        )
        if self.foreign < 0:
            # Nobody gives; what seemed so is soon forgotten.
            self.foreign *= 0.5 ** (passed / _GIVEN_HALF_LIFE_SECONDS)
        elif not self.measured or self._unobserved_seconds > _OBSERVED_LATELY_SECONDS:
            self.foreign *= 0.5 ** (passed / _FOREIGN_HALF_LIFE_SECONDS)

    @property
    def _unobserved_seconds(self) -> float:
        return math.inf if self.observed_at is None else self.at - self.observed_at

    @property
    def believed(self) -> float:
        """What is left now, as far as it can be."""
        return min(self.left, self._most())

    @property
    def left(self) -> float:
        """What is left by all that is known, and by what nobody has told of yet."""
        return self.level - self.unheard

    def _most(self) -> float:
        """The level that may be believed in: what was seen, or, unseen, hardly more than the reserve."""
        if self.measured and not self.capped and self.capacity is not None:
            return self.capacity
        return self.reserve + max(0.5 * self.reserve, 2 * self.largest_cost)

    def spend(
        self, amount: float, calls: int = 0, largest: float = 0.0, sent: Sequence[Sequence[float]] = ()
    ) -> None:
        """The fleet ``sent`` calls, of which ``calls`` cost ``amount`` in all; without any, it is a correction."""
        self.level -= amount
        of_all = sum(count for _, count in sent)
        for age, count in sent:
            self._remember(amount * count / of_all, self.at - age)
        if not sent:
            self._remember(amount, self.at - min(_MAX_LAG_SECONDS, _LAG_CALLS * self.mean_cost / self.refill))
        if not calls:
            return
        if not self.calls:
            self.largest_cost = 0.0  # was but a guess
        self.calls = min(self.calls + calls, _REMEMBERED_CALLS)
        weight = 1 - (1 - 1 / self.calls) ** calls if self.calls > 1 else 1.0
        self.mean_cost = max(self.mean_cost + weight * (amount / calls - self.mean_cost), 1e-6)
        self.largest_cost = max(self.largest_cost, largest, self.mean_cost)

    def settle(self) -> None:
        """All that was sent has been told: what has not been spent has run over."""
        self.level = min(self.level, self._most() + self.unheard)

    def _remember(self, amount: float, sent_at: float) -> None:
        place = len(self.spent)
        while place and self.spent[place - 1][0] > sent_at:
            place -= 1
        if place and sent_at - self.spent[place - 1][0] < _COUNT_SECONDS:
            self.spent[place - 1][1] += amount
        else:
            self.spent.insert(place, [sent_at, amount])
        while self.spent[0][0] < self.at - _REMEMBERED_SECONDS:
            del self.spent[0]

    def _carried(self, left: float, moment: float, most: float) -> float:
        """What is left now of what was ``left`` at ``moment``, where more than ``most`` after a call runs over."""
        counted = moment + min(_APART_SECONDS, _LAG_CALLS * self.mean_cost / self.refill)
        later = len(self.spent)
        while later and self.spent[later - 1][0] > counted:
            later -= 1
        for sent_at, amount in self.spent[later:]:
            left = min(left + self.net * (sent_at - moment), most + self.mean_cost) - amount
            moment = sent_at
        return min(left + self.net * (self.at - moment), most)

    def observe(self, remaining: float, age_seconds: float, unheard: float = 0.0) -> None:
        """Headers said that ``remaining`` was left ``age_seconds`` ago, after ``unheard`` that nobody told of."""
        moment = self.at - age_seconds
        if self.read_at is not None and moment <= self.read_at:
            return  # something newer is known, above all from refusals, which come at once
        self.read_at = moment
        self.capacity = max(self.capacity or 0.0, remaining)
        self.measured = True
        carried = self._carried(remaining, moment, self.capacity) + unheard
        if self.capped and carried > self.level:
            # Of the operator's limit only we know.
            self.observed_at, self.unsure = self.at, False
            return
        error = carried - self.level
        if self.unsure or self.observed_at is None:
            self.level, self.most_reserve, self.unsure = carried, 0.5 * self.capacity, False
        else:
            elapsed = self.at - self.observed_at
            passed = min(elapsed, 2.0)
            weight = 1 - math.exp(-passed / _LEVEL_SECONDS)
            self.level += error * weight
            # No faster than the level, or the rate would fall because more is left than ever before.
            known = 0.5 * self.capacity if self.most_reserve is None else self.most_reserve
            self.most_reserve = known + (0.5 * self.capacity - known) * weight
            # An old observation contains the error that it is to correct, and a rare one has it from all the time.
            gain = min(_FOREIGN_GAIN, 0.3 / _LEVEL_SECONDS / max(age_seconds, 1e-9))
            gain = min(gain * passed, _MAX_FOREIGN_GAIN / max(elapsed, 1e-9))
            self._set_foreign(self.foreign - gain * error)
            if carried - self.unheard >= self.capacity and self.foreign > 0:
                # A full bucket cannot show that others take less.
                self.foreign *= 0.5 ** (elapsed / _FULL_HALF_LIFE_SECONDS)
        self.observed_at = self.at

    def refuse(self, wait_seconds: float | None, *, whole: float | None = None) -> None:
        """A call was refused for the sake of this limit: there is not enough left for one.

        ``wait_seconds`` is when there will be; ``whole`` what headers said remains.
        """
        again = self.refused_at is not None and self.at - self.refused_at < _ONE_REFUSAL_SECONDS
        known, believed = not self.unsure, self.left
        longest = max(_LONGEST_WAIT_SECONDS, _LONGEST_WAIT_CALLS * self.mean_cost / self.refill)
        wait = min(wait_seconds or 0.0, longest)
        left = whole if whole is not None else self.mean_cost - wait * max(self.net, 0.02 * self.refill)
        self.level = min(believed if known else left, left, self.reserve / 2) + self.unheard
        self.read_at, self.unsure = self.at, False
        if again:
            return
        self.boost_seconds = min(self.boost_seconds + _BOOST_STEP_SECONDS, _MAX_BOOST_SECONDS)
        step = _FOREIGN_PER_REFUSAL * self.refill
        if known and not self.measured and self.refused_at is not None:
            # Both times nothing was left, so the belief drifted by what others took in between.
            drift = max(believed, 0.0) / max(self.at - self.refused_at, 2.0)
            step = min(max(step, 0.5 * drift), _MAX_FOREIGN_STEP * self.refill)
        if self.learned:
            self.refill *= 0.9
        else:
            self._set_foreign(self.foreign + step)
        self.refused_at = self.at

    def _set_foreign(self, foreign: float) -> None:
        least = _MIN_FOREIGN if self.measured else 0.0
        self.foreign = min(max(foreign, least * self.refill), _MAX_FOREIGN * self.refill)

    def set_refill(self, refill: float) -> None:
        """The limit has another height from now on."""
        if refill == self.refill:
            return
        if self.capacity is not None and refill < self.refill:
            # It is what is left after a call.
            self.capacity = max((self.capacity + self.mean_cost) * refill / self.refill - self.mean_cost, 0.0)
            self.most_reserve = 0.5 * self.capacity
        self.foreign *= refill / self.refill
        self.refill = refill
        self.settle()

    def rest(self) -> None:
        """Nothing was heard for a while: the level is measured anew before it is trusted."""
        self.unsure = True
        if not self.measured:
            self.level = min(self.level, 0.0)
