"""One limit of a provider as the fleet estimates it, and the rate that it allows. Pure: no I/O, no clock.

The provider's bucket refills at a known speed, and others may use it too. What is left in it is known from what
the fleet spent, corrected by what headers say; where there are no headers, by refusals, which say that nothing is
left. The rate spends the refill and steers the level towards a reserve for what cannot be predicted: calls in
flight, their sizes, and the second's worth of calls that a queue dispatches at once after an idle time.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from fleet.budgets.law.external_usage import ExternalUsage

_RESERVE_SECONDS = 1.75
_MAX_BOOST_SECONDS = 2.0
_BOOST_STEP_SECONDS = 0.5
_BOOST_HALF_LIFE_SECONDS = 20.0
# The level returns to the reserve within this time, or this number of calls for a slow limit: a single call must
# not make its rate swing, since a new rate applies only from the call after the next.
_SPEND_SECONDS, _SAVE_SECONDS, _STEER_CALLS = 4.0, 2.0, 2.0
# Allowed however low the level is, which still rises; at a rate of 0 no answer would ever correct the estimate.
_CRAWL_RATE, _CRAWL_SHARE = 0.2, 0.5
# A full bucket is not emptied at once: calls in flight must be noticed in time.
_MAX_HASTE = 4.0
# How fast an observation corrects the level and the estimated external usage.
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
# Where a report does not say when its calls were sent, they were sent within this time.
_MAX_LAG_SECONDS, _LAG_CALLS = 1.2, 0.6
_LONGEST_WAIT_SECONDS, _LONGEST_WAIT_CALLS = 120.0, 2.0
# Two reports differ in how long they were on their way: the call that an answer reports was not sent after it.
_APART_SECONDS = 0.3
_ONE_REFUSAL_SECONDS = 1.0
_AMPLE_CALLS, _AMPLE_SHARE = 2.0, 0.25
# A limit that no header reports and only refusals reveal is raised by this share per second, or per fifth call.
_LEARNED_GROWTH, _GROWTH_CALLS = 0.01, 5.0


@dataclass(slots=True)
class Bucket:
    """One limit. ``refill`` and ``foreign`` are units per second, ``level`` is units at the time ``at`` (seconds).
    ``foreign`` is the external usage that the rate allows for; ``others`` is what is certain of it.

    ``measured``: headers report it. ``capped``: the operator's limit is below the provider's, so headers can only
    lower the level. ``learned``: the limit itself is only known from refusals. ``unsure``: the level is not
    trusted until it is measured. ``most_reserve``: how much of the capacity may be kept back. ``unheard``:
    estimated cost of calls that have not been reported yet; it is still included in ``level``.
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
    others: ExternalUsage = field(default_factory=ExternalUsage)

    @property
    def reserve(self) -> float:
        """The level that the rate steers towards."""
        unforeseen = (_RESERVE_SECONDS + self.boost_seconds) * self.refill
        wanted = unforeseen + max(2 * self.mean_cost, 1.1 * self.largest_cost)
        if self.most_reserve is None or self.capped:
            return wanted
        # Half of what the bucket holds before a call; headers report what is left after it.
        return min(wanted, self.most_reserve + min(0.5 * self.mean_cost, self.most_reserve))

    @property
    def net(self) -> float:
        """Units per second that are left for the fleet."""
        return self.refill - self.foreign

    @property
    def pace(self) -> float:
        """Calls per second that are left for the fleet."""
        return self.net / self.mean_cost

    def ample(self, left: float) -> bool:
        """Whether ``left`` is so much that no call can have been refused because of this limit."""
        return left >= max(_AMPLE_CALLS * self.largest_cost, _AMPLE_SHARE * self._most())

    def rate(self) -> float:
        """Calls per second that this limit allows now."""
        if self.unsure:
            return self.pace
        above = self.believed - self.reserve
        seconds = _SPEND_SECONDS if above > 0 else _SAVE_SECONDS
        seconds = max(seconds, _STEER_CALLS * self.mean_cost / self.refill)
        steered = min(self.net + above / seconds, _MAX_HASTE * self.refill) / self.mean_cost
        return max(steered, min(_CRAWL_RATE, _CRAWL_SHARE * self.pace))

    def advance(self, now: float) -> None:
        """Let time pass until ``now``. The level may rise above the highest believable level until :meth:`settle`,
        since calls that have not been reported yet may have been sent meanwhile."""
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
            # Nobody adds to a bucket; an estimate below 0 is an error and decays quickly.
            self.foreign *= 0.5 ** (passed / _GIVEN_HALF_LIFE_SECONDS)
        elif not self.measured or self._unobserved_seconds > _OBSERVED_LATELY_SECONDS:
            self.foreign *= 0.5 ** (passed / _FOREIGN_HALF_LIFE_SECONDS)

    @property
    def _unobserved_seconds(self) -> float:
        return math.inf if self.observed_at is None else self.at - self.observed_at

    @property
    def believed(self) -> float:
        """What is left now, at most the highest believable level."""
        return min(self.left, self._most())

    @property
    def left(self) -> float:
        """What is left according to all reports, minus the estimate for unreported calls."""
        return self.level - self.unheard

    def _most(self) -> float:
        """The highest believable level: the highest observed one; without observations, or for a capped limit,
        somewhat more than the reserve."""
        if self.measured and not self.capped and self.capacity is not None:
            return self.capacity
        return self.reserve + max(0.5 * self.reserve, 2 * self.largest_cost)

    def spend(
        self, amount: float, calls: int = 0, largest: float = 0.0, sent: Sequence[Sequence[float]] = ()
    ) -> None:
        """The fleet ``sent`` calls, of which ``calls`` cost ``amount`` in total; with ``calls`` 0 it is a
        correction."""
        self.level -= amount
        of_all = sum(count for _, count in sent)
        if of_all:
            for age, count in sent:
                self._remember(amount * count / of_all, self.at - age)
        else:
            self._remember(amount, self.at - min(_MAX_LAG_SECONDS, _LAG_CALLS * self.mean_cost / self.refill))
        if not calls:
            return
        if not self.calls:
            self.largest_cost = 0.0  # was only a guess
        self.calls = min(self.calls + calls, _REMEMBERED_CALLS)
        weight = 1 - (1 - 1 / self.calls) ** calls if self.calls > 1 else 1.0
        self.mean_cost = max(self.mean_cost + weight * (amount / calls - self.mean_cost), 1e-6)
        self.largest_cost = max(self.largest_cost, largest, self.mean_cost)

    def settle(self) -> None:
        """All calls that were sent have been reported: refill above the capacity is lost."""
        self.level = min(self.level, self._most() + self.unheard)

    def _remember(self, amount: float, sent_at: float) -> None:
        place = len(self.spent)
        while place and self.spent[place - 1][0] > sent_at:
            place -= 1
        if place and sent_at - self.spent[place - 1][0] < _COUNT_SECONDS:
            self.spent[place - 1][1] += amount
        else:
            self.spent.insert(place, [sent_at, amount])
        while self.spent and self.spent[0][0] < self.at - _REMEMBERED_SECONDS:
            del self.spent[0]

    def _carried(self, left: float, moment: float, most: float) -> float:
        """What is left now if ``left`` remained at ``moment``, where refill above ``most``, as seen after a call,
        is lost."""
        counted = moment + min(_APART_SECONDS, _LAG_CALLS * self.mean_cost / self.refill)
        later = len(self.spent)
        while later and self.spent[later - 1][0] > counted:
            later -= 1
        for sent_at, amount in self.spent[later:]:
            left = min(left + self.net * (sent_at - moment), most + self.mean_cost) - amount
            moment = sent_at
        return min(left + self.net * (self.at - moment), most)

    def observe(self, remaining: float, age_seconds: float, unheard: float = 0.0) -> None:
        """Headers said that ``remaining`` was left ``age_seconds`` ago, after ``unheard`` units of unreported
        calls."""
        moment = self.at - age_seconds
        if self.read_at is not None and moment <= self.read_at:
            return  # a newer value is known, mostly from refusals, which are reported at once
        self.read_at = moment
        self.capacity = max(self.capacity or 0.0, remaining)
        self.measured = True
        self._balance(moment, remaining)
        carried = self._carried(remaining, moment, self.capacity) + unheard
        if self.capped and carried > self.level:
            # Headers do not know the operator's limit, so they do not raise the level.
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
            # An old observation contains the error that it should correct; the error in a rare observation built
            # up over the whole time since the last one.
            gain = min(_FOREIGN_GAIN, 0.3 / _LEVEL_SECONDS / max(age_seconds, 1e-9))
            gain = min(gain * passed, _MAX_FOREIGN_GAIN / max(elapsed, 1e-9))
            self._set_foreign(self.foreign - gain * error)
            if carried - self.unheard >= self.capacity and self.foreign > 0:
                # A full bucket cannot show that others take less.
                self.foreign *= 0.5 ** (elapsed / _FULL_HALF_LIFE_SECONDS)
        self.observed_at = self.at

    def _balance(self, moment: float, remaining: float) -> None:
        if self.capped or self.learned or self.capacity is None:
            self.others.forget()  # the refill is not the provider's
            return
        self.others.observe(moment, remaining, self.refill, self.capacity, self.largest_cost)
        self.others.balance(self.at, self.refill, self.spent, self.largest_cost)

    def refuse(self, wait_seconds: float | None, *, whole: float | None = None) -> None:
        """A call was refused because of this limit: not enough is left for one call.

        ``wait_seconds`` is the time until there is enough; ``whole`` is what headers said remains.
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
            # Nothing was left both times, so the estimate drifted by what others took in between.
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
        """Change the limit's refill to ``refill`` units per second."""
        if refill == self.refill:
            return
        if self.capacity is not None and refill < self.refill:
            # The capacity is what is left after a call.
            self.capacity = max((self.capacity + self.mean_cost) * refill / self.refill - self.mean_cost, 0.0)
            self.most_reserve = 0.5 * self.capacity
        self.foreign *= refill / self.refill
        self.others.forget()
        self.refill = refill
        self.settle()

    def rest(self) -> None:
        """No reports came for a while: the level must be measured again before it is trusted."""
        self.unsure = True
        self.others.forget()
        if not self.measured:
            self.level = min(self.level, 0.0)
