"""What a budget has not heard of yet: calls that were dispatched since the last reports of their processes. Pure.

The more processes there are, the less often each may report. What has not been reported yet is estimated from the
rate that was ordered since, and from when each process reported last."""

import math
from bisect import bisect_right
from dataclasses import dataclass, field

from fleet.budgets.messages import Report

# So many reports a second are heard, about. A process counts until it has not been heard of for so long, or for so
# many reports or turns as fall due to it.
_REPORTS_A_SECOND = 10.0
_PRESENT_SECONDS, _PRESENT_TURNS = 30.0, 3.0
# No process keeps calls to itself for much longer than they usually do; how fast that is learned, by the report.
_LONGEST_HELD, _HELD_WEIGHT = 1.5, 0.02
# Where there is less to do than the queue may dispatch, calls are as many as there were of late, or few.
_MAX_PACE, _MIN_CALLS = 1.2, 0.5
_ORDER_SECONDS = 0.1


@dataclass(slots=True)
class Unheard:
    """``heard_at`` has each process's last report. ``held`` is for how many seconds a report's oldest call was not
    told of, on average. ``orders`` are when a rate was ordered, the calls a second, and all ordered before."""

    heard_at: dict[str, float] = field(default_factory=dict)
    held: float = 0.0
    orders: list[list[float]] = field(default_factory=list)

    @property
    def report_seconds(self) -> float:
        """In this time one report of each process falls due."""
        return round(len(self.heard_at) / _REPORTS_A_SECOND, 2)

    def hear(self, report: Report, now: float) -> None:
        """The process has told of all that it had sent until now."""
        self.heard_at[report.process] = max(now, self.heard_at.get(report.process, now))
        if report.sent:
            self.held += _HELD_WEIGHT * (max(age for age, _ in report.sent) - self.held)

    def order(self, rate: float, pace: float, now: float) -> None:
        """So many calls a second may be sent from now on, where ``pace`` a second were sent of late."""
        turn = max(self.report_seconds, len(self.heard_at) / rate if rate else math.inf)
        present = max(_PRESENT_SECONDS, _PRESENT_TURNS * turn)
        self.heard_at = {process: at for process, at in self.heard_at.items() if now - at < present}
        sent = min(rate, _MAX_PACE * pace + _MIN_CALLS)
        if not self.orders:
            self.orders.append([now, sent, 0.0])
        elif now >= self.orders[-1][0] + _ORDER_SECONDS:
            self.orders.append([now, sent, self._ordered(now)])
        while len(self.orders) > 1 and self.orders[1][0] < now - self._longest:
            del self.orders[0]

    @property
    def _longest(self) -> float:
        return _LONGEST_HELD * self.held

    def calls(self, now: float, before: float = math.inf) -> float:
        """How many calls are not heard of, about; those that were sent ``before`` a moment."""
        if not self.heard_at or not self.orders:
            return 0.0
        earliest, until = now - self._longest, self._ordered(min(now, before))
        first = self._ordered(earliest)
        told = (self._ordered(at) if at > earliest else first for at in self.heard_at.values())
        return sum(max(until - ordered, 0.0) for ordered in told) / len(self.heard_at)

    def _ordered(self, moment: float) -> float:
        """Calls ordered until then."""
        at, rate, before = self.orders[max(bisect_right(self.orders, [moment, math.inf]) - 1, 0)]
        return before + rate * max(moment - at, 0.0)
