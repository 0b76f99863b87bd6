"""Receives reports, late ones too, and passes them to the budget with the time they were sent. Pure: no I/O, no
clock.

While the budget workflow did not run, its signals waited, and then arrive all at once: each is processed as of the
moment it was sent, so that the refill since then offsets what was spent. A process that could not report for a
while says as little about the present. Machines' clocks differ; a report's delay is measured against the promptest
report of its machine.
"""

from dataclasses import dataclass, replace

from fleet.budgets.law.budget import Budget
from fleet.budgets.messages import Report

#: A report older than this is counted, but says nothing about the present.
STALE_SECONDS = 15.0

LATE_SECONDS = 2.0
# A clock may drift: the smallest delay is raised by this share of the time that passes, of at most these seconds.
_DRIFT, _DRIFT_SECONDS = 0.02, 10.0
# If this many reports in a row have the same delay, the clock is wrong and the reports are not old.
_STEADY_SECONDS, _STEADY_REPORTS = 2.0, 3
_APART_SECONDS = 0.5
_FORGOTTEN_SECONDS = 3600.0
# A process that reports calls from this long ago could not report meanwhile.
_HELD_SECONDS, _HELD_REPORTS = 10.0, 3.0


@dataclass(slots=True)
class _Clock:
    """One machine's clock: the ``least`` age of its reports by the server's clock, and how the last ones
    arrived."""

    least: float
    age: float
    heard_at: float
    steady: int = 0


class ReportIntake:
    """The report intake of one budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._clocks: dict[str, _Clock] = {}

    def take(self, report: Report, now: float) -> float | None:
        """Pass the report to the budget; returns the seconds that the machine's clock is behind, if just
        detected."""
        late, off = self._late(report, now)
        if late > LATE_SECONDS or self._held_back(report):
            self._budget.missed(now)
        if late > STALE_SECONDS:
            report = replace(report, troubles=[], readings=[])
        self._budget.take(report, now - late)
        return off

    def _held_back(self, report: Report) -> bool:
        usual = _HELD_SECONDS + _HELD_REPORTS * self._budget.unheard.report_seconds
        return any(age > usual for age, _ in report.sent)

    def _late(self, report: Report, now: float) -> tuple[float, float | None]:
        age, machine = now - report.sent_at, report.process.rpartition("@")[2]
        clock = self._clocks.get(machine)
        if clock is None:
            self._forget(now)
            clock = _Clock(age if age < STALE_SECONDS else 0.0, age, now)
            self._clocks[machine] = clock
            return age - clock.least, None
        apart = now - clock.heard_at
        if apart < _APART_SECONDS:
            clock.least = min(age, clock.least)
            return age - clock.least, None
        clock.least = min(age, clock.least + _DRIFT * min(apart, _DRIFT_SECONDS))
        same = abs(age - clock.age) < _STEADY_SECONDS
        clock.steady = clock.steady + 1 if same and age - clock.least > STALE_SECONDS else 0
        clock.age, clock.heard_at = age, now
        if clock.steady < _STEADY_REPORTS:
            return age - clock.least, None
        clock.least, clock.steady = age, 0
        return 0.0, age if age > STALE_SECONDS else None

    def _forget(self, now: float) -> None:
        self._clocks = {
            machine: clock for machine, clock in self._clocks.items() if now - clock.heard_at < _FORGOTTEN_SECONDS
        }
