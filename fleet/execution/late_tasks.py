"""Whether a task came to its process long after Temporal had handed it out, so that another one may have it by
now."""

import time
from collections import deque
from collections.abc import Callable

_LATE_SECONDS = 5.0
_REMEMBERED = 50


class Arrivals:
    """When the tasks of one process came.

    Its clock and the server's differ. So a task is measured by the quickest of those that came lately, by which a
    clock that is set meanwhile is forgotten, too."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)

    def late(self, started_at: float) -> bool:
        """Whether a task comes late that Temporal dispatched at that time (unix seconds, by its clock)."""
        took = self._clock() - started_at
        self._seconds.append(took)
        return took - min(self._seconds) > _LATE_SECONDS
