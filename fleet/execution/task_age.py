"""Whether a task reached its process long after Temporal had dispatched it, so that another worker may have it by
now."""

from collections import deque
from collections.abc import Callable

from fleet.process.wall_clock import unix_time

_LATE_SECONDS = 5.0
_REMEMBERED = 50


class Arrivals:
    """When the tasks of one process arrived.

    The process's clock and the server's differ. So a task is compared with the quickest of the recent ones, which
    also adapts to a clock that is set meanwhile.
    """

    def __init__(self, clock: Callable[[], float] = unix_time) -> None:
        self._clock = clock
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)

    def late(self, started_at: float) -> bool:
        """Whether a task arrives late that Temporal dispatched at that time (unix seconds, by its clock)."""
        took = self._clock() - started_at
        self._seconds.append(took)
        return took - min(self._seconds) > _LATE_SECONDS
