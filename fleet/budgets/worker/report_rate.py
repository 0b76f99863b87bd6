"""How often one process may report, so that its budget receives about ten reports per second in total. Pure.

Reports that are allowed while there is nothing to report are saved up: a process with few calls reports each of
them at once, a process with many reports several at a time. What changes the rate for all is reported at once, and
the next report waits longer.
"""

import random
from collections.abc import Callable
from enum import IntEnum

_USUAL_SECONDS, _SOON_SECONDS = 1.0, 0.25
_MAX_SAVED, _OWED_FOR_URGENT, _MAX_OWED = 1.0, 1.5, 2.0
# How much a report takes of the saved amount, with a random spread: processes that start together must not report
# together.
_MIN_TAKEN, _TAKEN_SPREAD = 0.5, 1.0


class Haste(IntEnum):
    """How soon something should be reported: ``SOON``, before a second has passed since the last report;
    ``URGENT``, even if no report is due yet."""

    USUAL = 0
    SOON = 1
    URGENT = 2


class Allowance:
    """``each_seconds`` is the time in which one report falls due, as the budget last said; 0: it did not say."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._saved = _MAX_SAVED
        self._saved_at = 0.0
        self._reported_at = float("-inf")
        self.each_seconds = 0.0

    def wait(self, haste: Haste, now: float) -> float:
        """Seconds until a report may be sent."""
        spacing = _USUAL_SECONDS if haste is Haste.USUAL else _SOON_SECONDS
        needed = -_OWED_FOR_URGENT if haste is Haste.URGENT else 0.0
        missing = max(needed - self._saved_until(now), 0.0)
        return max(self._reported_at + spacing - now, missing * self.each_seconds, 0.0)

    def take(self, now: float) -> None:
        """A report is being sent."""
        taken = _MIN_TAKEN + _TAKEN_SPREAD * self._chance()
        self._saved = max(self._saved_until(now) - taken, -_MAX_OWED)
        self._saved_at = self._reported_at = now

    def _saved_until(self, now: float) -> float:
        if not self.each_seconds:
            return _MAX_SAVED
        return min(self._saved + (now - self._saved_at) / self.each_seconds, _MAX_SAVED)
