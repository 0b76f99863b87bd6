"""Calls that were dispatched since the last reports of their processes, so the budget does not know them yet.
Pure.

The more processes there are, the less often each may report. The calls not yet reported are estimated from the
rates ordered since, and from when each process last reported.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass, field

from fleet.budgets.messages import Report

# About this many reports per second arrive. A process counts until it has not reported for this long, or for the
# time in which this many of its reports or calls fall due.
_REPORTS_A_SECOND = 10.0
_PRESENT_SECONDS, _PRESENT_TURNS = 30.0, 3.0
# No process delays reporting its calls for much longer than usual; the second value is how fast the usual delay is
# learned, per report.
_LONGEST_HELD, _HELD_WEIGHT = 1.5, 0.02
# Where there are fewer calls than the queue may dispatch, about as many are sent as recently, or a few.
_MAX_PACE, _MIN_CALLS = 1.2, 0.5
_ORDER_SECONDS = 0.1


@dataclass(slots=True)
class Unheard:
    """``heard_at`` has the time of each process's last report. ``held`` is the average age, in seconds, of the
    oldest call in a report. ``orders`` has for each ordered rate: when it was ordered, calls per second, and the
    total of calls ordered before."""

    heard_at: dict[str, float] = field(default_factory=dict)
    held: float = 0.0
    orders: list[list[float]] = field(default_factory=list)

    @property
    def report_seconds(self) -> float:
        """The time in which each process sends one report."""
        return round(len(self.heard_at) / _REPORTS_A_SECOND, 2)

    def hear(self, report: Report, now: float) -> None:
        """The process has reported everything that it sent until now."""
        self.heard_at[report.process] = max(now, self.heard_at.get(report.process, now))
        if report.sent:
            self.held += _HELD_WEIGHT * (max(age for age, _ in report.sent) - self.held)

    def order(self, rate: float, pace: float, now: float) -> None:
        """From now on ``rate`` calls per second may be sent; recently it was ``pace`` per second."""
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
        """Estimated number of unreported calls, counting those sent before the moment ``before``."""
        if not self.heard_at or not self.orders:
            return 0.0
        earliest, until = now - self._longest, self._ordered(min(now, before))
        first = self._ordered(earliest)
        told = (self._ordered(at) if at > earliest else first for at in self.heard_at.values())
        return sum(max(until - ordered, 0.0) for ordered in told) / len(self.heard_at)

    def _ordered(self, moment: float) -> float:
        """Total of calls ordered until that moment."""
        at, rate, before = self.orders[max(bisect_right(self.orders, [moment, math.inf]) - 1, 0)]
        return before + rate * max(moment - at, 0.0)
